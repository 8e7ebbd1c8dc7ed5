"""UCI Online Retail II (DOI 10.24432/C5CG6D): two years of a British shop for gifts, 2009-12 to 2011-12."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import polars as pl

from seasonrec.data.adapters import texts
from seasonrec.data.adapters.files import existing, filled, ids, read_table
from seasonrec.data.adapters.tables import Attributes, start_of_day, tables
from seasonrec.data.adapters.times import seconds
from seasonrec.data.cleaning import EVENT_STEPS, Column, Step, clean, first_of
from seasonrec.data.dataset import Dataset, Shop, Split
from seasonrec.schema import DESCRIPTION, ITEM, PRICE, QUANTITY, TEXT, TIME, USER

COLUMNS: Final = ("Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country")


@dataclass(frozen=True)
class OnlineRetailII:
    """The sales to known customers of products: no cancellations, postage, samples or other bookings.

    Args:
        path: Parquet, CSV or gzipped CSV with the columns of the original; a column `sheet` is ignored.
        start: first day, e.g. "2010-12-15"; earlier rows are dropped as if the file began there. None keeps all.
        time_format: of InvoiceDate in a CSV that is not ISO 8601, e.g. "%d/%m/%Y %H:%M".
        encoding: of a CSV, e.g. "latin-1".
        country, timezone: the shop's.
    """

    path: str
    start: str | None = None
    time_format: str | None = None
    encoding: str = "utf8"
    country: str = "GB"
    timezone: str = "Europe/London"
    name: ClassVar[str] = "online_retail_ii"

    def sources(self) -> Mapping[str, Path]:
        """The one file of sales."""
        return {"sales": existing(self.path, "data.path: Online Retail II of the UCI repository as CSV or Parquet")}

    def read(self) -> Dataset:
        """The data set with the benchmark's weeks."""
        shop = Shop(self.country, self.timezone)
        path = self.sources()["sales"]
        sales = filled(read_table(path, encoding=self.encoding), COLUMNS, path)
        cleaned = clean(sales, self._columns(sales, path), self._steps(), path.name)
        return Dataset(
            name=self.name,
            **tables(cleaned, str(path), users=_customers(cleaned.kept, path)).fields(),
            split=Split((88, 95), (96, 104)),
            week_zero=start_of_day("2009-12-01", "week zero"),
            text_rule=self.item_texts,
            shop=shop,
        )

    def item_texts(self, events: pl.DataFrame, items: pl.DataFrame, cutoff: int) -> list[str]:
        """Each product's most frequent description before the cut-off, in small letters: the shop writes in capitals."""
        return [" ".join(text.lower().split()) for text in texts.usual(events, items, cutoff)]

    def _columns(self, sales: pl.DataFrame, path: Path) -> dict[str, Column]:
        return {
            USER: ids(sales["Customer ID"]),
            ITEM: pl.col("StockCode").str.to_uppercase(),
            TIME: seconds(sales["InvoiceDate"], f"{path}: column 'InvoiceDate'", time_format=self.time_format),
            QUANTITY: pl.col("Quantity").cast(pl.Float64, strict=False),
            PRICE: pl.col("Price").cast(pl.Float64, strict=False),
            DESCRIPTION: pl.col("Description"),
        }

    def _steps(self) -> list[Step]:
        steps = [
            Step("duplicate", first_of(COLUMNS)),  # nine days of December 2010 stand on both sheets of the original
            Step("quantity_not_positive", pl.col(QUANTITY) > 0),
            *EVENT_STEPS,
            Step("not_a_product", pl.col("StockCode").str.contains(r"^\d{5}")),  # POST, M, BANK CHARGES, gift vouchers, ...
        ]
        if self.start is not None:
            steps.append(Step("before_start", pl.col(TIME) >= start_of_day(self.start, "data.start")))
        return steps


def _customers(sales: pl.DataFrame, path: Path) -> Attributes:
    """The country of each customer's first purchase."""
    first = sales.sort(TIME, maintain_order=True).unique(USER, keep="first", maintain_order=True).select(USER, "Country")
    return Attributes(first, {TEXT: pl.format("customer in {}", pl.col("Country")), USER: pl.col(USER)}, path.name)
