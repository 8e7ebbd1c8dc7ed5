"""MovieLens (GroupLens): films rated from 1 to 5, as the archives of 100 thousand and of 1 million ratings hold them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from seasonrec.data.adapters import texts
from seasonrec.data.adapters.files import existing
from seasonrec.data.adapters.tables import Attributes, tables
from seasonrec.data.adapters.times import seconds
from seasonrec.data.cleaning import EVENT_STEPS, Column, Step, clean, first_of
from seasonrec.data.dataset import Dataset, Shop
from seasonrec.errors import DataError
from seasonrec.schema import ITEM, RATING, TEXT, TIME, USER

RATINGS: Final = ("user", "item", "rating", "timestamp")
# In the order of their flags in u.item; the first of them, "unknown", says nothing.
GENRES: Final = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
GENRE: Final = "genres"
WANT: Final = "data.path: the folder of u.data and u.item (100K) or of ratings.dat and movies.dat (1M), or its ratings file"


@dataclass(frozen=True)
class Layout:
    """One of the archives.

    Args:
        ratings, items: a file's name and what stands between two values of a line.
        item_columns: what the values of an item's line are.
    """

    ratings: tuple[str, str]
    items: tuple[str, str]
    item_columns: tuple[str, ...]


LAYOUTS: Final = (
    Layout(("u.data", "\t"), ("u.item", "|"), ("item", "title", "released", "video", "url", *GENRES)),
    Layout(("ratings.dat", "::"), ("movies.dat", "::"), ("item", "title", GENRE)),
)
USERS: Final = ("user", "age", "gender", "occupation", "zip")  # of u.user


@dataclass(frozen=True)
class MovieLens:
    """A rating as an event; what an item is called is its title and genres.

    Args:
        path: folder of u.data and u.item, also u.user (100K), or of ratings.dat and movies.dat (1M); or the ratings file in it.
        split: "auto", or first and last week of validation and test.
        country, timezone: for holidays; the films were rated on a site of the United States.
    """

    path: str
    split: str | Mapping[str, Sequence[int]] = "auto"
    country: str = "US"
    timezone: str = "UTC"
    name: str = "movielens"

    def sources(self) -> Mapping[str, Path]:
        """Ratings and items, and the users where there is a u.user."""
        folder, layout = self._layout()
        found = {"ratings": existing(folder / layout.ratings[0], WANT), "items": existing(folder / layout.items[0], WANT)}
        users = folder / "u.user"
        return found | ({"users": users} if users.is_file() else {})

    def read(self) -> Dataset:
        """The data set; weeks count from the midnight (UTC) before the first rating."""
        shop, paths, (_, layout) = Shop(self.country, self.timezone), self.sources(), self._layout()
        ratings = _lines(paths["ratings"], layout.ratings[1], RATINGS)
        columns: dict[str, Column] = {
            USER: pl.col("user"),
            ITEM: pl.col("item"),
            TIME: seconds(ratings["timestamp"], f"{paths['ratings']}: the fourth value", time_format="s"),
            RATING: pl.col("rating").cast(pl.Float64, strict=False),
        }
        in_scale = Step("rating_off_scale", pl.col(RATING).is_between(1, 5))
        steps = [*EVENT_STEPS, Step("no_rating", pl.col(RATING).is_finite()), in_scale, Step("duplicate", first_of(RATINGS))]
        cleaned = clean(ratings, columns, steps, paths["ratings"].name)
        users = _users(paths["users"]) if "users" in paths else None
        canonical = tables(cleaned, str(paths["ratings"]), _films(paths["items"], layout), users)
        return Dataset(name=self.name, **canonical.in_weeks(self.split), text_rule=self.item_texts, shop=shop)

    def item_texts(self, events: pl.DataFrame, items: pl.DataFrame, cutoff: int) -> list[str]:
        """Title and genres of each film."""
        return texts.of_table(items)

    def _layout(self) -> tuple[Path, Layout]:
        """The folder, and which archive lies in it; the first where there is none."""
        path, by_name = Path(self.path).expanduser(), {layout.ratings[0]: layout for layout in LAYOUTS}
        if path.name in by_name:
            return path.parent, by_name[path.name]
        if path.is_file():
            raise DataError(f"{path} is none of {', '.join(by_name)}; give {WANT}")
        return path, next((layout for name, layout in by_name.items() if (path / name).is_file()), LAYOUTS[0])


def _lines(path: Path, separator: str, columns: Sequence[str]) -> pl.DataFrame:
    """The values of each line as text; null where a line has too few, none at all where it has too many.

    Raises:
        DataError: no line has as many values as there are columns.
    """
    lines = path.read_text("latin-1").rstrip("\n").split("\n")
    values = pl.DataFrame({"line": lines}).select(pl.col("line").str.split(separator))
    n = values["line"].list.len()
    if not (n == len(columns)).any():
        raise DataError(
            f"{path}: no line has {len(columns)} values with {separator!r} between them, e.g. {lines[0][:80]!r};"
            f" wanted {', '.join(columns[:4])} ...; give {WANT}"
        )
    fit = pl.when(pl.col("line").list.len() <= len(columns)).then(pl.col("line"))
    return values.select(fit.list.get(place, null_on_oob=True).str.strip_chars().alias(name) for place, name in enumerate(columns))


def _films(path: Path, layout: Layout) -> Attributes:
    films = _lines(path, layout.items[1], layout.item_columns)
    flags = [pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in GENRES[1:] if name in films.columns]
    genres = pl.concat_str(flags, separator=", ", ignore_nulls=True) if flags else pl.col(GENRE).str.replace_all("|", ", ", literal=True)
    columns: dict[str, Column] = {ITEM: pl.col("item"), TEXT: _said(pl.col("title"), genres), GENRE: genres}
    return Attributes(films, columns, path.name)


def _users(path: Path) -> Attributes:
    age, gender = pl.format("age {}", pl.col("age")), pl.col("gender").replace({"M": "male", "F": "female"})
    columns: dict[str, Column] = {USER: pl.col("user"), TEXT: _said(age, gender, pl.col("occupation"))}
    return Attributes(_lines(path, "|", USERS), columns, path.name)


def _said(*parts: pl.Expr) -> pl.Expr:
    """The parts with commas between them, without empty ones."""
    return pl.concat_str([pl.when(part.str.len_bytes() > 0).then(part) for part in parts], separator=", ", ignore_nulls=True)
