"""What a head is: scores of a batch's candidates from one point of view. Heads do not know each other."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from seasonrec.data.batches import Batch
from seasonrec.encoders.catalogue import Texts


@dataclass(frozen=True)
class Sizes:
    """The widths that data and encoder set, and that no configuration states."""

    n_users: int
    n_items: int
    d_text: int
    d_season: int
    d_demand: int


class Head(Protocol):
    """Scores from one point of view; one of your own is any such module, given as a class path in `conf/head`.

    One with an attribute `reads_user_words = True` finds what is known of users in words in its batches.
    """

    def __call__(self, batch: Batch, texts: Texts) -> Tensor:
        """One score per query and candidate, [B, C], or [1, C] where all queries of the moment get the same."""


HeadFactory = Callable[[Sizes], nn.Module]


class Sum(nn.Module):
    """A head that adds up the scores of its parts.

    Args:
        parts: head factories by name.
    """

    def __init__(self, sizes: Sizes, parts: Mapping[str, HeadFactory]):
        super().__init__()
        self.parts = nn.ModuleDict({name: part(sizes) for name, part in parts.items()})

    def forward(self, batch: Batch, texts: Texts) -> Tensor:
        """The sum, [B, C] or [1, C]."""
        return added(part(batch, texts) for part in self.parts.values())


def added(parts: Iterable[Tensor]) -> Tensor:
    """The sum of score tables that broadcast together; of a single one, itself."""
    first, *others = parts
    for n, part in enumerate(others):
        first = over(torch.add, first, part) if n else first + part
    return first


def over(operation: Callable[..., Tensor], table: Tensor, *others: Tensor) -> Tensor:
    """`operation(table, *others)`, written over the table where nothing learns: a new one of a whole catalogue costs more than its numbers.

    Args:
        operation: one number at a time, such as `torch.mul`.
        table: that nobody else reads.
    """
    fits = torch.broadcast_shapes(table.shape, *(other.shape for other in others)) == table.shape
    return operation(table, *others, out=table if fits and not torch.is_grad_enabled() else None)


def mlp(d_in: int, d_hidden: int, d_out: int = 1, dropout: float = 0.0) -> nn.Sequential:
    """A network of one hidden layer, [..., d_in] -> [..., d_out]."""
    return nn.Sequential(nn.Linear(d_in, d_hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(d_hidden, d_out))
