"""A shop's own purchases: a CSV or Parquet file whose columns the user names."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Final

import polars as pl

from seasonrec.data.adapters import texts
from seasonrec.data.adapters.files import existing, filled, ids, read_table
from seasonrec.data.adapters.tables import PROMOTED_FORMAT, Attributes, start_of_day, tables
from seasonrec.data.adapters.times import seconds
from seasonrec.data.cleaning import EVENT_STEPS, Column, Step, clean, first_of
from seasonrec.data.dataset import Dataset, Shop
from seasonrec.errors import DataError
from seasonrec.schema import DESCRIPTION, END, ITEM, KIND, PRICE, PRODUCT, QUANTITY, RATING, SHARE, START, TEXT, TIME, USER, WEEK
from seasonrec.seasons.phase import zone

# What a mapping may name, and the canonical column that it becomes.
ROLES: Final = {
    "user": USER,
    "item": ITEM,
    "time": TIME,
    "quantity": QUANTITY,
    "price": PRICE,
    "rating": RATING,
    "product": PRODUCT,
    "text": DESCRIPTION,
}
REQUIRED: Final = ("user", "item", "time")
PROMOTION_ROLES: Final = {"item": ITEM, "start": START, "end": END, "kind": KIND, "share": SHARE}
PROMOTION_REQUIRED: Final = ("item", "start", "end")
NO_KIND: Final = "promotion"  # the kind of those whose table names none
NUMBERS: Final = ("quantity", "price", "rating")
THOUSANDS: Final = {".": ",", ",": "."}  # what groups them, by what stands before decimals
DECIMAL_HINT: Final = "for numbers such as 4,50 give 'data.decimal=\",\"'"
DEFAULT_COLUMNS: Final = {"user": "user_id", "item": "item_id", "time": "time"}


@dataclass(frozen=True)
class Table:
    """Purchases of any shop: a row says who took what and when, and optional tables describe items and users.

    Rows that cannot be used are dropped, counted and kept aside by reason, as are exact duplicates: a file in which equal lines
    are different purchases needs a column, e.g. the receipt's line, that tells them apart.

    Args:
        path: CSV (also .csv.gz) or Parquet, one row a purchase.
        columns: role -> column of the file. user, item and time are required; quantity, price, rating, product (which one of the item's
            it was, where an item is several) and text (the description on that row) are optional; null means that there is none.
        items: {path, columns}, where columns maps `item`, `text` (a column or a list of them) and any attribute's name to the
            item table's columns; null for no table. Without it an item's text is its usual `text` among the purchases.
        users: the same for users, with `user` and `text`.
        promotions: {path, columns} of what the shop promotes when, with `item`, `start`, `end` (the first moment after it) and, if they
            are told apart, `kind` (e.g. flyer or display) and `share` (of the shop's places that have it; all where none stands); and
            `time_format`, if it is not that of the purchases. Null for no table.
        returns: keep rows whose quantity is below 0, which take a purchase back, as if they were purchases; they are dropped otherwise.
        unsold_items: also recommend items of the item table that no purchase names, e.g. next season's.
        time_format: strftime codes, e.g. "%d/%m/%Y %H:%M", or the unit "s", "ms" or "us" of numbers. None reads ISO 8601 or seconds.
        timezone_of_times: IANA name of the clock that wrote times without a zone; None takes them as UTC.
        separator, encoding: of CSV files.
        decimal: what stands before the decimals of a number, "." or ","; the other of the two groups thousands.
        country, timezone, hemisphere: of the shop: its holidays, its clock and its seasons.
        split: "auto" (the last 8 full weeks test, the 8 before select), or first and last week, both included, of each, e.g.
            {validation: [88, 95], test: [96, 104]}.
        week_zero: the day, e.g. "2017-01-01", at whose midnight (UTC) week 0 begins; None: the first event's day.
        season_level: an attribute of the item table whose values share one season label; "item_id" labels each item.
        season_min_triples: distinct (user, item, week of the year) below which there is no label.

    Raises:
        DataError: an option that names something unknown.
    """

    READING: ClassVar[int] = 3  # since what a Parquet file has that is not a number is nothing

    path: str
    columns: Mapping[str, str | None] = field(default_factory=lambda: dict(DEFAULT_COLUMNS))
    items: Mapping[str, Any] | None = None
    users: Mapping[str, Any] | None = None
    promotions: Mapping[str, Any] | None = None
    returns: bool = False
    unsold_items: bool = False
    time_format: str | None = None
    timezone_of_times: str | None = None
    separator: str = ","
    encoding: str = "utf8"
    decimal: str = "."
    country: str = "US"
    timezone: str = "UTC"
    hemisphere: str = "north"
    split: str | Mapping[str, Sequence[int]] = "auto"
    week_zero: str | None = None
    season_level: str = ITEM
    season_min_triples: int = 30
    name: str = "table"

    def __post_init__(self) -> None:
        Shop(self.country, self.timezone, self.hemisphere)
        if self.timezone_of_times is not None:
            zone(self.timezone_of_times)
        if self.decimal not in THOUSANDS:
            raise DataError(f"data.decimal is {self.decimal!r}, wanted one of {list(THOUSANDS)}")
        for part, option in self._others().items():
            if option is not None and not isinstance(option, Mapping):
                raise DataError(f"data.{part} is {option!r}, wanted {{path: FILE, columns: {{...}}}}; give data.{part}.path=FILE")
        for role in self.columns:
            if role not in ROLES:
                near = get_close_matches(role, ROLES, n=1)
                raise DataError(
                    f"data.columns: unknown {role!r}{f', did you mean {near[0]!r}' if near else ''}; wanted some of {list(ROLES)}"
                )
        if missing := [role for role in REQUIRED if not self.columns.get(role)]:
            raise DataError(f"data.columns: {missing} not named, got {dict(self.columns)}; name the file's column for each")

    def sources(self) -> Mapping[str, Path]:
        """The file of purchases, and those of items, users and promotions if they are named."""
        found = {"events": existing(self.path, "data.path: the purchases as CSV or Parquet")}
        for part, option in self._described().items():
            found[part] = existing(option["path"], f"data.{part}.path: a CSV or Parquet table, or null for none")
        return found

    def read(self) -> Dataset:
        """The cleaned purchases."""
        paths = self.sources()
        source = self._read(paths["events"])
        named = {role: column for role, column in self.columns.items() if column}
        filled(source, named.values(), paths["events"], (f"data.columns.{role}" for role in named))
        columns = {ROLES[role]: column for role, column in named.items()}
        canonical = {name: self._canonical(name, source[column], paths["events"], self.time_format) for name, column in columns.items()}
        numbers = [ROLES[role] for role in NUMBERS if role in named]
        # Told apart before the numbers are read: an empty field is no number and no mistake.
        blank = {f"__blank_{name}": _blank(source[columns[name]]) for name in numbers}
        bad = [Step(f"unparsable_{name}", pl.col(name).is_finite() | pl.col(f"__blank_{name}"), DECIMAL_HINT) for name in numbers]
        if QUANTITY in numbers and not self.returns:
            bad.append(Step("returned", (pl.col(QUANTITY) >= 0) | pl.col(f"__blank_{QUANTITY}")))
        steps = [*EVENT_STEPS, *bad, Step("duplicate", pl.col("__first"))]
        first = {"__first": source.select(first_of(source.columns)).to_series()}  # as the file has them, whatever its columns are called
        cleaned = clean(source, canonical | blank | first, steps, paths["events"].name)
        described = {
            part: self._promoted(paths[part]) if part == "promotions" else self._attributes(part, paths[part]) for part in self._described()
        }
        rest = tables(cleaned, str(paths["events"]), **described)
        if self.season_level not in rest.items.columns:
            raise DataError(
                f"data.season_level: items have no {self.season_level!r}, only {rest.items.columns}; name it in data.items.columns"
            )
        week_zero = start_of_day(self.week_zero, "data.week_zero") if self.week_zero else None
        in_weeks = rest.in_weeks(self.split, week_zero)
        in_weeks["split"].refuse_beyond((rest.events[TIME].max() - in_weeks["week_zero"]) // WEEK, "data.split")
        return Dataset(
            name=self.name,
            **in_weeks,
            text_rule=self.item_texts,
            shop=Shop(self.country, self.timezone, self.hemisphere),
            season_level=self.season_level,
            season_min_triples=self.season_min_triples,
        )

    def item_texts(self, events: pl.DataFrame, items: pl.DataFrame, cutoff: int) -> list[str]:
        """Each item's text in the item table; where it has none, its most frequent one among the purchases before the cut-off."""
        return [fixed or usual for fixed, usual in zip(texts.of_table(items), texts.usual(events, items, cutoff), strict=True)]

    def _read(self, path: Path) -> pl.DataFrame:
        return read_table(path, separator=self.separator, encoding=self.encoding)

    def _described(self) -> dict[str, Mapping[str, Any]]:
        """The options of the other tables that there are."""
        return {part: option for part, option in self._others().items() if option and option.get("path")}

    def _others(self) -> dict[str, Mapping[str, Any] | None]:
        return {"items": self.items, "users": self.users, "promotions": self.promotions}

    def _named(self, part: str, required: Sequence[str], path: Path) -> dict[str, Any]:
        """The columns that the option of another table names, by role."""
        named = {role: column for role, column in (self._described()[part].get("columns") or {}).items() if column}
        if missing := [role for role in required if role not in named]:
            raise DataError(
                f"data.{part}.columns: {', '.join(map(repr, missing))} not named, got {named}; name the column of {path} that holds each"
            )
        return named

    def _canonical(self, name: str, values: pl.Series, path: Path, time_format: str | None) -> pl.Series:
        if name in (USER, ITEM, PRODUCT):
            return ids(values)
        if name in (TIME, START, END):
            where, option = f"{path}: column {values.name!r}", "data.time_format" if name == TIME else PROMOTED_FORMAT
            return seconds(values, where, time_format=time_format, timezone=self.timezone_of_times, option=option)
        if name == DESCRIPTION:
            return values.cast(pl.String).str.strip_chars()
        if name == KIND:
            return values.cast(pl.String).str.strip_chars().replace("", None).fill_null(NO_KIND)
        blank = _blank(values)
        if values.dtype == pl.String:
            values = _plain(values.str.strip_chars(), self.decimal)
        elif not values.dtype.is_numeric() and values.dtype != pl.Boolean:
            example = values.drop_nulls().head(1).to_list()
            raise DataError(f"{path}: column {values.name!r} holds {values.dtype}, e.g. {example}, wanted numbers or text")
        numbers = values.cast(pl.Float64, strict=False)
        return numbers.set(blank, 1.0) if name == SHARE else numbers

    def _attributes(self, part: str, path: Path) -> Attributes:
        """The item or user table under canonical names; several text columns are joined."""
        key = {"items": "item", "users": "user"}[part]
        named = self._named(part, [key], path)
        source = self._read(path)
        text = named.pop("text", [])
        text = [text] if isinstance(text, str) else list(text)
        roles = [*named, *["text"] * len(text)]
        filled(source, [*named.values(), *text], path, (f"data.{part}.columns.{role}" for role in roles))
        columns: dict[str, Column] = {ROLES[key]: ids(source[named.pop(key)])}
        if text:
            said = [pl.col(column).cast(pl.String).str.strip_chars().replace("", None) for column in text]
            columns[TEXT] = pl.concat_str(said, separator=", ", ignore_nulls=True)
        columns |= {name: pl.col(column).cast(pl.String) for name, column in named.items()}
        return Attributes(source, columns, path.name, keep_unknown=part == "items" and self.unsold_items)

    def _promoted(self, path: Path) -> Attributes:
        """The table of promotions under canonical names; without kinds it is of one kind, without shares everywhere."""
        named = self._named("promotions", PROMOTION_REQUIRED, path)
        if unknown := sorted(named.keys() - PROMOTION_ROLES):
            raise DataError(f"data.promotions.columns: unknown {unknown}; wanted some of {list(PROMOTION_ROLES)}")
        source = self._read(path)
        filled(source, named.values(), path, (f"data.promotions.columns.{role}" for role in named))
        form = (self.promotions or {}).get("time_format") or self.time_format
        columns: dict[str, Column] = {KIND: pl.lit(NO_KIND), SHARE: pl.lit(1.0)}
        columns |= {
            PROMOTION_ROLES[role]: self._canonical(PROMOTION_ROLES[role], source[column], path, form) for role, column in named.items()
        }
        return Attributes(source, columns, path.name)


def _plain(numbers: pl.Series, decimal: str) -> pl.Series:
    """Numbers as text with a point before decimals and nothing between thousands, where they were written rightly with the given mark.

    4,50 is no number where a point stands before decimals: dropped and counted it is seen, read as 450 it is not.
    """
    mark, group = re.escape(decimal), re.escape(THOUSANDS[decimal])
    grouped = numbers.str.contains(rf"^[+-]?\d{{1,3}}({group}\d{{3}})+({mark}\d*)?$")
    numbers = numbers.str.replace_all(THOUSANDS[decimal], "", literal=True).zip_with(grouped.fill_null(False), numbers)
    if decimal == ".":
        return numbers
    return numbers.str.replace(decimal, ".", literal=True).zip_with(~numbers.str.contains(r"\.").fill_null(False), pl.Series([None]))


def _blank(values: pl.Series) -> pl.Series:
    """Where nothing was given: a null, an empty text or not a number."""
    if values.dtype == pl.String:
        return (values.str.strip_chars() == "").fill_null(True)
    return values.is_nan().fill_null(True) if values.dtype.is_float() else values.is_null()
