"""What each user took, in order, as flat arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seasonrec.data.timeline import AsOf

Int = NDArray[np.int64]


def by_user(user: NDArray, n_users: int) -> tuple[Int, Int]:
    """The rows of events in order of time, grouped by user (ties as given), and where each user's begin, [n_users + 1]."""
    order = np.argsort(user, kind="stable")
    return order, np.searchsorted(user[order], np.arange(n_users + 1))


@dataclass(frozen=True)
class Sequences:
    """What each user took, in order.

    Args:
        item: of every event, grouped by user, in order of time.
        starts: where each user's begin [n_users].
        lengths: how many they are [n_users].
        n_items: of the catalogue.
    """

    item: Int
    starts: Int
    lengths: Int
    n_items: int

    @classmethod
    def of(cls, past: AsOf) -> "Sequences":
        """All that was known."""
        user, item, *_ = past.events()
        order, starts = by_user(user, past.n_users)
        return cls(item[order].astype(np.int64), starts[:-1], np.diff(starts), past.n_items)

    def last(self, users: Int) -> Int:
        """The last item of each user, who has one [n]."""
        return self.item[self.starts[users] + self.lengths[users] - 1]

    def without_last(self, users: Int) -> "Sequences":
        """The same as if these users, who each have one, had not taken their last item."""
        lengths = self.lengths.copy()
        lengths[users] -= 1
        return Sequences(self.item, self.starts, lengths, self.n_items)

    def padded(self, users: Int, length: int) -> Int:
        """The last items of each user [n, length], at the right end; `n_items` where there are none."""
        place = self.lengths[users][:, None] - np.arange(length, 0, -1)
        padded = np.full(place.shape, self.n_items)
        padded[place >= 0] = self.item[(self.starts[users][:, None] + place)[place >= 0]]
        return padded

    def seen(self, users: Int) -> NDArray[np.bool_]:
        """Which items each user took [n, n_items]."""
        items = self.padded(users, int(self.lengths[users].max(initial=0)))
        seen = np.zeros((len(users), self.n_items + 1), np.bool_)  # the last column is that of padding
        np.put_along_axis(seen, items, True, 1)
        return seen[:, :-1]
