"""Tokenised texts as flat arrays."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class Rows(Protocol):
    """Anything that gives its rows as a tensor, e.g. one that stays on disk."""

    def __getitem__(self, rows: NDArray[np.int64], /) -> Tensor:
        """The rows of the given numbers, [n, d]."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of n texts, or of n pairs of texts, one after the other; a text without tokens is allowed.

    Args:
        ids: token numbers in the tokenizer's vocabulary [n_tokens].
        starts: where each text begins in `ids`, and the end of the last one [n + 1].
        segments: which text of its pair each token belongs to, 0 or 1, for models that read this [n_tokens]; None for the others.
        hidden: what the lowest blocks of an encoder have made of each token [n_tokens, d], so that only those above are left to run; None
            where the encoder is to begin at the beginning.
        n_blocks: how many blocks that were.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    segments: NDArray[np.int32] | None = None
    hidden: Rows | None = None
    n_blocks: int = 0

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each text, [n]."""
        return np.diff(self.starts)

    def places(self, rows: NDArray) -> NDArray[np.int64]:
        """Where the tokens of the given texts stand in `ids`, text by text."""
        lengths = self.lengths[rows]
        ends = np.cumsum(lengths)
        return np.arange(lengths.sum()) + np.repeat(self.starts[rows] - ends + lengths, lengths)

    def take(self, rows: NDArray) -> "Tokens":
        """The texts of the given rows, in the order of `rows`, [n_rows]."""
        rows = np.asarray(rows, np.int64)
        places, starts = self.places(rows), np.append(0, np.cumsum(self.lengths[rows]))
        segments = None if self.segments is None else self.segments[places]
        hidden = None if self.hidden is None else self.hidden[places]
        return Tokens(self.ids[places], starts, segments, hidden, self.n_blocks)

    def batches(self, n_tokens: int) -> Iterator[NDArray[np.int64]]:
        """Rows of texts of like length, as many as make at most `n_tokens` with their padding, the longest texts first.

        So memory that is too small shows at once. Texts without tokens are left out. Where texts of one length fill at least half of a
        batch, they are alone in it: they need neither padding nor mask.
        """
        lengths = self.lengths
        order = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
        first = 0
        while first < len(order):
            rows = order[first : first + max(1, n_tokens // int(lengths[order[first]]))]
            n_alike = np.count_nonzero(lengths[rows] == lengths[rows[0]])
            if 2 * n_alike >= len(rows):
                rows = rows[:n_alike]
            yield rows
            first += len(rows)

    def padded(self, pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Token numbers, filled up on the right with `pad_id`, and which of them are real, both [n, length of the longest]."""
        lengths = self.lengths
        real = np.arange(lengths.max(initial=0)) < lengths[:, None]
        ids = np.full(real.shape, pad_id, np.int64)
        ids[real] = self.ids
        return ids, real
