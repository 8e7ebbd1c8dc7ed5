"""Sequences short enough to read."""

from itertools import pairwise

import numpy as np

from seasonrec.data.sequences import Sequences, by_user
from seasonrec.data.timeline import Timeline


def test_events_of_a_user_keep_the_given_order_within_a_second():
    """User 0 took 3 1 2 1, user 1 took 4 0, user 2 took 2 only; all of user 0's last events share a second."""
    user, item = np.array([1, 0, 2, 0, 0, 1, 0]), np.array([4, 3, 2, 1, 2, 0, 1])
    timeline = Timeline(user, item, np.array([0, 0, 0, 1, 1, 1, 1]), n_users=3, n_items=5, week_zero=0)
    order, starts = by_user(timeline.user, timeline.n_users)
    assert [timeline.item[order[lo:hi]].tolist() for lo, hi in pairwise(starts)] == [[3, 1, 2, 1], [4, 0], [2]]
    assert Sequences.of(timeline.as_of(2)).last(np.arange(3)).tolist() == [1, 0, 2]
    assert Sequences.of(timeline.as_of(1)).lengths.tolist() == [1, 1, 1]


def test_histories_stand_at_the_right_end():
    timeline = Timeline(np.array([0, 2, 0, 0]), np.array([4, 1, 2, 3]), np.arange(4), n_users=3, n_items=5, week_zero=0)
    sequences = Sequences.of(timeline.as_of(10))
    np.testing.assert_array_equal(sequences.padded(np.arange(3), 2), [[2, 3], [5, 5], [5, 1]])
    np.testing.assert_array_equal(sequences.padded(np.array([0]), 4), [[5, 4, 2, 3]])
    without = sequences.without_last(np.array([0, 2]))
    np.testing.assert_array_equal(without.padded(np.arange(3), 3), [[5, 4, 2], [5, 5, 5], [5, 5, 5]])
    nothing = Sequences(np.zeros(0, np.int64), np.zeros(2, np.int64), np.zeros(2, np.int64), 5)
    np.testing.assert_array_equal(nothing.padded(np.arange(2), 2), [[5, 5], [5, 5]])


def test_seen_is_what_each_user_took():
    timeline = Timeline(np.array([0, 2, 0, 0]), np.array([4, 1, 2, 4]), np.arange(4), n_users=3, n_items=5, week_zero=0)
    seen = Sequences.of(timeline.as_of(10)).seen(np.array([2, 0, 1]))
    np.testing.assert_array_equal(seen, [[0, 1, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 0, 0]])
