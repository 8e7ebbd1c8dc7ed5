"""Fine-tuning modes: which parameters of a text encoder learn.

A mode of your own is any class with `apply` and `trainable`, given as a class path in `finetune._target_`.
"""

from typing import Protocol

from seasonrec.encoders.encoder import TextEncoder
from seasonrec.errors import ConfigError


class FineTuning(Protocol):
    """Prepares an encoder for training, once, before the optimiser is built."""

    trainable: bool  # whether anything of the encoder learns; if not, each text is encoded once for all epochs

    def apply(self, encoder: TextEncoder) -> None:
        """Decides what learns and sets training mode; parts that do not learn stay without dropout."""


class Frozen:
    """The encoder as it was pretrained; only the heads learn."""

    trainable = False

    def apply(self, encoder: TextEncoder) -> None:
        """Freezes every parameter."""
        encoder.requires_grad_(False)
        encoder.train()


class FrozenBottom:
    """The top k blocks learn, and what follows them; embeddings and the blocks below stay as pretrained.

    Args:
        k: number of blocks that learn, from 1 to all of them.

    Raises:
        ConfigError: k below 1.

    Reference: Lee et al. (2019), What would Elsa do? Freezing layers during transformer fine-tuning.
    """

    trainable = True

    def __init__(self, k: int = 1):
        if k < 1:
            raise ConfigError(f"finetune.k is {k}, wanted at least 1 block that learns; for none take finetune=frozen")
        self.k = k

    def apply(self, encoder: TextEncoder) -> None:
        """Freezes all but the top k blocks and the final normalisation.

        Raises:
            ConfigError: the encoder has fewer than k blocks, or its blocks are not known.
        """
        if self.k > encoder.n_blocks:
            raise ConfigError(f"finetune.k is {self.k}, but the encoder has {encoder.n_blocks} blocks; give 1 to {encoder.n_blocks}")
        encoder.requires_grad_(False)
        for module in (*encoder.blocks[-self.k :], *encoder.final):
            module.requires_grad_(True)
        encoder.train()
