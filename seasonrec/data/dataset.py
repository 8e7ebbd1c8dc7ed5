"""A data set ready for experiments: canonical tables, row numbers, the split and the shop's calendar."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seasonrec.data.promotions import Promotions
from seasonrec.data.timeline import Timeline
from seasonrec.errors import DataError
from seasonrec.schema import DAY, DESCRIPTION, ITEM, PRODUCT, RATING, START, TEXT, TIME, USER, WEEK, day_of
from seasonrec.seasons.calendar import Calendar
from seasonrec.seasons.in_season import SeasonLabels

MIN_WEEKS: Final = 12  # below, there is nothing to learn from, select by and test on
LAST_YEAR_WEEKS: Final = 60  # a year, and the eight weeks that an automatic split tests on
MIN_TRAINING_WEEKS: Final = 4


@dataclass(frozen=True)
class Split:
    """Which weeks select and which weeks test; everything before the first of them trains.

    Args:
        validation: first and last week, both included.
        test: first and last week, both included, after the validation weeks.
    """

    validation: tuple[int, int]
    test: tuple[int, int]

    def __post_init__(self) -> None:
        if not self.validation[0] <= self.validation[1] < self.test[0] <= self.test[1]:
            raise DataError(
                f"split: validation weeks {self.validation} and test weeks {self.test}, wanted the first and the last week of each, both"
                " included, and the last of validation before the first of test"
            )

    @classmethod
    def auto(cls, first: int, last: int, week_zero: int) -> "Split":
        """The last eight full weeks test and the eight before them select; below 20 weeks both shrink, so that four are left before them.

        A week is full if the data reach its last day.

        Args:
            first, last: times of the first and of the last event, int64 seconds UTC.
            week_zero: start of week 0.

        Warns:
            UserWarning: under 60 weeks, counters of the same weeks last year know nothing.

        Raises:
            DataError: under 12 full weeks.
        """
        begin, end = (first - week_zero) // WEEK, ((last // DAY + 1) * DAY - week_zero) // WEEK
        n_weeks = end - begin
        if n_weeks < MIN_WEEKS:
            raise DataError(
                f"split=auto: the events span {max(n_weeks, 0)} full weeks from {day_of(first)} to {day_of(last)}, wanted at least"
                f" {MIN_WEEKS};"
                " give a longer file, or name the weeks yourself, e.g. 'data.split={validation: [4, 5], test: [6, 7]}'"
                + (", or the right data.time_format: all of them lie in 1970" if last < 365 * DAY else "")
            )
        if n_weeks < LAST_YEAR_WEEKS:
            warnings.warn(
                f"split=auto: the events span {n_weeks} weeks, under {LAST_YEAR_WEEKS}: counters of last year's season are off",
                stacklevel=2,
            )
        size = min(8, (n_weeks - MIN_TRAINING_WEEKS) // 2)
        return cls((end - 2 * size, end - size - 1), (end - size, end - 1))

    def refuse_beyond(self, last: int, where: str) -> None:
        """Nothing, if it ends by the data's last week.

        Args:
            where: the option that names it.

        Raises:
            DataError: it does not, so that weeks would count in which nobody could buy.
        """
        if self.test[1] > last:
            raise DataError(f"{where}: test weeks {self.test[0]} to {self.test[1]}, but the data end in week {last}; name earlier ones")

    @property
    def weeks(self) -> dict[str, range]:
        """The weeks of each part."""
        return {
            "validation": range(self.validation[0], self.validation[1] + 1),
            "test": range(self.test[0], self.test[1] + 1),
        }


@dataclass(frozen=True)
class Shop:
    """Where the shop is: its holidays, its clock and its seasons.

    Args:
        country: ISO 3166 code that the `holidays` package knows, e.g. "US".
        timezone: IANA name; the shop's calendar day is the local one. Week boundaries never use it.
        hemisphere: "north" or "south".

    Raises:
        DataError: an unknown country (with near matches), time zone or hemisphere.
    """

    country: str = "US"
    timezone: str = "UTC"
    hemisphere: str = "north"

    def __post_init__(self) -> None:
        Calendar(self.country, self.timezone, self.hemisphere)  # which refuses what it does not know


@dataclass(frozen=True)
class Dataset:
    """Canonical tables with their row numbers.

    `items` has one row per catalogue item, sorted by item_id as a string, so that an item's row number breaks ties
    exactly as the benchmark wants. `users` likewise has one row per user, sorted by user_id.

    Args:
        text_rule: (events, items, cutoff) -> one text per row of `items`, from what was known before `cutoff`.
        week_zero: start of week 0, int64 seconds UTC.
        season_level: column of `items` whose values get the in-season label; "item_id" labels each item.
        season_min_triples: distinct (user, item, week of year) below which the label is undefined.
        promotions: item_id, start, end, kind and share of what the shop promotes when; None where it does not tell.
        promotion_kinds: those that are told apart; None: those of the table.
        digest: of source bytes and options; names caches.
        purchases_digest: the same of all but the promotions.
        rejected: the rows that cleaning dropped, with column `reason`.
        cleaning: rows dropped by each step, in order.
    """

    name: str
    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    split: Split
    week_zero: int
    text_rule: Callable[[pl.DataFrame, pl.DataFrame, int], Sequence[str]]
    shop: Shop = Shop()
    season_level: str = ITEM
    season_min_triples: int = 30
    promotions: pl.DataFrame | None = None
    promotion_kinds: tuple[str, ...] | None = None
    digest: str = ""
    purchases_digest: str = ""
    rejected: pl.DataFrame | None = None
    cleaning: tuple[tuple[str, int], ...] = ()

    @property
    def n_users(self) -> int:
        return len(self.users)

    @property
    def n_items(self) -> int:
        return len(self.items)

    @cached_property
    def timeline(self) -> Timeline:
        """The events as arrays of user and item rows."""
        e = self.events
        rating = e[RATING].to_numpy() if e[RATING].null_count() == 0 else None
        return Timeline(
            rows_of(e[USER], self.users[USER]),
            rows_of(e[ITEM], self.items[ITEM]),
            e[TIME].to_numpy(),
            n_users=self.n_users,
            n_items=self.n_items,
            week_zero=self.week_zero,
            rating=rating,
        )

    @cached_property
    def plan(self) -> Promotions | None:
        """The shop's promotions by item row; None where it does not tell."""
        if self.promotions is None:
            return None
        return Promotions(self.promotions, rows_of(self.promotions[ITEM], self.items[ITEM]), self.n_items, self.promotion_kinds)

    def before_test(self) -> "Dataset":
        """The data set as it stood when the first test week began: no later event or promotion is in it.

        Items and users stay those of the whole file, as the benchmark has them, and texts are those of the first validation week.
        """
        texts = self.item_texts(self.start_of(self.split.validation[0]))
        end = self.start_of(self.split.test[0])
        known = replace(self, events=self.events.filter(pl.col(TIME) < end), text_rule=lambda events, items, cutoff: texts, rejected=None)
        if self.plan is None or self.promotions is None:
            return known
        return replace(known, promotions=self.promotions.filter(pl.col(START) < end), promotion_kinds=self.plan.kinds)

    def start_of(self, week: int) -> int:
        """The first second of a week."""
        return self.week_zero + week * WEEK

    def date_of(self, week: int) -> str:
        """The day on which a week begins, e.g. "2017-12-03"."""
        return day_of(self.start_of(week))

    def item_texts(self, cutoff: int) -> list[str]:
        """The text of each catalogue item as known before `cutoff`, [n_items]; "" where there is none."""
        return list(self.text_rule(self.events, self.items, cutoff))

    @cached_property
    def purchases_in_words(self) -> pl.DataFrame:
        """What each event says in words, and of which product, in the timeline's order: description, "" where it says nothing, and
        product_id, which is the description where no product is named.
        """
        words = pl.col(DESCRIPTION).fill_null("")
        return self.events.sort(TIME, maintain_order=True).select(words, pl.col(PRODUCT).replace("", None).fill_null(words))

    @cached_property
    def user_texts(self) -> list[str]:
        """The attribute text of each user, [n_users]; "" where there is none."""
        return self.users[TEXT].fill_null("").to_list() if TEXT in self.users.columns else [""] * self.n_users

    @cached_property
    def season_group(self) -> NDArray[np.int64]:
        """The group whose season each item shares, [n_items]: itself, or e.g. its product type."""
        return self._season_names.rank("dense").to_numpy().astype(np.int64) - 1

    def labels(self, user: NDArray, item: NDArray, time: NDArray) -> SeasonLabels:
        """Which items are in season when, by some events; those whose group is unknown (an empty `season_level`) stay unlabelled.

        Args:
            user, item, time: of each event [n].
        """
        unknown = (self._season_names == "").to_numpy()
        return SeasonLabels.by(user, item, time, group=self.season_group, unlabelled=unknown, min_triples=self.season_min_triples)

    @property
    def _season_names(self) -> pl.Series:
        return self.items[self.season_level].fill_null("")


def rows_of(ids: pl.Series, table: pl.Series) -> NDArray[np.int64]:
    """The row in `table` (distinct, sorted) of each id.

    Raises:
        DataError: an id that the table lacks.
    """
    rows = ids.to_frame("id").join(pl.DataFrame({"id": table, "row": np.arange(len(table))}), on="id", how="left", maintain_order="left")[
        "row"
    ]
    if rows.null_count():
        unknown = ids.filter(rows.is_null()).unique(maintain_order=True).head(3).to_list()
        raise DataError(
            f"{rows.null_count()} ids are not among the {len(table)} of the table, e.g. {unknown}; check their type and spelling"
        )
    return rows.to_numpy().astype(np.int64)
