"""Training without any dropout, to see whether a model can learn a few batches by heart."""

import pytorch_lightning as pl


class WithoutDropout(pl.Callback):
    """Keeps heads and mixer in evaluation mode while they learn, which switches off everything that hides or drops."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """At every epoch, for ranking between two epochs puts the whole model back into training mode."""
        for part in ("model.heads", "model.mixer"):
            pl_module.get_submodule(part).eval()
