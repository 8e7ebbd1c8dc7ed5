"""The joint model: one text encoder, several heads, one mixed score."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seasonrec.data.batches import Batch
from seasonrec.encoders.catalogue import CatalogueTexts
from seasonrec.errors import ConfigError
from seasonrec.heads.head import HeadFactory, Sizes, added
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
        ConfigError: there are no heads.
    """

    texts: CatalogueTexts
    heads: nn.ModuleDict

    def __init__(self, texts: CatalogueTexts, sizes: Sizes, heads: Mapping[str, HeadFactory], mixer: MixerFactory):
        super().__init__()
        if not heads:
            raise ConfigError("the model has no heads; choose at least one, e.g. head/seasonal=default, and give it a positive loss weight")
        self.texts = texts
        self.heads = nn.ModuleDict({name: head(sizes) for name, head in heads.items()})
        self.mixer = mixer(sizes, list(heads))
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
            ConfigError: a head gives scores of another shape.
        """
        batch, texts = self.seen(batch), self.texts(batch.moment.context, batch.truth_items(), batch.candidate)
        # Mixing and losses are in float32, whatever the precision in which the trainer runs the heads.
        by_head = {name: _shaped(name, head, head(batch, texts), batch).float() for name, head in self.heads.items()}
        mixed = self.mixer({name: s.detach() for name, s in by_head.items()} if detach_heads else by_head, batch)
        total = added(mixed.values()).expand(len(batch.user), batch.n_candidates)
        return Scores(total, mixed, by_head)


def _shaped(name: str, head: nn.Module, scores: Tensor, batch: Batch) -> Tensor:
    """A head's scores, after they were found to be one for each query and candidate, or to stand for them."""
    wanted = len(batch.user), batch.n_candidates
    if scores.dim() != 2 or any(found not in (1, n) for found, n in zip(scores.shape, wanted, strict=True)):
        raise ConfigError(
            f"head {name} ({type(head).__qualname__}) gave scores of shape {list(scores.shape)}, wanted"
            f" [{wanted[0]} or 1, {wanted[1]} or 1], a row for each query and a column for each candidate"
        )
    return scores
