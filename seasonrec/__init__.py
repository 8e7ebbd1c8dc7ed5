"""Seasonal product recommendation with language models."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seasonrec.experiments.recommender import Recommender


def load(run: str | Path) -> "Recommender":
    """The recommender of a trained run: `seasonrec.load(run).recommend(users, date)`.

    Args:
        run: the run's folder.

    Raises:
        DataError: no run whose final fit has ended is there, or its data have changed since.
    """
    from seasonrec.experiments.recommender import Recommender  # here, so that `import seasonrec` stays quick

    return Recommender.load(run)
