"""Seasonal product recommendation with language models."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seasonrec.experiments.recommender import Recommender


def load(run: str | Path, *, data: Mapping[str, Any] | None = None, cache: str | Path | None = None) -> "Recommender":
    """The recommender of a trained run: `seasonrec.load(run).recommend(users, date)`.

    Args:
        run: the run's folder.
        data: keys of the run's data config that have other values here, e.g. {"path": "purchases.csv"} where the file has moved.
        cache: folder of prepared data and text vectors here; None: the run's.

    Raises:
        DataError: no run whose final fit has ended is there, or its data have changed since.
        ConfigError: a key that the run's data config lacks.
    """
    from seasonrec.experiments.recommender import Recommender  # here, so that `import seasonrec` stays quick

    return Recommender.load(run, data=data, cache=cache)
