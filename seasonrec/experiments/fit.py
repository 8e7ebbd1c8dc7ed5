"""One fit: Lightning, its callbacks, and how an interrupted fit goes on."""

import csv
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytorch_lightning as lightning
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, ProgressBar
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from safetensors.torch import load_file, save_file

from seasonrec.data.dataset import Dataset
from seasonrec.errors import DataError
from seasonrec.evaluation.selection import METRIC, EpochScores
from seasonrec.experiments.build import Joint
from seasonrec.experiments.devices import device_of, is_sharded
from seasonrec.experiments.record import moved
from seasonrec.joint.datamodule import QueryData
from seasonrec.joint.model import JointModel
from seasonrec.joint.module import FreshTexts, JointModule
from seasonrec.joint.sharding import ShardedModule, WholeModel
from seasonrec.shares import rank

WEIGHTS, TREES, DONE, LOSSES, LAST = "model.safetensors", "reranker.json", "fit.json", "losses.csv", "last.ckpt"
EPOCHS: Final = ("whole", "best")  # what `epochs` may say
ENCODER: Final = "encoder.safetensors"  # what the encoder has learnt, e.g. an adapter, alone: `TextEncoder` loads it onto its base
OF_ENCODER: Final = "texts.encoder."
NOT_STOPPED: Final = EarlyStoppingReason.NOT_STOPPED
# What Lightning warns of here is meant to be so; these are the beginnings of its messages.
EXPECTED: Final = (
    r"Found \d+ module\(s\) in eval mode",  # the frozen part of the encoder
    "Your `IterableDataset` has `__len__` defined",  # and no workers, so nothing comes twice
    "The 'train_dataloader' does not have many workers",  # batches are made faster than learnt from
    "You have overridden `transfer_batch_to_device` in `LightningModule`",  # which knows what a batch is
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # between Lightning and torch
    "It is recommended to use `self.log",  # of several processes, which are told the same value
    "`broadcast_buffers` is deprecated",  # its successor is too young
    r"FSDP2-wrapped module .* returned a view tensor",  # that nobody changes in place
)


@dataclass(frozen=True)
class Outcome:
    """How a fit ended.

    Args:
        n_epochs: after which the weights were taken.
        score: the selection metric of that epoch; None where it was not measured.
        staleness: of the texts' vectors whenever they were encoded anew: after which step, and the mean cosine distance; none of a frozen
            encoder.
    """

    n_epochs: int
    score: float | None
    staleness: Sequence[Sequence[float]] = ()


class LossLog(Callback):
    """Appends every loss term to `losses.csv`: fit, epoch, step, name, value.

    A resumed fit repeats the epoch that was interrupted: rows of that epoch on are dropped first.
    """

    def __init__(self, path: Path, fit: str, every: int = 10):
        self._path, self._fit, self._every, self._step = path, fit, every, 0

    @rank_zero_only
    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keeps the rows of the epochs that are done."""
        self._step = trainer.global_step
        rows = list(csv.reader(self._path.open())) if self._path.exists() else []
        kept = [row for row in rows[1:] if len(row) == len(rows[0]) and int(row[1]) < trainer.current_epoch]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("w", newline="") as file:
            csv.writer(file).writerows([("fit", "epoch", "step", "name", "value"), *kept])

    @rank_zero_only
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Every few steps, and at the first."""
        if (trainer.global_step - 1) % self._every or trainer.global_step == self._step:  # several batches may make one step
            return
        self._step = trainer.global_step
        terms = {
            name.removeprefix("train/loss/"): value for name, value in trainer.callback_metrics.items() if name.startswith("train/loss/")
        }
        with self._path.open("a", newline="") as file:
            rows = [(self._fit, trainer.current_epoch, trainer.global_step, name, float(value)) for name, value in terms.items()]
            csv.writer(file).writerows(row for row in rows if not row[3].endswith("_epoch"))


class WithoutPretrained(Callback):
    """Leaves what stays frozen out of checkpoints: it is read again from where it came."""

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Before anything freezes for a while: what learns at any time is kept."""
        self._frozen = {name for name, p in pl_module.named_parameters() if not p.requires_grad}
        pl_module.strict_loading = False

    def on_save_checkpoint(self, trainer, pl_module, checkpoint) -> None:
        """Of every kind."""
        checkpoint["state_dict"] = {name: value for name, value in checkpoint["state_dict"].items() if name not in self._frozen}


class Moved(Callback):
    """Lets a resumed fit find its checkpoints where its folder is now.

    Args:
        folder: of the fit.
    """

    def __init__(self, folder: Path):
        self._folder = str(folder.resolve())

    def on_load_checkpoint(self, trainer, pl_module, checkpoint) -> None:
        """Before the callbacks are given their states, in which paths are absolute."""
        states = checkpoint["callbacks"]
        for name, state in states.items():
            if isinstance(state, dict) and state.get("dirpath"):
                states[name] = moved(state, state["dirpath"], self._folder)


class StayStopped(Callback):
    """Ends a resumed fit at once if early stopping had ended it before it was interrupted."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The checkpoint says why it stopped, but Lightning goes on."""
        stopped = [isinstance(c, EarlyStopping) and c.stopping_reason != NOT_STOPPED for c in trainer.early_stopping_callbacks]
        trainer.should_stop = any(stopped)


@dataclass(frozen=True)
class Fit:
    """What a fit needs beside the configuration.

    Args:
        name: "selection" or "final"; names its folder and its loss rows.
        dataset: to learn from.
        joint: a new model, trained in place.
        week: the cut-off; only what was known when this week began is learnt from, but for what is chosen on validation weeks.
        folder: where checkpoints and results of the fit go.
        loggers: Lightning's, for this fit.
        selection: measures each epoch, for early stopping and the best epoch; None: the last epoch is taken.
        n_epochs: to train, of a schedule of `trainer.max_epochs`; None for all of them.
        trust: in the reranker, as the fit found it that selects; that one finds it on the validation weeks.
        watchers: further callbacks, which know what selection measured.
    """

    name: str
    dataset: Dataset
    joint: Joint
    week: int
    folder: Path
    loggers: Sequence[Logger] = ()
    selection: EpochScores | None = None
    n_epochs: int | None = None
    trust: float = 1.0
    watchers: Sequence[Callback] = ()

    @property
    def is_done(self) -> bool:
        """Whether it had ended before."""
        return (self.folder / DONE).exists()

    def run(self, cfg: DictConfig) -> Outcome:
        """Trains; the model then has the weights of the best epoch, or of the last one.

        A fit that had ended is read back from its folder; one that was interrupted goes on after its last whole epoch, and ends with the
        same weights as an uninterrupted one. The model ends where it ranks fastest: on the trainer's GPU, if there is one.
        """
        if not self.is_done:
            self._train(cfg)
        if rank() == 0:  # the other processes rank nothing
            self.joint.model.to(device_of(cfg.trainer)).eval()  # from where Lightning left it, or it was made
            load_weights(self.joint.model, self.folder / WEIGHTS)
        return Outcome(**json.loads((self.folder / DONE).read_text()))

    def rerank(self, cfg: DictConfig) -> None:
        """The reranker of the trained model learns, or is read back; nothing where there is none."""
        reranker, path = self.joint.reranker, self.folder / TREES
        if reranker is None:
            return
        if not path.exists():
            timeline, scorer, sampling = self.dataset.timeline, self.joint.scorer, instantiate(cfg.sampling)
            reranker.learn(scorer, timeline.at_week(self.week), sampling, cfg.seed)
            reranker.trust = self.trust
            if self.selection is not None:
                weeks = self.dataset.split.weeks["validation"]
                reranker.find_trust(scorer, timeline.at_week(weeks.stop), weeks, sampling, cfg.seed)
            reranker.save(part := path.with_suffix(".part"))  # an interrupted run finds all of it or nothing
            part.rename(path)
        reranker.load(path)

    def _train(self, cfg: DictConfig) -> None:
        past = self.dataset.timeline.at_week(self.week)
        data = QueryData(past, self.joint.batcher, instantiate(cfg.sampling), cfg.seed)
        trainer = instantiate(cfg.trainer)(
            max_epochs=self.n_epochs or cfg.trainer.max_epochs,
            callbacks=self._callbacks(cfg),
            logger=list(self.loggers),
            default_root_dir=self.folder,
        )
        of_kind = ShardedModule if is_sharded(cfg.trainer) else JointModule
        module = of_kind(self.joint.model, self.joint.loss, instantiate(cfg.optim), seed=cfg.seed, n_epochs=cfg.trainer.max_epochs)
        last = self.folder / LAST
        with without_expected_warnings():
            try:
                trainer.fit(module, data, ckpt_path=last if last.exists() else None, weights_only=True)
            except SystemExit as error:
                if isinstance(error.__context__, KeyboardInterrupt):  # what Lightning makes of Ctrl-C
                    raise error.__context__ from None
                raise
        if isinstance(module, ShardedModule):  # where a resumed fit had no epoch left, nothing else has brought them together
            module.bring_together()
        if trainer.is_global_zero:
            self._keep(cfg, trainer)
        trainer.strategy.barrier()  # the other processes of this fit read what is kept

    def _keep(self, cfg: DictConfig, trainer: Any) -> None:
        """Writes what the fit ended with."""
        save_weights(self.joint.model, self.folder / WEIGHTS, trainer.checkpoint_callback.best_model_path if self._chooses(cfg) else "")
        scores = self.selection.scores if self.selection else []
        n_epochs = int(np.argmax(scores)) + 1 if self._chooses(cfg) else trainer.current_epoch
        (staleness,) = (callback.staleness for callback in trainer.callbacks if isinstance(callback, FreshTexts))
        outcome = Outcome(n_epochs, scores[n_epochs - 1] if scores else None, staleness)
        (self.folder / DONE).write_text(json.dumps(asdict(outcome)))

    def _chooses(self, cfg: DictConfig) -> bool:
        """Whether this fit looks for its best epoch, rather than ending with the schedule."""
        return self.selection is not None and cfg.epochs == "best"

    def _callbacks(self, cfg: DictConfig) -> list[Callback]:
        """The configured ones; where no epoch is chosen, nothing stops early and only the last epoch is kept."""
        cfg = cfg.copy()
        cfg.paths.run = str(self.folder)
        callbacks = list(instantiate(cfg.callbacks).values())
        if not cfg.trainer.get("enable_progress_bar", True):  # Lightning takes the two for a contradiction
            callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
        if not any(isinstance(callback, ModelCheckpoint) for callback in callbacks):
            callbacks.append(ModelCheckpoint(self.folder, "best", monitor=METRIC, mode="max", enable_version_counter=False))
        for callback in callbacks:
            if isinstance(callback, ModelCheckpoint):
                # Lightning finds the best epoch again by this name: if it were relative, a fit resumed from elsewhere would forget it.
                # And its own last.ckpt would be the last best one.
                callback.dirpath, callback.save_last = str(self.folder.resolve()), False
        fresh = FreshTexts(**cfg.model.get("refresh_texts", {}))
        whole = [WholeModel()] if is_sharded(cfg.trainer) else []
        first = [Moved(self.folder), WithoutPretrained(), LossLog(self.folder / LOSSES, self.name), fresh, *whole]
        last = ModelCheckpoint(self.folder, LAST.removesuffix(".ckpt"), enable_version_counter=False)  # knows the best one: comes after
        measured = [self.selection, *self.watchers] if self.selection else []
        if self._chooses(cfg):
            return [*first, *measured, StayStopped(), *callbacks, last]
        return [*first, *measured, *(c for c in callbacks if not isinstance(c, EarlyStopping | ModelCheckpoint)), last]


@contextmanager
def without_expected_warnings() -> Iterator[None]:
    """While open, the warnings of `EXPECTED` are not shown; all others are."""
    with warnings.catch_warnings():
        for message in EXPECTED:
            warnings.filterwarnings("ignore", message)
        yield


def save_weights(model: JointModel, path: Path, checkpoint: str = "") -> None:
    """Writes what the model has learnt, or what a Lightning checkpoint of it holds, as safetensors.

    What the encoder has learnt goes into a file of its own beside it; what is frozen is left out.
    """
    if checkpoint:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        of_model = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
        model.load_state_dict(of_model, strict=False)
    state, kept = {}, set()
    for name, value in learnt(model).items():
        # What a head has under two names, e.g. one table of items for both sides, is written under both.
        state[name] = value.clone() if (place := value.untyped_storage().data_ptr()) in kept else value.contiguous()
        kept.add(place)
    save_file({name: value for name, value in state.items() if not name.startswith(OF_ENCODER)}, path)
    if of_encoder := {name.removeprefix(OF_ENCODER): value for name, value in state.items() if name.startswith(OF_ENCODER)}:
        save_file(of_encoder, path.with_name(ENCODER))


def learnt(model: JointModel) -> dict[str, torch.Tensor]:
    """Everything that training changes, by name: trainable parameters, and running means."""
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen and not name.startswith(OF_ENCODER)} | {
        name: p.detach() for name, p in model.named_parameters() if p.requires_grad
    }


def load_weights(model: JointModel, path: Path) -> None:
    """Puts saved weights into a model of the same configuration, and encodes its texts anew if the encoder had learnt.

    Raises:
        DataError: the file belongs to another configuration.
    """
    state = load_file(path)
    if path.with_name(ENCODER).exists():
        state |= {OF_ENCODER + name: value for name, value in load_file(path.with_name(ENCODER)).items()}
    wanted = {name: tuple(value.shape) for name, value in learnt(model).items()}
    # Until 27 November 2026 single numbers had no dimension.
    state = {name: value.reshape(1) if not value.dim() and wanted.get(name) == (1,) else value for name, value in state.items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if wanted != found:
        differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise DataError(
            f"{path}: weights of another model; {len(differing)} tensors differ, e.g. {differing[:3]}; load it with the run's own config"
        )
    model.load_state_dict(state, strict=False)
    if model.texts.trained:
        model.texts.refresh()
