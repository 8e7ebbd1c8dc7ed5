"""The season of a moment, as numbers for heads and as words for a language model."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seasonrec.bounds import bounded
from seasonrec.seasons.calendar import Calendar
from seasonrec.seasons.phase import harmonics, of_year, week_of_year

MAX_HOLIDAYS: Final = 3  # a text that names more says little about any of them
# Meteorological seasons: whole months, in the order of the year from December on.
SEASONS: Final = {
    "north": ("winter", "spring", "summer", "autumn"),
    "south": ("summer", "autumn", "winter", "spring"),
}
MONTHS: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


@dataclass(frozen=True)
class SeasonContext:
    """What time of the year it is for a shop.

    Args:
        calendar: of the shop; its local days and holidays are the ones that count.
        n_harmonics: of the yearly curve, at least 1.
        holidays: whether they are among features and words.
        min_weeks: of training, below which a model is not told the season: of a part of the year that it never saw it would guess.

    Raises:
        ConfigError: fewer than one harmonic, or fewer than no weeks.
    """

    calendar: Calendar
    n_harmonics: int = 4
    holidays: bool = True
    min_weeks: int = 0

    def __post_init__(self) -> None:
        bounded("seasons.n_harmonics", self.n_harmonics, 1)
        bounded("seasons.min_weeks", self.min_weeks, 0)

    @property
    def width(self) -> int:
        """How many features a moment has."""
        return 2 * self.n_harmonics + (2 * len(self.calendar.names) if self.holidays else 0)

    def features(self, time: ArrayLike) -> NDArray[np.float32]:
        """Harmonics of the local phase, then how near each holiday is ahead and behind, [n, width].

        Args:
            time: int64 seconds UTC [n].

        Raises:
            DataError: as `Calendar.local_days`.
        """
        of_phase = harmonics(of_year(time, self.calendar.timezone), self.n_harmonics)
        return np.concatenate([of_phase, self.calendar.features(time)], axis=1) if self.holidays else of_phase

    def text(self, time: int) -> str:
        """The season in words, e.g. "week 50 of the year, mid December, winter, 12 days before Christmas, Advent".

        Week of the year, part of the month, season of the hemisphere, then the nearest holidays in whose windows the local day
        lies, three at most: days that come or are gone, nearest first, then periods that are on.

        Args:
            time: int64 seconds UTC.

        Raises:
            DataError: as `Calendar.local_days`.
        """
        return self.texts([time])[0]

    def texts(self, times: ArrayLike) -> list[str]:
        """The season of each time in words, [n]; see `text`.

        Args:
            times: int64 seconds UTC [n].

        Raises:
            DataError: as `Calendar.local_days`.
        """
        times = np.asarray(times)
        if not times.size:
            return []
        weeks, distances = week_of_year(times, self.calendar.timezone), self.calendar.distance(times)
        inside = self.calendar.inside(distances) & self.holidays
        days = self.calendar.local_days(times)
        return [
            ", ".join([f"week {week + 1} of the year", *self._part_of_year(day), *self._occasions(distance, near)])
            for week, day, distance, near in zip(weeks, days, distances, inside, strict=True)
        ]

    def _part_of_year(self, day: np.datetime64) -> Iterator[str]:
        month = day.astype("datetime64[M]")
        number, day_of_month = int(month.astype(np.int64)) % 12, int((day - month.astype("datetime64[D]")).astype(np.int64))
        part = ("early", "mid", "late")[min(day_of_month // 10, 2)]
        yield f"{part} {MONTHS[number]}"
        yield season_of(number, self.calendar.hemisphere)

    def _occasions(self, distance: NDArray, near: NDArray) -> list[str]:
        # Stable, so that of holidays equally near the calendar's first ones are named.
        nearest = [n for n in np.argsort(np.abs(distance), kind="stable") if near[n]][:MAX_HOLIDAYS]
        holidays = self.calendar.holidays
        nearest.sort(key=lambda n: distance[n] == 0 and holidays[n].is_period)
        return [_worded(int(distance[n]), holidays[n].title, holidays[n].is_period) for n in nearest]


def season_of(month: int, hemisphere: str) -> str:
    """The season of a month, January being 0."""
    return SEASONS[hemisphere][(month + 1) % 12 // 3]


def _worded(distance: int, title: str, is_period: bool) -> str:
    if distance == 0:
        return title if is_period else f"on {title}"
    days = "1 day" if abs(distance) == 1 else f"{abs(distance)} days"
    return f"{days} {'before' if distance > 0 else 'after'} {title}"
