"""How the joint model learns: the Lightning module, its optimiser groups and its schedule."""

from dataclasses import dataclass
from typing import cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from seasonrec.data.batches import Batch
from seasonrec.errors import ConfigError, TrainingError
from seasonrec.joint.model import JointModel
from seasonrec.losses import JointLoss, Truth


@dataclass(frozen=True)
class Optimisation:
    """AdamW with a linear warm-up and a linear decay to 0, and a learning rate of their own for heads and encoder.

    Args:
        lr: of heads and mixer.
        encoder_lr: of the encoder's trainable parameters.
        weight_decay: L2 as AdamW decouples it; not for biases, norms and single numbers.
        embedding_decay: the same for id embeddings, whose rows are seen rarely and would learn past popularity by heart.
        warmup: share of all steps in which the rates rise from 0, in [0, 1).
    """

    lr: float = 4e-3
    encoder_lr: float = 2e-5
    weight_decay: float = 0.05
    embedding_decay: float = 10.0
    warmup: float = 0.05

    def __post_init__(self) -> None:
        if not (self.lr > 0 and self.encoder_lr > 0 and min(self.weight_decay, self.embedding_decay) >= 0 and 0 <= self.warmup < 1):
            raise ConfigError(f"optim: wanted positive rates, decays of at least 0 and warmup in [0, 1), got {self}")

    def groups(self, model: JointModel) -> list[dict]:
        """Parameter groups: (encoder | rest) x (decayed | not), and id embeddings; only parameters that learn."""
        embeddings = {id(m.weight) for m in model.heads.modules() if isinstance(m, nn.Embedding)}
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            lr = self.encoder_lr if name.startswith("texts.encoder.") else self.lr
            decay = self.embedding_decay if id(parameter) in embeddings else self.weight_decay
            groups.setdefault((lr, decay if parameter.ndim > 1 else 0.0), []).append(parameter)
        return [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in groups.items()]

    def rate(self, step: int, n_steps: int) -> float:
        """The share of the full learning rate at a step of n_steps, in [0, 1]."""
        warmup = self.warmup * n_steps
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return max(0.0, (n_steps - step) / max(n_steps - warmup, 1))


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

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The joint loss of a batch; every term is logged by name.

        Raises:
            TrainingError: the loss is not finite.
        """
        alone = self.loss.weights.get(self.loss.mixed, 0) == 0
        scores = self.model(batch, detach_heads=alone)
        terms = self.loss(scores.total, scores.by_head, truth_of(batch))
        if not torch.isfinite(terms["total"]):
            raise TrainingError(self._diverged(batch, batch_idx, terms))
        for name, term in terms.items():
            self.log(f"train/loss/{name}", term.detach(), prog_bar=name == "total", on_step=True, batch_size=len(batch.user))
        return terms["total"]

    def _diverged(self, batch: Batch, batch_idx: int, terms: dict[str, Tensor]) -> str:
        values = {name: float(term.detach()) for name, term in terms.items()}
        return (
            f"the loss is not finite in epoch {self.current_epoch}, batch {batch_idx} (queries of {batch.moment.time} s UTC,"
            f" user rows {batch.user[:5].tolist()}...): {values}; lower optim.lr, or look for extreme prices, ratings or features"
        )

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Lightning cannot take a frozen dataclass apart."""
        return batch.to(device)

    def on_train_epoch_start(self) -> None:
        """Seeds the epoch; tells the batches which epoch it is."""
        torch.manual_seed(self.seed * 100_003 + self.current_epoch)
        # What is to be learnt by heart must come again: each epoch has an order of its own.
        epoch = 0 if self.trainer.overfit_batches else self.current_epoch  # type: ignore[attr-defined]
        self.trainer.train_dataloader.dataset.epoch = epoch  # type: ignore[union-attr]

    def configure_optimizers(self):
        """AdamW, its rate set at every step."""
        optimizer = AdamW(self.optimisation.groups(self.model), fused=True)
        n_steps = self.n_epochs * int(self.trainer.estimated_stepping_batches) // (self.trainer.max_epochs or 1)
        schedule = LambdaLR(optimizer, lambda step: self.optimisation.rate(step, n_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class FreshTexts(pl.Callback):
    """Encodes all texts anew after each epoch in which the encoder has learnt.

    A callback, since Lightning calls the module after the callbacks: whatever ranks after an epoch must come later than this.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A checkpoint holds the encoder of a resumed training, but no vectors."""
        if trainer.current_epoch:
            self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Every text, if the encoder learns."""
        texts = cast(JointModule, pl_module).model.texts
        if texts.trained:
            texts.refresh()


def truth_of(batch: Batch) -> Truth:
    """What the queries of a batch bought, as the losses want it."""
    h = batch.history
    listed = h.column >= 0
    own = h.query[listed] * batch.n_candidates + h.column[listed]
    is_new = ~torch.isin(batch.truth_query * batch.n_candidates + batch.truth_column, own)
    return Truth(
        query=batch.truth_query,
        column=batch.truth_column,
        rating=batch.truth_rating,
        own_query=h.query[listed],
        own_column=h.column[listed],
        is_new=is_new,
        log_inclusion=batch.log_inclusion,
    )
