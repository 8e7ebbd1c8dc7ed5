"""Which items the softmax of a training batch runs over: the whole catalogue, or a sample with known inclusion probabilities."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seasonrec.errors import ConfigError

FLOOR: Final = 0.5  # purchases added to each item, so that unsold ones can be drawn too


@dataclass(frozen=True)
class Candidates:
    """Catalogue rows that a batch is scored on.

    Args:
        item: sorted rows [n].
        log_inclusion: log of the probability with which each was drawn [n]; infinite where it is here only as somebody's truth,
            since it then stands for no other item.
    """

    item: NDArray[np.int64]
    log_inclusion: NDArray[np.float32]


@dataclass(frozen=True)
class CandidateSampler:
    """Draws each item independently with a probability that grows with its recent purchases, about `n` in all.

    Popular items are always in, so the sample costs the softmax little variance; tail items stand for `1 / probability` of
    their kind. Truth is added to the sample and is never weighted for its own query. Catalogues of at most `n` items are used whole.

    Args:
        n: expected number of candidates; null for the whole catalogue always.
        power: flattens popularity; 0 draws all items alike, 1 in proportion.

    Reference: Horvitz and Thompson (1952); as the logQ correction, Bengio and Senécal (2008), Adaptive importance sampling.
    """

    n: int | None = 2048
    power: float = 0.75

    def __post_init__(self) -> None:
        if self.n is not None and self.n < 1:
            raise ConfigError(f"candidates: n is {self.n}, wanted at least 1, or null for the whole catalogue")

    def inclusion(self, purchases: NDArray) -> NDArray[np.float64]:
        """The probability of each item to be drawn, [n_items].

        Args:
            purchases: recent ones of each item [n_items].
        """
        if self.n is None or self.n >= len(purchases):
            return np.ones(len(purchases))
        weight = (purchases.astype(np.float64) + FLOOR) ** self.power
        # min(1, scale * weight) must sum to n: items at 1 leave the rest of the budget to the others.
        order = np.sort(weight)[::-1]
        rest = np.append(np.cumsum(order[::-1])[::-1], 0)
        scale = (self.n - np.arange(len(order))) / rest[:-1]
        certain = int(np.argmax(scale * order < 1))
        return np.minimum(weight * scale[certain], 1)

    def draw(self, inclusion: NDArray, truth: NDArray, rng: np.random.Generator) -> Candidates:
        """A sample together with the truth of its batch.

        Args:
            inclusion: of each item [n_items].
            truth: rows that must be among the candidates, any number of times.
        """
        drawn = rng.random(len(inclusion)) < inclusion
        item = np.flatnonzero(drawn | (np.bincount(truth, minlength=len(inclusion)) > 0))
        return Candidates(item, np.where(drawn[item], np.log(inclusion[item]), np.inf).astype(np.float32))
