"""As-of demand: how much each item sells now, sold a year ago, and how that compares.

Rates are made once per moment for all items; their features are the same functions whether the rates belong to an item or to
all items with similar texts.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from seasonrec.data.timeline import AsOf
from seasonrec.schema import WEEK

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
PSEUDO_RATE: Final = 0.2  # purchases a week added to both sides of a ratio, so that rare items have ratios near 1
N_FEATURES: Final = len(RECENT) + len(LAST_YEAR) + 3


def demand_rates(now: AsOf, weeks_ahead: float = 0.0, last_year: bool = True) -> Float:
    """Purchases a week of each item in each of `WINDOWS`, [n_items, n_windows].

    A window is as long as the part of it that is known, at least a week: a young shop's year is not thinned by weeks before its
    first, so that rates mean the same as the shop grows older.

    Args:
        weeks_ahead: how long after `now` the week begins that is asked about: last year's windows are those of that week, recent ones
            stay. More than a year ahead is the same week of the year.
        last_year: whether last year's windows are counted; 0 without it, as in a shop's first year.
    """
    known = max((now.time - now.start) / WEEK, 1)
    windows = [*((start, 0.0) for start in RECENT), *(_seen(start, end, weeks_ahead % YEAR) for start, end in SEASONAL)]
    rates = [now.demand(start, end) / np.float32(max(min(start, known) - min(end, known), 1)) for start, end in windows]
    found = np.stack(rates, axis=1)
    if not last_year:
        found[:, len(RECENT) :] = 0
    return found


def _seen(start: float, end: float, ahead: float) -> tuple[float, float]:
    """A window of weeks ago, seen from `ahead` weeks later; of one that reaches into the future the past part, if that is a week or more,
    else the same window a year before.
    """
    start, end = start - ahead, end - ahead
    return (start, max(end, 0)) if start >= 1 else (start + YEAR, end + YEAR)


def demand_features(rates: Float) -> Float:
    """Log rates, last year's seasonal lift, the trend, and last year's coming rise, [n, N_FEATURES].

    Args:
        rates: as `demand_rates` [n, n_windows], possibly pooled over several items.
    """
    log_rates = np.log1p(rates)
    n = len(RECENT) + len(LAST_YEAR)
    season, around, coming, gone = (rates[:, at] for at in (len(RECENT) + 1, n, n + 1, n + 2))
    lift = np.log((season + PSEUDO_RATE) / (around + PSEUDO_RATE))
    trend = log_rates[:, 0] - log_rates[:, len(RECENT) - 1]
    rise = np.log1p(coming) - np.log1p(gone)
    return np.concatenate([log_rates[:, :n], np.stack([lift, trend, rise], axis=1)], axis=1).astype(np.float32)


def overdue(wait: NDArray, gap: NDArray) -> NDArray:
    """How far a wait has come against the usual one, as a log ratio; 0 where that is 0, not known."""
    return np.where(gap > 0, np.log(wait) - np.log(np.maximum(gap, 1e-6)), 0)
