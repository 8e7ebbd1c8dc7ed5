"""An encoder that wakes from the top: first the uppermost block learns, then one after the other those below."""

from typing import cast

import pytorch_lightning as pl
from torch import nn

from seasonrec.errors import ConfigError
from seasonrec.joint.module import JointModule


class GradualUnfreezing(pl.Callback):
    """Lets the top block learn from the first epoch on, and another one after each so many epochs; the embeddings come last.

    Only what the fine-tuning mode lets learn ever learns. A part that still sleeps stays as pretrained, without dropout.

    Args:
        epochs: between a block and the one below; 0.5 wakes two blocks an epoch.

    Raises:
        ConfigError: epochs not positive.

    Reference: Howard and Ruder (2018), Universal language model fine-tuning, section 3.3.
    """

    def __init__(self, epochs: float = 1.0):
        if not epochs > 0:
            raise ConfigError(f"callbacks.unfreezing.epochs is {epochs}, wanted a positive number of epochs from block to block")
        self.epochs = epochs
        self._layers: list[list[nn.Parameter]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes what learns, the topmost layer first."""
        encoder = cast(JointModule, pl_module).model.texts.encoder
        layers = [[p for module in layer for p in module.parameters()] for layer in reversed(encoder.layers)]
        inside = {id(p) for layer in layers for p in layer}
        layers[-1] += [p for p in encoder.parameters() if id(p) not in inside]  # beside the blocks: with the embeddings
        self._layers = [[p for p in layer if p.requires_grad] for layer in layers]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wakes the layers whose time has come."""
        self._wake(pl_module, 1 + int(trainer.current_epoch / self.epochs))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """All of them, though some may not have learnt: what is saved is what the mode lets learn."""
        self._wake(pl_module, len(self._layers))

    def _wake(self, pl_module: pl.LightningModule, n: int) -> None:
        for place, layer in enumerate(self._layers):
            for parameter in layer:
                parameter.requires_grad_(place < n)
        encoder = cast(JointModule, pl_module).model.texts.encoder
        encoder.train(encoder.training)  # dropout follows
