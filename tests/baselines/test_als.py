"""ALS against the package's own recommendations and a solution by hand."""

import numpy as np
import pytest

from seasonrec.baselines.als import Als

USERS = np.array([0, 7, 11, 12])  # 12 never bought


@pytest.fixture
def factors_only(random_timeline):
    """ALS without own purchases and popularity, fitted as of week 20."""
    baseline = Als(factors=8, l2=0.5, confidence=3, iterations=5, decay=0.9, own=0, mix=0, seed=1)
    baseline.fit(random_timeline.at_week(20))
    return baseline


def test_scores_are_those_of_the_packages_own_recommend(random_timeline, factors_only):
    now = random_timeline.at_week(30)
    trust = factors_only.trust(now.interactions(0.9)[USERS])
    ids, expected = factors_only.model.recommend(USERS, trust, N=32, filter_already_liked_items=False, recalculate_user=True)
    np.testing.assert_allclose(np.take_along_axis(factors_only.scores(USERS, now), ids, 1), expected, rtol=1e-4, atol=1e-5)


def test_a_users_factors_solve_the_weighted_least_squares_of_the_history_so_far(random_timeline, factors_only, loops):
    now, items = random_timeline.at_week(30), factors_only.model.item_factors.astype(float)
    for user, scores in zip(USERS, factors_only.scores(USERS, now), strict=True):
        decayed = loops.decayed(random_timeline, now.time, 0.9)[user]
        trust = np.diag(1 + 3 * decayed)
        solved = np.linalg.solve(items.T @ trust @ items + 0.5 * np.eye(8), items.T @ trust @ (decayed > 0))
        np.testing.assert_allclose(scores, items @ solved, rtol=1e-3, atol=1e-4)


def test_own_purchases_and_popularity_are_added(random_timeline, factors_only, loops):
    now = random_timeline.at_week(30)
    both = Als(factors=8, l2=0.5, confidence=3, iterations=5, decay=0.9, own=2, mix=0.1, seed=1)
    both.fit(random_timeline.at_week(20))
    added = 2 * loops.decayed(random_timeline, now.time, 0.9)[USERS] + 0.1 * loops.popularity(random_timeline, now.time)
    np.testing.assert_allclose(both.scores(USERS, now) - factors_only.scores(USERS, now), added, rtol=1e-4, atol=1e-5)


def test_item_factors_are_frozen_at_the_cut_off(random_timeline, factors_only):
    learned = factors_only.model.item_factors.copy()
    factors_only.scores(USERS, random_timeline.at_week(35))
    np.testing.assert_array_equal(factors_only.model.item_factors, learned)


def test_the_seed_sets_the_random_start(random_timeline):
    one, same, other = (Als(factors=4, iterations=1, seed=seed) for seed in (3, 3, 4))
    for baseline in (one, same, other):
        baseline.fit(random_timeline.at_week(20))
    np.testing.assert_array_equal(one.model.item_factors, same.model.item_factors)
    assert not np.allclose(one.model.item_factors, other.model.item_factors)
