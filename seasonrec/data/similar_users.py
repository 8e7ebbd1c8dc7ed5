"""Users who bought the same things: what they buy tells something of a user."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from seasonrec.data.kept import KEPT_GB, Kept, KeptRows
from seasonrec.data.timeline import AsOf
from seasonrec.errors import ConfigError

NEIGHBOURS_GB: Final = 0.5  # 400,000 queries of 300 neighbours: several times what a training draws from
PAIRS: Final = 1 << 24  # of users that are compared at a time, 20 bytes each
BOUGHT_GB: Final = 0.5  # of what they bought of the whole catalogue
FEW_ROWS: Final = 20_000  # where fewer fit, hardly one is asked for again before it is gone


@dataclass(frozen=True)
class Purchases:
    """What the users among whom neighbours are sought had bought.

    Args:
        direction: their decayed purchases, divided by their norms, as columns [n_items, n]: a batch asks for few users and few items.
        rows: of the users [n], ascending.
        norm: of each of them [n].
        usual: the mean of their decayed purchases of each item [n_items].
        number: of the moment, the same whenever it is made again.
    """

    direction: sp.csr_matrix
    rows: NDArray[np.int64]
    norm: NDArray[np.float32]
    usual: NDArray[np.float32]
    number: int

    def keys(self, users: NDArray[np.int64]) -> NDArray[np.int64]:
        """A number for each user as of this moment, and for no other user or moment."""
        return (self.number << 32) + users + 1  # users are rows of 31 bits, or -1


def _bytes(purchases: Purchases) -> int:
    matrix = purchases.direction
    return sum(array.nbytes for array in (matrix.data, matrix.indices, matrix.indptr, purchases.rows, purchases.norm, purchases.usual))


class SimilarUsers:
    """What the k users bought whose purchases are most like a user's own; of all who have bought until then.

    Like is a large cosine between purchases that fade from week to week. A neighbour who shares nothing with the user counts as one
    who bought nothing; of equally near ones the first rows count. Nothing is learnt: neighbours go on with the timeline.

    Memory: a moment takes 8 bytes a (user, item) pair among whom neighbours are sought and 8 an item; up to `max_gb` in all, the newest is
    kept in any case. Whom a user is like as of a moment is kept too, 4 bytes a neighbour and up to half a gigabyte: training asks for the
    same queries several times, and so does a second fit with a later cut-off. Where a catalogue is so small that those of many users fit
    into as much again, so is what they bought of it, 4 bytes an item. A search takes up to 20 bytes x `PAIRS`.

    Args:
        k: how many neighbours.
        decay: what is left of a purchase after a week, 0 to 1.
        n_users: among how many users they are sought, taken evenly from all who have bought; None for all. So cost stays within bounds in a
            large shop. Among 0 nobody has neighbours, and nothing is known of what all users buy.
        max_gb: of all moments kept; training goes through its weeks once an epoch. 0, for who asks once: nor is what was bought.

    Reference: Hu, He, Gao and Zhang (2020), Modeling personalized item frequency information for next-basket recommendation.
    """

    def __init__(self, k: int = 300, decay: float = 0.97, n_users: int | None = 20_000, max_gb: float = KEPT_GB):
        if k < 1 or not 0 <= decay <= 1 or (n_users is not None and n_users < 0):
            raise ConfigError(
                f"similar users: wanted k of at least 1, n_users of at least 0 and decay in 0 to 1, got k={k}, decay={decay}, {n_users=}"
            )
        self._k, self._decay, self._n_users = k, decay, n_users
        self._at = Kept(self._purchases, _bytes, max_gb * 1e9)
        self._numbers: dict[tuple[int, int], int] = {}
        self._nearest = KeptRows(k, NEIGHBOURS_GB * 1e9)
        self._bought: KeptRows | None = None  # made when the size of a catalogue is known
        self._bought_bytes = min(BOUGHT_GB, max_gb) * 1e9

    def usual(self, now: AsOf) -> NDArray[np.float32]:
        """The decayed purchases of each item by the average user, [n_items]."""
        return self._at(now).usual

    def bought(self, users: NDArray, now: AsOf, items: NDArray | None = None) -> NDArray[np.float32]:
        """The mean decayed purchases of each user's neighbours, [n, n_items] or, of the items asked for, [n, len(items)].

        Args:
            users: rows; -1 is a user of whom nothing is known, who has no neighbours.
            items: catalogue rows; None for the whole catalogue.
        """
        users, purchases = np.asarray(users, np.int64), self._at(now)
        of_items = purchases.direction if items is None else purchases.direction[items]

        def make(rows: slice | NDArray) -> NDArray[np.float32]:
            # A neighbour list is short, yet as a dense matrix it is multiplied four times as fast.
            return np.ascontiguousarray((of_items @ self._weights(users[rows], now, purchases).T).T)

        if items is not None or self._bought_bytes < FEW_ROWS * 4 * now.n_items:
            return make(slice(None))
        if self._bought is None or self._bought.width != now.n_items:
            self._bought = KeptRows(now.n_items, self._bought_bytes, np.float32)
        return self._bought(purchases.keys(users), make)

    def _purchases(self, now: AsOf) -> Purchases:
        # Users who have not come yet are not known to be any: how many a file holds says what its future brings.
        known = np.flatnonzero(now.known_users)
        n = len(known) if self._n_users is None else min(self._n_users, len(known))
        purchases = now.decayed(rows := known[np.arange(n) * len(known) // max(n, 1)], self._decay)
        norm = np.sqrt(np.asarray(purchases.multiply(purchases).sum(1)).ravel())
        usual = np.asarray(purchases.sum(0)).ravel() / max(n, 1)
        # What has faded to nothing has no direction: its user is nobody's neighbour.
        purchases.data /= np.repeat(np.where(norm > 0, norm, 1), np.diff(purchases.indptr))
        number = self._numbers.setdefault(now.identity, len(self._numbers))
        return Purchases(purchases.T.tocsr(), rows, norm.astype(np.float32), usual.astype(np.float32), number)

    def _weights(self, users: NDArray, now: AsOf, purchases: Purchases) -> NDArray[np.float32]:
        """What the directions of others count for each of `users`, [n_users_in_batch, n]."""
        if not (n := len(purchases.rows)):
            return np.zeros((len(users), 0), np.float32)
        neighbour = self._nearest(purchases.keys(users), lambda new: self._neighbours(users[new], now, purchases))
        # A small shop has fewer neighbours to give, and a user who is one of those among whom they are sought has one fewer.
        k = self._k if n > self._k else np.maximum(1, n - np.isin(users, purchases.rows)[:, None])
        weight = np.where(neighbour >= 0, purchases.norm[neighbour] / k, 0).astype(np.float32)
        starts = np.arange(0, neighbour.size + 1, self._k)
        return sp.csr_matrix((weight.ravel(), np.maximum(neighbour, 0).ravel(), starts), (len(neighbour), n)).toarray()

    def _neighbours(self, users: NDArray, now: AsOf, purchases: Purchases) -> NDArray[np.int32]:
        """The places of those nearest to each of `users` among all, -1 for each that shares nothing, [n_users, k]."""
        at_once = max(1, PAIRS // len(purchases.rows))
        parts = [self._nearest_of(users[first : first + at_once], now, purchases) for first in range(0, len(users), at_once)]
        return np.concatenate([np.zeros((0, self._k), np.int32), *parts])

    def _nearest_of(self, users: NDArray, now: AsOf, purchases: Purchases) -> NDArray[np.int32]:
        # Ordered by the own length alone, so a user's own purchases need no norm.
        near = (now.decayed(users, self._decay) @ purchases.direction).toarray()
        near[users[:, None] == purchases.rows] = -1  # nobody is a neighbour of their own
        n = near.shape[1]
        # Bits of floats that are not negative order as the floats do. Of equal keys it would be the processor's choice which are near.
        keys = (near.view(np.int32).astype(np.int64) << 32) - np.arange(n)
        k = min(self._k, n)
        nearest = np.argpartition(keys, n - k, 1)[:, n - k :]
        neighbour = np.full((len(users), self._k), -1, np.int32)
        neighbour[:, :k] = np.where(np.take_along_axis(near, nearest, 1) > 0, nearest, -1)
        return neighbour
