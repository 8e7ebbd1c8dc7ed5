"""Fine-tuning modes: which parameters of a text encoder learn.

A mode of your own is any class with `apply` and `trainable`, given as a class path in `finetune._target_`.
"""

import warnings
from copy import deepcopy
from typing import TYPE_CHECKING, Protocol

from torch import nn

from seasonrec.encoders.adapter import insert
from seasonrec.encoders.backbone import outputs
from seasonrec.encoders.encoder import TextEncoder
from seasonrec.errors import ConfigError

if TYPE_CHECKING:
    from peft import PeftConfig


class FineTuning(Protocol):
    """Prepares an encoder for training, once, before the optimiser is built.

    The texts are encoded before: what a mode adds must leave the pretrained model's vectors as they are until something is learnt.
    """

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


class Full:
    """Everything learns, embeddings included."""

    trainable = True

    def apply(self, encoder: TextEncoder) -> None:
        """Lets every parameter learn."""
        encoder.requires_grad_(True)
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
        encoder.requires_grad_(False)
        for module in (*_top(encoder, self.k), *encoder.final):
            module.requires_grad_(True)
        encoder.train()


class Adapter:
    """Small bottlenecks after attention and after feed-forward learn; every pretrained weight stays.

    A block's sums become `x + adapter(attention(x))` and `x + adapter(feed_forward(x))`; each adapter begins as the identity.

    Args:
        size: width of the bottleneck.
        k: number of top blocks that have adapters; None: all of them.

    Raises:
        ConfigError: size or k below 1.

    Reference: Houlsby et al. (2019), Parameter-efficient transfer learning for NLP. They train the normalisations too; here they stay.
    """

    trainable = True

    def __init__(self, size: int = 64, k: int | None = None):
        if size < 1 or (k is not None and k < 1):
            raise ConfigError(f"finetune.size is {size} and finetune.k is {k}, wanted at least 1 of each; k=null for all blocks")
        self.size, self.k = size, k

    def apply(self, encoder: TextEncoder) -> None:
        """Freezes the encoder and inserts adapters, drawn by torch's seed.

        Raises:
            ConfigError: the encoder has fewer than k blocks, or a family whose blocks are not known.
        """
        encoder.requires_grad_(False)
        for block in _top(encoder, self.k or encoder.n_blocks):
            for linear in outputs(block):
                insert(linear, encoder.d_model, self.size)
        encoder.train()


class Peft:
    """What a method of the package peft adds learns, e.g. low-rank updates of weights (LoRA); every pretrained weight stays.

    Args:
        config: of the method, e.g. `peft.LoraConfig`; where it names no `target_modules`, peft has its own for each family, and LoRA
            goes into all linear maps of a family that peft does not know.

    Reference: Hu et al. (2022), LoRA: low-rank adaptation of large language models.
    """

    trainable = True

    def __init__(self, config: "PeftConfig"):
        self.config = config

    def apply(self, encoder: TextEncoder) -> None:
        """Freezes the encoder and lets peft put its layers into it, drawn by torch's seed.

        Raises:
            ConfigError: peft cannot do so with this method or this family.
        """
        from peft import inject_adapter_in_model  # an optional package: it is there where its config could be made

        encoder.requires_grad_(False)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "fan_in_fan_out")  # peft sees by itself that GPT-2 keeps its maps transposed
                inject_adapter_in_model(self._config_of(encoder), encoder.backbone)
        except ValueError as error:
            raise ConfigError(f"finetune.config: {type(self.config).__name__} with {type(encoder.backbone).__name__}: {error}") from error
        encoder.train()

    def _config_of(self, encoder: TextEncoder) -> "PeftConfig":
        """A copy, which peft completes, with targets."""
        from peft import LoraConfig
        from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

        config = deepcopy(self.config)
        if isinstance(config, LoraConfig) and config.target_modules is None and encoder.backbone.config.model_type not in KNOWN:
            config.target_modules = "all-linear"
        return config


def _top(encoder: TextEncoder, k: int) -> list[nn.Module]:
    """The top k blocks.

    Raises:
        ConfigError: there are fewer.
    """
    if k > encoder.n_blocks:
        raise ConfigError(f"finetune.k is {k}, but the encoder has {encoder.n_blocks} blocks; give 1 to {encoder.n_blocks}")
    return encoder.blocks[-k:]
