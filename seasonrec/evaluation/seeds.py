"""What is left of a number when the seed changes: means over runs that differ by nothing else."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import t as student

from seasonrec.errors import DataError
from seasonrec.evaluation.evaluate import Evaluation

CELL = ("split", "slice", "metric", "k")  # what a number of a metrics table says


def over_seeds(tables: Sequence[pl.DataFrame], level: float = 0.95) -> pl.DataFrame:
    """The mean of each number over runs: split, slice, metric, k, value, low, high, n_queries, n_seeds.

    `low` and `high` are Student's interval for the mean over all seeds, null where there is one run only. It says how much
    the seed matters, and nothing about the users.

    Args:
        tables: rows of `Evaluation.table` of one method, one table per run.

    Raises:
        DataError: no tables.
    """
    if not tables:
        raise DataError("over_seeds: no tables; give the metrics of at least one run")
    value, n = pl.col("value"), pl.col("n_seeds")
    summary = (
        pl.concat([table.select(*CELL, "value", "n_queries") for table in tables], how="vertical_relaxed")
        .group_by(*CELL, maintain_order=True)
        .agg(value.mean(), value.std().alias("deviation"), pl.col("n_queries").max(), value.count().cast(pl.Int64).alias("n_seeds"))
    )
    t = student.ppf((1 + level) / 2, np.maximum(summary["n_seeds"].to_numpy() - 1, 1))
    half = pl.Series(t) * summary["deviation"] / summary["n_seeds"].sqrt()
    return summary.select(*CELL, value, (value - half).alias("low"), (value + half).alias("high"), "n_queries", n)


def mean_evaluation(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The value of each query averaged over runs, without overall numbers: what a paired test over users compares.

    Raises:
        DataError: no evaluations, or not of the same queries and columns.
    """
    if not evaluations:
        raise DataError("mean_evaluation: no evaluations; give those of at least one run")
    first = evaluations[0]
    for place, other in enumerate(evaluations):
        same = np.array_equal(first.user, other.user) and np.array_equal(first.week, other.week) and first.columns == other.columns
        if not same:
            raise DataError(f"mean_evaluation: run {place} ranked other queries or columns than run 0; rank both on the same weeks")
    return Evaluation(first.user, first.week, first.columns, np.mean([each.values for each in evaluations], 0), {})


@dataclass(frozen=True)
class Seeded:
    """A method's evaluations on the same queries, one for each run.

    Args:
        evaluations: at least one.
        seeds: of each run; None where what was run stands for every seed, as a method does that draws nothing.
    """

    evaluations: Sequence[Evaluation]
    seeds: Sequence[int] | None

    def shared(self, other: "Seeded") -> list[int] | None:
        """The seeds that both methods ran with; None where one of them stands for every seed."""
        return None if self.seeds is None or other.seeds is None else sorted({*self.seeds} & {*other.seeds})

    def mean(self, seeds: Collection[int] | None = None) -> Evaluation:
        """The value of each query averaged over the runs with these seeds; None: over all runs."""
        if seeds is None or self.seeds is None:
            return mean_evaluation(self.evaluations)
        return mean_evaluation([each for each, seed in zip(self.evaluations, self.seeds, strict=True) if seed in seeds])


def pairs_of(method: Seeded, others: Mapping[str, Seeded]) -> dict[str, tuple[Evaluation, Evaluation]]:
    """The method's mean and each other one's over the seeds that both ran with; of one that shares no seed there is none.

    What tells two means over different seeds apart may be the seeds, which no resampling of users takes for chance.
    """
    shared = {name: method.shared(other) for name, other in others.items()}
    return {name: (method.mean(seeds), others[name].mean(seeds)) for name, seeds in shared.items() if seeds is None or seeds}
