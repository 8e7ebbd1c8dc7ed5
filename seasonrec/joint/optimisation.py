"""How fast each part of the model learns: AdamW's parameter groups and the schedule of their rates."""

from dataclasses import dataclass

from torch import Tensor, nn

from seasonrec.encoders.encoder import TextEncoder
from seasonrec.errors import ConfigError
from seasonrec.joint.model import JointModel


@dataclass(frozen=True)
class Optimisation:
    """AdamW with a linear warm-up and a linear decay to 0, and a learning rate of their own for heads and encoder.

    Args:
        lr: of heads and mixer.
        encoder_lr: of the encoder's trainable parameters.
        encoder_layer_decay: what is left of `encoder_lr` from one block to the one below, in (0, 1]: the top block learns at the whole
            rate, the embeddings at that of a block below the first. 1: all alike.
        weight_decay: L2 as AdamW decouples it; not for biases, norms and single numbers.
        embedding_decay: the same for id embeddings, whose rows are seen rarely and would learn past popularity by heart.
        warmup: share of all steps in which the rates rise from 0, in [0, 1).

    Reference: Howard and Ruder (2018), Universal language model fine-tuning, section 3.2, for the decay from block to block.
    """

    lr: float = 4e-3
    encoder_lr: float = 2e-5
    encoder_layer_decay: float = 1.0
    weight_decay: float = 0.05
    embedding_decay: float = 10.0
    warmup: float = 0.05

    def __post_init__(self) -> None:
        if not (self.lr > 0 and self.encoder_lr > 0 and min(self.weight_decay, self.embedding_decay) >= 0 and 0 <= self.warmup < 1):
            raise ConfigError(f"optim: wanted positive rates, decays of at least 0 and warmup in [0, 1), got {self}")
        if not 0 < self.encoder_layer_decay <= 1:
            raise ConfigError(f"optim.encoder_layer_decay is {self.encoder_layer_decay}, wanted a share in (0, 1]; 1 for all blocks alike")

    def groups(self, model: JointModel) -> list[dict]:
        """Parameter groups by rate and decay: encoder (layer by layer) or rest, decayed or not, id embeddings; only what learns.

        Raises:
            ConfigError: a decay from block to block in an encoder whose blocks are not known.
        """
        embeddings = {id(m.weight) for m in model.heads.modules() if isinstance(m, nn.Embedding)}
        encoder_lr = self._encoder_rates(model.texts.encoder)
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for parameter in model.parameters():
            if not parameter.requires_grad:
                continue
            decay = self.embedding_decay if id(parameter) in embeddings else self.weight_decay
            key = encoder_lr.get(id(parameter), self.lr), decay if parameter.ndim > 1 else 0.0
            groups.setdefault(key, []).append(parameter)
        return [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in groups.items()]

    def _encoder_rates(self, encoder: TextEncoder) -> dict[int, float]:
        """The rate of each of the encoder's parameters, by its identity."""
        layers = encoder.layers if self.encoder_layer_decay < 1 else []
        # What some families keep beside their blocks, such as a table of relative positions, learns as slowly as the embeddings.
        rates = {id(p): self.encoder_lr * self.encoder_layer_decay ** max(len(layers) - 1, 0) for p in encoder.parameters()}
        for below_top, layer in enumerate(reversed(layers)):
            rates |= {id(p): self.encoder_lr * self.encoder_layer_decay**below_top for module in layer for p in module.parameters()}
        return rates

    def rate(self, step: int, n_steps: int) -> float:
        """The share of the full learning rate at a step of n_steps, in [0, 1]."""
        warmup = self.warmup * n_steps
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return max(0.0, (n_steps - step) / max(n_steps - warmup, 1))
