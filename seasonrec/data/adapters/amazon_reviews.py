"""Amazon reviews (McAuley lab, 2018): ratings with time, and a metadata file that names the products."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from seasonrec.data.adapters import texts
from seasonrec.data.adapters.files import existing, filled, read_json_lines
from seasonrec.data.adapters.tables import Attributes, tables
from seasonrec.data.adapters.times import seconds
from seasonrec.data.cleaning import EVENT_STEPS, Column, Step, clean, first_of
from seasonrec.data.dataset import Dataset, Shop
from seasonrec.schema import ITEM, RATING, REVIEW, TEXT, TIME, USER

REVIEWS: Final = {"reviewerID": pl.String, "asin": pl.String, "overall": pl.Float64, "unixReviewTime": pl.Int64}
WRITTEN: Final = {"summary": pl.String, "reviewText": pl.String}
METADATA: Final = {"asin": pl.String, "title": pl.String, "brand": pl.String}
ENTITIES: Final = {"&amp;": "&", "&#39;": "'", "&quot;": '"', "&gt;": ">", "&lt;": "<", "&nbsp;": " "}


@dataclass(frozen=True)
class AmazonReviews:
    """A review as an event with a rating: its time is that of the review, some days after the purchase.

    An item's text is its title in the metadata: what a customer writes about an item is no description of it. It tells something of
    the customer, from that day on.

    Args:
        path: reviews, one JSON object a line (.json or .json.gz), e.g. Gift_Cards_5.json.gz.
        metadata: the products, likewise, e.g. meta_Gift_Cards.json.gz; None leaves items without text.
        split: "auto", or first and last week of validation and test.
        reviews: whether events keep what was written, headline first.
        country, timezone: the shop's.
    """

    path: str
    metadata: str | None = None
    split: str | Mapping[str, Sequence[int]] = "auto"
    reviews: bool = True
    country: str = "US"
    timezone: str = "UTC"
    name: str = "amazon_reviews"

    def sources(self) -> Mapping[str, Path]:
        """The reviews, and the metadata if there are any."""
        found = {"reviews": existing(self.path, "data.path: reviews of the 2018 set, e.g. Gift_Cards_5.json.gz")}
        if self.metadata:
            found["metadata"] = existing(self.metadata, "data.metadata: its products, e.g. meta_Gift_Cards.json.gz, or null for none")
        return found

    def read(self) -> Dataset:
        """The data set; weeks count from the midnight (UTC) before the first review."""
        shop = Shop(self.country, self.timezone)
        paths = self.sources()
        reviews = filled(read_json_lines(paths["reviews"], REVIEWS | WRITTEN), REVIEWS, paths["reviews"])
        columns: dict[str, Column] = {
            USER: pl.col("reviewerID"),
            ITEM: pl.col("asin"),
            TIME: seconds(reviews["unixReviewTime"], f"{paths['reviews']}: field 'unixReviewTime'"),
            RATING: pl.col("overall"),
        }
        if self.reviews:
            columns[REVIEW] = _plain(pl.concat_str(WRITTEN.keys(), separator=". ", ignore_nulls=True))
        steps = [*EVENT_STEPS, Step("no_rating", pl.col(RATING).is_finite()), Step("duplicate", first_of(REVIEWS))]
        canonical = tables(clean(reviews, columns, steps, paths["reviews"].name), str(paths["reviews"]), _products(paths))
        return Dataset(name=self.name, **canonical.in_weeks(self.split), text_rule=self.item_texts, shop=shop)

    def item_texts(self, events: pl.DataFrame, items: pl.DataFrame, cutoff: int) -> list[str]:
        """The title of each product in the metadata."""
        return texts.of_table(items)


def _products(paths: Mapping[str, Path]) -> Attributes | None:
    if "metadata" not in paths:
        return None
    products = filled(read_json_lines(paths["metadata"], METADATA), ("asin", "title"), paths["metadata"])
    # Where a page could not be read, the 2018 crawl has a piece of its script for a title.
    title = pl.when(~pl.col("title").str.contains(r"^\s*var \w+\s*=")).then(pl.col("title"))
    columns: dict[str, Column] = {ITEM: pl.col("asin"), TEXT: _plain(title), "brand": pl.col("brand")}
    return Attributes(products, columns, paths["metadata"].name)


def _plain(text: pl.Expr) -> pl.Expr:
    """The text without entities of HTML and superfluous space."""
    return text.str.replace_many(ENTITIES).str.replace_all(r"\s+", " ").str.strip_chars()
