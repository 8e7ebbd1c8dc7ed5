"""Sampled candidates: what is promised of their probabilities, and that draws keep it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from seasonrec.data.candidates import FLOOR, CandidateSampler
from seasonrec.errors import ConfigError


@st.composite
def shops(draw):
    """Purchases of 2 to 80 items and a number of candidates below that of the items."""
    purchases = np.array(draw(st.lists(st.integers(0, 5_000), min_size=2, max_size=80)), np.float32)
    return purchases, draw(st.integers(1, len(purchases) - 1))


@given(shops(), st.sampled_from([0.0, 0.5, 0.75, 1.0]))
def test_probabilities_lie_in_0_to_1_sum_to_n_and_grow_with_purchases(shop, power):
    purchases, n = shop
    inclusion = CandidateSampler(n, power).inclusion(purchases)
    assert (inclusion > 0).all()
    assert (inclusion <= 1).all()
    np.testing.assert_allclose(inclusion.sum(), n, rtol=1e-9)
    assert (np.diff(inclusion[np.argsort(purchases)]) >= 0).all()


@given(shops())
def test_probabilities_are_proportional_up_to_1(shop):
    purchases, n = shop
    weight = (purchases.astype(np.float64) + FLOOR) ** 0.75
    scale = brentq(lambda x: np.minimum(np.exp(x) * weight, 1).sum() - n, -40, np.log(1 / weight.min()), xtol=1e-12)
    np.testing.assert_allclose(CandidateSampler(n).inclusion(purchases), np.minimum(np.exp(scale) * weight, 1), rtol=1e-6)


def test_a_power_of_0_draws_all_items_alike():
    np.testing.assert_allclose(CandidateSampler(3, power=0).inclusion(np.array([0, 1, 10, 1000])), 3 / 4)


@pytest.mark.parametrize("n", [None, 4, 5])
def test_a_small_catalogue_or_null_is_drawn_whole(n):
    sampler, purchases = CandidateSampler(n), np.array([0, 3, 0, 100])
    inclusion = sampler.inclusion(purchases)
    np.testing.assert_array_equal(inclusion, 1)
    drawn = sampler.draw(inclusion, np.array([2]), np.random.default_rng(0))
    np.testing.assert_array_equal(drawn.item, np.arange(4))
    np.testing.assert_array_equal(drawn.log_inclusion, 0)


def test_items_are_drawn_as_often_as_their_probability_says():
    inclusion, rng, n_draws = CandidateSampler(12).inclusion(np.arange(50) ** 2), np.random.default_rng(1), 4_000
    drawn = np.zeros(50)
    for _ in range(n_draws):
        drawn[CandidateSampler(12).draw(inclusion, np.zeros(0, np.int64), rng).item] += 1
    error = np.sqrt(inclusion * (1 - inclusion) / n_draws)
    assert (np.abs(drawn / n_draws - inclusion) <= 4.5 * error).all()
    np.testing.assert_allclose(drawn.sum() / n_draws, 12, atol=0.25)


@given(shops(), st.integers(0, 1_000), st.data())
def test_truth_is_always_there_and_infinite_exactly_where_it_was_not_drawn(shop, seed, data):
    purchases, n = shop
    truth = np.array(data.draw(st.lists(st.integers(0, len(purchases) - 1), max_size=20)), np.int32)
    sampler = CandidateSampler(n)
    inclusion = sampler.inclusion(purchases)
    drawn = np.flatnonzero(np.random.default_rng(seed).random(len(purchases)) < inclusion)  # the same numbers
    candidates = sampler.draw(inclusion, truth, np.random.default_rng(seed))
    assert candidates.item.tolist() == sorted({*drawn.tolist(), *truth.tolist()})
    assert set(candidates.item[np.isinf(candidates.log_inclusion)].tolist()) == set(truth.tolist()) - set(drawn.tolist())
    was_drawn = np.isfinite(candidates.log_inclusion)
    np.testing.assert_allclose(np.exp(candidates.log_inclusion[was_drawn]), inclusion[drawn], rtol=1e-6)


def test_what_users_of_the_batch_have_bought_is_drawn_by_popularity_or_for_them():
    sampler, rng, n_draws = CandidateSampler(5, own=0.5), np.random.default_rng(1), 4_000
    inclusion, own = sampler.inclusion(np.arange(20)), np.array([0, 1, 19, 1])
    expected = inclusion.copy()
    expected[[0, 1, 19]] = 1 - (1 - inclusion[[0, 1, 19]]) / 2
    times = np.zeros(20)
    for _ in range(n_draws):
        drawn = sampler.draw(inclusion, np.zeros(0, np.int64), rng, own)
        times[drawn.item] += 1
        np.testing.assert_allclose(np.exp(drawn.log_inclusion), expected[drawn.item], rtol=1e-6)
    assert (np.abs(times / n_draws - expected) <= 4.5 * np.sqrt(expected * (1 - expected) / n_draws)).all()
    np.testing.assert_allclose(inclusion, sampler.inclusion(np.arange(20)))  # the next batch has other users


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n": 0}, "n is 0, wanted at least 1, or null for the whole catalogue"), ({"own": 1.5}, "own is 1.5, wanted a probability")],
)
def test_settings_that_draw_nothing_sensible_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        CandidateSampler(**options)
