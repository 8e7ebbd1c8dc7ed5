"""What everyone bought at this time of last year, and of late."""

import numpy as np
from numpy.typing import NDArray

from seasonrec.baselines.popular import RECENT_WEEKS
from seasonrec.bounds import bounded
from seasonrec.data.timeline import AsOf

YEAR_WEEKS = 52


class SeasonalPopular:
    """Items by their purchases in the same weeks of last year plus those of the last weeks, the same for every user.

    In the first year there is no last one, and only the last weeks count.

    Args:
        around_weeks: so many weeks before and after the same week of last year count too.
        recent_weeks: the last so many weeks count.
    """

    def __init__(self, around_weeks: int = 2, recent_weeks: int = RECENT_WEEKS):
        self._around = bounded("seasonal_popular.around_weeks", around_weeks, 0, YEAR_WEEKS // 2)
        self._recent = bounded("seasonal_popular.recent_weeks", recent_weeks, 0)

    def fit(self, past: AsOf) -> None:
        """Nothing is learned."""

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """Purchases of each item in both windows, [n_users_in_batch, n_items]."""
        # The week that begins now began 52 weeks ago in last year, and was over 51 weeks ago.
        last_year = now.demand(YEAR_WEEKS + self._around, YEAR_WEEKS - 1 - self._around)
        return np.tile(last_year + now.demand(self._recent), (len(users), 1))
