"""Resampled means against scipy and against repetition by hand."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from seasonrec.evaluation.bootstrap import bootstrap_means, interval


def test_the_interval_is_scipys_where_each_user_has_one_query():
    values = np.random.default_rng(0).exponential(size=200)
    low, high = interval(bootstrap_means(values[:, None], np.arange(200), n_resamples=20_000))
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    assert low[0] == pytest.approx(theirs.low, abs=0.01)
    assert high[0] == pytest.approx(theirs.high, abs=0.01)


def test_ten_copies_of_a_users_query_add_no_certainty():
    values = np.random.default_rng(0).normal(size=(50, 1))
    once = bootstrap_means(values, np.arange(50))
    copied = bootstrap_means(np.repeat(values, 10, axis=0), np.repeat(np.arange(50), 10))
    np.testing.assert_allclose(copied, once)


def test_a_resample_is_the_mean_over_the_queries_of_the_drawn_users():
    users, values = np.array([7, 7, 7, 9]), np.array([[0.0], [0.0], [np.nan], [1.0]])
    # Two draws of two users: 7 and 7 give 0 / 4 queries, 9 and 9 give 2 / 2, one of each gives 1 / 3 (a NaN is no query).
    found = bootstrap_means(values, users, n_resamples=2_000)
    shares = [np.isclose(found, mean).mean() for mean in (0, 1 / 3, 1)]
    assert shares == pytest.approx([1 / 4, 1 / 2, 1 / 4], abs=0.04)


def test_a_column_without_values_has_no_interval():
    low, high = interval(bootstrap_means(np.full((5, 1), np.nan), np.arange(5)))
    assert np.isnan(low[0])
    assert np.isnan(high[0])


def test_the_seed_decides():
    values, users = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) // 3
    np.testing.assert_array_equal(bootstrap_means(values, users, seed=1), bootstrap_means(values, users, seed=1))
    assert not np.array_equal(bootstrap_means(values, users, seed=1), bootstrap_means(values, users, seed=2))


def test_resamples_are_the_same_however_many_are_drawn_at_a_time(monkeypatch):
    users, values = np.arange(40) // 2, np.random.default_rng(0).normal(size=(40, 2))
    whole = bootstrap_means(values, users, 50)
    monkeypatch.setattr("seasonrec.evaluation.bootstrap.AT_ONCE", 7 * 20)
    np.testing.assert_allclose(bootstrap_means(values, users, 50), whole, rtol=1e-12)
