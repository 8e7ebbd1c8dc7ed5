"""Cross-validated ratings, the protocol of published rating predictors: each rating predicted once, from those of the other folds.

Warning: there is no timeline here. A rating is predicted from ratings given before and after it, as the published tables have it; what a
method is worth on the day it is asked is what `evaluation.ratings` measures.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seasonrec.data.timeline import Timeline
from seasonrec.errors import ConfigError, DataError
from seasonrec.evaluation.ratings import Rater, errors_grid, finite, rate
from seasonrec.evaluation.tables import Grid
from seasonrec.metrics import mae, rmse

SLICE: Final = "cross_validation"
ERRORS: Final = {"rmse": rmse, "mae": mae}


def folds(timeline: Timeline, n_folds: int = 5, seed: int = 0) -> NDArray[np.int64]:
    """The fold of each rating, drawn at random, [n_events]; sizes differ by one at most.

    Raises:
        ConfigError: under two folds.
        DataError: no ratings, or fewer of them than folds.
    """
    if n_folds < 2:
        raise ConfigError(f"n_folds is {n_folds}, wanted at least 2: one is predicted from the others; the usual number is 5")
    if (n := len(ratings_of(timeline))) < n_folds:
        raise DataError(f"{SLICE}: {n} ratings, wanted at least one for each of {n_folds} folds; give more data or a smaller n_folds")
    return np.random.default_rng(seed).permutation(np.arange(n) % n_folds)


def ratings_of(timeline: Timeline) -> NDArray[np.float32]:
    """The rating of each event, [n_events].

    Raises:
        DataError: there are none, or not on every event.
    """
    if timeline.rating is None:
        raise DataError(f"{SLICE}: the data have no ratings, or not on every event; take data=movielens, or name data.columns.rating")
    return timeline.rating


def cross_validate(
    make: Callable[[], Rater],
    timeline: Timeline,
    fold: NDArray[np.int64],
    *,
    batch_size: int = 256,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """What is predicted of each rating by a method that was fitted on the other folds, [n_events].

    Args:
        make: the method, unfitted; called once a fold.
        fold: of each rating, from `folds` [n_events].
        batch_size: pairs rated at a time.
        progress: called with the number of pairs rated since the last call.

    Raises:
        DataError: a prediction is missing or not finite.
    """
    predicted, end = np.zeros(len(timeline), np.float32), int(timeline.time[-1]) + 1
    user, item = timeline.user.astype(np.int64), timeline.item.astype(np.int64)
    for each in np.unique(fold):
        held_out, others = fold == each, timeline.take(np.flatnonzero(fold != each)).as_of(end)
        rater = make()
        rater.fit(others)
        predicted[held_out] = rate(rater, user[held_out], item[held_out], others, batch_size=batch_size, progress=progress)
    return predicted


def errors_table(method: str, timeline: Timeline, predicted: NDArray, fold: NDArray[np.int64]) -> pl.DataFrame:
    """RMSE and MAE of each fold, slices "fold_0", "fold_1", ..., and their means over folds, slice "cross_validation".

    In the form of `Evaluation.table`, with one column more: `deviation`, the standard deviation over folds. There are no intervals: folds
    learn from each other's ratings, so how much they differ is no estimate of how far the mean may be off.

    Args:
        predicted, fold: of each rating [n_events].

    Raises:
        DataError: a prediction is missing or not finite.

    Reference: Bengio and Grandvalet (2004), No unbiased estimator of the variance of k-fold cross-validation.
    """
    rating, parts = ratings_of(timeline), [fold == each for each in np.unique(fold)]
    finite(predicted, len(rating), f"{SLICE}: {method} gave predictions", "events")
    found = np.array([[error(predicted[part], rating[part]) for error in ERRORS.values()] for part in parts])  # [n_folds, n_errors]
    of_fold = [_rows(method, f"fold_{n}", each, None, int(part.sum())) for n, (each, part) in enumerate(zip(found, parts, strict=True))]
    return pl.concat([*of_fold, _rows(method, SLICE, found.mean(0), found.std(0, ddof=1), len(rating))])


def error_grid(metrics: pl.DataFrame) -> Grid:
    """One row per method: the means of its errors over folds and their standard deviations; the smallest of each column is strong.

    Args:
        metrics: rows of `errors_table` of any number of methods.
    """
    title = f"ratings without a timeline: mean of {metrics['slice'].n_unique() - 1} folds ± standard deviation"
    return errors_grid(title, metrics.filter(slice=SLICE), lambda row: f"±{row['deviation']:.4f}")


def _rows(method: str, name: str, values: NDArray, deviation: NDArray | None, n: int) -> pl.DataFrame:
    """A row for each of `ERRORS`."""
    none = pl.lit(None, pl.Float64)
    return pl.DataFrame({"metric": list(ERRORS), "value": values}).select(
        method=pl.lit(method),
        split=pl.lit("test"),
        slice=pl.lit(name),
        metric="metric",
        k=pl.lit(None, pl.Int64),  # of lists, of which there are none
        value="value",
        low=none,
        high=none,
        n_queries=pl.lit(n, pl.Int64),
        deviation=none if deviation is None else pl.Series(deviation),
    )
