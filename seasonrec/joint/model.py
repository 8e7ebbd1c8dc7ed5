"""The joint model: one text encoder, several heads, one mixed score."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seasonrec.data.batches import Batch
from seasonrec.encoders.catalogue import CatalogueTexts
from seasonrec.errors import ConfigError
from seasonrec.heads.head import CALLED, HeadFactory, Sizes, added, checked, made
from seasonrec.joint.mixer import MixerFactory
from seasonrec.joint.seen import SeenInputs


@dataclass(frozen=True)
class Scores:
    """The scores of a batch's candidates.

    Args:
        total: what ranks [B, C].
        mixed: what each head contributes to it, broadcastable to [B, C]; they add up to `total`.
        by_head: each head's own scores before mixing, broadcastable to [B, C].
    """

    total: Tensor
    mixed: Mapping[str, Tensor]
    by_head: Mapping[str, Tensor]


class JointModel(nn.Module):
    """Scores candidates by heads that share one text encoder, and mixes them.

    Season, demand and history reach heads and mixer within the range that training has seen.

    Args:
        texts: the shop's texts and their encoder.
        sizes: widths set by data and encoder.
        heads: head factories by task name, e.g. seasonal, cf, content; only those that take part.
        mixer: factory of the mixer.

    Raises:
        ConfigError: there are no heads, or one or the mixer cannot be made of the sizes.
    """

    texts: CatalogueTexts
    heads: nn.ModuleDict

    def __init__(self, texts: CatalogueTexts, sizes: Sizes, heads: Mapping[str, HeadFactory], mixer: MixerFactory):
        super().__init__()
        if not heads:
            raise ConfigError("the model has no heads; choose at least one, e.g. head/seasonal=default, and give it a positive loss weight")
        self.texts = texts
        self.heads = nn.ModuleDict({name: made(f"head {name}", head, CALLED, sizes=sizes) for name, head in heads.items()})
        self.mixer = made("mixer", mixer, ("by_head", "batch"), sizes=sizes, heads=list(heads))
        self.seen = SeenInputs(sizes)

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.texts.vectors.device

    def forward(self, batch: Batch, *, detach_heads: bool = False) -> Scores:
        """The scores of a batch.

        Args:
            detach_heads: the mixed score sends no gradients into the heads, only into the mixer.

        Raises:
            ConfigError: a head or the mixer gives scores of another shape, or the mixer leaves a head out.
        """
        batch, texts = self.seen(batch), self.texts(batch.moment.context, batch.truth_items(), batch.candidate)
        # Mixing and losses are in float32, whatever the precision in which the trainer runs the heads.
        by_head = {name: checked(f"head {name}", head, head(batch, texts), batch).float() for name, head in self.heads.items()}
        mixed = self._mixed({name: s.detach() for name, s in by_head.items()} if detach_heads else by_head, batch)
        total = added(mixed.values()).expand(len(batch.user), batch.n_candidates)
        return Scores(total, mixed, by_head)

    def _mixed(self, by_head: Mapping[str, Tensor], batch: Batch) -> Mapping[str, Tensor]:
        """What the mixer makes of each head's scores; what it adds of its own has a name of its own."""
        mixed, name = self.mixer(by_head, batch), type(self.mixer).__qualname__
        if not isinstance(mixed, Mapping):
            raise ConfigError(f"mixer ({name}) gave a {type(mixed).__name__}, wanted what each head contributes, by its name")
        if lost := [head for head in by_head if head not in mixed]:
            raise ConfigError(
                f"mixer ({name}) says nothing of {', '.join(lost)}, but gave {', '.join(mixed)}; wanted every head by its name"
            )
        return {part: checked(f"mixer, for {part},", self.mixer, scores, batch) for part, scores in mixed.items()}
