"""Metrics against numbers worked out by hand and against other libraries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import ndcg_score
from torchmetrics.functional.classification import binary_calibration_error
from torchmetrics.functional.retrieval import retrieval_hit_rate, retrieval_recall, retrieval_reciprocal_rank

from seasonrec import metrics

HITS = np.array([[True, False, True, False], [False, False, False, False], [False, False, False, True]])


def test_ndcg_divides_by_the_best_list_of_k():
    first_and_third = 1 / math.log2(2) + 1 / math.log2(4)
    best_of_three = 1 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    fourth = 1 / math.log2(5)
    best_of_four = best_of_three + 1 / math.log2(5)
    expected = [first_and_third / best_of_three, 0, fourth / best_of_four]
    np.testing.assert_allclose(metrics.ndcg(HITS, np.array([3, 1, 9]), 4), expected)


def test_recall_divides_by_all_relevant_items_not_by_k():
    np.testing.assert_allclose(metrics.recall(HITS, np.array([4, 1, 9]), 2), [1 / 4, 0, 0])
    np.testing.assert_allclose(metrics.recall(HITS, np.array([4, 1, 9]), 4), [2 / 4, 0, 1 / 9])


def test_reciprocal_rank_looks_at_the_first_hit_only():
    np.testing.assert_allclose(metrics.reciprocal_rank(HITS, np.array([2, 1, 1]), 4), [1, 0, 1 / 4])
    np.testing.assert_allclose(metrics.reciprocal_rank(HITS, np.array([2, 1, 1]), 3), [1, 0, 0])


def test_hit_rate_asks_for_any_hit_among_k():
    np.testing.assert_array_equal(metrics.hit_rate(HITS, np.array([2, 1, 1]), 3), [1, 0, 0])


@pytest.mark.parametrize("name", metrics.METRICS)
def test_a_query_without_truth_is_nan_and_not_zero(name):
    of, k = metrics.METRICS[name]
    values = of(np.zeros((2, k), bool), np.array([0, 1]), k)
    assert np.isnan(values[0])
    assert values[1] == 0


@given(arrays(bool, (6, 30)), st.integers(0, 5), st.integers(1, 30))
def test_metrics_agree_with_sklearn_and_torchmetrics(hits, n_missed, k):
    n_relevant = hits.sum(1) + n_missed
    # The missed relevant items stand at the end of the full ranking; scores are positive, since torchmetrics drops others.
    full = np.concatenate([hits, np.zeros((6, 10), bool), np.ones((6, n_missed), bool)], 1)
    scores = np.arange(full.shape[1], 0, -1, dtype=np.float32)
    for row in np.flatnonzero(n_relevant):
        one, n = hits[[row]], n_relevant[[row]]
        rank, truth = torch.from_numpy(scores), torch.from_numpy(full[row])
        assert metrics.ndcg(one, n, k)[0] == pytest.approx(ndcg_score(full[[row]].astype(float), scores[None], k=k))
        assert metrics.recall(one, n, k)[0] == pytest.approx(retrieval_recall(rank, truth, top_k=k).item())
        assert metrics.reciprocal_rank(one, n, k)[0] == pytest.approx(retrieval_reciprocal_rank(rank, truth, top_k=k).item())
        assert metrics.hit_rate(one, n, k)[0] == retrieval_hit_rate(rank, truth, top_k=k).item()


LISTS = np.array([[0, 1], [0, 2], [0, -1]])


def test_coverage_counts_each_listed_item_once_and_no_empty_places():
    assert metrics.coverage(LISTS, 6) == 3 / 6


def test_gini_is_half_the_relative_mean_difference_of_exposure():
    shown = [3, 1, 1, 0, 0, 0]
    differences = np.abs(np.subtract.outer(shown, shown))
    assert metrics.gini(LISTS, 6) == pytest.approx(differences.mean() / (2 * np.mean(shown)))


def test_gini_is_zero_for_equal_exposure_and_nearly_one_for_a_single_item():
    assert metrics.gini(np.arange(10).reshape(5, 2), 10) == pytest.approx(0)
    assert metrics.gini(np.zeros((5, 1), int), 10) == pytest.approx(9 / 10)


def test_novelty_is_the_mean_surprise_of_the_listed_items():
    information = metrics.self_information(np.array([5, 1, 0, 0]))
    # One is added to each: shares 6/10, 2/10, 1/10, 1/10.
    np.testing.assert_allclose(information, [-math.log2(0.6), -math.log2(0.2), -math.log2(0.1), -math.log2(0.1)])
    expected = [-(math.log2(0.6) + math.log2(0.2)) / 2, -(math.log2(0.6) + math.log2(0.1)) / 2, -math.log2(0.6), np.nan]
    np.testing.assert_allclose(metrics.novelty(np.vstack([LISTS, [-1, -1]]), information), expected)


def test_intra_list_distance_is_the_mean_over_pairs():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(9, 5))
    vectors[4] = 0  # an item without text is orthogonal to all
    lists = np.array([[0, 1, 2, 3], [4, 5, 6, -1], [4, 4, -1, -1], [7, -1, -1, -1]])

    def distance(a, b):
        lengths = np.linalg.norm(vectors[a]) * np.linalg.norm(vectors[b])
        return 1 - (vectors[a] @ vectors[b] / lengths if lengths else 0)

    first = np.mean([distance(a, b) for a in range(4) for b in range(a)])
    second = np.mean([distance(4, 5), distance(4, 6), distance(5, 6)])
    np.testing.assert_allclose(metrics.intra_list_distance(lists, vectors), [first, second, 1, np.nan], atol=1e-6)


def test_calibration_error_weighs_the_gap_of_each_bin_by_its_size():
    probability = np.array([0.05, 0.06, 0.95])
    outcome = np.array([0, 1, 1])
    # First bin: mean probability .055 and frequency .5, two of three cases; last bin: .95 and 1, one of three.
    assert metrics.expected_calibration_error(probability, outcome) == pytest.approx(2 / 3 * 0.445 + 1 / 3 * 0.05)


@given(arrays(np.float32, 40, elements=st.floats(0.015625, 1, width=32)), arrays(np.int64, 40, elements=st.integers(0, 1)))
def test_calibration_error_agrees_with_torchmetrics(probability, outcome):
    # Bins differ at their very edges (float32 there), so probabilities stay off them.
    probability = np.floor(probability * 150) / 150 + np.float32(1 / 300)
    probability = np.minimum(probability, np.float32(1 - 1 / 300))
    theirs = binary_calibration_error(torch.from_numpy(probability), torch.from_numpy(outcome), n_bins=15)
    assert metrics.expected_calibration_error(probability, outcome) == pytest.approx(theirs.item(), abs=1e-5)


def test_no_cases_have_no_calibration_error():
    assert math.isnan(metrics.expected_calibration_error(np.zeros(0), np.zeros(0)))
