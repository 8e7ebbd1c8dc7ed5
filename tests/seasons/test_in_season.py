"""In season by some events: the lift, and which groups have a label. The whole reading of the protocol: tests/evaluation/test_labels.py."""

import numpy as np
import pytest

from seasonrec.schema import DAY
from seasonrec.seasons.in_season import SeasonLabels, lift

START = 1_483_228_800  # 2017-01-01, a day of week 0


def test_lift_is_the_share_of_the_window_over_the_share_of_the_year():
    counts = np.zeros((2, 52), int)
    counts[0, 51] = 10
    counts[1] = 1
    # Around week 1 (weeks 51, 0, 1, 2, 3) there are 10 + 5 triples, in the year 10 + 52.
    assert lift(counts)[0, 1] == pytest.approx((10 / 15) / (10 / 62))
    assert lift(counts)[1, 1] == pytest.approx((5 / 15) / (52 / 62))
    assert lift(counts)[0, 2] == 0


def test_a_group_is_in_season_where_it_takes_twice_its_yearly_share():
    # Ten users buy item 0 in week 10 and item 1 in weeks 10, 20, 30 and 40: around week 10 each takes half, of the year 1/5 and 4/5.
    user = np.repeat(np.arange(10), 5)
    item, week = np.tile([0, 1, 1, 1, 1], 10), np.tile([10, 10, 20, 30, 40], 10)
    events = user, item, START + week * 7 * DAY
    labels = SeasonLabels.by(*events, group=np.array([0, 1]), unlabelled=np.zeros(2, bool), min_triples=10)
    assert np.flatnonzero(labels.in_season[0]).tolist() == [8, 9, 10, 11, 12], "two weeks on either side"
    assert not labels.in_season[1].any(), "1/2 is less than twice 4/5"
    np.testing.assert_array_equal(labels.off_season, ~labels.in_season)


def test_a_group_too_rarely_bought_or_unknown_has_no_label():
    user, item, time = np.arange(6), np.array([0, 0, 1, 1, 1, 2]), np.full(6, START)
    labels = SeasonLabels.by(user, item, time, group=np.array([0, 1, 2]), unlabelled=np.array([False, False, True]), min_triples=3)
    assert (labels.in_season | labels.off_season).all(1).tolist() == [False, True, False]
