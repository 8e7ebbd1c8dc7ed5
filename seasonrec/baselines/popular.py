"""What everyone buys."""

import numpy as np
from numpy.typing import NDArray

from seasonrec.bounds import bounded
from seasonrec.data.timeline import AsOf

RECENT_WEEKS = 4  # what counts as recent where a method mixes in what is popular now


def recent_popularity(now: AsOf) -> NDArray[np.float32]:
    """Purchases of each item in the last four weeks, divided by those of the most bought one, [n_items]."""
    demand = now.demand(RECENT_WEEKS)
    return demand / max(demand.max(initial=0), 1)


class Popular:
    """The most bought items first, the same for every user. A purchase is a distinct (user, item, week).

    Args:
        weeks: counts the purchases of the last so many weeks; None counts all.
    """

    def __init__(self, weeks: float | None = None):
        self._weeks = None if weeks is None else bounded("popular.weeks", weeks, 0)

    def fit(self, past: AsOf) -> None:
        """Nothing is learned."""

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """Purchases of each item, [n_users_in_batch, n_items]."""
        demand = now.n_bought.astype(np.float32) if self._weeks is None else now.demand(self._weeks)
        return np.tile(demand, (len(users), 1))
