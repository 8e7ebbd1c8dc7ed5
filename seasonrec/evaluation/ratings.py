"""Rating prediction: how far predicted ratings are from those that users gave later."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seasonrec.data.timeline import AsOf, Queries, Timeline
from seasonrec.errors import DataError
from seasonrec.evaluation.bootstrap import bootstrap_means, interval, of_enough_users
from seasonrec.evaluation.selection import METRIC, EpochScores
from seasonrec.evaluation.tables import Cell, Grid
from seasonrec.metrics import mae, rmse

log = logging.getLogger(__name__)
SLICE: Final = "ratings"


@runtime_checkable
class Rater(Protocol):
    """Anything that can predict a rating; structural, as a `Scorer` is."""

    def fit(self, past: AsOf) -> None:
        """Learns parameters from all that was known at the cut-off; called once before any prediction."""

    def ratings(self, users: NDArray[np.int64], items: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """The predicted rating of one item for each user, [n]; all pairs share the one moment `now`."""


@dataclass(frozen=True)
class Predictions:
    """What a method says of the ratings of some queries.

    Args:
        user, week, item: of each rated pair [n].
        rating: the user's mean one in that week [n].
        predicted: with what was known when the week began [n].
    """

    user: NDArray[np.int64]
    week: NDArray[np.int64]
    item: NDArray[np.int64]
    rating: NDArray[np.float32]
    predicted: NDArray[np.float32]

    def take(self, rows: NDArray) -> "Predictions":
        """The pairs at `rows`, in that order."""
        return Predictions(*(values[rows] for values in vars(self).values()))

    @property
    def rmse(self) -> float:
        """The root of the mean squared error."""
        return rmse(self.predicted, self.rating)

    @property
    def mae(self) -> float:
        """The mean absolute error."""
        return mae(self.predicted, self.rating)

    def table(self, method: str, split: str, *, n_resamples: int = 1_000, seed: int = 0) -> pl.DataFrame:
        """A row for RMSE and one for MAE, in the form of `Evaluation.table`, with 95% bootstrap intervals over users.

        `n_queries` counts rated pairs. Of fewer than `MIN_USERS` users there is no interval.
        """
        error = (self.predicted - self.rating).astype(np.float64)
        errors = np.stack([error**2, np.abs(error)], 1)
        resampled = of_enough_users(bootstrap_means(errors, self.user, n_resamples, seed), errors, self.user)
        resampled[:, 0] **= 0.5
        low, high = interval(resampled)
        return pl.DataFrame(
            {
                "method": [method, method],
                "split": [split, split],
                "slice": [SLICE, SLICE],
                "metric": ["rmse", "mae"],
                "k": pl.Series([None, None], dtype=pl.Int64),  # of lists, of which there are none
                "value": [self.rmse, self.mae],
                "low": low,
                "high": high,
                "n_queries": [len(self.rating)] * 2,
            }
        ).with_columns(pl.col("low", "high").fill_nan(None))


def rating_grid(metrics: pl.DataFrame, split: str = "test") -> Grid:
    """One row per method with its RMSE and MAE and their intervals; the smallest of each column is strong."""
    of_split = metrics.filter(split=split)
    title = f"ratings of the {split} weeks: {of_split['n_queries'][0]:,} pairs"
    return errors_grid(title, of_split, lambda row: "" if row["low"] is None else f"({row['low']:.4f}–{row['high']:.4f})")


def errors_grid(title: str, errors: pl.DataFrame, spread: Callable[[Mapping[str, Any]], str]) -> Grid:
    """One row per method with its RMSE and MAE; the smallest of each column is strong.

    Args:
        errors: method, metric, value: a row for each method and error.
        spread: what stands behind the value of such a row.
    """
    best = dict(errors.group_by("metric").agg(pl.col("value").min()).iter_rows())
    shown = lambda row: Cell(f"{row['value']:.4f} {spread(row)}".rstrip(), row["value"] == best[row["metric"]])
    cells = {(row["method"], row["metric"]): shown(row) for row in errors.iter_rows(named=True)}
    rows = [[Cell(method), cells[method, "rmse"], cells[method, "mae"]] for method in dict.fromkeys(method for method, _ in cells)]
    return Grid(title, ["method", "RMSE", "MAE"], rows)


def predict(
    rater: Rater, timeline: Timeline, queries: Queries, *, batch_size: int = 256, progress: Callable[[int], None] | None = None
) -> Predictions:
    """The rating of each item that the queries bought, predicted with what was known when the query's week began.

    Args:
        rater: already fitted; it is shown users and items, never ratings of the week.
        batch_size: pairs rated at a time.
        progress: called with the number of pairs rated since the last call.

    Raises:
        DataError: the data have no ratings, there is no pair to rate, or a prediction is missing or not finite.
    """
    if queries.truth_rating is None:
        raise DataError(
            "ratings: the data have none, or not one for every event; name a column in data.columns.rating and take out rows without one,"
            " or rank items instead, stage=whole"
        )
    if not len(queries.truth_item):
        raise DataError("ratings: the weeks have no pair to rate, wanted at least one; choose weeks in which users with a history rated")
    user, week = queries.user[queries.truth_query].astype(np.int64), queries.week[queries.truth_query].astype(np.int64)
    item, predicted = queries.truth_item.astype(np.int64), np.zeros(len(week), np.float32)
    for each in np.unique(week):
        rows = np.flatnonzero(week == each)
        predicted[rows] = rate(rater, user[rows], item[rows], timeline.at_week(int(each)), batch_size=batch_size, progress=progress)
    return Predictions(user, week, item, queries.truth_rating, predicted)


def rate(
    rater: Rater,
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    now: AsOf,
    *,
    batch_size: int = 256,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """The predicted rating of each pair of a user and an item at one moment, [n].

    Args:
        rater: already fitted.
        batch_size: pairs rated at a time.
        progress: called with the number of pairs rated since the last call.

    Raises:
        DataError: a prediction is missing or not finite.
    """
    predicted = np.zeros(len(users), np.float32)
    for rows in np.array_split(np.arange(len(users)), range(batch_size, len(users), batch_size)):
        found, said = rater.ratings(users[rows], items[rows], now), f"{type(rater).__name__}.ratings as of week {now.week}:"
        predicted[rows] = finite(found, len(rows), said, "pairs")
        if progress:
            progress(len(rows))
    return predicted


def finite(predicted: NDArray[np.float32], n: int, said: str, what: str) -> NDArray[np.float32]:
    """The predictions [n], if they are as many as wanted and all finite.

    Args:
        said: how an error begins: whose predictions they are.
        what: they are of.

    Raises:
        DataError: one is missing or not finite.
    """
    if predicted.shape != (n,) or not np.isfinite(predicted).all():
        n_lost = np.count_nonzero(~np.isfinite(predicted))
        raise DataError(f"{said} {predicted.shape} with {n_lost} not finite, wanted one finite rating for each of {n} {what}")
    return predicted


class RatingSelection(EpochScores):
    """Predicts the validation ratings after each epoch and logs `validation/selection`, `validation/rmse` and `validation/mae`.

    The selection metric is the reference's RMSE over the model's: 1 is as good as the reference, greater is better.

    Args:
        rater: of the model in training.
        queries: of the validation weeks.
        reference: the RMSE of the reference on them.
        batch_size: pairs rated at a time.
        path: of a CSV of every epoch's errors.
    """

    def __init__(self, rater: Rater, timeline: Timeline, queries: Queries, reference: float, *, batch_size: int = 256, path: Path):
        super().__init__()
        self._rater, self._timeline, self._queries = rater, timeline, queries
        self._reference, self._batch_size, self._path = reference, batch_size, path
        self.errors: list[dict[str, float]] = []  # of each epoch

    def measured(self, epoch: int) -> dict[str, float]:
        """`validation/selection`, `validation/rmse` and `validation/mae`."""
        found = predict(self._rater, self._timeline, self._queries, batch_size=self._batch_size)
        self.errors.append({"epoch": epoch, "rmse": found.rmse, "mae": found.mae})
        log.info("epoch %d: validation RMSE %.4f, MAE %.4f", epoch, found.rmse, found.mae)
        pl.DataFrame(self.errors).write_csv(self._path)
        return {METRIC: self._reference / found.rmse, "validation/rmse": found.rmse, "validation/mae": found.mae}

    def state_dict(self) -> dict[str, Any]:
        """Also the errors of each epoch."""
        return {**super().state_dict(), "errors": self.errors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up the interrupted training's."""
        super().load_state_dict(state)
        self.errors = list(state["errors"])
