"""Folds by counting, and errors by hand and by scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from seasonrec.baselines.ratings import MeanRating
from seasonrec.data.timeline import Timeline
from seasonrec.errors import ConfigError, DataError
from seasonrec.evaluation.cross_validation import cross_validate, error_grid, errors_table, folds
from seasonrec.schema import WEEK


def rated_timeline(n: int) -> Timeline:
    rng = np.random.default_rng(3)
    user, item, rating = rng.integers(8, size=n), rng.integers(6, size=n), rng.integers(1, 6, n)
    return Timeline(user, item, rng.integers(0, 30 * WEEK, n), n_users=8, n_items=6, week_zero=0, rating=rating)


@pytest.fixture
def rated():
    """103 ratings of eight users and six items over 30 weeks."""
    return rated_timeline(103)


def test_every_rating_is_in_one_fold_and_a_seed_draws_which(rated):
    fold = folds(rated, 5, seed=3)
    assert np.bincount(fold).tolist() == [21, 21, 21, 20, 20], "103 = 3 x 21 + 2 x 20"
    np.testing.assert_array_equal(fold, folds(rated, 5, seed=3))
    assert (fold != folds(rated, 5, seed=4)).any()
    # Not in the order of time: the last fifth of the ratings is spread over all folds.
    assert set(fold[-20:]) == set(range(5))


class Noting:
    """Rates by user and item, and notes what it was fitted on."""

    fitted: list = []  # noqa: RUF012

    def fit(self, past):
        user, item, time, rating = past.events()
        self.fitted.append(list(zip(user.tolist(), item.tolist(), time.tolist(), rating.tolist(), strict=True)))

    def ratings(self, users, items, now):
        return (users + items / 10).astype(np.float32)


@pytest.mark.parametrize("batch_size", [3, 1_000])
def test_each_fold_is_predicted_by_a_new_method_that_knows_all_others_later_ones_too(rated, batch_size, monkeypatch):
    monkeypatch.setattr(Noting, "fitted", [])
    fold, done = folds(rated, 4), []
    predicted = cross_validate(Noting, rated, fold, batch_size=batch_size, progress=done.append)
    np.testing.assert_allclose(predicted, rated.user + rated.item / 10, rtol=1e-6)
    events = list(zip(rated.user.tolist(), rated.item.tolist(), rated.time.tolist(), rated.rating.tolist(), strict=True))
    assert Noting.fitted == [[event for event, of in zip(events, fold, strict=True) if of != each] for each in range(4)]
    assert sum(done) == 103


def test_a_mean_is_that_of_the_other_folds(rated):
    fold = folds(rated, 5)
    predicted = cross_validate(MeanRating, rated, fold)
    for each in range(5):
        np.testing.assert_allclose(predicted[fold == each], rated.rating[fold != each].mean(), rtol=1e-6)


def test_errors_are_those_of_another_library_and_their_mean_and_deviation_are_over_folds(rated):
    fold = folds(rated, 5)
    predicted = np.random.default_rng(0).uniform(1, 5, 103).astype(np.float32)
    table = errors_table("random", rated, predicted, fold)
    rows = {(row["slice"], row["metric"]): row for row in table.iter_rows(named=True)}
    parts = [(rated.rating[fold == each], predicted[fold == each]) for each in range(5)]
    for metric, error in (("rmse", root_mean_squared_error), ("mae", mean_absolute_error)):
        expected = [error(*part) for part in parts]
        of_fold = [rows[f"fold_{each}", metric] for each in range(5)]
        assert [row["value"] for row in of_fold] == pytest.approx(expected)
        assert [row["n_queries"] for row in of_fold] == [21, 21, 21, 20, 20]
        mean = rows["cross_validation", metric]
        assert (mean["value"], mean["deviation"]) == pytest.approx((np.mean(expected), np.std(expected, ddof=1)))
        assert (mean["method"], mean["split"], mean["n_queries"], mean["low"], mean["high"]) == ("random", "test", 103, None, None)


def test_two_folds_can_be_worked_out_and_the_smallest_errors_stand_out():
    rated = Timeline(np.zeros(4, int), np.zeros(4, int), np.arange(4), n_users=1, n_items=1, week_zero=0, rating=np.array([1, 1, 5, 5]))
    fold = np.array([0, 0, 1, 1])
    # What the other fold has: 5 for the ratings of 1 and 1 for those of 5. So each error is 4; that of "near" is 1 or 2, or RMSE 1 and 2.
    far = errors_table("far", rated, cross_validate(MeanRating, rated, fold), fold)
    near = errors_table("near", rated, np.array([2, 2, 3, 3], np.float32), fold)
    grid = error_grid(far.vstack(near))
    assert [[cell.text for cell in row] for row in grid.rows] == [
        ["far", "4.0000 ±0.0000", "4.0000 ±0.0000"],
        ["near", "1.5000 ±0.7071", "1.5000 ±0.7071"],  # ((1 - 1.5)^2 + (2 - 1.5)^2) / (2 - 1) = .5
    ]
    assert [row[1].strong for row in grid.rows] == [False, True]
    assert grid.title == "ratings without a timeline: mean of 2 folds ± standard deviation"


def test_what_cannot_be_divided_is_an_error(rated, random_timeline):
    with pytest.raises(ConfigError, match="n_folds is 1, wanted at least 2"):
        folds(rated, 1)
    with pytest.raises(DataError, match=r"cross_validation: the data have no ratings, or not on every event; take data=movielens"):
        folds(random_timeline)
    with pytest.raises(DataError, match="cross_validation: 3 ratings, wanted at least one for each of 5 folds; give more data or"):
        folds(rated_timeline(3))


def test_a_prediction_that_is_no_number_is_an_error(rated):
    class Lost(Noting):
        def ratings(self, users, items, now):
            return np.full(len(users), np.nan, np.float32)

    with pytest.raises(DataError, match=r"Lost\.ratings as of week 29: .* wanted one finite rating for each"):
        cross_validate(Lost, rated, folds(rated))


@pytest.mark.parametrize("predicted", [np.zeros((103, 1), np.float32), np.full(103, np.nan, np.float32)])
def test_predictions_from_elsewhere_are_checked_too(rated, predicted):
    with pytest.raises(DataError, match=r"cross_validation: peer gave predictions .*, wanted one finite rating for each of 103 events"):
        errors_table("peer", rated, predicted, folds(rated))
