"""The three lists against a sort in plain Python."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from seasonrec.errors import DataError
from seasonrec.evaluation import ranking
from seasonrec.evaluation.lists import LISTS
from seasonrec.evaluation.ranking import order_keys, rank


class Fixed:
    """The same scores for every user."""

    def __init__(self, scores):
        self._scores = np.asarray(scores)

    def fit(self, past):
        pass

    def scores(self, users, now):
        return np.tile(self._scores, (len(users), 1))


def sorted_lists(timeline, scores, user, week, k):
    """The three lists of one query by Python's sort over events, padded with -1."""
    start = timeline.start_of(week)
    past = [(u, i) for u, i, t in zip(timeline.user, timeline.item, timeline.time, strict=True) if t < start]
    own, sold = {i for u, i in past if u == user}, {i for _, i in past}
    order = sorted(range(timeline.n_items), key=lambda row: (-scores[row], row))
    chosen = {"all": order, "new": [i for i in order if i not in own], "cold": [i for i in order if i not in sold]}
    return np.array([(chosen[name] + [-1] * k)[:k] for name in LISTS])


@pytest.mark.parametrize("k", [1, 10, 50])
def test_lists_are_those_of_a_plain_sort_under_many_ties(random_timeline, tied_scores, k):
    queries = random_timeline.queries(range(10, 40))
    lists = rank(tied_scores, random_timeline, queries, k=k, batch_size=3)
    for row in range(0, len(queries), 5):
        user, week = int(queries.user[row]), int(queries.week[row])
        scores = tied_scores.scores(np.array([user]), random_timeline.at_week(week))[0]
        expected = sorted_lists(random_timeline, scores, user, week, k)
        np.testing.assert_array_equal(lists.items[row], expected)
        np.testing.assert_array_equal(lists.scores[row], np.where(expected < 0, np.nan, scores[expected]))


def test_equal_scores_go_by_catalogue_row(shop):
    queries = shop.timeline.queries(range(60, 62))
    lists = rank(Fixed(np.zeros(shop.n_items)), shop.timeline, queries, k=30)
    np.testing.assert_array_equal(lists.of("all"), np.tile(np.arange(30), (len(queries), 1)))
    assert (np.diff(lists.of("new"), axis=1) > 0).all()


def test_a_large_catalogue_is_scored_for_fewer_users_at_a_time(random_timeline, tied_scores, monkeypatch):
    queries = random_timeline.queries(range(30, 31))
    expected = rank(tied_scores, random_timeline, queries)

    def at_a_time(few: int, most: int) -> int:
        """How many users' scores make up a batch where so many users' are few, and most."""
        monkeypatch.setattr(ranking, "FEW_SCORES", few * random_timeline.n_items)
        monkeypatch.setattr("seasonrec.data.batches.MAX_SCORES", most * random_timeline.n_items)
        seen: list[int] = []
        lists = rank(tied_scores, random_timeline, queries, batch_size=8, progress=seen.append)
        np.testing.assert_array_equal(lists.items, expected.items)
        return max(seen)

    monkeypatch.setattr(ranking, "ROWS", 4)
    assert [at_a_time(*few_and_most) for few_and_most in ((9, 99), (6, 99), (2, 99), (2, 3), (0, 0))] == [8, 6, 4, 3, 1]


def test_the_batch_size_and_the_order_of_queries_change_nothing(shop, tied_scores):
    queries = shop.timeline.queries(range(60, 64))
    whole = rank(tied_scores, shop.timeline, queries)
    shuffled = np.random.default_rng(0).permutation(len(queries))
    parts = rank(tied_scores, shop.timeline, queries.take(shuffled), batch_size=7)
    np.testing.assert_array_equal(parts.items, whole.items[shuffled])


@given(
    arrays(np.float32, (3, 40), elements=st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0]), st.floats(-(2.0**100), 2.0**100, width=32))),
)
def test_keys_order_as_score_descending_then_column_ascending(scores):
    order = order_keys(torch.from_numpy(scores)).argsort(descending=True).numpy()
    np.testing.assert_array_equal(order, np.argsort(-scores, axis=1, kind="stable"))


def test_minus_zero_ties_with_zero():
    assert order_keys(torch.tensor([[-0.0, 0.0]])).argsort(descending=True).tolist() == [[0, 1]]


def test_bought_items_never_stand_in_list_new_even_if_fewer_than_k_are_left(random_timeline, tied_scores):
    queries = random_timeline.queries(range(35, 40))
    lists = rank(tied_scores, random_timeline, queries, k=32)
    for row in range(len(queries)):
        own = random_timeline.at_week(int(queries.week[row])).histories(queries.user[[row]]).pair_item
        listed = lists.of("new")[row]
        assert set(listed[listed >= 0]) == set(range(32)) - set(own)
        assert (listed == -1).sum() == len(own)


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_an_error_that_says_where(random_timeline, bad):
    scores = np.zeros(32, np.float32)
    scores[5] = bad
    with pytest.raises(DataError, match=r"Fixed\.scores in week 20: .* user row \d+ and item row 5"):
        rank(Fixed(scores), random_timeline, random_timeline.queries(range(20, 21)))


def test_scores_of_another_shape_are_an_error(random_timeline):
    with pytest.raises(DataError, match=r"shape \(\d+, 31\), wanted one score per user and item, \(\d+, 32\)"):
        rank(Fixed(np.zeros(31)), random_timeline, random_timeline.queries(range(20, 21)))


def test_lists_of_no_items_are_refused(random_timeline, tied_scores):
    with pytest.raises(DataError, match="k is 0"):
        rank(tied_scores, random_timeline, random_timeline.queries(range(20, 21)), k=0)


def test_progress_adds_up_to_the_queries(shop, tied_scores):
    queries, seen = shop.timeline.queries(range(60, 62)), []
    rank(tied_scores, shop.timeline, queries, k=5, batch_size=16, progress=seen.append)
    assert sum(seen) == len(queries)
    assert max(seen) <= 16
