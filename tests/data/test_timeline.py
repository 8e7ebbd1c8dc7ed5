"""The timeline against plain readings of its promises, and against every kind of change to the future."""

import gc
import weakref
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from seasonrec.data.timeline import AsOf, Histories, Purchases, Queries, Timeline
from seasonrec.errors import DataError
from seasonrec.schema import DAY, WEEK

ZERO = 1_500_000_000
N_USERS, N_ITEMS = 4, 5
SIZES = {"n_users": N_USERS, "n_items": N_ITEMS, "week_zero": ZERO}


def timeline_of(events, **options):
    """A timeline of (user, item, seconds after week 0, rating) rows."""
    user, item, time, rating = (np.array([event[n] for event in events], kind) for n, kind in enumerate((int, int, int, np.float32)))
    return Timeline(user, item, ZERO + time, rating=rating, **(SIZES | options))


def small(*events):
    """A timeline of (user, item, seconds after week 0) rows, unrated."""
    user, item, time = np.array(events, int).reshape(-1, 3).T
    return Timeline(user, item, ZERO + time, **SIZES)


def events_from(start, end):
    """Random events at or after `start` and before `end` seconds, dense enough that pairs, weeks and seconds repeat."""
    second = st.one_of(st.integers(start, end - 1), st.sampled_from(range(start, end, 3 * WEEK // 2 + 1)))
    event = st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1), second, st.sampled_from([1.0, 2.0, 5.0]))
    return st.lists(event, max_size=12)


# What each public member of a view says, as arrays. A member that is missing here fails the first test below.
KNOWLEDGE = {
    "week": lambda now: [now.week],
    "start": lambda now: [now.start],
    "events": lambda now: now.events(),
    "purchases": lambda now: vars(now.purchases()).values(),
    "queries": lambda now: vars(now.queries(range(now.week))).values() if now.week > 0 else [],
    "earlier": lambda now: [*now.earlier(now.time - WEEK).events(), now.earlier(now.time - 1).demand(3), now.earlier(now.time).demand(1)],
    "known_users": lambda now: [now.known_users],
    "sold": lambda now: [now.sold],
    "item_age": lambda now: [now.item_age],
    "demand": lambda now: [now.demand(*window) for window in ((1,), (2,), (52,), (3, 1), (0.5,), (2, -2), (-1, -3))],
    "n_bought": lambda now: [now.n_bought],
    "repeats": lambda now: now.repeats,
    "histories": lambda now: [part for daily in (False, True) for part in vars(now.histories(np.arange(now.n_users), daily)).values()],
    "interactions": lambda now: [part for decay in (1.0, 0.5) for part in csr_parts(now.interactions(decay))],
    "decayed": lambda now: csr_parts(now.decayed(np.array([2, -1, 0]), 0.5)),
}


def csr_parts(matrix: sp.csr_matrix):
    return matrix.data, matrix.indices, matrix.indptr


def test_every_public_member_of_a_view_is_tested_for_leaks():
    # `identity` says nothing of events.
    assert set(KNOWLEDGE) | {"identity"} == {name for name in dir(AsOf) if not name.startswith("_")}


def test_views_of_one_timeline_at_one_time_share_an_identity_and_no_others_do():
    one, other = (small((0, 0, 0)) for _ in range(2))
    identities = [view.identity for view in (one.as_of(ZERO), one.as_of(ZERO + 1), other.as_of(ZERO))]
    assert len(set(identities)) == 3
    assert AsOf(one, ZERO).identity == one.as_of(ZERO).identity


@settings(max_examples=150, deadline=None)
@given(st.data(), st.one_of(st.integers(1, 5 * WEEK), st.sampled_from([1, WEEK, 2 * WEEK, 3 * WEEK, 4 * WEEK])))
def test_no_change_at_or_after_a_moment_changes_what_was_known_then(data, moment):
    past = data.draw(events_from(0, moment), "past")
    # Two futures: one event may be altered, added or deleted between them, or all of them.
    futures = [data.draw(events_from(moment, 7 * WEEK), name) for name in ("one future", "another future")]
    # Where in the file the future stands must not matter either.
    alone = timeline_of(past).as_of(ZERO + moment)
    views = [timeline_of(events).as_of(ZERO + moment) for events in (past + futures[0], futures[1] + past)]
    for view in views:
        for name, says in KNOWLEDGE.items():
            for known, wanted in zip(says(view), says(alone), strict=True):
                np.testing.assert_array_equal(known, wanted, err_msg=name)


def test_an_event_of_the_very_second_is_not_known_and_one_of_the_second_before_is():
    timeline = small((0, 0, 100), (1, 1, 101))
    now = timeline.as_of(ZERO + 101)
    assert now.events()[0].tolist() == [0]
    assert now.known_users.tolist() == [True, False, False, False]
    assert now.sold.tolist() == [True, False, False, False, False]
    assert now.demand(1).sum() == 1
    assert now.histories(np.arange(4)).pair_query.tolist() == [0]
    assert timeline.as_of(ZERO + 102).demand(1).tolist() == [1, 1, 0, 0, 0]


# Plain readings, one event at a time.


def plain_rows(timeline):
    return list(zip(timeline.user.tolist(), timeline.item.tolist(), timeline.time.tolist(), strict=True))


def plain_purchases(timeline, period=WEEK):
    """(user, item, time, week, gap) of the first event of each user, item and week, or day, in order of time; the gap is in these."""
    seen, last, found = set(), {}, []
    for user, item, time in plain_rows(timeline):
        now = (time - timeline.week_zero) // period
        if (user, item, now) not in seen:
            found.append((user, item, time, now * period // WEEK, now - last.get((user, item), now)))
            seen.add((user, item, now))
            last[user, item] = now
    return found


def as_rows(purchases: Purchases):
    return list(zip(*(values.tolist() for values in vars(purchases).values()), strict=True))


MOMENTS = [0, 1, 10 * WEEK - 1, 10 * WEEK, 10 * WEEK + 1, 25 * WEEK + 12_345, 40 * WEEK, 90 * WEEK]


def test_purchases_are_the_first_event_of_each_user_item_and_week(random_timeline):
    expected = plain_purchases(random_timeline)
    assert as_rows(random_timeline.by_time) == expected
    assert as_rows(random_timeline.by_pair) == sorted(expected, key=lambda row: row[:3])
    assert len(expected) < len(random_timeline), "some events repeat a purchase of the week"
    assert sum(row[4] > 0 for row in expected) > 20


def test_purchases_by_the_day_are_the_first_event_of_each_user_item_and_day(random_timeline):
    expected = sorted(plain_purchases(random_timeline, DAY), key=lambda row: row[:3])
    assert as_rows(random_timeline.by_day) == expected
    assert len(random_timeline.by_pair.time) < len(expected), "some weeks have several days"
    # User 1, item 4: twice on the first day, then on the second and the ninth.
    by_hand = small((1, 4, 5), (1, 4, 9), (1, 4, DAY), (1, 4, 8 * DAY + 1)).by_day
    assert as_rows(by_hand) == [(1, 4, ZERO + 5, 0, 0), (1, 4, ZERO + DAY, 0, 1), (1, 4, ZERO + 8 * DAY + 1, 1, 7)]


def test_a_day_that_has_begun_is_known_from_its_first_event_on():
    timeline = small((1, 4, 5), (1, 4, 9), (1, 4, DAY), (1, 4, DAY + 7))
    for moment, days in ((5, []), (6, [1]), (DAY, [1]), (DAY + 1, [2])):
        assert timeline.as_of(ZERO + moment).histories(np.array([1]), daily=True).pair_count.tolist() == days


@pytest.mark.parametrize(("n_users", "n_items"), [(3, 4), (1, 900), (900, 1), (60_000, 70_000)])
def test_purchases_of_many_events_are_those_of_one_sort_by_all_keys(n_users, n_items):
    rng, n = np.random.default_rng(3), 20_000
    # Few seconds, so that many events have the same one; the lower half of the rows, so that some are empty.
    user, item, time = (rng.integers(0, end, n) for end in ((n_users + 1) // 2, (n_items + 1) // 2, 400))
    timeline = Timeline(user, item, ZERO + time * 9_001, n_users=n_users, n_items=n_items, week_zero=ZERO)
    week = timeline.week_of(timeline.time)
    order = np.lexsort((np.arange(n), timeline.item, timeline.user))
    pair = np.stack([timeline.user, timeline.item])[:, order]
    again = np.append(False, (pair[:, 1:] == pair[:, :-1]).all(0))
    is_first = ~again | (np.diff(week[order], prepend=0) > 0)
    first = order[is_first]
    wanted = {name: getattr(timeline, name) for name in ("user", "item", "time")} | {"week": week}
    for purchases, rows in ((timeline.by_pair, first), (timeline.by_time, np.sort(first))):
        for name, values in wanted.items():
            np.testing.assert_array_equal(getattr(purchases, name), values[rows])
        assert [values.dtype for values in vars(purchases).values()] == [np.int32, np.int32, np.int64, np.int32, np.int32]
    gap = timeline.by_pair.gap
    np.testing.assert_array_equal(gap, np.diff(week[first], prepend=0) * again[is_first])


def test_the_repeats_are_the_purchases_with_a_gap(random_timeline):
    assert as_rows(random_timeline.repeats) == [row for row in plain_purchases(random_timeline) if row[4]]


def test_each_users_purchases_are_one_slice(random_timeline):
    starts = random_timeline.user_starts
    for user, (lo, hi) in enumerate(pairwise(starts)):
        assert (random_timeline.by_pair.user[lo:hi] == user).all()
    assert starts[-1] == len(random_timeline.by_pair.time)


def test_first_seen_is_the_time_of_the_first_event_or_never(random_timeline):
    rows, never = plain_rows(random_timeline), np.iinfo(np.int64).max
    users, items = random_timeline.first_seen
    assert users.tolist() == [min((t for u, _, t in rows if u == user), default=never) for user in range(13)]
    assert items.tolist() == [min((t for _, i, t in rows if i == item), default=never) for item in range(32)]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("window", [(1, 0), (2, 0), (4, 0), (12, 0), (52, 0), (0.5, 0), (5, 2), (54, 49), (2, 2), (1, 3)])
def test_demand_counts_the_purchases_of_a_window_whose_start_is_in_and_whose_end_is_not(random_timeline, moment, window):
    now = ZERO + moment
    bought = [item for _, item, time, *_ in plain_purchases(random_timeline) if now - window[0] * WEEK <= time < now - window[1] * WEEK]
    demand = random_timeline.as_of(now).demand(*window)
    assert demand.dtype == np.float32
    assert demand.tolist() == [bought.count(item) for item in range(32)]


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_item_was_bought_as_often_as_it_has_purchases_before_the_moment(random_timeline, moment):
    bought = [item for _, item, time, *_ in plain_purchases(random_timeline) if time < ZERO + moment]
    assert random_timeline.as_of(ZERO + moment).n_bought.tolist() == [bought.count(item) for item in range(32)]


@pytest.mark.parametrize("moment", MOMENTS)
def test_repeats_count_the_last_year_and_average_its_gaps(random_timeline, moment):
    now = ZERO + moment
    count, mean = random_timeline.as_of(now).repeats
    window = [row for row in plain_purchases(random_timeline) if now - 52 * WEEK <= row[2] < now]
    for item in range(32):
        gaps = [gap for _, bought, _, _, gap in window if bought == item and gap > 0]
        assert count[item] == len(gaps)
        assert mean[item] == pytest.approx(np.mean(gaps) if gaps else 0)


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_age_of_an_item_counts_from_its_first_event(random_timeline, moment):
    now = random_timeline.as_of(ZERO + moment)
    rows = [row for row in plain_rows(random_timeline) if row[2] < ZERO + moment]
    for item in range(32):
        first = min((t for _, i, t in rows if i == item), default=None)
        assert now.sold[item] == (first is not None)
        assert now.item_age[item] == pytest.approx(0 if first is None else (ZERO + moment - first) / WEEK)
    assert now.known_users.tolist() == [any(u == user for u, _, _ in rows) for user in range(13)]
    assert now.start == min((t for *_, t in rows), default=ZERO + moment)


def plain_history(timeline, now, user, period):
    """{item: ages in weeks of its purchases, oldest first}."""
    history = {}
    for who, item, time, week, _ in plain_purchases(timeline, period):
        if who == user and time < now:
            history.setdefault(item, []).append((max((now - timeline.week_zero) / WEEK - week - 1, 0), week))
    return history


@pytest.mark.parametrize("period", [WEEK, DAY])
@pytest.mark.parametrize("moment", MOMENTS)
def test_histories_hold_count_ages_and_weeks_of_every_pair(random_timeline, moment, period):
    users = np.array([3, 12, 0, 3, 11])  # in any order, twice, and without events
    h = random_timeline.as_of(ZERO + moment).histories(users, daily=period == DAY)
    expected = [(q, plain_history(random_timeline, ZERO + moment, user, period)) for q, user in enumerate(users)]
    pairs = [(q, item, ages) for q, history in expected for item, ages in sorted(history.items())]
    assert list(zip(h.pair_query.tolist(), h.pair_item.tolist(), strict=True)) == [(q, item) for q, item, _ in pairs]
    assert h.pair_count.tolist() == [len(ages) for *_, ages in pairs]
    np.testing.assert_allclose(h.pair_first, [ages[0][0] for *_, ages in pairs], rtol=1e-6)
    np.testing.assert_allclose(h.pair_last, [ages[-1][0] for *_, ages in pairs], rtol=1e-6)
    np.testing.assert_allclose(h.event_age, [age for *_, ages in pairs for age, _ in ages], rtol=1e-6)
    assert h.event_week.tolist() == [week for *_, ages in pairs for _, week in ages]
    assert h.event_pair.tolist() == [row for row, (*_, ages) in enumerate(pairs) for _ in ages]


@pytest.mark.parametrize("moment", [10 * WEEK, 25 * WEEK + 12_345])
def test_a_batch_of_users_is_its_users_one_by_one(random_timeline, moment):
    now = random_timeline.as_of(ZERO + moment)
    batch = now.histories(np.arange(13))
    for user in range(13):
        alone = now.histories(np.array([user]))
        pairs, events = batch.pair_query == user, batch.pair_query[batch.event_pair] == user
        for name in ("pair_item", "pair_count", "pair_first", "pair_last"):
            np.testing.assert_array_equal(getattr(batch, name)[pairs], getattr(alone, name))
        for name in ("event_age", "event_week"):
            np.testing.assert_array_equal(getattr(batch, name)[events], getattr(alone, name))


def test_pair_sums_and_the_matrix_of_a_batch_follow_from_its_events():
    now, users = small((1, 4, 0), (1, 4, 2 * WEEK), (1, 0, WEEK), (3, 2, 0)).as_of(ZERO + 3 * WEEK), np.array([0, 1, 3])
    h = now.histories(users)
    # User 1: item 0 one week ago, item 4 two weeks and no week ago; user 3: item 2 two weeks ago.
    assert h.pair_sum(np.float32(0.5) ** h.event_age).tolist() == [0.5, 0.25 + 1, 0.25]
    assert now.decayed(users, 0.5).toarray().tolist() == [[0, 0, 0, 0, 0], [0.5, 0, 0, 0, 1.25], [0, 0, 0.25, 0, 0]]


def test_users_whose_only_item_is_the_same_are_kept_apart():
    now, users = small((0, 2, 0), (1, 2, WEEK)).as_of(ZERO + 2 * WEEK), np.array([0, 1, 1])
    h = now.histories(users)
    assert (h.pair_query.tolist(), h.pair_item.tolist(), h.pair_count.tolist()) == ([0, 1, 2], [2, 2, 2], [1, 1, 1])
    assert now.decayed(users, 0.5).toarray()[:, 2].tolist() == [0.5, 1, 1]


@pytest.mark.parametrize("decay", [1.0, 0.9])
@pytest.mark.parametrize("moment", [0, 10 * WEEK, 25 * WEEK + 12_345])
def test_interactions_add_up_decayed_purchases(random_timeline, moment, decay):
    matrix = random_timeline.as_of(ZERO + moment).interactions(decay)
    expected = np.zeros((13, 32))
    for user in range(13):
        for item, ages in plain_history(random_timeline, ZERO + moment, user, WEEK).items():
            expected[user, item] = sum(decay**age for age, _ in ages)
    np.testing.assert_allclose(matrix.toarray(), expected, rtol=1e-5)


def plain_queries(timeline, weeks):
    """{(week, user): {item: ratings}} of the weeks' buyers with an event before the week."""
    rows, found = plain_rows(timeline), {}
    ratings = [None] * len(rows) if timeline.rating is None else timeline.rating.tolist()
    for (user, item, time), rating in zip(rows, ratings, strict=True):
        week = (time - timeline.week_zero) // WEEK
        if week in weeks and any(u == user and t < timeline.week_zero + week * WEEK for u, _, t in rows):
            found.setdefault((week, user), {}).setdefault(item, []).append(rating)
    return found


def test_queries_are_the_weeks_buyers_with_a_past_and_truth_is_what_they_bought(random_timeline):
    queries, expected = random_timeline.queries(range(3, 9)), plain_queries(random_timeline, range(3, 9))
    assert list(zip(queries.week.tolist(), queries.user.tolist(), strict=True)) == sorted(expected)
    truth = [queries.truth_item[lo:hi].tolist() for lo, hi in pairwise(queries.truth_starts)]
    assert truth == [sorted(expected[key]) for key in sorted(expected)]
    assert queries.time.tolist() == [ZERO + week * WEEK for week in queries.week]
    assert queries.fourth_day.tolist() == [ZERO + week * WEEK + 3 * DAY for week in queries.week]
    assert queries.truth_query.tolist() == [row for row, items in enumerate(truth) for _ in items]
    assert queries.truth_rating is None
    assert len(queries) == len(expected) > 20


def test_a_view_asks_the_same_queries_of_weeks_that_are_over(random_timeline):
    past, whole = random_timeline.at_week(9).queries(range(3, 9)), random_timeline.queries(range(3, 9))
    for field in fields(Queries):
        np.testing.assert_array_equal(getattr(past, field.name), getattr(whole, field.name))


def test_the_rating_of_truth_is_the_weeks_mean():
    rng = np.random.default_rng(2)
    events = zip(*(rng.integers(n, size=120) for n in (N_USERS, N_ITEMS, 6 * WEEK, 5)), strict=True)
    timeline = timeline_of(list(events))
    queries, expected = timeline.queries(range(2, 5)), plain_queries(timeline, range(2, 5))
    means = [np.mean(expected[key][item]) for key in sorted(expected) for item in sorted(expected[key])]
    np.testing.assert_allclose(queries.truth_rating, means, rtol=1e-6)
    assert len(set(means)) > 5


def test_taken_queries_keep_their_truth_in_the_order_asked_for():
    timeline = timeline_of([(0, 0, 0, 1), (1, 1, 0, 1), (0, 2, WEEK, 4), (0, 3, WEEK, 5), (1, 4, WEEK, 2), (0, 1, 2 * WEEK, 3)])
    queries = timeline.queries(range(1, 3))
    assert list(zip(queries.user.tolist(), queries.week.tolist(), strict=True)) == [(0, 1), (1, 1), (0, 2)]
    taken = replace(queries, truth_weight=np.arange(4.0)).take(np.array([2, 0, 0]))
    assert (taken.user.tolist(), taken.week.tolist()) == ([0, 0, 0], [2, 1, 1])
    assert taken.time.tolist() == [ZERO + 2 * WEEK, ZERO + WEEK, ZERO + WEEK]
    assert taken.truth_starts.tolist() == [0, 1, 3, 5]
    assert taken.truth_item.tolist() == [1, 2, 3, 2, 3]
    assert taken.truth_rating.tolist() == [3, 4, 5, 4, 5]
    assert taken.truth_weight.tolist() == [3, 0, 1, 0, 1]
    assert len(queries.take(np.array([], int))) == 0


def test_a_week_without_buyers_has_no_queries():
    queries = timeline_of([(0, 0, 0, 3)]).queries(range(2, 4))
    assert (len(queries), queries.truth_starts.tolist(), queries.truth_rating.tolist()) == (0, [0], [])


def test_week_boundaries_are_exact():
    timeline = small((0, 0, 0), (0, 0, WEEK - 1), (0, 0, WEEK), (0, 1, 2 * WEEK - 1), (0, 2, 2 * WEEK))
    assert timeline.by_time.week.tolist() == [0, 1, 1, 2], "the second event repeats week 0"
    assert timeline.week_of(ZERO + np.array([-1, 0, WEEK - 1, WEEK])).tolist() == [-1, 0, 0, 1]
    assert timeline.start_of(np.array([-1, 0, 2])).tolist() == [ZERO - WEEK, ZERO, ZERO + 2 * WEEK]
    last_week = timeline.queries(range(1, 2))
    assert last_week.truth_item.tolist() == [0, 1]
    # At the start of week 2 its own first second is not known; the age of the week just gone is 0.
    h = timeline.at_week(2).histories(np.array([0]))
    assert (h.pair_item.tolist(), h.pair_first.tolist(), h.pair_last.tolist()) == ([0, 1], [1, 0], [0, 0])
    assert timeline.as_of(ZERO + 2 * WEEK).week == 2
    assert timeline.as_of(ZERO + 2 * WEEK - 1).week == 1


def test_ages_within_the_running_week_are_nought():
    h = small((0, 0, 3 * WEEK)).as_of(ZERO + 3 * WEEK + 1).histories(np.array([0]))
    assert h.pair_last.tolist() == [0]


def test_events_before_week_0_have_weeks_below_0():
    timeline = small((0, 0, -WEEK), (0, 0, -1), (0, 0, 0))
    assert timeline.by_time.week.tolist() == [-1, 0]
    assert timeline.by_time.gap.tolist() == [0, 1]
    assert timeline.queries(range(0, 1)).truth_item.tolist() == [0]


def test_events_of_one_second_keep_their_given_order():
    item = np.array([3, 1, 4, 1, 2])
    timeline = Timeline(np.zeros(5, int), item, np.array([7, 5, 7, 5, 7]), n_users=1, n_items=5, week_zero=0)
    assert timeline.item.tolist() == [1, 1, 3, 4, 2]
    assert timeline.by_time.item.tolist() == [1, 3, 4, 2]


def test_seconds_that_float32_cannot_tell_apart_stay_in_order():
    time = ZERO + np.array([3, 1, 2, 0])
    assert len(np.unique(time.astype(np.float32))) == 1
    timeline = Timeline(np.arange(4), np.arange(4), time, n_users=4, n_items=4, week_zero=ZERO)
    assert timeline.user.tolist() == [3, 1, 2, 0]
    assert timeline.as_of(ZERO + 2).sold.tolist() == [False, True, False, True]


def test_the_callers_arrays_are_copied_and_the_timelines_cannot_be_written(random_timeline):
    user, item, time = np.array([0, 1]), np.array([0, 1]), np.array([0, 1])
    timeline = Timeline(user, item, time, n_users=2, n_items=2, week_zero=0)
    user[:], time[:] = 1, 5
    assert (timeline.user.tolist(), timeline.time.tolist()) == ([0, 1], [0, 1])
    now = random_timeline.at_week(20)
    for values in (*now.events()[:3], *vars(now.purchases()).values(), *vars(random_timeline.by_pair).values()):
        with pytest.raises(ValueError, match="read-only"):
            values.sort()


def test_users_without_history_and_empty_batches_have_no_pairs(random_timeline):
    now = random_timeline.at_week(20)
    for users in (np.array([12]), np.array([], int)):
        h = now.histories(users)
        assert h.n_queries == len(users)
        assert all(len(getattr(h, field.name)) == 0 for field in fields(Histories) if field.name != "n_queries")
        assert now.decayed(users, 0.5).shape == (len(users), 32)


def test_a_timeline_without_events_answers_everything():
    now = small().as_of(ZERO + WEEK)
    assert now.start == ZERO + WEEK
    assert now.demand(52).tolist() == now.item_age.tolist() == [0] * N_ITEMS
    assert now.interactions().nnz == len(now.queries(range(1))) == len(now.purchases().time) == 0
    assert not now.sold.any()


def test_appending_equals_building_anew(random_timeline):
    t = random_timeline
    parts = [(t.user[rows], t.item[rows], t.time[rows]) for rows in (slice(150), slice(150, 151), slice(None, 150, -1))]
    grown = Timeline(*parts[0], n_users=13, n_items=32, week_zero=ZERO).append(*parts[1]).append(*parts[2])
    assert plain_rows(grown) == plain_rows(t), "the last part came in reverse"
    assert as_rows(grown.by_pair) == as_rows(t.by_pair)


def test_appended_events_of_the_last_known_second_come_after_it():
    grown = small((0, 0, 5)).append(np.array([1]), np.array([3]), np.array([ZERO + 5]))
    assert grown.item.tolist() == [0, 3]
    assert len(grown.append([], [], [])) == 2


def test_appending_leaves_the_timeline_as_it_was():
    timeline = small((0, 0, 5))
    before = timeline.as_of(ZERO + 100)
    grown = timeline.append(np.array([1]), np.array([3]), np.array([ZERO + 6]))
    assert (len(timeline), before.demand(1).sum(), grown.as_of(ZERO + 100).demand(1).sum()) == (1, 1, 2)


def test_appended_ratings_follow_the_known_ones():
    grown = timeline_of([(0, 0, 5, 2)]).append([1, 1], [3, 4], [ZERO + 9, ZERO + 8], rating=[4, 5])
    assert grown.rating.tolist() == [2, 5, 4]


def test_taken_events_keep_order_ratings_and_sizes():
    whole = timeline_of([(0, 0, 5, 2), (1, 3, 6, 4), (1, 2, 7, 5)])
    taken = whole.take(np.array([0, 2]))
    assert (taken.user.tolist(), taken.item.tolist(), taken.rating.tolist()) == ([0, 1], [0, 2], [2, 5])
    assert (taken.n_users, taken.n_items, taken.week_zero) == (whole.n_users, whole.n_items, whole.week_zero)
    assert small((0, 0, 5), (1, 3, 6)).take(np.array([1])).rating is None


def test_appending_to_the_past_is_refused():
    with pytest.raises(DataError, match=rf"time {ZERO + 4}, before the last known {ZERO + 5};.*build a new timeline"):
        small((0, 0, 5)).append(np.array([0, 0]), np.array([0, 0]), ZERO + np.array([9, 4]))


@pytest.mark.parametrize(("rated", "rating", "words"), [(True, None, "it has ratings.*has no"), (False, [3.0], "it has no ratings.*has;")])
def test_ratings_for_a_part_of_the_events_are_refused(rated, rating, words):
    timeline = timeline_of([(0, 0, 5, 2)]) if rated else small((0, 0, 5))
    with pytest.raises(DataError, match=words):
        timeline.append([0], [0], [ZERO + 6], rating=rating)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"user": [0]}, "1 users, 2 items, 2 times and 2 ratings"),
        ({"rating": [1.0]}, "2 users, 2 items, 2 times and 1 ratings; give one of each an event"),
        ({"time": [0.0, 1.0]}, "times are float64, wanted int64 seconds UTC"),
        ({"time": np.array(["2020-01-01", "2020-01-02"], "datetime64[s]")}, r"times are datetime64\[s\]"),
        ({"user": [0, N_USERS]}, "user rows span 0..4, wanted 0..3"),
        ({"item": [-1, 0]}, "item rows span -1..0, wanted 0..4"),
        ({"item": [0.5, 0]}, "item rows are float64, wanted integers; data.dataset.rows_of"),
    ],
)
def test_events_of_the_wrong_form_are_refused(change, words):
    given_ = {"user": [0, 1], "item": [0, 1], "time": [ZERO, ZERO + 1], "rating": None} | change
    with pytest.raises(DataError, match=words):
        Timeline(**given_, **SIZES)


def test_what_lies_ahead_cannot_be_asked_for(random_timeline):
    now = random_timeline.at_week(10)
    assert len(now.queries(range(8, 10))) > 0
    with pytest.raises(DataError, match="queries: week 10 is not over as of week 10; learn from earlier weeks"):
        now.queries(range(8, 11))
    with pytest.raises(DataError, match=rf"as of {now.time}: asked for {now.time + 1}, which lies in its future"):
        now.earlier(now.time + 1)


def test_queries_of_no_week_are_an_error(random_timeline):
    with pytest.raises(DataError, match="no weeks given"):
        random_timeline.at_week(10).queries(range(0))


def test_views_of_one_moment_are_equal_and_made_once(random_timeline):
    now = random_timeline.at_week(10)
    assert random_timeline.as_of(np.int64(now.time)) is now
    assert AsOf(random_timeline, now.time) == now
    assert len({AsOf(random_timeline, now.time), now, now.earlier(now.time)}) == 1
    assert now != random_timeline.at_week(11)
    assert now != small((0, 0, 0)).as_of(now.time)


def test_only_the_last_few_views_and_matrices_stay_in_memory(random_timeline):
    views = [random_timeline.at_week(week) for week in range(10)]
    matrices = [weakref.ref(view.interactions(decay)) for view in views for decay in (1.0, 0.9)]
    gc.collect()
    assert sum(ref() is not None for ref in matrices) <= 4, "although every view is still in use"
    kept = [weakref.ref(view) for view in views]
    del views
    gc.collect()
    assert 1 <= sum(ref() is not None for ref in kept) <= 6
