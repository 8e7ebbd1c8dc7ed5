"""Open e-commerce 1.0 (Berke et al., DOI 10.7910/DVN/YGLYDY): purchases at Amazon, given under consent by people of the United States."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import polars as pl

from seasonrec.data.adapters import texts
from seasonrec.data.adapters.files import existing, filled, read_table
from seasonrec.data.adapters.tables import Attributes, start_of_day, tables
from seasonrec.data.adapters.times import seconds
from seasonrec.data.cleaning import EVENT_STEPS, Column, Step, clean, first_of
from seasonrec.data.dataset import Dataset, Shop, Split
from seasonrec.errors import DataError
from seasonrec.schema import DESCRIPTION, ITEM, PRICE, PRODUCT, QUANTITY, TIME, USER

LEVELS: Final = {"category": "Category", "product": "ASIN/ISBN (Product Code)"}
NUMBERS: Final = {QUANTITY: "Quantity", PRICE: "Purchase Price Per Unit"}
COLUMNS: Final = ("Order Date", "Survey ResponseID", "Title", *LEVELS.values(), *NUMBERS.values())
N_TITLE_WORDS: Final = 8


@dataclass(frozen=True)
class OpenEcommerce:
    """What people bought, product by product or category by category. Nothing but their purchases is kept of them.

    Args:
        path: amazon-purchases.csv of the original, or gzipped.
        level: "category" (Amazon's product type, e.g. PET_FOOD) or "product" (ASIN or ISBN).
        country: the shop's.
        timezone: of the dates, which have no clock: their midnight is read as UTC, so in New York each would fall on the day before.

    Raises:
        DataError: another level.
    """

    path: str
    level: str = "category"
    country: str = "US"
    timezone: str = "UTC"
    name: ClassVar[str] = "open_ecommerce"

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise DataError(f"data.level: got {self.level!r}, wanted one of {sorted(LEVELS)}")

    def sources(self) -> Mapping[str, Path]:
        """The one file of purchases."""
        return {"purchases": existing(self.path, "data.path: amazon-purchases.csv of Open e-commerce 1.0 (Harvard Dataverse)")}

    def read(self) -> Dataset:
        """The data set with the benchmark's weeks."""
        shop = Shop(self.country, self.timezone)
        path = self.sources()["purchases"]
        purchases = filled(read_table(path), COLUMNS, path)
        columns: dict[str, Column] = {
            USER: pl.col("Survey ResponseID"),
            ITEM: pl.col(LEVELS[self.level]),
            TIME: seconds(purchases["Order Date"], f"{path}: column 'Order Date'"),
            PRODUCT: pl.col(LEVELS["product"]),
            DESCRIPTION: pl.col("Title"),
            **{name: pl.col(column).cast(pl.Float64, strict=False) for name, column in NUMBERS.items()},
        }
        cleaned = clean(purchases, columns, [Step("duplicate", first_of(purchases.columns)), *EVENT_STEPS], path.name)
        return Dataset(
            name=self.name,
            **tables(cleaned, str(path), items=self._categories(cleaned.kept, path)).fields(),
            split=Split((184, 195), (196, 212)),
            week_zero=start_of_day("2018-01-01", "week zero"),
            text_rule=self.item_texts,
            shop=shop,
        )

    def item_texts(self, events: pl.DataFrame, items: pl.DataFrame, cutoff: int) -> list[str]:
        """A product's usual title; a category's name, then the words that mark its titles, both before the cut-off."""
        if self.level == "product":
            return texts.usual(events, items, cutoff)
        names = items[ITEM].str.to_lowercase().str.replace_all("_", " ", literal=True)
        words = texts.in_order(title_words(events, cutoff), items)
        return [f"{name}: {marks}" if marks else name for name, marks in zip(names, words, strict=True)]

    def _categories(self, purchases: pl.DataFrame, path: Path) -> Attributes | None:
        """The category of each product's first purchase."""
        if self.level == "category":
            return None
        first = purchases.sort(TIME, maintain_order=True).unique(ITEM, keep="first", maintain_order=True).select(ITEM, "Category")
        return Attributes(first, {ITEM: pl.col(ITEM), "category": pl.col("Category")}, path.name)


def title_words(events: pl.DataFrame, cutoff: int, n_words: int = N_TITLE_WORDS) -> pl.DataFrame:
    """The words that mark the titles of each item, joined: item_id and description.

    Words are ordered by (distinct titles of the item that have it) x log(items / items that use it), ties by the alphabet, so
    that "pack" and "black", which stand everywhere, say nothing. Titles are those before the cut-off; an item first seen
    later has the words of its first title, in their order there. Words of the item's own id are not repeated.
    """
    known = _words(texts.before(events, cutoff).select(ITEM, DESCRIPTION).unique())
    counts = known.group_by(ITEM, "word").len()
    rarity = (counts[ITEM].n_unique() / pl.len().over("word")).log()
    ranked = counts.with_columns(score=pl.col("len") * rarity).sort([ITEM, "score", "word"], descending=[False, True, False])
    words = pl.concat([ranked.select(ITEM, "word"), _words(texts.first_of_later(events, cutoff))])
    return words.group_by(ITEM, maintain_order=True).agg(pl.col("word").head(n_words).str.join(" ").alias(DESCRIPTION))


def _words(titles: pl.DataFrame) -> pl.DataFrame:
    """The distinct words of three letters or more of each title that the item's id does not have: item_id and word, a row each."""
    words = titles.select(ITEM, word=texts.distinct_words(pl.col(DESCRIPTION))).explode("word")
    own = pl.col(ITEM).str.to_lowercase().str.split("_").list.contains(pl.col("word"))
    return words.filter(pl.col("word").str.contains(r"^\p{L}{3,}$"), ~own)
