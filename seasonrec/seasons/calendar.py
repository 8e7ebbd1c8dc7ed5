"""The shop's calendar: how far each moment is from the holidays that people buy for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seasonrec.errors import DataError
from seasonrec.seasons.dates import FIRST_YEAR, LAST_YEAR, Days, Holiday, Span, country_code, public_holidays, retail_holidays
from seasonrec.seasons.phase import local_time, zone

HEMISPHERES = ("north", "south")
# Half of the longest year. Easters can lie 385 days apart, so a moment between them may be farther from both: it says 183 too.
FARTHEST = 183


@dataclass(frozen=True)
class Calendar:
    """The retail and public holidays of a shop.

    Args:
        country: what the `holidays` package knows, e.g. "US"; sets public holidays and Mother's Day.
        timezone: IANA name; a holiday begins at local midnight.
        hemisphere: "north" or "south"; sets the summer sale, the school year and the names of the seasons.

    Raises:
        DataError: unknown country (with near matches), time zone or hemisphere.
    """

    country: str = "US"
    timezone: str = "UTC"
    hemisphere: str = "north"

    def __post_init__(self) -> None:
        country_code(self.country)
        zone(self.timezone)
        if self.hemisphere not in HEMISPHERES:
            raise DataError(f"hemisphere must be 'north' or 'south', got {self.hemisphere!r}")

    @cached_property
    def holidays(self) -> tuple[Holiday, ...]:
        """Every holiday, retail ones first, each group in the order of the year.

        Where a public holiday is called as a retail one is, e.g. the Orthodox Easter of Romania, that one has its days.
        """
        code = country_code(self.country)
        retail = retail_holidays(code, self.hemisphere)
        public = {holiday.name: holiday for holiday in public_holidays(code, retail)}
        own = tuple(replace(each, rule=public.pop(each.name).rule) if each.name in public else each for each in retail)
        return own + tuple(public.values())

    @cached_property
    def names(self) -> tuple[str, ...]:
        """One name per holiday, in the order of all columns, e.g. "black_friday"."""
        return tuple(holiday.name for holiday in self.holidays)

    def local_days(self, time: ArrayLike) -> Days:
        """The shop's calendar day of each time, datetime64[D] [n].

        Raises:
            DataError: times that are not integers, or that lie outside 1951-2099, where lunar calendars are not known.
        """
        days = local_time(time, self.timezone).astype("datetime64[D]")
        years = days.astype("datetime64[Y]").astype(np.int64) + 1970
        if days.size and not FIRST_YEAR < years.min() <= years.max() < LAST_YEAR:
            raise DataError(
                f"times span the years {years.min()}..{years.max()}, wanted {FIRST_YEAR + 1}..{LAST_YEAR - 1};"
                " a time stamp counts seconds since 1970: divide milliseconds by 1,000"
            )
        return days

    def distance(self, time: ArrayLike) -> NDArray[np.float32]:
        """Signed days from each time's local day to the nearest occurrence of each holiday, [n, n_holidays].

        Positive: days until its first day; negative: days since its last; 0: it is on. In (-183, 183]; as far ahead as behind
        counts as ahead, and 183 also stands for "no occurrence within half a year".

        Args:
            time: int64 seconds UTC [n].

        Raises:
            DataError: as `local_days`.
        """
        # Many times share a day: holidays are looked up once per distinct day.
        days, row = np.unique(self.local_days(time), return_inverse=True)
        if not len(days):
            return np.zeros((0, len(self.names)), np.float32)
        first, last = (int(day.astype("datetime64[Y]").astype(np.int64)) + 1970 for day in (days[0], days[-1]))
        table = np.stack([_signed_days(days, span) for span in self._occurrences(first - 1, last + 1)], axis=1)
        return table.astype(np.float32)[row]

    @cached_property
    def _occurrences(self):
        def of(first_year: int, last_year: int) -> list[Span]:
            return [holiday.rule(np.arange(first_year, last_year + 1)) for holiday in self.holidays]

        return lru_cache(maxsize=16)(of)

    @cached_property
    def _lengths(self) -> NDArray[np.float32]:
        """Days before and after of each holiday's window, [2, n_holidays]."""
        return np.array([[h.days_before for h in self.holidays], [h.days_after for h in self.holidays]], np.float32)

    def windows(self, time: ArrayLike) -> Mapping[str, NDArray[np.bool_]]:
        """For each holiday, which times lie in its window: on it, or within its days before or after; each [n].

        Raises:
            DataError: as `local_days`.
        """
        return dict(zip(self.names, self.inside(self.distance(time)).T, strict=True))

    def inside(self, distance: NDArray) -> NDArray[np.bool_]:
        """Whether a time at each signed distance lies in the holiday's window, [n, n_holidays].

        Args:
            distance: as `distance` gives it [n, n_holidays].
        """
        before, after = self._lengths
        return (distance <= before) & (distance >= -after)

    def features(self, time: ArrayLike) -> NDArray[np.float32]:
        """How near each holiday is, ahead and behind, in [0, 1], [n, 2 * n_holidays].

        First all columns ahead, `exp(-days_until / days_before)`, then all behind, `exp(-days_since / days_after)`: 1 on the
        holiday, 1/e at the window's edge, and 0 on the other side, since demand grows towards a holiday but drops after it.
        Windows shorter than 3 days fade as if they had 3, so that no holiday is a spike of one day.

        Raises:
            DataError: as `local_days`.
        """
        distance, (before, after) = self.distance(time), np.maximum(self._lengths, 3)
        ahead = np.exp(-np.maximum(distance, 0) / before) * (distance >= 0)
        behind = np.exp(np.minimum(distance, 0) / after) * (distance <= 0)
        return np.concatenate([ahead, behind], axis=1).astype(np.float32)


def _signed_days(days: Days, span: Span) -> NDArray[np.int64]:
    """Days until (positive) or since (negative) the nearest of some sorted, disjoint periods, [n]."""
    far = 2 * FARTHEST
    first, last = (np.concatenate([[-far], edge.astype(np.int64), [far]]) for edge in span)
    today = days.astype(np.int64)
    first[0] = last[0] = today[0] - far
    first[-1] = last[-1] = today[-1] + far
    # The occurrence that is on or comes next is the first one that has not ended.
    coming = np.searchsorted(last, today)
    until = np.maximum(first[coming] - today, 0)
    since = today - last[coming - 1]
    nearest = np.where(until <= since, until, -since)
    return np.where(np.abs(nearest) < FARTHEST, nearest, FARTHEST)
