"""On which days holidays fall: one rule per holiday, from years to days.

A rule takes years [n] and gives the first and the last day of the holiday in each of them, sorted. A country that did not keep
the holiday in a year gives no day for it, so a rule may return fewer than n.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, cached_property, lru_cache, partial

import holidays
import numpy as np
from holidays.registry import COUNTRIES
from numpy.typing import NDArray

from seasonrec.errors import DataError

Years = NDArray[np.int64]
Days = NDArray[np.datetime64]
Span = tuple[Days, Days]
Rule = Callable[[Years], Span]

MONDAY, THURSDAY, SUNDAY = 0, 3, 6
# The lunisolar tables of the `holidays` package begin and end here.
FIRST_YEAR, LAST_YEAR = 1950, 2100
# A public holiday is one that the country kept in most of these years: royal weddings and elections are not seasons.
REFERENCE_YEARS = range(2000, 2025)


@dataclass(frozen=True)
class Holiday:
    """A yearly occasion of a shop: its days and how long it is felt.

    Args:
        title: as one would write it, e.g. "Black Friday".
        days_before: length of the window in which people buy for it, in days before its first day.
        days_after: the same after its last day.
        rule: years -> first and last day of each.
    """

    title: str
    days_before: int
    days_after: int
    rule: Rule

    @property
    def name(self) -> str:
        """The title as it stands in metric names and columns, e.g. "black_friday"."""
        return re.sub(r"\W+", "_", self.title.replace("'", "").lower()).strip("_")

    @cached_property
    def is_period(self) -> bool:
        """Whether it lasts longer than a day, like Advent, in any of the reference years."""
        first, last = self.rule(np.array(REFERENCE_YEARS))
        return bool((last > first).any())


def date(years: Years, month: int | Years, day: int) -> Days:
    """The given day of the month in each year, [n]."""
    return ((years - 1970) * 12 + month - 1).astype("datetime64[M]").astype("datetime64[D]") + (day - 1)


def weekday(days: Days) -> NDArray[np.int64]:
    """Day of the week, Monday 0 .. Sunday 6, [n]."""
    return (days.astype("datetime64[D]").astype(np.int64) + THURSDAY) % 7  # 1 January 1970 was a Thursday


def nth_weekday(years: Years, month: int, day_of_week: int, n: int) -> Days:
    """The n-th such day of the week in the month of each year, [n_years]."""
    first = date(years, month, 1)
    return first + (day_of_week - weekday(first)) % 7 + 7 * (n - 1)


def easter(years: Years) -> Days:
    """Western Easter Sunday of each Gregorian year, [n].

    Reference: the anonymous Gregorian computus (Nature, 1876), in Meeus, Astronomical Algorithms, 1991, chapter 8.
    """
    century, rest = years // 100, years % 100
    moon = (19 * (years % 19) + century - century // 4 - (century - (century + 8) // 25 + 1) // 3 + 15) % 30
    to_sunday = (32 + 2 * (century % 4) + 2 * (rest // 4) - moon - rest % 4) % 7
    late = (years % 19 + 11 * moon + 22 * to_sunday) // 451
    days = moon + to_sunday - 7 * late + 114
    return date(years, days // 31, 1) + days % 31


def mothering_sunday(years: Years) -> Days:
    """The fourth Sunday of Lent, three weeks before Easter: Mother's Day in Britain and Ireland."""
    return easter(years) - 21


def second_sunday_of_may(years: Years) -> Days:
    """Mother's Day in the United States, Germany, Australia, Japan and most other countries."""
    return nth_weekday(years, 5, SUNDAY, 2)


def first_sunday_of_may(years: Years) -> Days:
    """Mother's Day in Spain, Portugal and Hungary."""
    return nth_weekday(years, 5, SUNDAY, 1)


MOTHERS_DAY: Mapping[str, Callable[[Years], Days]] = {
    "GB": mothering_sunday,
    "IE": mothering_sunday,
    "ES": first_sunday_of_may,
    "PT": first_sunday_of_may,
    "HU": first_sunday_of_may,
}


def black_friday(years: Years) -> Days:
    """The day after Thanksgiving, which is the fourth Thursday of November (not the fourth Friday: 2013, 2019)."""
    return nth_weekday(years, 11, THURSDAY, 4) + 1


def advent(years: Years) -> Span:
    """From the fourth Sunday before Christmas to Christmas Eve, which may itself be the last of the four."""
    eve = date(years, 12, 24)
    return eve - (weekday(eve) + 1) % 7 - 21, eve


@cache
def _lunar_new_years() -> Days:
    china = holidays.country_holidays("CN", years=range(FIRST_YEAR, LAST_YEAR + 1), observed=False, language="en_US")
    first: dict[int, np.datetime64] = {}
    for day in sorted(china.get_named("Chinese New Year (Spring Festival)", lookup="exact")):
        first.setdefault(day.year, np.datetime64(day, "D"))
    return np.array([first[year] for year in range(FIRST_YEAR, LAST_YEAR + 1)])


def lunar_new_year(years: Years) -> Days:
    """The first day of the Chinese year that begins in each year; Korea's differs by a day at most."""
    return _lunar_new_years()[years - FIRST_YEAR]


def on(day: Callable[[Years], Days]) -> Rule:
    """The rule of a holiday of one day."""

    def rule(years: Years) -> Span:
        days = day(years)
        return days, days

    return rule


def between(first: tuple[int, int], last: tuple[int, int]) -> Rule:
    """The rule of a period from one (month, day) to a later one of the same year."""
    return lambda years: (date(years, *first), date(years, *last))


def retail_holidays(country: str, hemisphere: str) -> tuple[Holiday, ...]:
    """What shops sell for, in the order of the year. Windows are usual campaign lengths, in days before and after."""
    south = hemisphere == "south"
    return (
        Holiday("New Year", 7, 1, on(partial(date, month=1, day=1))),
        Holiday("Lunar New Year", 21, 7, on(lunar_new_year)),
        Holiday("Valentine's Day", 14, 0, on(partial(date, month=2, day=14))),
        Holiday("Mother's Day", 14, 0, on(MOTHERS_DAY.get(country, second_sunday_of_may))),
        Holiday("Easter", 21, 1, on(easter)),  # to Easter Monday
        # Shops clear summer stock when half of summer is gone, which is also when their half-year closes: 1 July in the north;
        # in the south the same point falls on 1 January, just after the Christmas trade.
        Holiday("Summer Sale", 0, 0, between((1, 1), (1, 31)) if south else between((7, 1), (7, 31))),
        # The school year begins with September in the north and at the end of January in the south.
        Holiday("Back to School", 7, 0, between((1, 20), (2, 3)) if south else between((8, 15), (9, 7))),
        Holiday("Halloween", 28, 0, on(partial(date, month=10, day=31))),
        Holiday("Singles' Day", 10, 0, on(partial(date, month=11, day=11))),  # its pre-sale opens about 1 November
        Holiday("Black Friday", 7, 3, on(black_friday)),  # to Cyber Monday
        Holiday("Advent", 0, 0, advent),
        Holiday("Christmas", 28, 0, on(partial(date, month=12, day=25))),
    )


def country_code(country: str) -> str:
    """The ISO 3166 alpha-2 code of a country that the `holidays` package knows; its aliases, e.g. "USA", are resolved.

    Raises:
        DataError: a country that the package does not know, with the nearest ones that it does.
    """
    known = {spelling.lower(): names[1] for key, names in COUNTRIES.items() for spelling in (key.replace("_", " "), *names)}
    if code := known.get(country.lower()):
        return code
    near = dict.fromkeys(known[match] for match in get_close_matches(country.lower(), known, n=5, cutoff=0.5))
    raise DataError(
        f"country {country!r} has no calendar in the holidays package; near matches: {', '.join(near) or 'none'};"
        " give an ISO 3166 code such as 'US' or 'GB'"
    )


@lru_cache(maxsize=64)
def _public_days(country: str, first_year: int, last_year: int) -> Mapping[str, Span]:
    """The days of every public holiday by title; days in a row under one title are one holiday."""
    known = holidays.country_holidays(country)
    years = range(max(first_year, known.start_year), min(last_year, known.end_year) + 1)
    with warnings.catch_warnings():
        # Of years that its lunar tables lack it warns, e.g. for India before 2001; such a year has no day here either.
        warnings.filterwarnings("ignore", "Requested Holidays are available only", UserWarning)
        found = holidays.country_holidays(country, years=years, observed=False, language="en_US")
    by_title: dict[str, list[np.datetime64]] = {}
    for day in sorted(found):
        for title in found.get_list(day):
            # Lunar dates are estimates in some years; the holiday is the same.
            by_title.setdefault(title.removesuffix(" (estimated)"), []).append(np.datetime64(day, "D"))
    return {title: _runs(np.array(days)) for title, days in by_title.items()}


def _runs(days: Days) -> Span:
    gap = np.diff(days).astype(np.int64) > 1
    return days[np.append(True, gap)], days[np.append(gap, True)]


def _public_rule(country: str, title: str) -> Rule:
    def rule(years: Years) -> Span:
        none = np.empty(0, "datetime64[D]")
        return _public_days(country, int(years[0]), int(years[-1])).get(title, (none, none))

    return rule


def public_holidays(country: str, others: Iterable[Holiday]) -> tuple[Holiday, ...]:
    """The country's regular nationwide public holidays, in the order of the year, without those that repeat one of `others`.

    Regular means kept in most years of 2000-2024: one-off days and those introduced lately are left out.
    """
    years = np.array(REFERENCE_YEARS)
    taken = {holiday.rule(years)[0].tobytes() for holiday in others}
    spans = _public_days(country, REFERENCE_YEARS[0], REFERENCE_YEARS[-1])
    regular = {
        title: first
        for title, (first, _) in spans.items()
        if 2 * len(np.unique(first.astype("datetime64[Y]"))) > len(years) and first.tobytes() not in taken
    }
    order = sorted(regular, key=lambda title: regular[title][-1] - regular[title][-1].astype("datetime64[Y]"))
    return tuple(Holiday(title, 7, 0, _public_rule(country, title)) for title in order)
