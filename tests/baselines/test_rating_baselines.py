"""Ratings without text against loops, a general solver and planted factors."""

import numpy as np
import pytest

from seasonrec.baselines.ratings import MeanRating, RatingFactors
from seasonrec.data.timeline import Timeline
from seasonrec.errors import ConfigError, DataError
from seasonrec.evaluation.ratings import Rater
from seasonrec.schema import WEEK

N_USERS, N_ITEMS = 9, 7


def timeline_of(user, item, rating, weeks=40, seed=0):
    time = np.sort(np.random.default_rng(seed).integers(0, weeks * WEEK, len(user)))
    return Timeline(user, item, time, n_users=N_USERS + 1, n_items=N_ITEMS + 1, week_zero=0, rating=rating)


@pytest.fixture
def rated():
    """200 ratings of nine users and seven items; the last user and item have none."""
    rng = np.random.default_rng(1)
    return timeline_of(rng.integers(N_USERS, size=200), rng.integers(N_ITEMS, size=200), rng.integers(1, 6, 200))


def ratings_of(timeline, week, which, row):
    """The ratings before a week whose user or item is `row`, by a loop."""
    events = zip(timeline.user.tolist(), timeline.item.tolist(), timeline.time.tolist(), timeline.rating.tolist(), strict=True)
    return [rating for *rows, time, rating in events if time < week * WEEK and (which is None or rows[which] == row)]


@pytest.mark.parametrize("week", [5, 30])
def test_means_are_those_of_what_was_rated_before(rated, week):
    users, items, now = np.array([0, 4, 9, 4]), np.array([6, 2, 2, 7]), rated.at_week(week)
    mean = np.mean(ratings_of(rated, week, None, 0))
    np.testing.assert_allclose(MeanRating().ratings(users, items, now), [mean] * 4, rtol=1e-6)
    for of, which, rows in (("user", 0, users), ("item", 1, items)):
        own = [ratings_of(rated, week, which, row) for row in rows.tolist()]
        expected = [(sum(found) + 3 * mean) / (len(found) + 3) for found in own]
        np.testing.assert_allclose(MeanRating(of, shrinkage=3).ratings(users, items, now), expected, rtol=1e-6)


def test_a_mean_that_is_not_shrunk_is_the_row_s_own_and_that_of_all_where_it_has_none(rated):
    found = MeanRating("user", shrinkage=0).ratings(np.array([3, 9]), np.array([0, 0]), rated.at_week(40))
    assert found == pytest.approx([np.mean(ratings_of(rated, 40, 0, 3)), rated.rating.mean()])


def test_biases_are_those_of_a_ridge_regression(rated):
    model = RatingFactors(factors=0, l2=2.0, iterations=200)
    model.fit(rated.at_week(40))
    # One column a user and one an item, and rows that draw each bias to 0: their least squares are the same problem.
    user, item = rated.user.astype(int), rated.item.astype(int)
    n = N_USERS + 1 + N_ITEMS + 1
    design = np.zeros((len(user), n))
    design[np.arange(len(user)), user] = 1
    design[np.arange(len(user)), N_USERS + 1 + item] = 1
    target = rated.rating - rated.rating.mean()
    solved = np.linalg.lstsq(np.vstack([design, np.sqrt(2.0) * np.eye(n)]), np.append(target, np.zeros(n)), rcond=None)[0]
    np.testing.assert_allclose(np.append(model.users[:, 0], model.items[:, 0]), solved, atol=1e-6)


def test_planted_factors_are_found_and_biases_alone_do_not_explain_them():
    taste = np.where(np.arange(N_USERS) % 2, 1.0, -1.0)[:, None] * np.where(np.arange(N_ITEMS) < 3, 1.0, -1.0)
    user, item = (x.ravel() for x in np.indices(taste.shape))
    order = np.random.default_rng(2).permutation(len(user))
    user, item = user[order], item[order]
    timeline = timeline_of(user, item, 3 + taste[user, item])
    errors = {}
    for factors in (0, 1):
        model = RatingFactors(factors=factors, l2=0.01, iterations=50)
        model.fit(timeline.at_week(40))
        errors[factors] = np.abs(model.ratings(user, item, timeline.at_week(40)) - timeline.rating).mean()
    assert errors[1] < 0.01
    assert errors[0] > 0.9


def test_factors_are_frozen_at_the_cut_off_while_means_go_on(rated):
    model, users, items = RatingFactors(), np.array([0, 9, 1]), np.array([1, 1, 7])
    model.fit(rated.at_week(20))
    first = model.ratings(users, items, rated.at_week(20))
    np.testing.assert_array_equal(model.ratings(users, items, rated.at_week(39)), first)
    assert first[1] == pytest.approx(model.mean + model.items[1, 0])  # of the user nothing is known
    assert first[2] == pytest.approx(model.mean + model.users[1, 0])
    mean = MeanRating("user")
    assert (mean.ratings(users, items, rated.at_week(20)) != mean.ratings(users, items, rated.at_week(39))).any()


@pytest.mark.parametrize("make", [MeanRating, lambda: MeanRating("user"), lambda: MeanRating("item"), RatingFactors])
def test_the_future_changes_nothing(rated, make):
    later = np.where(rated.time >= 20 * WEEK, 6 - rated.rating, rated.rating)
    other = Timeline(
        rated.user, rated.item, rated.time, n_users=rated.n_users, n_items=rated.n_items, week_zero=0, rating=later.astype(np.float32)
    )
    found = []
    for timeline in (rated, other):
        rater = make()
        assert isinstance(rater, Rater)
        rater.fit(timeline.at_week(20))
        found.append(rater.ratings(np.arange(N_USERS), np.arange(N_USERS) % N_ITEMS, timeline.at_week(20)))
    np.testing.assert_array_equal(*found)


def test_what_cannot_be_rated_is_an_error(rated, random_timeline):
    with pytest.raises(ConfigError, match=r"mean_rating\.of is 'shop', wanted one of all, user, item"):
        MeanRating("shop")
    for timeline, week in ((random_timeline, 20), (rated, 0)):
        with pytest.raises(DataError, match="ratings: none are known as of week"):
            MeanRating().ratings(np.array([0]), np.array([0]), timeline.at_week(week))
