"""Cleaning: a list of named steps, each of which counts and keeps aside the rows that it drops."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import polars as pl

from seasonrec.errors import DataError
from seasonrec.schema import ITEM, REASON, TIME, USER

SOURCE: Final = "source"  # of a rejected row: which file it came from
SOURCE_ROW: Final = "source_row"  # and which of its rows it was, the first being 1
_ROW: Final = "__row"
Column = pl.Expr | pl.Series  # a column made from the source's rows
# Calendars of the holidays package end here; what lies beyond is a wrong unit or a placeholder such as 1900-01-01.
EARLIEST, AFTER_LAST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1951, 2100))
# What to do about times; each lacks the option's name.
FORMAT_HINT: Final = "give their format, e.g. {}='%d/%m/%Y'"
UNIT_HINT: Final = "numbers count seconds since 1970: for milliseconds give {}=ms"


@dataclass(frozen=True)
class Step:
    """One rule of cleaning.

    Args:
        name: what the dropped rows are, e.g. "duplicate"; the reason that they are kept aside with.
        keep: true for the rows that stay, one value a row; null drops.
        hint: what to do, or to look at, where no row is left and most are of this kind.
    """

    name: str
    keep: pl.Expr
    hint: str = ""


@dataclass(frozen=True)
class Cleaned:
    """The rows that stayed, and an account of the others.

    Args:
        kept: every column of the source, and those that were made for the steps.
        made: names of the latter; a column of the source that merely has such a name is not among them.
        rejected: as they stand in the source, with columns `source`, `source_row` and `reason`; a column of such a name in
            the source is called "reason of the source" there.
        dropped: rows dropped by each step, in order.
    """

    kept: pl.DataFrame
    made: tuple[str, ...]
    rejected: pl.DataFrame
    dropped: tuple[tuple[str, int], ...]


def given(column: str) -> pl.Expr:
    """Where a text column holds something: neither null nor empty."""
    return pl.col(column).str.len_bytes() > 0


def first_of(columns: Iterable[str]) -> pl.Expr:
    """Where a combination of values appears for the first time; nulls are equal."""
    return pl.struct(list(columns)).is_first_distinct()


# What every events table goes through before rules of its own.
EVENT_STEPS: Final = (
    Step("no_user", given(USER)),
    Step("no_item", given(ITEM)),
    Step("unparsable_time", pl.col(TIME).is_not_null(), FORMAT_HINT.format("data.time_format")),
    Step("impossible_time", pl.col(TIME).is_between(EARLIEST, AFTER_LAST, closed="left"), UNIT_HINT.format("data.time_format")),
)


def clean(source: pl.DataFrame, columns: Mapping[str, Column], steps: Sequence[Step], where: str) -> Cleaned:
    """The rows of a source that pass every step, one step after the other.

    Args:
        source: rows as they were read.
        columns: canonical columns to add before the first step; on a name of the source they replace it, but rejected rows
            always show what the source had.
        steps: in the order in which they count.
        where: names the source, e.g. the file.

    Raises:
        DataError: no row is left; it has an example of the most frequent reason, and its hint.
    """
    frame = source.with_columns(**columns).with_row_index(_ROW)
    rejected, dropped = [], []
    own: dict[str, str] = {name: f"{name} of the source" for name in (SOURCE, SOURCE_ROW, REASON) if name in source.columns}
    for step in steps:
        keep = frame.select(step.keep.fill_null(False)).to_series()
        rows = frame[_ROW].filter(~keep)
        dropped.append((step.name, len(rows)))
        if len(rows):
            labels = (pl.lit(where).alias(SOURCE), (rows.cast(pl.Int64) + 1).alias(SOURCE_ROW), pl.lit(step.name).alias(REASON))
            rejected.append(source[rows].rename(own).with_columns(*labels))
            frame = frame.filter(keep)
    if not len(frame):
        counts = {name: n for name, n in dropped if n}
        most = max(steps, key=lambda step: counts.get(step.name, 0))
        examples = together(rejected).filter(pl.col(REASON) == most.name)
        examples = examples.select(own.get(name, name) for name in _origins(most.keep, columns, source.columns))
        said = [f"most are {most.name}, e.g. {row}" for row in examples.drop_nulls().head(1).to_dicts()]
        said += [hint for hint in (most.hint, "check the columns that you named against the file") if hint]
        raise DataError(f"{where}: cleaning dropped all {len(source)} rows: {counts}; {'; '.join(said)}")
    return Cleaned(frame.drop(_ROW), tuple(columns), together(rejected), tuple(dropped))


def together(rejected: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Rejected rows of several steps and files as one table; columns that a file lacks are null."""
    empty = pl.DataFrame(schema={SOURCE: pl.String, SOURCE_ROW: pl.Int64, REASON: pl.String})
    return pl.concat([empty, *rejected], how="diagonal_relaxed")


def _origins(rule: pl.Expr, columns: Mapping[str, Column], source: Sequence[str]) -> list[str]:
    """The columns of the source that a rule looks at, also through those that were made of them."""
    found: list[str] = []
    for name in rule.meta.root_names():
        column = columns.get(name, pl.col(name))
        found += [column.name] if isinstance(column, pl.Series) else column.meta.root_names()
    return [name for name in dict.fromkeys(found) if name in source]
