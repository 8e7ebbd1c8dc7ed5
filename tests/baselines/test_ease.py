"""EASE against one ridge regression per item."""

import numpy as np
import pytest
import scipy.sparse as sp

from seasonrec.baselines import ease
from seasonrec.baselines.ease import Ease, closed_form
from seasonrec.errors import ConfigError

USERS = np.array([0, 7, 12])


def ridge_per_item(bought, l2):
    """Each item's purchases regressed on those of all others, by least squares with sqrt(l2) rows for the penalty."""
    n = bought.shape[1]
    weights = np.zeros((n, n))
    for item in range(n):
        others = np.flatnonzero(np.arange(n) != item)
        penalised = np.vstack([bought[:, others], np.sqrt(l2) * np.eye(n - 1)])
        weights[others, item] = np.linalg.lstsq(penalised, np.append(bought[:, item], np.zeros(n - 1)))[0]
    return weights


@pytest.mark.parametrize(("l2", "block"), [(0.5, 1_024), (20, 1_024), (20, 7)])
def test_the_closed_form_solves_a_ridge_regression_for_each_item(monkeypatch, l2, block):
    monkeypatch.setattr(ease, "BLOCK", block)
    purchases = sp.random_array((80, 30), density=0.2, rng=np.random.default_rng(2), format="csr", dtype=np.float32)
    expected = ridge_per_item((purchases.toarray() > 0).astype(float), l2)
    np.testing.assert_allclose(closed_form(sp.csr_matrix(purchases), l2), expected, rtol=1e-3, atol=1e-5)


def test_scores_add_expected_and_own_purchases_and_popularity(random_timeline, loops):
    now = random_timeline.at_week(30)
    baseline = Ease(decay=0.9, l2=3, own=0.4, mix=0.1)
    baseline.fit(random_timeline.at_week(20))
    past = (loops.decayed(random_timeline, random_timeline.at_week(20).time, 1) > 0).astype(float)
    own = loops.decayed(random_timeline, now.time, 0.9)[USERS]
    expected = own @ ridge_per_item(past, 3) + 0.4 * own + 0.1 * loops.popularity(random_timeline, now.time)
    np.testing.assert_allclose(baseline.scores(USERS, now), expected, rtol=1e-3, atol=1e-5)


def test_beyond_the_most_bought_items_only_own_purchases_and_popularity_count(random_timeline, loops):
    past = random_timeline.at_week(20)
    baseline = Ease(decay=0.9, l2=3, own=0.4, mix=0.1, max_items=8)
    baseline.fit(past)
    counts = np.zeros(32)
    for (_, item), ages in loops.purchases(random_timeline, past.time).items():
        counts[item] += len(ages)
    assert baseline.kept.tolist() == sorted(sorted(range(32), key=lambda item: (-counts[item], item))[:8])
    own = loops.decayed(random_timeline, past.time, 0.9)[USERS]
    expected = 0.4 * own + 0.1 * loops.popularity(random_timeline, past.time)
    others = np.setdiff1d(np.arange(32), baseline.kept)
    scores = baseline.scores(USERS, past)
    np.testing.assert_allclose(scores[:, others], expected[:, others], rtol=1e-5)
    assert not np.allclose(scores[:2, baseline.kept], expected[:2, baseline.kept])


def test_weights_are_frozen_at_the_cut_off(random_timeline):
    baseline = Ease(l2=3)
    baseline.fit(random_timeline.at_week(20))
    learned = baseline.weights.copy()
    baseline.scores(USERS, random_timeline.at_week(35))
    np.testing.assert_array_equal(baseline.weights, learned)


def test_with_refits_weights_are_those_of_the_last_week_that_begins_a_refit(random_timeline):
    baseline, of_week_32 = Ease(l2=3, refit_weeks=4), Ease(l2=3)
    baseline.fit(random_timeline.at_week(20))
    of_week_32.fit(random_timeline.at_week(32))
    now = random_timeline.at_week(35)
    np.testing.assert_array_equal(baseline.scores(USERS, now), of_week_32.scores(USERS, now))


def test_what_a_cut_off_between_refits_has_taught_stays_until_the_next_one(random_timeline):
    baseline, of_week_34, of_week_32 = Ease(l2=3, refit_weeks=4), Ease(l2=3), Ease(l2=3)
    for each, week in ((baseline, 34), (of_week_34, 34), (of_week_32, 32)):
        each.fit(random_timeline.at_week(week))
    for week, expected in ((34, of_week_34), (35, of_week_34), (33, of_week_32)):  # nor does an earlier week know a later fit
        now = random_timeline.at_week(week)
        np.testing.assert_array_equal(baseline.scores(USERS, now), expected.scores(USERS, now))
    assert not np.array_equal(of_week_34.weights, of_week_32.weights)


def test_a_penalty_too_small_to_solve_with_is_an_error():
    same = sp.csr_matrix(np.ones((5, 3), np.float32))  # three items that the same users bought
    with pytest.raises(ConfigError, match=r"ease\.l2 is 0, too small for the products of 3 items"):
        closed_form(same, 0)
