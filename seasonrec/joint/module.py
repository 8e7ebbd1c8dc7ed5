"""How the joint model learns: the Lightning module."""

from collections.abc import Mapping
from typing import Any, Final, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from seasonrec.bounds import bounded
from seasonrec.data.batches import Batch
from seasonrec.errors import TrainingError
from seasonrec.joint.model import JointModel, Scores
from seasonrec.joint.optimisation import Optimisation
from seasonrec.losses import JointLoss, Truth
from seasonrec.shares import rank

VECTORS: Final = "text_vectors"  # in checkpoints of a learning encoder


class JointModule(pl.LightningModule):
    """One step of joint training.

    Args:
        model: with the heads that take part.
        loss: the weighted sum of the tasks' losses.
        optimisation: rates, decay and schedule.
        seed: with the epoch it sets every random draw of the epoch, so that a resumed training repeats the uninterrupted one.
        n_epochs: that the schedule of the learning rate is made for; training may end earlier.
    """

    model: JointModel

    def __init__(self, model: JointModel, loss: JointLoss, optimisation: Optimisation, *, seed: int = 0, n_epochs: int = 1):
        super().__init__()
        self.model, self.loss, self.optimisation, self.seed, self.n_epochs = model, loss, optimisation, seed, n_epochs
        self.weighting = loss.weighting  # a module of this one: checkpoints hold what it has learnt

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The joint loss of a batch; every term is logged by name.

        Raises:
            TrainingError: the loss is not finite.
        """
        alone = self.loss.weights.get(self.loss.mixed, 0) == 0
        scores = self.model(batch, detach_heads=alone)
        total, by_head = self._of_whole(batch, scores)
        learning = [p for p in self.model.parameters() if p.requires_grad]
        terms = self.loss(total, by_head, truth_of(batch), learning)
        if not torch.isfinite(terms["total"]):
            raise TrainingError(self._diverged(batch, batch_idx, terms, scores))
        for name, term in terms.items():
            self.log(f"train/loss/{name}", term.detach(), prog_bar=name == "total", on_step=True, batch_size=len(batch.user))
        for name, value in self.weighting.course.items():
            self.log(f"train/{name}", value, on_step=True, batch_size=len(batch.user))
        return terms["total"]

    def _of_whole(self, batch: Batch, scores: Scores) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The mixed scores, and those of each head that its loss reads, of the queries of all processes [n, C]."""
        if batch.whole is None:
            return scores.total, scores.by_head
        # One by one: put together, each head would seem to be reached by every task.
        whole, read = batch.whole.share.whole, {name: score for name, score in scores.by_head.items() if name != self.loss.mixed}
        return whole(scores.total), {name: whole(score.expand_as(scores.total)) for name, score in read.items()}

    def _diverged(self, batch: Batch, batch_idx: int, terms: dict[str, Tensor], scores: Scores) -> str:
        values = {name: float(term.detach()) for name, term in terms.items()}
        return (
            f"the loss is not finite in epoch {self.current_epoch}, batch {batch_idx} (queries of {batch.moment.time} s UTC,"
            f" user rows {batch.user[:5].tolist()}...): {values}; {self._what_to_do(scores)}"
        )

    def _what_to_do(self, scores: Scores) -> str:
        """About a loss that is not finite, by where that began: in what was learnt, or what a head, the mixer or a loss makes of it."""
        finite = lambda tensor: bool(torch.isfinite(tensor).all())
        if not all(map(finite, self.model.parameters())):
            return "what was learnt is not finite any more: lower optim.lr, or look for extreme prices, ratings or features"
        made = [*((f"head {name}", each) for name, each in scores.by_head.items()), ("the mixer", scores.total)]
        of = next((name for name, each in made if not finite(each)), "a loss")
        return f"all parameters are: {of} makes of them what is not; look for a division by 0 or an extreme price, rating or feature"

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Lightning cannot take a frozen dataclass apart."""
        return batch.to(device)

    def on_train_epoch_start(self) -> None:
        """Seeds the epoch; tells the batches which epoch it is."""
        # Processes that learn together hide and drop other things each, as for other queries of a batch.
        torch.manual_seed(self.seed * 100_003 + self.current_epoch + rank() * 1_000_000_007)
        # What is to be learnt by heart must come again: each epoch has an order of its own.
        epoch = 0 if self.trainer.overfit_batches else self.current_epoch  # type: ignore[attr-defined]
        self.trainer.train_dataloader.dataset.epoch = epoch  # type: ignore[union-attr]
        self.weighting.begin_epoch()

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:
        """Clips the model's gradients by their own norm: how hard the tasks' weights are pulled says nothing about a step too long."""
        pulls = [(p, p.grad) for p in self.weighting.parameters()]
        for parameter, _ in pulls:
            parameter.grad = None
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        for parameter, pull in pulls:
            parameter.grad = pull

    def configure_optimizers(self):
        """AdamW, its rate set at every step."""
        fused = "mixed" not in str(self.trainer.precision)  # with mixed precision Lightning clips no gradients of a fused optimiser
        optimizer = AdamW([*self.optimisation.groups(self.model), *self.weighting.groups()], fused=fused)
        n_steps = self.n_epochs * int(self.trainer.estimated_stepping_batches) // (self.trainer.max_epochs or 1)
        schedule = LambdaLR(optimizer, lambda step: self.optimisation.rate(step, n_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class FreshTexts(pl.Callback):
    """Encodes all texts anew on a schedule while the encoder learns, and after the last epoch; logs how stale they had become by then.

    `texts/staleness` is the mean cosine distance between the vectors that were kept and those that the encoder gives now. Steps see
    the kept ones, and so does whatever ranks.

    A callback, since Lightning calls the module after the callbacks: whatever ranks after an epoch must come later than this.

    Args:
        every_n_epochs: at the ends of which.
        every_n_steps: and after so many steps of the optimiser; None: within an epoch the vectors stay as they are.

    Raises:
        ConfigError: a period below 1.
    """

    def __init__(self, every_n_epochs: int = 1, every_n_steps: int | None = None):
        for name, period in (("every_n_epochs", every_n_epochs), ("every_n_steps", every_n_steps)):
            if period is not None:
                bounded(f"model.refresh_texts.{name}", period, 1)
        self.every_n_epochs, self.every_n_steps = every_n_epochs, every_n_steps
        self.staleness: list[tuple[int, float]] = []  # after which step, and how much

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int) -> None:
        """Every text, if enough steps are done."""
        period = self.every_n_steps
        if period and trainer.global_step >= period and trainer.global_step % period == 0:
            self._refresh(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Every text, if enough epochs are done or none is left."""
        done = trainer.current_epoch + 1
        if done % self.every_n_epochs == 0 or done == trainer.max_epochs:
            self._refresh(trainer, pl_module)

    def _refresh(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        texts = cast(JointModule, pl_module).model.texts
        done_at = self.staleness[-1][0] if self.staleness else None
        if texts.trained and trainer.global_step != done_at:
            self.staleness.append((trainer.global_step, texts.refresh()))
            pl_module.log("texts/staleness", self.staleness[-1][1])

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """The vectors too: the encoder may not give them any more."""
        texts = cast(JointModule, pl_module).model.texts
        if texts.trained:
            checkpoint[VECTORS] = texts.vectors.clone()

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """A resumed training begins with the vectors of the interrupted one."""
        if VECTORS in checkpoint:
            cast(JointModule, pl_module).model.texts.vectors.copy_(checkpoint[VECTORS])

    def state_dict(self) -> dict[str, list[tuple[int, float]]]:
        """What was measured so far, for a resumed training."""
        return {"staleness": self.staleness}

    def load_state_dict(self, state: dict[str, list[tuple[int, float]]]) -> None:
        """Takes up what the interrupted training had measured."""
        self.staleness = list(state["staleness"])


def truth_of(batch: Batch) -> Truth:
    """What the queries of a batch, or of all processes' shares of it, bought, as the losses want it."""
    own_query, own_column = (batch.whole.own_query, batch.whole.own_column) if batch.whole else batch.history.listed
    truth = batch.whole or batch
    is_new = ~torch.isin(truth.truth_query * batch.n_candidates + truth.truth_column, own_query * batch.n_candidates + own_column)
    return Truth(
        query=truth.truth_query,
        column=truth.truth_column,
        rating=truth.truth_rating,
        own_query=own_query,
        own_column=own_column,
        is_new=is_new,
        log_inclusion=batch.log_inclusion,
        weight=truth.truth_weight,
    )
