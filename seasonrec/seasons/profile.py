"""When in the year each item is bought: weekly profiles that rare items borrow from their group."""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seasonrec.errors import DataError
from seasonrec.seasons.phase import HALF_WINDOW, N_WEEKS, window

# Profiles of one year tell the weeks of the next best with about 500 (Online Retail II and Open e-commerce, up to their test weeks);
# below 100 they tell less than the profile of all items, because single weeks of rare items are mostly chance.
STRENGTH: Final = 500.0


def seasonal_profile(
    item: ArrayLike,
    week_of_year: ArrayLike,
    n_items: int,
    *,
    strength: float = STRENGTH,
    group: ArrayLike | None = None,
    half_window: int = HALF_WINDOW,
    days: ArrayLike | None = None,
) -> NDArray[np.float32]:
    """The share of each item's purchases that falls into each week of the year, [n_items, 52]; rows sum to 1.

    Counts, each divided by the days of its week where these are given, are averaged over a circular window, then `strength`
    pseudo-purchases are added that fall as those of the item's group do (an empirical Bayes estimate): an item never bought has its
    group's profile, one bought often nearly its own. The group's profile borrows from that of all items in the same way, and that one
    from a flat year.

    Args:
        item: row of each purchase [n], in [0, n_items); purchases before the cut-off only, e.g. `AsOf.purchases`.
        week_of_year: of each purchase [n], 0..51, e.g. from `phase.week_of_year`.
        n_items: rows of the catalogue.
        strength: pseudo-purchases, above 0; more of them trust the group more.
        group: group of each item [n_items], numbered from 0, e.g. its product type; None for one group of all items.
        half_window: weeks averaged on either side, 0..25.
        days: how many days of each week of the year the purchases cover, years added up [52]; a week of none takes no part, its share is
            0. None: all weeks alike.

    Warning:
        Without `days`, weeks that the purchases cover more often than others (15 months hold three of them twice) weigh more in every
        row; compare a row with that of all items, not with 1/52.

    Raises:
        DataError: arrays of different length, items, weeks or groups out of range, a strength of 0 or less, no days, or purchases in
            weeks that have none.
    """
    item, week = np.asarray(item), np.asarray(week_of_year)
    _check(item, week, n_items, strength, half_window)
    item, week = item.astype(np.int64), week.astype(np.int64)
    days = np.ones(N_WEEKS, np.float32) if days is None else _checked_days(days, week)
    counts = np.bincount(item * N_WEEKS + week, minlength=n_items * N_WEEKS).reshape(n_items, N_WEEKS)
    flat = (days > 0) / np.count_nonzero(days)
    prior = _shrunk(_smooth(counts.sum(0, keepdims=True), days, half_window), flat, strength)
    if group is not None:
        group = _checked_groups(group, n_items)
        of_group = np.bincount(group[item] * N_WEEKS + week, minlength=(int(group.max(initial=-1)) + 1) * N_WEEKS)
        prior = _shrunk(_smooth(of_group.reshape(-1, N_WEEKS), days, half_window), prior, strength)[group]
    return _shrunk(_smooth(counts, days, half_window), prior, strength).astype(np.float32)


def _smooth(counts: NDArray, days: NDArray[np.float32], half_window: int) -> NDArray[np.float32]:
    """Purchases a day, averaged over the weeks around each week that have days, times what keeps the row's sum as it is."""
    covered = (days > 0).astype(np.float32)
    n_covered = np.maximum(window(covered[None], half_window), 1)
    a_day = window(counts / np.where(days > 0, days, 1), half_window, np.float32) * covered / n_covered
    return a_day * (counts.sum(1, keepdims=True) / np.maximum(a_day.sum(1, keepdims=True), np.finfo(np.float32).tiny))


def _shrunk(counts: NDArray, prior: NDArray, strength: float) -> NDArray:
    return (counts + strength * prior) / (counts.sum(1, keepdims=True) + strength)


def _check(item: NDArray, week: NDArray, n_items: int, strength: float, half_window: int) -> None:
    if len(item) != len(week):
        raise DataError(f"seasonal profile: {len(item)} items and {len(week)} weeks; give one of each a purchase")
    for name, rows, n, hint in (
        ("items", item, n_items, "give rows of the catalogue"),
        ("weeks of the year", week, N_WEEKS, "phase.week_of_year makes them"),
    ):
        if len(rows) and not (np.issubdtype(rows.dtype, np.integer) and rows.min() >= 0 and rows.max() < n):
            raise DataError(
                f"seasonal profile: {name} are {rows.dtype} in {rows.min()}..{rows.max()}, wanted integers in 0..{n - 1}; {hint}"
            )
    if not strength > 0:
        raise DataError(f"seasonal profile: strength is {strength}, wanted more than 0 pseudo-purchases; items never bought need them")
    if not 0 <= 2 * half_window < N_WEEKS:
        raise DataError(f"seasonal profile: half_window is {half_window} weeks, wanted 0..{(N_WEEKS - 1) // 2}; the year has {N_WEEKS}")


def _checked_days(days: ArrayLike, week: NDArray) -> NDArray[np.float32]:
    days = np.asarray(days, np.float32)
    if days.shape != (N_WEEKS,) or not (days >= 0).all() or not days.any():
        raise DataError(f"seasonal profile: days are {days.tolist()}, wanted one number for each of {N_WEEKS} weeks, not all of them 0")
    if (outside := days[week] == 0).any():
        raise DataError(f"seasonal profile: a purchase in week {week[outside.argmax()]}, of which days has none; give all days covered")
    return days


def _checked_groups(group: ArrayLike, n_items: int) -> NDArray[np.int64]:
    group = np.asarray(group)
    if len(group) != n_items:
        raise DataError(f"seasonal profile: {len(group)} groups for {n_items} items; give one an item")
    if len(group) and group.min() < 0:
        raise DataError(f"seasonal profile: group {group.min()} of item {int(group.argmin())}, wanted numbers from 0 on")
    return group.astype(np.int64)
