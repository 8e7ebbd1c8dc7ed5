"""As-of demand against plain counts."""

import numpy as np
import pytest

from seasonrec.data.counters import N_FEATURES, RECENT, WINDOWS, demand_counts, demand_features
from seasonrec.schema import WEEK


def plain_count(timeline, time, start_weeks, end_weeks):
    """Purchases of each item from `start_weeks` to `end_weeks` before `time`, one per user and week, by a loop over events."""
    counts, seen = np.zeros(timeline.n_items), set()
    for user, item, t in zip(timeline.user.tolist(), timeline.item.tolist(), timeline.time.tolist(), strict=True):
        triple = (user, item, int(timeline.week_of(t)))
        if triple not in seen and time - start_weeks * WEEK <= t < min(time - end_weeks * WEEK, time):
            counts[item] += 1
        seen.add(triple)
    return counts


@pytest.mark.parametrize("week", [0, 30, 85, 105])
def test_each_window_is_a_plain_count(small_shop, week):
    now = small_shop.timeline.at_week(week)
    expected = [plain_count(small_shop.timeline, now.time, *window) for window in WINDOWS]
    counts = demand_counts(now)
    np.testing.assert_array_equal(counts.T, expected)
    assert counts.dtype == np.float32
    assert (counts.sum(0) > 0).all() == (week >= 60)  # the first weeks have no last year


def test_features_by_hand():
    # windows:   1  2  4  12  52 weeks | 1   5  9 weeks around last year | the year around, next 4, last 4
    counts = np.array([[3, 4, 4, 12, 52, 2, 10, 9, 26, 8, 2]], np.float32)
    rates = [3, 2, 1, 1, 1, 2, 2, 1]
    lift = np.log((10 / 5 + 0.2) / (26 / 52 + 0.2))
    trend, rise = np.log(1 + 3) - np.log(1 + 1), np.log(1 + 8 / 4) - np.log(1 + 2 / 4)
    features = demand_features(counts)
    np.testing.assert_allclose(features, [[*np.log1p(rates), lift, trend, rise]], rtol=1e-6)
    assert features.shape[1] == N_FEATURES


def test_an_item_that_never_sold_has_only_zeros():
    assert not demand_features(np.zeros((2, len(WINDOWS)), np.float32)).any()


def test_each_item_has_its_own_features(small_shop):
    counts = demand_counts(small_shop.timeline.at_week(100))
    np.testing.assert_array_equal(demand_features(counts)[[7, 2]], demand_features(counts[[7, 2]]))


@pytest.mark.parametrize("ahead", [1, 3, 10])
def test_a_later_week_shifts_last_year_only(small_shop, ahead):
    now, later = small_shop.timeline.at_week(90), small_shop.timeline.at_week(90 + ahead)
    counts = demand_counts(now, ahead)
    np.testing.assert_array_equal(counts[:, : len(RECENT)], demand_counts(now)[:, : len(RECENT)])
    # Last year's windows end long before `now`, so whoever asks later counts the same.
    np.testing.assert_array_equal(counts[:, len(RECENT) :], demand_counts(later)[:, len(RECENT) :])
    assert (counts[:, len(RECENT) :] != demand_counts(now)[:, len(RECENT) :]).any()


@pytest.mark.parametrize(("ahead", "same"), [(52, 0), (55, 3), (104, 0), (60.5, 8.5)])
def test_after_a_year_the_weeks_begin_again(small_shop, ahead, same):
    now = small_shop.timeline.at_week(90)
    np.testing.assert_array_equal(demand_counts(now, ahead), demand_counts(now, same))


@pytest.mark.parametrize("ahead", [30, 47, 51.5])
def test_windows_that_would_end_in_the_future_end_now(small_shop, ahead):
    now = small_shop.timeline.at_week(90)
    windows = [(start - ahead, end - ahead) for start, end in WINDOWS[len(RECENT) :]]
    expected = [plain_count(small_shop.timeline, now.time, *window) for window in windows]
    np.testing.assert_array_equal(demand_counts(now, ahead)[:, len(RECENT) :].T, expected)
