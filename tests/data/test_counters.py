"""As-of demand against plain counts."""

import numpy as np
import pytest

from seasonrec.data.counters import LAST_YEAR, N_FEATURES, RECENT, SEASONAL, WINDOWS, demand_features, demand_rates
from seasonrec.data.timeline import Timeline
from seasonrec.schema import DAY, WEEK

START = 1_483_228_800  # 2017-01-01 UTC


def plain_rate(timeline, time, start_weeks, end_weeks):
    """Purchases of each item from `start_weeks` to `end_weeks` before `time`, one per user and week, over the weeks known of them."""
    counts, seen = np.zeros(timeline.n_items), set()
    for user, item, t in zip(timeline.user.tolist(), timeline.item.tolist(), timeline.time.tolist(), strict=True):
        triple = (user, item, int(timeline.week_of(t)))
        if triple not in seen and time - start_weeks * WEEK <= t < min(time - end_weeks * WEEK, time):
            counts[item] += 1
        seen.add(triple)
    first, last = max(time - start_weeks * WEEK, int(timeline.time[0])), min(time - end_weeks * WEEK, time)
    return counts / max((last - first) / WEEK, 1)


@pytest.mark.parametrize("week", [0, 1, 7, 30, 60, 85, 105])
def test_each_window_is_a_plain_rate(small_shop, week):
    now = small_shop.timeline.at_week(week)
    rates = demand_rates(now)
    np.testing.assert_allclose(rates.T, [plain_rate(small_shop.timeline, now.time, *window) for window in WINDOWS], rtol=1e-6)
    assert rates.dtype == np.float32
    assert rates.shape == (32, len(WINDOWS))
    assert (rates.sum(0) > 0).all() == (week >= 60)  # the first weeks have no last year


def steady(n_weeks):
    """One purchase on the first second of each week."""
    row = np.zeros(n_weeks, int)
    return Timeline(row, row, START + np.arange(n_weeks) * WEEK, n_users=1, n_items=1, week_zero=START)


def test_a_young_shop_s_rates_are_those_of_its_weeks():
    # After 3 weeks with a purchase each, 12 and 52 weeks have the rate of 3; in week 70 the year around last year's week has 44 weeks.
    assert demand_rates(steady(3).at_week(3))[0, : len(RECENT)].tolist() == [1] * len(RECENT)
    rates = demand_rates(steady(80).at_week(70))[0]
    assert rates.tolist() == [1] * len(WINDOWS)


def test_what_is_known_for_less_than_a_week_counts_as_a_week():
    time = START + np.array([0, DAY, 2 * DAY])
    now = Timeline(np.zeros(3, int), np.arange(3), time, n_users=1, n_items=3, week_zero=START).as_of(START + 3 * DAY)
    assert demand_rates(now)[:, : len(RECENT)].tolist() == [[1] * len(RECENT)] * 3  # not 7 / 3


def test_features_by_hand():
    # windows:  1  2  4  12 52 weeks | 1  5  9 weeks around last year | the year around, next 4, last 4
    rates = np.array([[3, 2, 1, 1, 1, 2, 2, 1, 0.5, 2, 0.5]], np.float32)
    lift = np.log((2 + 0.2) / (0.5 + 0.2))
    trend, rise = np.log(1 + 3) - np.log(1 + 1), np.log(1 + 2) - np.log(1 + 0.5)
    features = demand_features(rates)
    np.testing.assert_allclose(features, [[*np.log1p(rates[0, :5]), *np.log1p([2, 2, 1]), lift, trend, rise]], rtol=1e-6)
    assert features.shape[1] == N_FEATURES


def test_the_lift_compares_five_weeks_with_the_year_around_them():
    # One a week, and nine more in each of the five weeks around that of week 90 a year before.
    extra = np.repeat(np.arange(36, 41), 9)
    user = np.concatenate([np.zeros(110, int), np.tile(np.arange(1, 10), 5)])
    time = START + np.concatenate([np.arange(110), extra]) * WEEK + 1000
    order = np.argsort(time, kind="stable")
    shop = Timeline(user[order], np.zeros(len(time), int), time[order], n_users=10, n_items=1, week_zero=START)
    features = demand_features(demand_rates(shop.at_week(90)))[0]
    around = (52 + 45) / 52
    np.testing.assert_allclose(features[N_FEATURES - 3], np.log((10 + 0.2) / (around + 0.2)), rtol=1e-6)


def test_an_item_that_never_sold_has_only_zeros():
    assert not demand_features(np.zeros((2, len(WINDOWS)), np.float32)).any()


def test_each_item_has_its_own_features(small_shop):
    rates = demand_rates(small_shop.timeline.at_week(100))
    np.testing.assert_array_equal(demand_features(rates)[[7, 2]], demand_features(rates[[7, 2]]))


@pytest.mark.parametrize("ahead", [1, 3, 10])
def test_a_later_week_shifts_last_year_only(small_shop, ahead):
    now, later = small_shop.timeline.at_week(90), small_shop.timeline.at_week(90 + ahead)
    rates = demand_rates(now, ahead)
    np.testing.assert_array_equal(rates[:, : len(RECENT)], demand_rates(now)[:, : len(RECENT)])
    # Last year's windows end long before `now`, so whoever asks later counts the same.
    np.testing.assert_allclose(rates[:, len(RECENT) :], demand_rates(later)[:, len(RECENT) :], rtol=1e-6)
    assert (rates[:, len(RECENT) :] != demand_rates(now)[:, len(RECENT) :]).any()


@pytest.mark.parametrize(("ahead", "same"), [(52, 0), (55, 3), (104, 0), (60.5, 8.5)])
def test_after_a_year_the_weeks_begin_again(small_shop, ahead, same):
    now = small_shop.timeline.at_week(90)
    np.testing.assert_array_equal(demand_rates(now, ahead), demand_rates(now, same))


def seasonal_rates(now, ahead):
    return demand_rates(now, ahead)[:, len(RECENT) :].T


@pytest.mark.parametrize(("ahead", "n_cut"), [(26, 0), (30, 1), (47, 1), (47.5, 2), (51, 4)])
def test_windows_that_would_end_in_the_future_have_the_rate_of_what_is_known(small_shop, ahead, n_cut):
    t, now = small_shop.timeline, small_shop.timeline.at_week(100)
    windows = [(start - ahead, end - ahead) for start, end in SEASONAL]
    assert sum(end < 0 for _, end in windows) == n_cut
    np.testing.assert_allclose(seasonal_rates(now, ahead), [plain_rate(t, now.time, *window) for window in windows], rtol=1e-6)


@pytest.mark.parametrize("ahead", [0, 20, 26, 27, 40, 51, 51.5])
def test_steady_sales_have_no_season_however_far_ahead(ahead):
    n = len(RECENT) + len(LAST_YEAR)
    features = demand_features(demand_rates(steady(130).at_week(125), ahead))[0]
    tolerance = 0.3 if ahead == 51.5 else 1e-6  # windows of half weeks have one purchase more or less
    np.testing.assert_allclose(features[:n], np.log(2), atol=tolerance)
    np.testing.assert_allclose(features[n:], 0, atol=tolerance)


@pytest.mark.parametrize("ahead", [51.25, 51.5])
def test_a_window_of_which_less_than_a_week_is_known_is_that_of_a_year_before(small_shop, ahead):
    t, now = small_shop.timeline, small_shop.timeline.at_week(108)
    week, *_, coming, _ = seasonal_rates(now, ahead)
    np.testing.assert_allclose(week, plain_rate(t, now.time, 104 - ahead, 103 - ahead), rtol=1e-6)
    np.testing.assert_allclose(coming, plain_rate(t, now.time, 104 - ahead, 100 - ahead), rtol=1e-6)
    assert week.any()
    assert coming.any()
