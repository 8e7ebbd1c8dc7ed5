"""User-item sequences of published sequential recommenders: who took what in which order, without dates."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from seasonrec.data.adapters import texts
from seasonrec.data.adapters.files import existing, filled, ids, read_table
from seasonrec.data.adapters.tables import Attributes, tables
from seasonrec.data.cleaning import EVENT_STEPS, clean
from seasonrec.data.dataset import Dataset, Shop, Split
from seasonrec.errors import DataError
from seasonrec.schema import ITEM, TEXT, TIME, USER

# Weeks without events: no weekly query exists.
NO_WEEKS: Final = Split((1, 1), (2, 2))


@dataclass(frozen=True)
class Sequences:
    """Each user's items in the order of the file.

    Warning:
        Times are made up: a user's n-th item stands n seconds after 1970-01-01, so that order is kept and nothing else is
        said. Only leave-one-out makes sense; weeks, seasons and holidays do not, and no week has a query.

    Args:
        path: .txt (a line is a user, then the items, separated by blanks) or .parquet (a row an event, in order within a user).
        user, item, text: columns of the Parquet file; `text` may be null. The defaults number users and items as the .txt does.
    """

    path: str
    user: str = "user"
    item: str = "item"
    text: str | None = "text_id"
    name: str = "sequences"

    def sources(self) -> Mapping[str, Path]:
        """The one file of sequences."""
        return {"sequences": existing(self.path, "data.path: sequences as .txt (user, then items in order, a line each) or .parquet")}

    def read(self) -> Dataset:
        """The data set, for leave-one-out."""
        path = self.sources()["sequences"]
        source = _from_lines(path) if path.suffix == ".txt" else self._from_table(path)
        position = pl.int_range(pl.len(), dtype=pl.Int64).over(USER)
        cleaned = clean(source, {USER: pl.col(USER), ITEM: pl.col(ITEM), TIME: position}, EVENT_STEPS, path.name)
        canonical = tables(cleaned, str(path), _first_texts(source, path) if TEXT in source.columns else None)
        return Dataset(name=self.name, **canonical.fields(), split=NO_WEEKS, week_zero=0, text_rule=self.item_texts, shop=Shop())

    def item_texts(self, events: pl.DataFrame, items: pl.DataFrame, cutoff: int) -> list[str]:
        """The text of each item in the file."""
        return texts.of_table(items)

    def _from_table(self, path: Path) -> pl.DataFrame:
        columns = {USER: self.user, ITEM: self.item} | ({TEXT: self.text} if self.text else {})
        frame = filled(read_table(path), columns.values(), path, ("data.user", "data.item", "data.text"))
        return frame.select(
            ids(frame[column]).alias(name) if name != TEXT else pl.col(column).alias(name) for name, column in columns.items()
        )


def _from_lines(path: Path) -> pl.DataFrame:
    try:
        lines = path.read_text("utf8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8; wanted lines of a user and the items in order") from error
    words = pl.DataFrame({"line": lines}, schema={"line": pl.String}).select(pl.col("line").str.extract_all(r"\S+"))
    words = words.filter(pl.col("line").list.len() > 1)
    if not len(words):
        raise DataError(f"{path} has no line with a user and items; wanted e.g. '1 12 7 31': user 1 took items 12, 7 and 31")
    return words.select(pl.col("line").list.first().alias(USER), pl.col("line").list.slice(1).alias(ITEM)).explode(ITEM)


def _first_texts(source: pl.DataFrame, path: Path) -> Attributes:
    first = source.drop_nulls(TEXT).unique(ITEM, keep="first", maintain_order=True).select(ITEM, TEXT)
    return Attributes(first, {ITEM: pl.col(ITEM), TEXT: pl.col(TEXT)}, path.name)
