"""Batches: made of the past only, and exactly what they say."""

from dataclasses import fields
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
import torch

from seasonrec.data.batches import (
    DECAYS,
    N_PAIR_FEATURES,
    N_USER_FEATURES,
    WHOLE_HISTORY,
    Batcher,
    Moments,
    TrainingBatches,
    user_features,
)
from seasonrec.data.candidates import CandidateSampler
from seasonrec.data.promotions import Promotions
from seasonrec.data.timeline import Timeline
from seasonrec.errors import ConfigError, DataError
from seasonrec.schema import DAY, WEEK


def tensors(part, name=""):
    """Every array of a batch, moment or history by its path."""
    if not hasattr(part, "__dataclass_fields__"):
        return {name: torch.as_tensor(part)} if isinstance(part, torch.Tensor | np.ndarray | int) else {}
    return {path: value for f in fields(part) for path, value in tensors(getattr(part, f.name), f"{name}.{f.name}").items()}


def differing(a, b):
    """Paths whose arrays are not the same in both batches."""
    a, b = tensors(a), tensors(b)
    assert a.keys() == b.keys()
    return {path for path in a if not torch.equal(a[path], b[path])}


def rebuilt(timeline, user, item, time, rating):
    return Timeline(
        user, item, time, n_users=timeline.n_users, n_items=timeline.n_items, week_zero=timeline.week_zero, rating=rating.astype(np.float32)
    )


def with_another_future(timeline, time, rng, change):
    """The same events before `time`; from then on they are deleted in part, altered, or joined by others."""
    user, item, when, rating = (np.array(x) for x in (timeline.user, timeline.item, timeline.time, timeline.rating))
    later = np.flatnonzero(when >= time)
    if change == "delete":
        kept = np.delete(np.arange(len(when)), rng.choice(later, len(later) // 2, replace=False))
        return rebuilt(timeline, user[kept], item[kept], when[kept], rating[kept])
    if change == "add":
        new = [rng.integers(0, high, 300) for high in (timeline.n_users, timeline.n_items)]
        new += [rng.integers(time, time + 60 * WEEK, 300), rng.integers(1, 6, 300)]
        # Exactly at `time`, items 30 and 31 are sold for the first time, and user 12 buys for the first time.
        new[0][:2], new[1][:2], new[2][:2] = 12, (30, 31), time
        return rebuilt(timeline, *(np.append(old, x) for old, x in zip((user, item, when, rating), new, strict=True)))
    user[later], item[later] = rng.integers(0, timeline.n_users, len(later)), rng.integers(0, timeline.n_items, len(later))
    when[later], rating[later] = time + rng.integers(0, WEEK, len(later)), 6 - rating[later]
    return rebuilt(timeline, user, item, when, rating)


@pytest.mark.parametrize("change", ["delete", "alter", "add"])
@pytest.mark.parametrize("seed", range(4))
def test_no_event_from_the_batch_s_time_on_changes_anything_in_it(small_shop, change, seed):
    rng = np.random.default_rng(seed)
    week = int(rng.integers(10, 105))
    other = small_shop.with_timeline(with_another_future(small_shop.timeline, small_shop.timeline.at_week(week).time, rng, change))
    users = np.append(rng.integers(-1, 13, 9), 12)
    assert len(other.timeline) != len(small_shop.timeline) or change == "alter"
    assert differing(small_shop.batch(week, users), other.batch(week, users)) == set()


def test_an_event_just_before_the_batch_s_time_changes_it(small_shop):
    time = small_shop.timeline.at_week(60).time
    t, new = small_shop.timeline, np.flatnonzero(small_shop.timeline.time < time)[-1]
    kept = np.delete(np.arange(len(t)), new)
    other = small_shop.with_timeline(rebuilt(t, t.user[kept], t.item[kept], t.time[kept], t.rating[kept]))
    users = [int(t.user[new])]
    assert {".moment.demand", ".history.features"} <= differing(small_shop.batch(60, users), other.batch(60, users))


def test_training_batches_are_made_of_the_past_only(small_shop):
    t, cutoff = small_shop.timeline, small_shop.timeline.at_week(90)
    future = with_another_future(t, cutoff.time, np.random.default_rng(0), "alter")
    other = small_shop.with_timeline(future)
    for mine, theirs in zip(training(small_shop), training(other, past=future.at_week(90)), strict=True):
        assert differing(mine, theirs) == set()


@pytest.mark.parametrize("pooled", [True, False])
def test_a_moment_has_the_facts_of_each_item(small_shop, pooled):
    moments = small_shop.batcher.moments if pooled else Moments(small_shop.season)
    now = small_shop.timeline.at_week(39)
    moment = moments(now)
    assert moment.demand.shape == (now.n_items, moments.d_demand)
    assert moment.season.shape == (moments.d_season,)
    share, buyers, age, sold, known = moment.demand[:, -5:].T.numpy()
    first = np.array(
        [min((t for i, t in zip(now.events()[1], now.events()[2], strict=True) if i == item), default=-1) for item in range(32)]
    )
    np.testing.assert_array_equal(sold, first >= 0)
    user, item, time = now.events()[:3]
    weeks = {(u, i, (t - small_shop.timeline.week_zero) // WEEK) for u, i, t in zip(user, item, time, strict=True)}
    pairs = {(u, i) for u, i, _ in weeks}
    n, n_first = (np.bincount([key[1] for key in keys], minlength=32) for keys in (weeks, pairs))
    np.testing.assert_allclose(share, (n - n_first + 1) / (n + 3), rtol=1e-6)  # week 39: all of it in the last 52
    np.testing.assert_allclose(np.expm1(buyers), n_first, rtol=1e-5)
    np.testing.assert_allclose(np.expm1(age)[sold == 1], (now.time - first[first >= 0]) / WEEK, rtol=1e-5)
    np.testing.assert_array_equal(age[sold == 0], 0)
    np.testing.assert_allclose(known, (now.time - now.start) / WEEK / WHOLE_HISTORY, rtol=1e-6)
    assert known[0] == pytest.approx(39 / 78, abs=0.02)
    assert (moments(small_shop.timeline.at_week(100)).demand[:, -1] == 1).all()


def test_a_moment_speaks_of_the_fourth_day_of_its_week(small_shop):
    now = small_shop.timeline.at_week(49)  # 10 to 16 December 2017
    assert small_shop.batcher.moments(now).context.startswith("week 50 of the year, mid December, winter, 12 days before Christmas")


def test_a_moment_that_is_not_told_the_season_knows_all_else(small_shop):
    now, season = small_shop.timeline.at_week(49), small_shop.season
    told, untold = Moments(season)(now), Moments(season, told=False)(now)
    assert torch.equal(untold.demand, told.demand)
    assert told.season.any()
    assert (untold.season.tolist(), untold.context) == ([0.0] * season.width, "")
    assert Moments(season, told=False).season_text(now.time) == told.context  # for people


def planned(shop, **starts):
    """Moments of the shop with a flyer for item 4 and a display of item 7, each for a week from its start."""
    rows = [(starts["flyer"], starts["flyer"] + WEEK, "flyer", 1.0), (starts["display"], starts["display"] + WEEK, "display", 0.5)]
    plan = pl.DataFrame(rows, schema=["start", "end", "kind", "share"], orient="row")
    return Moments(shop.season, plan=Promotions(plan, np.array([4, 7]), shop.timeline.n_items))


def test_a_moment_knows_what_is_promoted_in_its_week_and_was_in_the_week_before(small_shop):
    now = small_shop.timeline.at_week(39)
    moments = planned(small_shop, flyer=now.time, display=now.time - WEEK)
    without = Moments(small_shop.season)
    assert moments.d_demand == without.d_demand + 4
    demand = moments(now).demand.numpy()
    np.testing.assert_array_equal(demand[:, :-4], without(now).demand)
    expected = np.zeros((now.n_items, 4))  # display and flyer, then those of the week before
    expected[4, 1] = 1
    expected[7, 2] = 0.5
    np.testing.assert_array_equal(demand[:, -4:], expected)


def test_what_is_promoted_after_the_week_is_not_known(small_shop):
    now = small_shop.timeline.at_week(39)
    moments = planned(small_shop, flyer=now.time + WEEK, display=now.time + 9 * DAY)
    assert (moments(now).demand[:, -4:] == 0).all()


def test_asked_about_a_later_week_the_plan_is_that_of_that_week(small_shop):
    now = small_shop.timeline.at_week(39)
    moments = planned(small_shop, flyer=now.time + 8 * WEEK, display=now.time)
    about = now.time + 8 * WEEK
    np.testing.assert_array_equal(moments(now, about).demand[:, -4:], moments(small_shop.timeline.at_week(47)).demand[:, -4:])
    assert moments(now, about).demand[4, -3] == 1


def test_a_moment_is_made_once_for_equal_views(small_shop):
    moments, t = small_shop.batcher.moments, small_shop.timeline
    first = moments(t.at_week(50))
    for week in range(60, 70):  # the timeline forgets its view of week 50
        t.at_week(week)
    assert moments(t.at_week(50)) is first
    assert moments(t.at_week(51)) is not first


def test_asking_about_a_later_week_moves_the_season_but_not_what_is_known(small_shop):
    moments, now = small_shop.batcher.moments, small_shop.timeline.at_week(90)
    there, here = moments(now, about=now.time + 8 * WEEK), moments(now)
    later = moments(small_shop.timeline.at_week(98))
    assert (there.time, there.context) == (later.time, later.context)
    torch.testing.assert_close(there.season, later.season)
    torch.testing.assert_close(there.demand[:, :5], here.demand[:, :5])  # recent sales
    torch.testing.assert_close(there.demand[:, 5:8], later.demand[:, 5:8])  # last year's
    np.testing.assert_array_equal(there.item_gap, here.item_gap)


def test_a_time_that_is_over_cannot_be_asked_about(small_shop):
    now = small_shop.timeline.at_week(90)
    with pytest.raises(DataError, match=f"asked about {now.time - 1} as of {now.time}; take the view of the earlier time"):
        small_shop.batcher.moments(now, about=now.time - 1)


def bought(weeks_of_item, user=0):
    """One user's purchases: the week numbers of each item."""
    item = np.array([item for item, weeks in weeks_of_item.items() for _ in weeks])
    week = np.concatenate([*weeks_of_item.values()])
    order = np.argsort(week, kind="stable")
    time = 1_483_228_800 + week[order] * WEEK + 1000
    return Timeline(np.full(len(week), user), item[order], time, n_users=2, n_items=4, week_zero=1_483_228_800)


def test_what_a_user_s_own_purchases_say_by_hand(small_shop):
    # As of week 60, item 0 has ages 51 (the same week last year), 9 and 5; item 2 has age 49.
    batch = Batcher(Moments(small_shop.season)).batch(np.array([0]), bought({0: [8, 50, 54], 2: [10, 10]}).at_week(60))
    h = batch.history
    assert (h.query.tolist(), h.item.tolist(), h.column.tolist()) == ([0, 0], [0, 2], [0, 2])
    assert (h.known.tolist(), h.age.tolist()) == ([True], [5, 49])
    # Four weeks with purchases, two items, one item a week; of four purchases two are repeats.
    user = [np.log(5), np.log(3), np.log(2), 2 / 4]
    np.testing.assert_allclose(h.user, [user], rtol=1e-6)
    fading = np.array([[d**51 + d**9 + d**5 for d in DECAYS], [d**49 for d in DECAYS]])
    np.testing.assert_allclose(h.weight, fading, rtol=1e-5)
    own_gap = (51 - 5) / 2
    item_gap = ((50 - 8) + (54 - 50)) / 2  # of all users in the last year; here there is but one
    rest = [
        # log wait, share of weeks, own gap, all users' gap, overdue by each, last year, once only, and the user's
        [np.log(6), 3 / 4, np.log1p(own_gap), np.log1p(item_gap), np.log(6 / own_gap), np.log(6 / item_gap), 1, 0, *user],
        [np.log(50), 1 / 4, 0, 0, 0, 0, 1 - 2 / 3, 1, *user],
    ]
    np.testing.assert_allclose(h.features, np.concatenate([np.log1p(fading), rest], axis=1), rtol=1e-5, atol=1e-6)
    assert h.features.shape[1] == N_PAIR_FEATURES


@pytest.mark.parametrize("weeks_ahead", [2, 2 + 52])
def test_a_user_s_own_last_year_is_that_of_the_week_asked_about(small_shop, weeks_ahead):
    # Of weeks 62 and 114 what is known of the same weeks a year before is week 10, item 2's; item 0's was two weeks earlier.
    batcher, now = Batcher(Moments(small_shop.season)), bought({0: [8, 50, 54], 2: [10, 10]}).at_week(60)
    there, here = (batcher.batch(np.array([0]), now, about=now.time + ahead * WEEK).history.features for ahead in (weeks_ahead, 0))
    np.testing.assert_allclose(there[:, 10], [1 - 2 / 3, 1], rtol=1e-6)
    others = [column for column in range(there.shape[1]) if column != 10]
    torch.testing.assert_close(there[:, others], here[:, others], rtol=0, atol=0)


def test_without_last_year_its_counters_are_0_and_all_else_is_the_same(small_shop):
    history, users = bought({0: [8, 50, 54], 2: [10, 10]}).at_week(60), np.array([0])
    batch, without = (Batcher(Moments(small_shop.season, last_year=known)).batch(users, history) for known in (True, False))
    for mine, theirs, counters in (
        (batch.history.features, without.history.features, [10]),  # purchases in the same weeks last year
        (batch.moment.demand, without.moment.demand, [5, 6, 7, 8, 10]),  # three windows, lift and the coming rise
    ):
        assert mine[:, counters].any()
        assert not theirs[:, counters].any()
        others = [column for column in range(mine.shape[1]) if column not in counters]
        torch.testing.assert_close(mine[:, others], theirs[:, others], rtol=0, atol=0)


def test_what_is_known_of_a_user_by_hand():
    # Items 0, 1 and 2 in week 3, and item 0 again in weeks 4 and 9: three weeks, three items, five purchases, of which two are repeats.
    users = user_features(bought({0: [3, 4, 9], 1: [3], 2: [3]}).at_week(60).histories(np.array([1, 0, -1])))
    np.testing.assert_allclose(users, [[0] * 4, [np.log(4), np.log(4), np.log(1 + 5 / 3), 2 / 5], [0] * 4], rtol=1e-6)


@pytest.mark.parametrize("week", [1, 37, 104])
def test_what_is_known_of_users_is_that_of_a_loop_over_events(small_shop, week):
    t, time = small_shop.timeline, small_shop.timeline.at_week(week).time
    users = [3, -1, 12, 5, 3, 0, 11]
    found = small_shop.batch(week, users).history
    for user, known, features in zip(users, found.known.tolist(), found.user.numpy(), strict=True):
        past = {(i, int(when - t.week_zero) // DAY) for u, i, when in zip(t.user, t.item, t.time, strict=True) if u == user and when < time}
        n_weeks, n_items = len({day // 7 for _, day in past}), len({item for item, _ in past})
        expected = [0] * N_USER_FEATURES
        if past:
            expected = [*np.log1p([n_weeks, n_items, len(past) / n_weeks]), 1 - n_items / len(past)]
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-7)
        assert known == bool(past)


def test_weeks_before_week_zero_are_weeks_like_others():
    early, late = {0: [-7, -2], 1: [-7]}, {0: [23, 28], 1: [23]}
    users = [user_features(bought(weeks).at_week(now).histories(np.array([0]))) for weeks, now in ((early, 1), (late, 31))]
    np.testing.assert_array_equal(*users)
    np.testing.assert_allclose(users[0], [[np.log(3), np.log(3), np.log(1 + 3 / 2), 1 / 3]], rtol=1e-6)


def test_users_may_be_an_array_that_cannot_be_written(small_shop, recwarn):
    users = np.array([0, 4])
    users.setflags(write=False)
    batch = small_shop.batcher.batch(users, small_shop.timeline.at_week(100))
    assert batch.user.tolist() == [0, 4]
    assert not recwarn.list


def test_users_without_history_have_no_pairs_and_others_keep_theirs(small_shop):
    mixed, alone = small_shop.batch(users=(-1, 4, 12, -1)), small_shop.batch(users=(4,))
    assert set(mixed.history.query.tolist()) == {1}
    assert mixed.history.known.tolist() == [False, True, False, False]
    assert not mixed.history.user[[0, 2, 3]].any()
    torch.testing.assert_close(mixed.history.user[[1]], alone.history.user)
    assert mixed.history.starts.tolist() == [0, 0, len(mixed.history.query), len(mixed.history.query)]
    torch.testing.assert_close(mixed.history.features, alone.history.features)
    assert len(small_shop.batch(users=(-1, 12)).history.query) == 0


def test_candidates_are_the_columns(small_shop):
    drawn = CandidateSampler(10).draw(np.full(32, 0.3), np.array([5, 31]), np.random.default_rng(0))
    batch, whole = small_shop.batch(candidates=drawn), small_shop.batch()
    assert batch.n_candidates == len(drawn.item)
    assert whole.n_candidates == 32
    np.testing.assert_array_equal(batch.of_candidates(whole.moment.demand), whole.moment.demand[drawn.item])
    listed = batch.history.column >= 0
    np.testing.assert_array_equal(drawn.item[batch.history.column[listed]], batch.history.item[listed])
    assert not np.isin(batch.history.item[~listed], drawn.item).any()
    assert 0 < listed.sum() < len(listed)


def test_a_batch_moves_with_all_its_tensors(small_shop):
    moved = tensors(
        small_shop.training_batch(candidates=CandidateSampler(9).draw(np.full(32, 0.3), np.arange(32), rng())).to(torch.device("meta"))
    )
    at = {path: tensor.device.type for path, tensor in moved.items() if path not in (".moment.time", ".moment.item_gap")}
    assert set(at.values()) == {"meta"}
    assert {".user", ".candidate", ".log_inclusion", ".truth_rating", ".moment.demand", ".history.features"} <= at.keys()


def rng():
    return np.random.default_rng(0)


def training(shop, n=None, batch_size=4, seed=0, past=None, weeks=range(70, 90)):
    past = past or shop.timeline.at_week(90)
    return TrainingBatches(past, weeks, shop.batcher, batch_size=batch_size, sampler=CandidateSampler(n), seed=seed)


@pytest.mark.parametrize("batch_size", [1, 4, 7, 100])
def test_each_query_comes_once_an_epoch_in_batches_of_one_week_and_nearly_one_size(small_shop, batch_size):
    batches = training(small_shop, batch_size=batch_size)
    made = list(batches)
    assert len(made) == len(batches)
    queries = small_shop.timeline.queries(range(70, 90))
    expected = sorted(zip(queries.time.tolist(), queries.user.tolist(), strict=True))
    assert sorted((batch.moment.time, user) for batch in made for user in batch.user.tolist()) == expected
    sizes = {time: [len(b.user) for b in made if b.moment.time == time] for time in {b.moment.time for b in made}}
    assert all(max(of_week) <= min(of_week) + 1 and max(of_week) <= batch_size for of_week in sizes.values())


def test_an_epoch_of_fewer_queries_draws_the_same_share_of_each_week_anew(small_shop):
    past, seen = small_shop.timeline.at_week(90), []
    batches = TrainingBatches(past, range(70, 90), small_shop.batcher, batch_size=3, sampler=CandidateSampler(None), seed=0, n_queries=60)
    queries = past.queries(range(70, 90))
    expected = {time: int(np.ceil(n * 60 / len(queries))) for time, n in zip(*np.unique(queries.time, return_counts=True), strict=True)}
    for epoch in range(2):
        batches.epoch = epoch
        made = list(batches)
        assert len(made) == len(batches)
        users = {(batch.moment.time, user) for batch in made for user in batch.user.tolist()}
        assert sum(len(batch.user) for batch in made) == len(users) == sum(expected.values())
        assert {time: sum(when == time for when, _ in users) for time in expected} == expected
        seen.append(users)
    assert seen[0] != seen[1]
    assert seen[0] | seen[1] <= set(zip(queries.time.tolist(), queries.user.tolist(), strict=True))


@pytest.mark.parametrize("n", [None, 12])
def test_seed_and_epoch_alone_set_the_order_and_the_candidates(small_shop, n):
    one, same, next_epoch, other_seed = (training(small_shop, n, seed=seed) for seed in (3, 3, 3, 4))
    next_epoch.epoch = 1
    first = list(one)
    assert all(differing(a, b) == set() for a, b in zip(first, same, strict=True))
    assert all(differing(a, b) == set() for a, b in zip(first, one, strict=True))  # gone through twice
    for others in (list(next_epoch), list(other_seed)):
        assert [b.moment.time for b in others] != [b.moment.time for b in first]
        assert portions(others) != portions(first)


def portions(batches):
    """Which queries came together, whatever the order."""
    return {(batch.moment.time, *sorted(batch.user.tolist())) for batch in batches}


@pytest.mark.parametrize("n", [None, 12])
def test_truth_columns_point_at_what_was_bought_and_ratings_are_its_means(small_shop, n):
    t, batches = small_shop.timeline, list(training(small_shop, n))
    bought = {}
    for user, item, time, rating in zip(t.user.tolist(), t.item.tolist(), t.time.tolist(), t.rating.tolist(), strict=True):
        bought.setdefault((user, int(t.start_of(t.week_of(time)))), {}).setdefault(item, []).append(rating)
    for batch in batches:
        truth = {}
        rows = zip(batch.truth_query.tolist(), batch.truth_items().tolist(), batch.truth_rating.tolist(), strict=True)
        for query, item, rating in rows:
            truth.setdefault(query, {})[item] = rating
        for query, user in enumerate(batch.user.tolist()):
            expected = {item: np.mean(ratings) for item, ratings in bought[user, batch.moment.time].items()}
            assert truth[query] == pytest.approx(expected)
    assert all((batch.candidate is None) == (n is None) for batch in batches)


def test_candidates_follow_the_sales_before_the_batch_s_week(small_shop):
    t, sampler = small_shop.timeline, CandidateSampler(12)
    for batch in training(small_shop, 12):
        inclusion = sampler.inclusion(t.as_of(batch.moment.time).demand(12))
        own = batch.history.item.unique()
        inclusion[own] = 1 - (1 - inclusion[own]) * (1 - sampler.own)
        drawn = torch.isfinite(batch.log_inclusion).numpy()
        np.testing.assert_allclose(batch.log_inclusion.numpy()[drawn], np.log(inclusion)[batch.candidate.numpy()[drawn]], rtol=1e-5)
        assert set(batch.candidate.numpy()[~drawn]) <= set(batch.truth_items().tolist())


def test_without_ratings_there_are_none(small_shop):
    t = small_shop.timeline
    plain = Timeline(t.user, t.item, t.time, n_users=13, n_items=32, week_zero=t.week_zero)
    assert next(iter(training(small_shop, past=plain.at_week(90)))).truth_rating is None


def seasonal(shop, past=None, weight=0.5):
    past = past or shop.timeline.at_week(90)
    return TrainingBatches(past, range(70, 90), shop.batcher, batch_size=9, sampler=CandidateSampler(None), seed=0, in_season=weight)


def test_what_is_bought_in_season_counts_more(small_shop):
    t, cutoff = small_shop.timeline, small_shop.timeline.start_of(90)
    known = t.time < cutoff
    labels = small_shop.batcher.in_season(t.user[known], t.item[known], t.time[known])
    counts = []
    for batch in seasonal(small_shop):
        day = datetime.fromtimestamp(batch.moment.time + 3 * DAY, UTC)
        week = min((day.timetuple().tm_yday - 1) // 7, 51)
        expected = [1.5 if labels.in_season[item, week] else 1 for item in batch.truth_items().tolist()]
        assert batch.truth_weight.tolist() == expected
        counts += expected
    assert 0 < counts.count(1.5) < len(counts) / 2


def test_which_is_in_season_is_not_learnt_from_the_future(small_shop):
    t = small_shop.timeline
    future = t.time >= t.start_of(90)
    moved = Timeline(
        t.user, np.where(future, (t.item + 7) % 30, t.item), t.time, n_users=13, n_items=32, week_zero=t.week_zero, rating=t.rating
    )
    other = seasonal(small_shop.with_timeline(moved), moved.at_week(90))
    for one, same in zip(seasonal(small_shop), other, strict=True):
        torch.testing.assert_close(one.truth_weight, same.truth_weight)


def test_where_all_purchases_count_alike_there_are_no_weights(small_shop):
    assert all(batch.truth_weight is None for batch in training(small_shop))


def test_a_batcher_that_does_not_know_the_season_cannot_weigh_by_it(small_shop):
    small_shop.batcher.in_season = None
    with pytest.raises(ConfigError, match=r"sampling\.in_season: this batcher was not told .* Batcher\(in_season=\.\.\.\)"):
        seasonal(small_shop)


def test_weeks_that_are_not_over_are_refused(small_shop):
    with pytest.raises(DataError, match="week 90 is not over as of week 90; learn from earlier weeks"):
        training(small_shop, weeks=range(80, 91))


def test_weeks_without_queries_are_an_error(small_shop):
    with pytest.raises(DataError, match=r"no queries in weeks 0\.\.0: nobody who had bought before .* begin the validation weeks later"):
        training(small_shop, weeks=range(0, 1))
