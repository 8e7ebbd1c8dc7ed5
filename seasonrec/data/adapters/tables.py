"""From cleaned events and attribute tables to the catalogue and the users of a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import polars as pl

from seasonrec.data.cleaning import AFTER_LAST, EARLIEST, FORMAT_HINT, UNIT_HINT, Cleaned, Column, Step, clean, first_of, given, together
from seasonrec.data.dataset import Split
from seasonrec.errors import DataError
from seasonrec.schema import DAY, END, ITEM, KIND, PROMOTION, SHARE, START, TEXT, TIME, USER, as_events

# How the steps of an attribute table call the rows that they drop: without id, repeated, of nobody that the events know; and those of a
# table of promotions: without id, that never begin or never end, that begin before or after all calendars, in no place or in more than
# all, of what is not in the catalogue, repeated.
REASONS: Final = {
    ITEM: ("item_without_id", "duplicate_item", "item_never_sold"),
    USER: ("user_without_id", "duplicate_user", "user_without_history"),
    KIND: (
        "promotion_without_item",
        "promotion_without_period",
        "promotion_at_impossible_time",
        "promotion_share_beyond_0_1",
        "promotion_of_unknown_item",
        "duplicate_promotion",
    ),
}
PROMOTED_FORMAT: Final = "data.promotions.time_format"


@dataclass(frozen=True)
class Attributes:
    """A table of attributes, or of promotions, before cleaning.

    Args:
        source: rows as they were read.
        columns: the id (item_id or user_id) and what to know about it, e.g. text; the first row of an id counts.
        where: names the source.
        keep_unknown: also keep rows of ids without events, e.g. products that will be sold next season.
    """

    source: pl.DataFrame
    columns: Mapping[str, Column]
    where: str
    keep_unknown: bool = False


@dataclass(frozen=True)
class Tables:
    """The canonical tables with the account of their cleaning; unpacks into `Dataset`."""

    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    rejected: pl.DataFrame
    promotions: pl.DataFrame | None = None
    cleaning: tuple[tuple[str, int], ...] = field(default=())

    def fields(self) -> dict[str, Any]:
        """As arguments of `Dataset`."""
        return vars(self)

    def in_weeks(self, split: str | Mapping[str, Sequence[int]], week_zero: int | None = None) -> dict[str, Any]:
        """The same with the split that an option names.

        Args:
            split: see `split_of`.
            week_zero: int64 seconds UTC; None for the midnight before the first event.

        Raises:
            DataError: no such split; of too few weeks it says what cleaning dropped, for that may be why.
        """
        start = midnight_of_first(self.events) if week_zero is None else week_zero
        try:
            return {**self.fields(), "split": split_of(split, self.events, start), "week_zero": start}
        except DataError as error:
            dropped = ", ".join(f"{n:,} rows as {step}" for step, n in self.cleaning if n)
            if split != "auto" or not dropped:
                raise
            raise DataError(f"{error}; cleaning dropped {dropped}") from error


def tables(
    cleaned: Cleaned,
    where: str,
    items: Attributes | None = None,
    users: Attributes | None = None,
    promotions: Attributes | None = None,
) -> Tables:
    """Events in canonical form, and one row for each item and each user that they name, sorted by id as text.

    Args:
        cleaned: events for which at least user_id, item_id and time were made.
        where: names their source.
        items, users: what is known about them; ids that an attribute table lacks have nulls.
        promotions: columns item_id, start, end, kind and share; None where the shop does not tell.

    Raises:
        DataError: an attribute table, or a table of promotions, that knows none of the ids.
    """
    events = as_events(cleaned.kept.select(cleaned.made), where)
    item_table, item_account = _attributes(events[ITEM], items)
    user_table, user_account = _attributes(events[USER], users)
    plan = () if promotions is None else (_promotions(item_table[ITEM], promotions),)
    accounts = (cleaned, *item_account, *user_account, *plan)
    return Tables(
        events,
        item_table,
        user_table,
        rejected=together([account.rejected for account in accounts]),
        # 9999-12-31 is how many a table says that there is no end.
        promotions=plan[0].kept.select(PROMOTION).with_columns(pl.col(END).clip(upper_bound=AFTER_LAST)) if plan else None,
        cleaning=tuple(step for account in accounts for step in account.dropped),
    )


def _attributes(used: pl.Series, given_table: Attributes | None) -> tuple[pl.DataFrame, Sequence[Cleaned]]:
    """One row per id, sorted, with its attributes and at least a text column, and how the attribute table was cleaned."""
    key, table = used.name, used.unique().sort().to_frame()
    if given_table is None:
        return table.with_columns(pl.lit(None, pl.String).alias(TEXT)), ()
    own = given_table.source.select(given_table.columns[key]).to_series()
    own = own.filter(own.str.len_bytes() > 0)
    if len(own) and not own.is_in(table[key].implode()).any():
        raise DataError(
            f"{given_table.where}: none of its ids, such as {own.head(3).to_list()}, is among the events', such as"
            f" {table[key].head(3).to_list()}; look for zeros that were lost in front of numbers"
        )
    no_id, duplicate, unknown = REASONS[key]
    steps = [Step(no_id, given(key)), Step(duplicate, first_of([key]))]
    if not given_table.keep_unknown:
        steps.append(Step(unknown, pl.col(key).is_in(table[key].implode())))
    cleaned = clean(given_table.source, given_table.columns, steps, given_table.where)
    known = cleaned.kept.select(cleaned.made)
    how = "full" if given_table.keep_unknown else "left"
    table = table.join(known, on=key, how=how, coalesce=True).sort(key)  # type: ignore[arg-type]
    return table if TEXT in table.columns else table.with_columns(pl.lit(None, pl.String).alias(TEXT)), (cleaned,)


def _promotions(catalogue: pl.Series, table: Attributes) -> Cleaned:
    """The promotions of catalogue items."""
    no_item, no_period, impossible, bad_share, unknown, duplicate = REASONS[KIND]
    steps = [
        Step(no_item, given(ITEM)),
        Step(no_period, pl.col(END) > pl.col(START), FORMAT_HINT.format(PROMOTED_FORMAT)),
        Step(impossible, pl.col(START).is_between(EARLIEST, AFTER_LAST, closed="left"), UNIT_HINT.format(PROMOTED_FORMAT)),
        Step(bad_share, (pl.col(SHARE) > 0) & (pl.col(SHARE) <= 1)),
        Step(unknown, pl.col(ITEM).is_in(catalogue.implode()), f"the events have items such as {catalogue.head(3).to_list()}"),
        Step(duplicate, first_of(PROMOTION)),
    ]
    return clean(table.source, table.columns, steps, table.where)


def midnight_of_first(events: pl.DataFrame) -> int:
    """The start of the first event's UTC day, int64 seconds."""
    return int(events[TIME].min()) // DAY * DAY  # type: ignore[arg-type]


def start_of_day(date: str, where: str) -> int:
    """The first second of a day (UTC) given as ISO 8601.

    Raises:
        DataError: not a date.
    """
    try:
        return int(datetime.fromisoformat(f"{date}T00:00:00+00:00").timestamp())
    except ValueError as error:
        raise DataError(f"{where}: {date!r} is not a date, wanted e.g. 2017-12-24") from error


def split_of(weeks: str | Mapping[str, Sequence[int]], events: pl.DataFrame, week_zero: int) -> Split:
    """The split of weeks that an option names: "auto", or first and last week of "validation" and of "test".

    Raises:
        DataError: anything else, or too few weeks for "auto".
    """
    if weeks == "auto":
        return Split.auto(int(events[TIME].min()), int(events[TIME].max()), week_zero)  # type: ignore[arg-type]
    try:
        parts = {part: (int(weeks[part][0]), int(weeks[part][1])) for part in ("validation", "test")}  # type: ignore[index]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"split: got {weeks!r}, wanted 'auto' or e.g. {{validation: [44, 47], test: [48, 51]}}") from error
    return Split(**parts)
