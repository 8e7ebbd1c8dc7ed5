"""Targets and places on sequences short enough to read."""

import numpy as np
import pytest

from seasonrec.data.timeline import Timeline
from seasonrec.errors import DataError
from seasonrec.evaluation.leave_one_out import leave_one_out, rank_leave_one_out, rank_targets, targets, without_last


@pytest.fixture
def timeline():
    """User 0 took 3 1 2 1, user 1 took 4 0, user 2 took 2 only; all of user 0's last events share a second."""
    return Timeline(
        np.array([1, 0, 2, 0, 0, 1, 0]),
        np.array([4, 3, 2, 1, 2, 0, 1]),
        np.array([0, 0, 0, 1, 1, 1, 1]),
        n_users=3,
        n_items=5,
        week_zero=0,
    )


def test_the_last_item_tests_and_the_one_before_validates(timeline):
    test, validation = targets(timeline, "test"), targets(timeline, "validation")
    assert (test.user.tolist(), test.item.tolist(), test.n_before.tolist()) == ([0, 1], [1, 0], [3, 1])
    assert (validation.user.tolist(), validation.item.tolist(), validation.n_before.tolist()) == ([0], [2], [2])


def test_the_test_input_includes_the_validation_item(timeline):
    test, validation = targets(timeline, "test"), targets(timeline, "validation")
    taken = timeline.item[timeline.user == 0]
    assert taken[test.n_before[0] - 1] == validation.item[0]


def test_another_part_is_an_error(timeline):
    with pytest.raises(DataError, match="targets of 'train'"):
        targets(timeline, "train")


def test_places_are_those_of_a_stable_sort():
    rng = np.random.default_rng(0)
    scores, item = rng.integers(0, 4, size=(50, 30)).astype(np.float32), rng.integers(0, 30, 50)
    order = np.argsort(-scores, axis=1, kind="stable")
    np.testing.assert_array_equal(rank_targets(scores, item), np.argmax(order == item[:, None], axis=1))


def test_seen_items_are_no_candidates_but_the_target_is():
    scores = np.array([[5.0, 4, 3, 2], [5, 4, 3, 2]])
    seen = np.array([[True, False, False, False], [True, True, False, False]])
    assert rank_targets(scores, np.array([2, 1]), seen).tolist() == [1, 0]


def test_a_nan_score_is_an_error():
    with pytest.raises(DataError, match="score nan of item row 1 in batch row 0"):
        rank_targets(np.array([[1.0, np.nan]]), np.array([0]))


def test_metrics_of_one_relevant_item_follow_from_its_place(timeline):
    evaluation = leave_one_out(targets(timeline, "test"), np.array([2, 49]))
    metrics = ["ndcg@10", "recall@10", "recall@50", "mrr", "hit_rate@10"]
    values = evaluation.select([("leave_one_out", metric) for metric in metrics])
    np.testing.assert_allclose(values, [[1 / np.log2(4), 1, 1, 1 / 3, 1], [0, 0, 1, 1 / 50, 0]])
    table = evaluation.table("method", "test")
    assert table.filter(metric="recall@50")["value"][0] == 1
    assert table["slice"].unique().to_list() == ["leave_one_out"]


def test_a_place_beyond_the_list_is_a_miss(timeline):
    evaluation = leave_one_out(targets(timeline, "test"), np.array([100, 7_000]))
    assert (evaluation.values == 0).all()


class LastBought:
    """Scores 2 for the item that a user bought last, 1 for what anyone bought, and remembers what it was fitted on."""

    def fit(self, past):
        self.fitted = past.events()

    def scores(self, users, now):
        user, item, _, _ = now.events()
        last = np.full(now.n_users, -1)
        last[user] = item
        return (np.bincount(item, minlength=now.n_items) > 0) + (np.arange(now.n_items) == last[users][:, None]).astype(np.float32)


def test_the_last_events_of_each_user_are_left_out_and_the_order_of_the_others_stays(timeline):
    kept = without_last(timeline, 1)
    assert list(zip(kept.user.tolist(), kept.item.tolist(), strict=True)) == [(1, 4), (0, 3), (0, 1), (0, 2)]
    assert len(without_last(timeline, 4)) == 0


def test_a_method_learns_from_all_but_two_items_a_user_and_sees_all_before_the_target(timeline):
    scorer = LastBought()
    evaluation = rank_leave_one_out(scorer, timeline, "test")
    user, item, _, _ = scorer.fitted
    assert list(zip(user.tolist(), item.tolist(), strict=True)) == [(0, 3), (0, 1)]
    # User 0 took 3 1 2 before the target 1: item 2 scores 2, then items 1, 3 and user 1's 4 tie at 1: the target stands second.
    # User 1 took 4 before the target 0, which nobody else took: behind 4, 1, 2 and 3.
    np.testing.assert_allclose(evaluation.select([("leave_one_out", "mrr")])[:, 0], [1 / 2, 1 / 5])


def test_what_was_taken_before_the_target_is_no_candidate_if_asked_for(timeline):
    evaluation = rank_leave_one_out(LastBought(), timeline, "test", rank_seen=False)
    # User 0 took 3 1 2 before the target 1, which stays: it ties with user 1's 4. User 1 took 4 before the target 0: behind 1, 2 and 3.
    np.testing.assert_allclose(evaluation.select([("leave_one_out", "mrr")])[:, 0], [1, 1 / 4])


def test_batches_of_users_change_nothing(shop, tied_scores):
    whole = rank_leave_one_out(tied_scores, shop.timeline, "validation")
    np.testing.assert_array_equal(rank_leave_one_out(tied_scores, shop.timeline, "validation", batch_size=7).values, whole.values)


def test_sequences_of_one_item_have_no_target():
    one = Timeline(np.array([0]), np.array([0]), np.array([0]), n_users=1, n_items=1, week_zero=0)
    with pytest.raises(DataError, match="no user has enough events"):
        rank_leave_one_out(LastBought(), one, "test")
