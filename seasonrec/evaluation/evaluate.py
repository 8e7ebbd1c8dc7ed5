"""From ranked lists to numbers: every metric of every slice, per query and as a table with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seasonrec import metrics
from seasonrec.data.timeline import Timeline
from seasonrec.errors import DataError
from seasonrec.evaluation.bootstrap import bootstrap_means, interval, of_enough_users
from seasonrec.evaluation.calibration import Platt
from seasonrec.evaluation.lists import Lists
from seasonrec.evaluation.slices import slices
from seasonrec.metrics import METRICS
from seasonrec.seasons.in_season import SeasonLabels

Float = NDArray[np.float64]
LONGEST = max(metric.k for metric in METRICS.values())
BEYOND_K = 10  # beyond accuracy, a list is what is shown: its first ten
BEYOND_ACCURACY = tuple(f"{name}@{BEYOND_K}" for name in ("novelty", "coverage", "gini"))  # of list `all`, whatever else is known


class Column(NamedTuple):
    """What a number says: a metric of lists of k in a slice."""

    slice: str
    metric: str
    k: int


@dataclass(frozen=True)
class Evaluation:
    """The values of a method on a set of queries.

    Args:
        user, week: of each query [n]; two evaluations of the same ones can be compared in pairs.
        columns: what each column of `values` says.
        values: [n, n_columns]; NaN where the query has no truth in the slice.
        overall: numbers that no single query has, e.g. coverage@10.
    """

    user: NDArray
    week: NDArray
    columns: tuple[Column, ...]
    values: Float
    overall: Mapping[Column, float]

    def take(self, rows: NDArray) -> "Evaluation":
        """The evaluation of the queries at `rows` alone, without overall numbers."""
        return Evaluation(self.user[rows], self.week[rows], self.columns, self.values[rows], {})

    def select(self, pairs: Sequence[tuple[str, str]]) -> Float:
        """The values of each (slice, metric), [n, n_pairs].

        Raises:
            DataError: a pair that was not evaluated.
        """
        row = {(column.slice, column.metric): place for place, column in enumerate(self.columns)}
        if unknown := [pair for pair in pairs if pair not in row]:
            names, metrics_ = (sorted(set(part)) for part in zip(*row, strict=True))
            raise DataError(f"evaluation: no values per query of {unknown}; slices are {names}, metrics {metrics_}")
        return self.values[:, [row[pair] for pair in pairs]]

    def table(self, method: str, split: str, *, n_resamples: int = 1_000, seed: int = 0) -> pl.DataFrame:
        """One row per slice and metric: method, split, slice, metric, k, value, low, high, n_queries.

        `value` is the mean over the queries with truth in the slice (null if none), `low` and `high` its 95% bootstrap
        interval over users, null of fewer than `MIN_USERS` of them. Overall numbers have no interval.
        """
        n = (~np.isnan(self.values)).sum(0)
        resampled = bootstrap_means(self.values, self.user, n_resamples, seed)
        low, high = interval(of_enough_users(resampled, self.values, self.user))
        without = np.full(len(self.overall), np.nan)
        columns = [*self.columns, *self.overall]
        return pl.DataFrame(
            {
                "method": pl.repeat(method, len(columns), eager=True),
                "split": pl.repeat(split, len(columns), eager=True),
                "slice": [column.slice for column in columns],
                "metric": [column.metric for column in columns],
                "k": [column.k for column in columns],
                "value": np.append(means(self.values), np.array(list(self.overall.values()))),
                "low": np.append(low, without),
                "high": np.append(high, without),
                "n_queries": np.append(n, np.full(len(self.overall), len(self.user))),
            }
        ).with_columns(pl.col("value", "low", "high").fill_nan(None))


def common(runs: Mapping[str, Sequence[Evaluation]]) -> dict[str, list[Evaluation]]:
    """The evaluations on the queries that all of them have, by week and user, so that they can be compared in pairs.

    Raises:
        DataError: there is no such query.
    """
    every = [each for of in runs.values() for each in of]
    n_users = 1 + max(int(each.user.max(initial=0)) for each in every)
    key = lambda each: each.week.astype(np.int64) * n_users + each.user
    shared = reduce(np.intersect1d, map(key, every))
    if not len(shared):
        raise DataError("evaluation: no query was ranked by all of them; compare methods on the same weeks")
    take = lambda each: each.take(np.intersect1d(key(each), shared, return_indices=True)[1])
    return {name: [take(each) for each in of] for name, of in runs.items()}


def means(values: Float) -> Float:
    """The mean of each column over its cells that are not NaN; NaN where there are none, [n_columns]."""
    n = (~np.isnan(values)).sum(0)
    return np.where(n > 0, np.nansum(values, 0) / np.maximum(n, 1), np.nan)


def evaluate(
    lists: Lists,
    timeline: Timeline,
    labels: SeasonLabels,
    *,
    holidays: Mapping[str, NDArray[np.bool_]] | None = None,
    vectors: NDArray | None = None,
    platt: Platt | None = None,
) -> Evaluation:
    """Every metric of every slice, and beyond accuracy on list `all`.

    Args:
        lists: from `rank` or `read_lists`, at least 100 long, or as long as the catalogue.
        holidays: for each holiday, which queries lie in its window [n].
        vectors: text vectors of the items [n_items, d], for distance@10.
        platt: fitted on the method's validation lists, for the calibration error "ece".

    Raises:
        DataError: there are no queries, or lists too short for a metric.
    """
    q = lists.queries
    if not len(q):
        raise DataError("evaluate: there are no queries; choose weeks in which users with a history bought something")
    if lists.k < (wanted := min(LONGEST, timeline.n_items)):
        raise DataError(f"evaluate: lists are {lists.k} long, wanted at least {wanted}; rank with k={LONGEST}")
    columns, values = [], []
    for name, source, truth in slices(timeline, q, labels, holidays):
        hits, n_relevant = lists.hits(source, truth), np.bincount(q.truth_query[truth], minlength=len(q))
        columns += [Column(name, metric, k) for metric, (_, k) in METRICS.items()]
        values += [of(hits, n_relevant, k) for of, k in METRICS.values()]
    beyond = _beyond_accuracy(lists, timeline, vectors)
    overall = _overall(lists, timeline.n_items, platt)
    return Evaluation(q.user, q.week, (*columns, *beyond), np.stack([*values, *beyond.values()], 1), overall)


def _beyond_accuracy(lists: Lists, timeline: Timeline, vectors: NDArray | None) -> dict[Column, Float]:
    shown, week = lists.of("all")[:, :BEYOND_K], lists.queries.week
    novelty = np.full(len(week), np.nan)
    for each in np.unique(week):
        bought = timeline.at_week(int(each)).n_bought
        novelty[week == each] = metrics.novelty(shown[week == each], metrics.self_information(bought))
    values = {Column("all", f"novelty@{BEYOND_K}", BEYOND_K): novelty}
    if vectors is not None:
        values[Column("all", f"distance@{BEYOND_K}", BEYOND_K)] = metrics.intra_list_distance(shown, vectors)
    return values


def _overall(lists: Lists, n_items: int, platt: Platt | None) -> dict[Column, float]:
    shown, listed = lists.of("all")[:, :BEYOND_K], lists.of("all") >= 0
    values = {
        Column("all", f"coverage@{BEYOND_K}", BEYOND_K): metrics.coverage(shown, n_items),
        Column("all", f"gini@{BEYOND_K}", BEYOND_K): metrics.gini(shown, n_items),
    }
    if platt is not None:
        probability = platt.probability(lists.scores[:, 0][listed])
        k = max(lists.k, LONGEST)  # lists of a catalogue shorter than that hold all of it, whatever k they were ranked with
        values[Column("all", "ece", k)] = metrics.expected_calibration_error(probability, lists.hits("all")[listed])
    return values
