"""One tiny source per adapter, with the same shape: two years of weekly purchases by four people of six items."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from seasonrec.data.adapters.adapter import Adapter
from seasonrec.data.adapters.amazon_reviews import AmazonReviews
from seasonrec.data.adapters.complete_journey import CompleteJourney
from seasonrec.data.adapters.movielens import GENRES, MovieLens
from seasonrec.data.adapters.online_retail_ii import OnlineRetailII
from seasonrec.data.adapters.open_ecommerce import OpenEcommerce
from seasonrec.data.adapters.sequences import Sequences
from seasonrec.data.adapters.table import Table
from seasonrec.data.dataset import Dataset
from seasonrec.schema import DAY, WEEK

START = 1_514_764_800  # 2018-01-01 UTC
WORDS = ("red", "kettle", "lamp", "scarf", "garden", "candle", "mug", "tree")


def purchases() -> pl.DataFrame:
    """416 lines; item 5 is first sold in week 90, and descriptions vary from line to line."""
    rng = np.random.default_rng(5)
    week, user = np.divmod(np.arange(416), 4)
    item = rng.integers(5, size=416)
    item[week >= 90] = rng.integers(3, 6, size=(week >= 90).sum())
    words = np.array(WORDS)[rng.integers(len(WORDS), size=(416, 3))]
    return pl.DataFrame(
        {
            "user": user + 1,
            "item": item,
            "time": START + week * WEEK + rng.integers(7, size=416) * DAY,
            "text": [" ".join(line) for line in words],
            "line": np.arange(416),
        }
    )


def iso(times: pl.Series) -> list[str]:
    return [datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d") for time in times]


def complete_journey(folder: Path) -> Adapter:
    p = purchases()
    transactions = {
        "household_id": p["user"],
        "product_id": p["item"],
        "quantity": p["line"] % 3,
        "sales_value": p["line"] / 10,
        "transaction_timestamp": pl.from_epoch(p["time"]),
    }
    pl.DataFrame(transactions).write_parquet(folder / "transactions.parquet")
    products = [
        (n, "SFT DRNK 2 LITER BTL", "SOFT DRINKS", "GROCERY", "National", "2 L") if n else (n, None, None, "FUEL", "Private", None)
        for n in range(7)
    ]
    columns = ["product_id", "product_type", "product_category", "department", "brand", "package_size"]
    pl.DataFrame(products, schema=columns, orient="row").write_parquet(folder / "products.parquet")
    parts = ["household_id", "household_size", "household_comp", "age", "income", "home_ownership", "marital_status"]
    people = [
        (1, "3", "2 Adults Kids", "45-54", "50-74K", "Homeowner", None),
        (2, "1", "1 Adult No Kids", "65+", "Under 15K", None, "Unmarried"),
    ]
    pl.DataFrame(people, schema=parts, orient="row").write_parquet(folder / "demographics.parquet")
    return CompleteJourney(path=str(folder))


def online_retail_ii(folder: Path) -> Adapter:
    p = purchases()
    sales = {
        "Invoice": p["line"],
        "StockCode": [f"8000{item}a" for item in p["item"]],
        "Description": p["text"],
        "Quantity": 1,
        "InvoiceDate": iso(p["time"]),
        "Price": 2.5,
        "Customer ID": [f"{13000 + user}.0" for user in p["user"]],
        "Country": ["France" if user == 2 else "United Kingdom" for user in p["user"]],
    }
    pl.DataFrame(sales).write_csv(folder / "sales.csv")
    return OnlineRetailII(path=str(folder / "sales.csv"))


def open_ecommerce(folder: Path, level: str) -> Adapter:
    p = purchases()
    bought = {
        "Order Date": iso(p["time"]),
        "Purchase Price Per Unit": 9.99,
        "Quantity": 1.0,
        "Shipping Address State": "VT",
        "Title": p["text"],
        "ASIN/ISBN (Product Code)": [f"B{item}" for item in p["item"]],
        "Category": [f"GARDEN_LAMP_{item}" for item in p["item"]],
        "Survey ResponseID": [f"R_{user}" for user in p["user"]],
    }
    with gzip.open(folder / "amazon-purchases.csv.gz", "wb") as file:
        file.write(pl.DataFrame(bought).write_csv().encode())
    return OpenEcommerce(path=str(folder / "amazon-purchases.csv.gz"), level=level)


def open_ecommerce_category(folder: Path) -> Adapter:
    return open_ecommerce(folder, "category")


def open_ecommerce_product(folder: Path) -> Adapter:
    return open_ecommerce(folder, "product")


def amazon_reviews(folder: Path) -> Adapter:
    reviews = [
        json.dumps(
            {
                "overall": line % 5 + 1.0,
                "reviewerID": f"A{user}",
                "asin": f"B{item}",
                "reviewText": text,
                "unixReviewTime": time,
                "style": {"n": line},
            }
        )
        for user, item, time, text, line in purchases().rows()
    ]
    products = [json.dumps({"asin": f"B{n}", "title": f" Tea &amp; Mug  {n}", "brand": "Acme", "also_buy": ["B9"]}) for n in range(8)]
    for name, lines in (("reviews.json.gz", reviews), ("meta.json.gz", products)):
        (folder / name).write_bytes(gzip.compress("\n".join(lines).encode()))
    return AmazonReviews(path=str(folder / "reviews.json.gz"), metadata=str(folder / "meta.json.gz"))


def sequences(folder: Path) -> Adapter:
    (folder / "lists.txt").write_text("1 12 7 31\n2 7 12\n10 31\n")
    return Sequences(path=str(folder / "lists.txt"))


def movielens_100k(folder: Path) -> Adapter:
    ratings = purchases().select("user", "item", pl.col("line") % 5 + 1, "time")
    (folder / "u.data").write_text("\n".join("\t".join(map(str, line)) for line in ratings.rows()) + "\n")
    films = [(n, f"Café {n} (1995)", "01-Jan-1995", "", "http://x", *(int(n == place) for place in range(len(GENRES)))) for n in range(7)]
    (folder / "u.item").write_bytes("\n".join("|".join(map(str, film)) for film in films).encode("latin-1"))
    return MovieLens(path=str(folder))


def movielens_1m(folder: Path) -> Adapter:
    ratings = purchases().select("user", "item", pl.col("line") % 5 + 1, "time")
    (folder / "ratings.dat").write_text("\n".join("::".join(map(str, line)) for line in ratings.rows()) + "\n")
    films = "\n".join(f"{n}::Café: the {n}th (1995)::Comedy|Film-Noir" for n in range(7))
    (folder / "movies.dat").write_bytes(films.encode("latin-1"))
    return MovieLens(path=str(folder / "ratings.dat"))


def table(folder: Path) -> Adapter:
    p = purchases()
    p.with_columns(time=pl.Series(iso(p["time"]))).write_csv(folder / "shop.csv")
    (folder / "items.csv").write_text("sku,title,family\n0,Blue kettle,kitchen\n1,Green lamp,light\n")
    return Table(
        path=str(folder / "shop.csv"),
        columns={"user": "user", "item": "item", "time": "time", "text": "text"},
        items={"path": str(folder / "items.csv"), "columns": {"item": "sku", "text": "title", "family": "family"}},
    )


BUILDERS = (
    complete_journey,
    online_retail_ii,
    open_ecommerce_category,
    open_ecommerce_product,
    amazon_reviews,
    movielens_100k,
    movielens_1m,
    sequences,
    table,
)


@pytest.fixture(params=BUILDERS, ids=lambda builder: builder.__name__)
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Adapter:
    """Each adapter on its tiny source."""
    return request.param(tmp_path)


@pytest.fixture
def build(tmp_path: Path) -> Callable[[str], Adapter]:
    """The adapter of a name on its tiny source in `tmp_path`."""
    builders = {builder.__name__: builder for builder in BUILDERS}
    return lambda name: builders[name](tmp_path)


@pytest.fixture(scope="session")
def grocer() -> Dataset:
    """The Complete Journey, all of it."""
    return CompleteJourney().read()
