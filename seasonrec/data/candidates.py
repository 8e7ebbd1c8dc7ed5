"""Which items the softmax of a training batch runs over: the whole catalogue, or a sample with known inclusion probabilities."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

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

    @classmethod
    def of_truth(cls, truth: NDArray) -> "Candidates":
        """The truth of a batch and nothing else, for losses that compare no items.

        Args:
            truth: rows, any number of times.
        """
        item = np.unique(truth).astype(np.int64)
        return cls(item, np.full(len(item), np.inf, np.float32))


@dataclass(frozen=True)
class CandidateSampler:
    """Draws each item independently with a probability that grows with its recent purchases, about `n` in all.

    Popular items are always in, so the sample costs the softmax little variance; tail items stand for `1 / probability` of
    their kind. Truth is added to the sample and is never weighted for its own query. Catalogues of at most `n` items are used whole.

    Args:
        n: expected number of candidates drawn by popularity; null for the whole catalogue always.
        power: flattens popularity; 0 draws all items alike, 1 in proportion.
        own: probability with which each item is drawn, besides, that a user of the batch has bought before: whether such a one is
            bought again decides most of a list, and popularity alone would show few of those that are not.

    Reference: Horvitz and Thompson (1952); as the logQ correction, Bengio and Senécal (2008), Adaptive importance sampling.
    """

    n: int | None = 2048
    power: float = 0.75
    own: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.own <= 1:
            raise ConfigError(f"candidates: own is {self.own}, wanted a probability")
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

    def draw(self, inclusion: NDArray, truth: NDArray, rng: np.random.Generator, own: ArrayLike = ()) -> Candidates:
        """A sample together with the truth of its batch.

        Args:
            inclusion: of each item [n_items].
            truth: rows that must be among the candidates, any number of times.
            own: rows that the users of the batch have bought before, any number of times.
        """
        inclusion, own = inclusion.copy(), np.asarray(own, np.int64)
        inclusion[own] = 1 - (1 - inclusion[own]) * (1 - self.own)
        drawn = rng.random(len(inclusion)) < inclusion
        item = np.flatnonzero(drawn | (np.bincount(truth, minlength=len(inclusion)) > 0))
        return Candidates(item, np.where(drawn[item], np.log(inclusion[item]), np.inf).astype(np.float32))
