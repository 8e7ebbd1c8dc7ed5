"""Weekly profiles against sums written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seasonrec.errors import DataError
from seasonrec.seasons.profile import seasonal_profile

N_ITEMS = 4
GROUP = [0, 1, 1, 3]  # nobody is in group 2


UNEVEN = [14] * 4 + [7] * 6 + [0] * 10 + [7] * 30 + [1, 8]


def plain_profile(purchases, strength, group, half_window, days):
    """Rows of shares, one item and week at a time."""
    covered = [w for w in range(52) if days[w]]

    def shares(members, prior):
        weeks = [week for item, week in purchases if item in members]
        near = dict.fromkeys(range(52), 0.0)
        for w in covered:
            window = [v % 52 for v in range(w - half_window, w + half_window + 1) if days[v % 52]]
            near[w] = sum(weeks.count(v) / days[v] for v in window) / len(window)
        scale = len(weeks) / (sum(near.values()) or 1)
        return [(near[w] * scale + strength * prior[w]) / (len(weeks) + strength) for w in range(52)]

    everything = shares(range(N_ITEMS), [1 / len(covered) if w in covered else 0 for w in range(52)])
    if group is None:
        return [shares([item], everything) for item in range(N_ITEMS)]
    return [shares([item], shares([i for i in range(N_ITEMS) if group[i] == group[item]], everything)) for item in range(N_ITEMS)]


@given(
    st.lists(st.tuples(st.integers(0, N_ITEMS - 1), st.sampled_from([0, 1, 3, 25, 50, 51])), max_size=30),
    st.sampled_from([0.5, 3.0, 100.0]),
    st.sampled_from([None, GROUP]),
    st.integers(0, 3),
    st.sampled_from([None, UNEVEN]),
)
def test_profiles_are_smoothed_shares_shrunk_towards_their_group(purchases, strength, group, half_window, days):
    item, week = np.array(purchases, int).reshape(-1, 2).T
    profile = seasonal_profile(item, week, N_ITEMS, strength=strength, group=group, half_window=half_window, days=days)
    assert profile.dtype == np.float32
    np.testing.assert_allclose(profile, plain_profile(purchases, strength, group, half_window, days or [1] * 52), rtol=1e-5)
    np.testing.assert_allclose(profile.sum(1), 1, rtol=1e-5)


def test_one_purchase_is_spread_over_its_neighbours_across_new_year():
    profile = seasonal_profile([0], [51], 1, strength=1e-9, half_window=1)
    np.testing.assert_allclose(profile[0, [50, 51, 0]], 1 / 3, rtol=1e-5)
    assert profile[0, 1:50].max() < 1e-8


def test_weeks_covered_twice_give_the_profile_of_one_year():
    year = np.repeat(np.arange(52), 7 + 30 * (np.arange(52) == 43))  # one a day, and 30 more for Halloween
    longer = np.concatenate([year, year[year < 40]])
    once = seasonal_profile(np.zeros_like(year), year, 1, strength=1e-9)
    twice = seasonal_profile(np.zeros_like(longer), longer, 1, strength=1e-9, days=[14] * 40 + [7] * 12)
    np.testing.assert_allclose(twice, once, rtol=1e-5)
    assert once[0, 43] == pytest.approx((7 + 30 / 5) / (52 * 7 + 30))  # the 30 are spread over five weeks


def test_an_item_never_bought_has_its_groups_profile_or_that_of_all():
    item, week = np.repeat([0, 1], 1_000), np.repeat([10, 40], 1_000)
    alone = seasonal_profile(item, week, 3, strength=1.0)
    assert alone[2, 10] == pytest.approx(alone[2, 40], rel=1e-4)
    grouped = seasonal_profile(item, week, 3, strength=1.0, group=[0, 1, 1])
    assert grouped[2].argmax() in range(38, 43)
    assert grouped[2, 40] > 100 * grouped[2, 10]


def test_more_strength_pulls_a_rare_item_to_its_group_but_hardly_a_frequent_one():
    item = np.concatenate([np.zeros(3, int), np.ones(5_000, int)])
    week = np.concatenate([np.full(3, 5), np.full(5_000, 30)])
    weak, strong = (seasonal_profile(item, week, 2, strength=strength) for strength in (1.0, 50.0))
    assert weak[0].argmax() in range(3, 8)
    assert strong[0].argmax() in range(28, 33)
    np.testing.assert_allclose(weak[1, 30], strong[1, 30], rtol=0.02)


def test_without_any_purchase_the_year_is_flat():
    profile = seasonal_profile([], [], 2, group=[0, 0])
    np.testing.assert_allclose(profile, np.full((2, 52), 1 / 52), rtol=1e-6)


def test_an_empty_catalogue_has_no_profiles():
    assert seasonal_profile([], [], 0, group=[]).shape == (0, 52)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"item": [0, 1]}, "2 items and 1 weeks; give one of each"),
        ({"item": [4]}, r"items are int64 in 4\.\.4, wanted integers in 0\.\.3"),
        ({"item": [0.5]}, r"items are float64 in 0\.5"),
        ({"week_of_year": [52]}, r"weeks of the year are int64 in 52\.\.52, wanted integers in 0\.\.51; phase.week_of_year"),
        ({"week_of_year": [-1]}, "weeks of the year"),
        ({"days": [7] * 51}, "wanted one number for each of 52 weeks"),
        ({"days": [0] * 52, "item": [], "week_of_year": []}, "not all of them 0"),
        ({"days": [-7] + [7] * 51}, "wanted one number"),
        ({"days": [0] + [7] * 51}, "a purchase in week 0, of which days has none; give all"),
        ({"strength": 0.0}, "strength is 0.0, wanted more than 0"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"half_window": 26}, r"half_window is 26 weeks, wanted 0\.\.25"),
        ({"half_window": -1}, "half_window is -1"),
        ({"group": [0, 1]}, "2 groups for 4 items; give one an item"),
        ({"group": [0, 1, -1, 0]}, "group -1 of item 2, wanted numbers from 0 on"),
    ],
)
def test_what_cannot_be_counted_is_refused(options, words):
    with pytest.raises(DataError, match=words):
        seasonal_profile(**({"item": [0], "week_of_year": [0], "n_items": N_ITEMS} | options))
