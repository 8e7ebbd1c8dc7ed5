"""How the joint model learns: the Lightning module."""

from typing import cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from seasonrec.data.batches import Batch
from seasonrec.errors import TrainingError
from seasonrec.joint.model import JointModel
from seasonrec.joint.optimisation import Optimisation
from seasonrec.losses import JointLoss, Truth


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
        learning = [p for p in self.model.parameters() if p.requires_grad]
        terms = self.loss(scores.total, scores.by_head, truth_of(batch), learning)
        if not torch.isfinite(terms["total"]):
            raise TrainingError(self._diverged(batch, batch_idx, terms))
        for name, term in terms.items():
            self.log(f"train/loss/{name}", term.detach(), prog_bar=name == "total", on_step=True, batch_size=len(batch.user))
        for name, value in self.weighting.course.items():
            self.log(f"train/{name}", value, on_step=True, batch_size=len(batch.user))
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
