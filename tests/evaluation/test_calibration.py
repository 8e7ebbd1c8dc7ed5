"""Platt scaling against sklearn and on scores whose probabilities are known."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from seasonrec.data.timeline import Queries
from seasonrec.errors import DataError
from seasonrec.evaluation.calibration import fit_platt
from seasonrec.evaluation.lists import Lists
from seasonrec.metrics import expected_calibration_error

N, K = 400, 50


def lists_with(scores, bought):
    """Lists whose place p holds item p, bought where the mask says so."""
    n, k = scores.shape
    items = np.tile(np.arange(k, dtype=np.int32), (n, 3, 1))
    starts = np.append(0, np.cumsum(bought.sum(1)))
    queries = Queries(
        np.arange(n, dtype=np.int32), np.zeros(n, np.int32), starts, np.nonzero(bought)[1].astype(np.int32), np.zeros(n, np.int64)
    )
    return Lists(queries, items, np.repeat(scores[:, None], 3, axis=1).astype(np.float32))


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    scores = rng.normal(100, 20, size=(N, K))
    return scores, rng.random((N, K)) < 1 / (1 + np.exp(-(scores - 130) / 10))


def test_slope_and_intercept_are_those_of_an_unpenalised_logistic_regression(drawn):
    scores, bought = drawn
    platt = fit_platt(lists_with(scores, bought))
    x = ((scores - scores.mean()) / scores.std()).reshape(-1, 1)
    theirs = LogisticRegression(C=1e9, tol=1e-8).fit(x, bought.ravel())
    assert platt.slope == pytest.approx(theirs.coef_[0, 0], rel=2e-3)  # smoothed targets differ a little
    assert platt.intercept == pytest.approx(theirs.intercept_[0], rel=2e-3)


def test_probabilities_are_calibrated_where_the_scores_are_logits(drawn):
    platt = fit_platt(lists_with(*drawn))
    assert expected_calibration_error(platt.probability(drawn[0]), drawn[1]) < 0.01
    assert platt.probability(np.array([130.0]))[0] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_that_separate_the_outcomes_give_finite_probabilities_on_the_right_side(sign):
    scores = np.arange(20.0).reshape(2, 10)
    bought = sign * scores > sign * 9.5
    platt = fit_platt(lists_with(scores, bought))
    assert 0 < sign * platt.slope < np.inf
    np.testing.assert_array_equal(platt.probability(scores) > 0.5, bought)


def test_constant_scores_give_the_mean_rate():
    bought = np.arange(100).reshape(10, 10) % 4 == 0
    platt = fit_platt(lists_with(np.full((10, 10), 3.0), bought))
    # Smoothed: 25 of 26/27 and 75 of 1/77.
    assert platt.probability(np.array([3.0]))[0] == pytest.approx((25 * 26 / 27 + 75 / 77) / 100)


def test_there_must_be_lists_to_fit_on():
    with pytest.raises(DataError, match="validation lists are empty"):
        fit_platt(lists_with(np.zeros((0, 5)), np.zeros((0, 5), bool)))
