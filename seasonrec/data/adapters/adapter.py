"""What an adapter offers: one source of purchases turned into canonical tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import polars as pl

from seasonrec.data.dataset import Dataset


@runtime_checkable
class Adapter(Protocol):
    """A source of purchases. Structural: an adapter is a frozen dataclass whose fields are its options."""

    @property
    def name(self) -> str:
        """The data set's name in tables and folders."""

    def sources(self) -> Mapping[str, Path]:
        """The files that `read` reads, by role.

        Raises:
            DataError: a file that is not there.
        """

    def read(self) -> Dataset:
        """The cleaned data set, read from the sources.

        Raises:
            DataError: sources that do not have the promised form.
        """

    def item_texts(self, events: pl.DataFrame, items: pl.DataFrame, cutoff: int) -> Sequence[str]:
        """The text of each row of `items`, "" where there is none; of items seen before `cutoff`, from nothing later than it."""
