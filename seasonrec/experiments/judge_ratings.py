"""Predicts ratings by several methods for the same pairs, and keeps what comes out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from seasonrec.baselines.ratings import MeanRating
from seasonrec.data.dataset import Dataset
from seasonrec.errors import ConfigError
from seasonrec.evaluation.ratings import Predictions, Rater, RatingSelection, predict, rating_grid
from seasonrec.experiments.judge import SPLITS, progress_of
from seasonrec.schema import ITEM, USER

REFERENCE: Final = "global_mean"  # judged in any case: what selection is relative to
EPOCHS: Final = "ratings.csv"


class RatingJudge:
    """Evaluates methods by the ratings of the validation and test weeks of one data set.

    Judged are the pairs of users who had bought something before the week, as in the weekly benchmark. Predictions go to
    `folder`/ratings/<split>/<method>.parquet.

    Args:
        folder: of the run.
        batch_size: pairs rated at a time.
        n_resamples: of the intervals in the metrics table.
    """

    def __init__(self, dataset: Dataset, folder: Path, *, batch_size: int = 256, n_resamples: int = 1_000, seed: int = 0):
        self.dataset, self.folder, self._batch_size, self._n_resamples, self._seed = dataset, folder, batch_size, n_resamples, seed
        self.queries = {split: dataset.timeline.queries(dataset.split.weeks[split]) for split in SPLITS}
        self._tables: list[pl.DataFrame] = []
        self._found: dict[tuple[str, str], Predictions] = {}

    def judge(self, method: str, raters: Mapping[str, Rater]) -> None:
        """Evaluates a method on both splits; what it learns, it learns from before the split's first week.

        Args:
            raters: the method by the split that it may be fitted for.
        """
        for split, rater in raters.items():
            rater.fit(self.dataset.timeline.at_week(self.dataset.split.weeks[split].start))
            queries = self.queries[split]
            with progress_of(f"{method} on {split}", len(queries.truth_item)) as advance:
                found = predict(rater, self.dataset.timeline, queries, batch_size=self._batch_size, progress=advance)
            self._found[method, split] = found
            self._write(found, self.folder / "ratings" / split / f"{method}.parquet")
            self._tables.append(found.table(method, split, n_resamples=self._n_resamples, seed=self._seed))

    def _write(self, found: Predictions, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        ids = {USER: self.dataset.users[USER].gather(found.user), ITEM: self.dataset.items[ITEM].gather(found.item)}
        pl.DataFrame({**ids, "week": found.week, "rating": found.rating, "predicted": found.predicted}).write_parquet(path)

    @property
    def metrics(self) -> pl.DataFrame:
        """RMSE and MAE of every method judged so far."""
        return pl.concat(self._tables)

    def selection_score(self, method: str) -> float:
        """How much smaller the method's RMSE is than that of `REFERENCE` on validation weeks: the one over the other, greater is better."""
        return self._found[REFERENCE, "validation"].rmse / self._found[method, "validation"].rmse

    def selection(self, rater: Rater, n: int | None) -> RatingSelection:
        """Measures each epoch of a model in training on at most n validation queries drawn at random, relative to `REFERENCE`."""
        queries = self.queries["validation"]
        drawn = np.sort(np.random.default_rng(self._seed).permutation(len(queries))[:n])
        reference = self._found[REFERENCE, "validation"].take(np.flatnonzero(np.isin(queries.truth_query, drawn))).rmse
        path = self.folder / EPOCHS
        return RatingSelection(rater, self.dataset.timeline, queries.take(drawn), reference, batch_size=self._batch_size, path=path)

    def show(self, console: Console | None = None) -> None:
        """Prints the errors of the test weeks."""
        (console or Console(width=150)).print(rating_grid(self.metrics).rich())


def judge_rating_baselines(cfg: DictConfig, judge: RatingJudge) -> None:
    """Evaluates every configured baseline, and the mean of all ratings in any case.

    Raises:
        ConfigError: a baseline that ranks and predicts no ratings.
    """
    refuse_rankers(cfg.baseline, "stage=ratings")
    for name in dict.fromkeys([REFERENCE, *cfg.baseline]):
        judge.judge(name, {split: instantiate(cfg.baseline[name]) if name in cfg.baseline else MeanRating() for split in SPLITS})


def refuse_rankers(baselines: Mapping[str, DictConfig], asked: str) -> None:
    """Nothing, if all baselines predict ratings.

    Args:
        baselines: their configs by name.
        asked: what wants ratings, e.g. "stage=ratings".

    Raises:
        ConfigError: one that ranks and predicts none.
    """
    for name, node in baselines.items():
        if not isinstance(instantiate(node), Rater):
            raise ConfigError(f"baseline.{name} predicts no ratings; {asked} wants baseline=ratings or baseline=svd")
