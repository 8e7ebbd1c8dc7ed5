"""Means over seeds, by hand and by scipy."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from seasonrec.errors import DataError
from seasonrec.evaluation.evaluate import Column, Evaluation
from seasonrec.evaluation.seeds import Seeded, mean_evaluation, over_seeds, pairs_of


def table(*values, n_queries=7):
    """A metrics table of one method: NDCG@10 of slices a, b, ..."""
    slices = list("abc"[: len(values)])
    rows = {"method": "joint", "split": "test", "slice": slices, "metric": "ndcg@10", "k": 10, "value": values, "n_queries": n_queries}
    return pl.DataFrame(rows, schema_overrides={"value": pl.Float64})


def test_the_mean_has_students_interval():
    row = over_seeds([table(0.1), table(0.2), table(0.6)]).row(0, named=True)
    # mean .3; deviations -.2, -.1, .3: variance (.04 + .01 + .09) / 2 = .07; t(.975, 2) = 4.3027
    assert row["value"] == pytest.approx(0.3)
    assert row["high"] - row["value"] == pytest.approx(4.3027 * np.sqrt(0.07 / 3), rel=1e-4)
    low, high = stats.t.interval(0.95, 2, loc=0.3, scale=stats.sem([0.1, 0.2, 0.6]))
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert (row["n_seeds"], row["n_queries"]) == (3, 7)


def test_one_seed_has_no_interval():
    assert over_seeds([table(0.1)]).select("value", "low", "high", "n_seeds").row(0) == (0.1, None, None, 1)


def test_a_slice_without_queries_stays_without_a_value():
    summary = over_seeds([table(0.1, None), table(0.3, None)])
    assert summary["slice"].to_list() == ["a", "b"]
    assert summary["value"].to_list() == [pytest.approx(0.2), None]
    assert summary["low"][1] is None


def test_without_tables_there_is_no_mean():
    with pytest.raises(DataError, match="no tables"):
        over_seeds([])


def evaluation(values, user=(0, 1, 1)):
    return Evaluation(np.array(user), np.array([5, 5, 6]), (Column("a", "ndcg@10", 10),), np.array(values)[:, None], {})


def test_queries_are_averaged_one_by_one_and_those_without_truth_stay_so():
    mean = mean_evaluation([evaluation([0.2, np.nan, 1.0]), evaluation([0.4, np.nan, 0.0])])
    np.testing.assert_allclose(mean.values[:, 0], [0.3, np.nan, 0.5])


def test_evaluations_of_other_queries_are_refused():
    with pytest.raises(DataError, match="run 1 ranked other queries"):
        mean_evaluation([evaluation([0.2, 0.1, 1.0]), evaluation([0.4, 0.3, 0.0], user=(0, 1, 2))])
    with pytest.raises(DataError, match="no evaluations"):
        mean_evaluation([])


def of_seeds(seeds, *values):
    return Seeded([evaluation([value, np.nan, value]) for value in values], seeds)


def test_methods_are_compared_over_the_seeds_that_both_ran_with():
    """Seed 1 is a lucky one for both: over all seeds the variant would seem .1 better, and is .1 worse with the one that it ran with."""
    whole, variant = of_seeds([0, 1], 0.2, 0.6), of_seeds([1], 0.5)
    ((ours, theirs),) = pairs_of(whole, {"variant": variant}).values()
    assert (ours.values[0, 0], theirs.values[0, 0]) == (0.6, 0.5)
    assert whole.mean().values[0, 0] == pytest.approx(0.4)


def test_what_stands_for_every_seed_is_compared_with_the_mean_over_all():
    ((ours, theirs),) = pairs_of(of_seeds([0, 1], 0.2, 0.6), {"popular": of_seeds(None, 0.1)}).values()
    assert (ours.values[0, 0], theirs.values[0, 0]) == (pytest.approx(0.4), 0.1)
    ((ours, theirs),) = pairs_of(of_seeds(None, 0.1), {"joint": of_seeds([0, 1], 0.2, 0.6)}).values()
    assert (ours.values[0, 0], theirs.values[0, 0]) == (0.1, pytest.approx(0.4))


def test_methods_without_a_seed_in_common_are_not_compared():
    others = {"elsewhere": of_seeds([2], 0.5), "here": of_seeds([0, 2], 0.3, 0.9)}
    assert list(pairs_of(of_seeds([0, 1], 0.2, 0.6), others)) == ["here"]
