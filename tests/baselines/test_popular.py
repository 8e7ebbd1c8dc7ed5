"""Popular lists against loops over the raw events."""

import numpy as np
import pytest

from seasonrec.baselines.popular import Popular, recent_popularity
from seasonrec.baselines.seasonal_popular import SeasonalPopular
from seasonrec.errors import ConfigError


def counted(loops, timeline, week, ages):
    """Purchases of each item that are `ages` weeks old."""
    counts = np.zeros(timeline.n_items)
    for (_, item), found in loops.purchases(timeline, int(timeline.start_of(week))).items():
        counts[item] += len(found & set(ages))
    return counts


@pytest.mark.parametrize("weeks", [None, 1, 4])
def test_popular_counts_distinct_users_items_and_weeks(random_timeline, loops, weeks):
    expected = counted(loops, random_timeline, 30, range(30 if weeks is None else weeks))
    scores = Popular(weeks).scores(np.array([3, 12]), random_timeline.at_week(30))
    np.testing.assert_array_equal(scores, [expected, expected])


@pytest.mark.parametrize(("around", "recent"), [(2, 4), (0, 1), (5, 0)])
def test_the_same_weeks_of_last_year_lie_around_the_week_that_begins(world, loops, around, recent):
    # As of week 80, week 28 is the same week of last year: its purchases are 51 weeks old.
    ages = [*range(51 - around, 52 + around), *range(recent)]
    scores = SeasonalPopular(around, recent).scores(np.array([0]), world.at_week(80))
    np.testing.assert_array_equal(scores, [counted(loops, world, 80, ages)])


def test_in_the_first_year_only_the_last_weeks_count(world):
    now = world.at_week(30)
    np.testing.assert_array_equal(SeasonalPopular(2, 4).scores(np.array([0]), now)[0], now.demand(4))


def test_a_seasonal_list_begins_with_what_is_in_season_now(world):
    # The item of week 104 + 26, half a year on, is 50 + 26 * 48 // 52 = 74; that of week 104 itself is 50.
    scores = SeasonalPopular(2, 0).scores(np.array([0]), world.at_week(104))[0]
    assert scores[50] > 10
    assert scores[74] == 0


def test_the_most_bought_recent_item_has_popularity_1(random_timeline, loops):
    now = random_timeline.at_week(20)
    np.testing.assert_allclose(recent_popularity(now), loops.popularity(random_timeline, now.time), rtol=1e-6)
    assert recent_popularity(random_timeline.at_week(0)).max() == 0


def test_a_hyperparameter_out_of_range_names_itself_and_the_range():
    with pytest.raises(ConfigError, match=r"popular\.weeks is -4, wanted at least 0$"):
        Popular(-4)
    with pytest.raises(ConfigError, match=r"seasonal_popular\.around_weeks is 30, wanted 0 to 26"):
        SeasonalPopular(30)
