"""Tokenised texts as flat arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tokens:
    """The tokens of n texts, one text after the other; a text without tokens is allowed.

    Args:
        ids: token numbers in the tokenizer's vocabulary [n_tokens].
        starts: where each text begins in `ids`, and the end of the last one [n + 1].
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each text, [n]."""
        return np.diff(self.starts)

    def take(self, rows: NDArray) -> "Tokens":
        """The texts of the given rows, in the order of `rows`, [n_rows]."""
        rows = np.asarray(rows, np.int64)
        lengths = self.lengths[rows]
        starts = np.append(0, np.cumsum(lengths))
        shift = np.repeat(self.starts[rows] - starts[:-1], lengths)
        return Tokens(self.ids[np.arange(starts[-1]) + shift], starts)

    def padded(self, pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Token numbers, filled up on the right with `pad_id`, and which of them are real, both [n, length of the longest]."""
        lengths = self.lengths
        real = np.arange(lengths.max(initial=0)) < lengths[:, None]
        ids = np.full(real.shape, pad_id, np.int64)
        ids[real] = self.ids
        return ids, real
