"""Predicted ratings against those given later: by hand, by scikit-learn, and after each epoch of a training."""

import numpy as np
import polars as pl
import pytest
import pytorch_lightning as lightning
import torch
from sklearn.metrics import mean_absolute_error, root_mean_squared_error
from torch.utils.data import DataLoader

from seasonrec.data.timeline import Timeline
from seasonrec.errors import DataError
from seasonrec.evaluation.ratings import Predictions, RatingSelection, predict, rating_grid
from seasonrec.evaluation.selection import METRIC
from seasonrec.metrics import mae, rmse
from seasonrec.schema import WEEK


@pytest.fixture
def rated():
    """300 ratings of eight users and six items over 30 weeks."""
    rng = np.random.default_rng(3)
    user, item, rating = rng.integers(8, size=300), rng.integers(6, size=300), rng.integers(1, 6, 300)
    return Timeline(user, item, rng.integers(0, 30 * WEEK, 300), n_users=8, n_items=6, week_zero=0, rating=rating)


class Noting:
    """Rates by user, item and week, and notes what it was asked."""

    def __init__(self, wrong=None):
        self.asked, self.wrong = [], wrong

    def fit(self, past):
        raise AssertionError("prediction does not fit")

    def ratings(self, users, items, now):
        self.asked.append((users, items, now.week))
        found = (users + items / 10 + now.week).astype(np.float32)
        return found if self.wrong is None else self.wrong(found)


def test_errors_are_those_of_another_library():
    rng = np.random.default_rng(0)
    predicted, rating = rng.normal(size=50), rng.normal(size=50)
    assert rmse(predicted, rating) == pytest.approx(root_mean_squared_error(rating, predicted))
    assert mae(predicted, rating) == pytest.approx(mean_absolute_error(rating, predicted))
    assert (rmse(np.array([1.0, 5]), np.array([4.0, 1])), mae(np.array([1.0, 5]), np.array([4.0, 1]))) == (12.5**0.5, 3.5)
    assert np.isnan([rmse(np.zeros(0), np.zeros(0)), mae(np.zeros(0), np.zeros(0))]).all()


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_bought_item_is_rated_once_in_batches_of_one_week(rated, batch_size):
    queries, rater = rated.queries(range(10, 20)), Noting()
    done = []
    found = predict(rater, rated, queries, batch_size=batch_size, progress=done.append)
    assert max(len(users) for users, _, _ in rater.asked) == min(batch_size, np.bincount(queries.week[queries.truth_query]).max())
    assert sum(done) == len(queries.truth_item) == len(found.rating)
    np.testing.assert_allclose(found.predicted, found.user + found.item / 10 + found.week, rtol=1e-6)
    rows = list(zip(queries.user[queries.truth_query], queries.truth_item, queries.week[queries.truth_query], strict=True))
    assert list(zip(found.user, found.item, found.week, strict=True)) == rows
    for user, item, week, rating in zip(found.user, found.item, found.week, found.rating, strict=True):
        of_event = (rated.user == user) & (rated.item == item) & (rated.time // WEEK == week)
        assert rating == pytest.approx(rated.rating[of_event].mean())


def test_a_table_has_both_errors_with_intervals_over_users(rated):
    found = predict(Noting(), rated, rated.queries(range(10, 20)))
    table = found.table("noting", "test", n_resamples=200, seed=1)
    assert table["metric"].to_list() == ["rmse", "mae"]
    assert (
        table["value"].to_list()
        == [found.rmse, found.mae]
        == pytest.approx([root_mean_squared_error(found.rating, found.predicted), mean_absolute_error(found.rating, found.predicted)])
    )
    assert (table["low"] < table["value"]).all()
    assert (table["value"] < table["high"]).all()
    assert table["n_queries"].to_list() == [len(found.rating)] * 2
    users = np.repeat(np.arange(10), 3)  # of equal errors
    alike = Predictions(users, 0 * users, users, np.ones(30, np.float32), np.tile(np.array([1, 2, 4], np.float32), 10))
    assert alike.table("a", "test", n_resamples=50).select("low", "high").rows() == [
        (pytest.approx((10 / 3) ** 0.5),) * 2,
        (pytest.approx(4 / 3),) * 2,
    ]
    few = alike.take(np.arange(27)).table("a", "test", n_resamples=50)
    assert few.select("low", "high").rows() == [(None, None)] * 2, "nine users tell nothing of others"
    assert rating_grid(few).rows[0][2].text == "1.3333"


def test_the_smallest_errors_stand_out():
    users, right = np.arange(12), np.full(12, 3, np.float32)
    made = {"near": right + np.float32(0.5), "far": right + 2}
    tables = [Predictions(users, 0 * users, users, right, predicted).table(name, "test", n_resamples=9) for name, predicted in made.items()]
    table = rating_grid(pl.concat(tables))
    assert [row[0].text for row in table.rows] == ["near", "far"]
    assert [[cell.strong for cell in row[1:]] for row in table.rows] == [[True, True], [False, False]]
    assert table.rows[0][1].text == "0.5000 (0.5000–0.5000)"
    assert "12 pairs" in table.title


@pytest.mark.parametrize("wrong", [lambda found: found[:-1], lambda found: found * np.float32(np.nan)])
def test_a_rating_that_is_missing_or_no_number_is_an_error(rated, wrong):
    with pytest.raises(DataError, match=r"Noting\.ratings as of week 10: .* wanted one finite rating for each"):
        predict(Noting(wrong), rated, rated.queries(range(10, 12)))


def test_data_without_ratings_are_refused(random_timeline):
    with pytest.raises(DataError, match=r"ratings: the data have none, or not one for every event; name a column in data\.columns\.rating"):
        predict(Noting(), random_timeline, random_timeline.queries(range(10, 12)))


def test_weeks_without_a_pair_are_refused(rated):
    with pytest.raises(DataError, match="the weeks have no pair to rate, wanted at least one; choose weeks in which"):
        predict(Noting(), rated, rated.queries(range(100, 102)))


class Growing:
    """Rates 3, 3.5, 4, ... from epoch to epoch."""

    def __init__(self, module):
        self.module = module

    def ratings(self, users, items, now):
        return np.full(len(users), 3 + self.module.current_epoch / 2, np.float32)


def test_each_epoch_is_measured_logged_and_written(rated, idle, tmp_path):
    queries, path = rated.queries(range(10, 20)), tmp_path / "ratings.csv"
    selection = RatingSelection(Growing(idle), rated, queries, 2.0, batch_size=7, path=path)
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=3, callbacks=[selection], enable_model_summary=False, **options)
    trainer.fit(idle, DataLoader(torch.zeros(2)))
    expected = [rmse(np.full(len(queries.truth_item), 3 + epoch / 2), queries.truth_rating) for epoch in range(3)]
    written = pl.read_csv(path)
    assert written["epoch"].to_list() == [0, 1, 2]
    assert written["rmse"].to_list() == pytest.approx(expected)
    assert selection.scores == pytest.approx([2 / error for error in expected])
    assert float(trainer.callback_metrics[METRIC]) == pytest.approx(selection.scores[-1])
    assert float(trainer.callback_metrics["validation/rmse"]) == pytest.approx(expected[-1])
    assert float(trainer.callback_metrics["validation/mae"]) == pytest.approx(written["mae"][-1])
    again = RatingSelection(Growing(idle), rated, queries, 2.0, path=path)
    again.load_state_dict(selection.state_dict())
    assert (again.scores, again.errors) == (selection.scores, selection.errors)
