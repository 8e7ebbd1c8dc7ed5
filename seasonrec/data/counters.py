"""As-of demand: how much each item sells now, sold a year ago, and how that compares.

Counts are made once per moment for all items; features of counts are the same functions whether the counts belong to an
item or to all items with similar texts.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from seasonrec.data.timeline import AsOf

Float = NDArray[np.float32]

# Windows in weeks ago, (from, to). Recent ones halve the year roughly evenly on a log scale.
RECENT: Final = (1, 2, 4, 12, 52)
# Centred on the week that begins now, one year (52 weeks) ago, and 0, 2 and 4 weeks to each side.
LAST_YEAR: Final = tuple((52 + side, 51 - side) for side in (0, 2, 4))
AROUND_LAST_YEAR: Final = (78, 26)  # the whole year around that week: what its season is compared with
COMING: Final = (52, 48)  # the four weeks that came next, last year
GONE: Final = (56, 52)  # the four weeks before
SEASONAL: Final = (*LAST_YEAR, AROUND_LAST_YEAR, COMING, GONE)
WINDOWS: Final = (*((weeks, 0) for weeks in RECENT), *SEASONAL)
YEAR: Final = 52
PSEUDO_COUNT: Final = 0.2  # purchases a week added to both sides of a ratio, so that rare items have ratios near 1
N_FEATURES: Final = len(RECENT) + len(LAST_YEAR) + 3


def demand_counts(now: AsOf, weeks_ahead: float = 0.0) -> Float:
    """Purchases of each item in each of `WINDOWS`, [n_items, n_windows].

    Args:
        weeks_ahead: how long after `now` the week begins that is asked about: last year's windows are those of that week, recent ones
            stay. More than a year ahead is the same week of the year.
    """
    ahead = weeks_ahead % YEAR
    recent = [now.demand(weeks) for weeks in RECENT]
    seasonal = [now.demand(start - ahead, max(end - ahead, 0)) for start, end in SEASONAL]
    return np.stack(recent + seasonal, axis=1)


def demand_features(counts: Float) -> Float:
    """Log rates a week, last year's seasonal lift, the trend, and last year's coming rise, [n, N_FEATURES].

    Args:
        counts: as `demand_counts` [n, n_windows], possibly pooled over several items.
    """
    weeks = np.array([start - end for start, end in WINDOWS], np.float32)
    rates = counts / weeks
    log_rates = np.log1p(rates)
    n = len(RECENT) + len(LAST_YEAR)
    season, around, coming, gone = (rates[:, at] for at in (len(RECENT) + 1, n, n + 1, n + 2))
    lift = np.log((season + PSEUDO_COUNT) / (around + PSEUDO_COUNT))
    trend = log_rates[:, 0] - log_rates[:, len(RECENT) - 1]
    rise = np.log1p(coming) - np.log1p(gone)
    return np.concatenate([log_rates[:, :n], np.stack([lift, trend, rise], axis=1)], axis=1).astype(np.float32)
