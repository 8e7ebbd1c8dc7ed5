"""Similar users against loops, and what stays out of reach."""

import numpy as np
import pytest

from seasonrec.baselines.tifu_knn import TifuKnn
from seasonrec.data.similar_users import SimilarUsers
from seasonrec.data.timeline import Timeline
from seasonrec.errors import ConfigError

USERS = np.array([12, 0, -1, 5, 11])  # 12 never bought, -1 is nobody


def decayed(timeline, time, decay):
    """Each user's purchases, one a week and item, fading by the full weeks since, by a loop over events."""
    week = int((time - timeline.week_zero) // (7 * 86_400))
    bought = {
        (u, i, w)
        for u, i, w, t in zip(timeline.user, timeline.item, timeline.week_of(timeline.time), timeline.time, strict=True)
        if t < time
    }
    rows = np.zeros((timeline.n_users, timeline.n_items))
    for user, item, of in bought:
        rows[user, item] += decay ** (week - 1 - of)
    return rows


def plain(own, user, among, k):
    """The mean purchases of the k users with the largest cosine; those who share nothing count as nothing."""
    cosine = {other: own[user] @ own[other] / np.linalg.norm(own[other]) for other in among if other != user and own[user] @ own[other] > 0}
    return sum((own[other] for other in sorted(cosine, key=lambda other: -cosine[other])[:k]), np.zeros(own.shape[1])) / k


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize(("n_users", "among"), [(None, range(12)), (5, (0, 2, 4, 7, 9))])
def test_what_similar_users_bought_is_the_mean_of_the_nearest(random_timeline, k, n_users, among):
    now = random_timeline.at_week(30)
    own = decayed(random_timeline, now.time, 0.9)
    similar = SimilarUsers(k, 0.9, n_users)
    expected = [plain(own, user, among, k) if user >= 0 else np.zeros(32) for user in USERS]
    np.testing.assert_allclose(similar.bought(USERS, now), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(similar.usual(now), own[list(among)].mean(0), rtol=1e-5, atol=1e-7)
    assert np.count_nonzero(expected[1]) > 0


def test_users_are_compared_in_portions(random_timeline, monkeypatch):
    now = random_timeline.at_week(30)
    whole, n = SimilarUsers(3).bought(USERS, now), np.count_nonzero(now.known_users)
    monkeypatch.setattr("seasonrec.data.similar_users.PAIRS", 2 * n)
    similar, sizes = SimilarUsers(3), []
    compare = similar._nearest_of
    monkeypatch.setattr(similar, "_nearest_of", lambda users, *where: sizes.append(len(users)) or compare(users, *where))
    np.testing.assert_array_equal(similar.bought(USERS, now), whole)
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize("n_users", [None, 5])
def test_users_who_come_later_change_nothing(random_timeline, n_users):
    """Not even by their number: a file that goes on for longer holds more of them, before, between and after those of today."""
    t = random_timeline
    moved, new, now = 2 * t.user + 1, np.arange(0, 60, 2), t.at_week(30)
    later = np.full(len(new), now.time + 1)
    grown = Timeline(
        np.concatenate([moved, new]),
        np.concatenate([t.item, new % t.n_items]),
        np.concatenate([t.time, later]),
        n_users=60,
        n_items=t.n_items,
        week_zero=t.week_zero,
    ).at_week(30)
    one, other = SimilarUsers(3, n_users=n_users), SimilarUsers(3, n_users=n_users)
    np.testing.assert_array_equal(other.bought(2 * USERS + 1, grown), one.bought(USERS, now))
    np.testing.assert_array_equal(other.usual(grown), one.usual(now))
    tifu = [TifuKnn(k=100).scores(users, of) for users, of in ((USERS[1:2], now), (2 * USERS[1:2] + 1, grown))]
    np.testing.assert_array_equal(*tifu)


def test_of_equally_near_users_the_first_count():
    """Users 1 to 9 bought what user 0 did and one thing more each: nothing but their rows tells them apart."""
    user = np.repeat(np.arange(10), 2)
    item = np.where(np.arange(20) % 2 == 0, 0, user)
    timeline = Timeline(user, item, np.zeros(20, np.int64), n_users=10, n_items=10, week_zero=0)
    bought = SimilarUsers(3).bought(np.array([0]), timeline.at_week(1))[0]
    np.testing.assert_allclose(bought, [1, 1 / 3, 1 / 3, 1 / 3, 0, 0, 0, 0, 0, 0], rtol=1e-6)


def test_before_anybody_has_bought_there_is_nobody_to_be_like(random_timeline):
    now, similar = random_timeline.at_week(0), SimilarUsers(3)
    assert not similar.bought(USERS, now).any()
    assert not similar.usual(now).any()


def test_only_the_items_asked_for_come_out(random_timeline):
    now, items = random_timeline.at_week(30), np.array([1, 5, 31])
    similar = SimilarUsers(3)
    np.testing.assert_array_equal(similar.bought(USERS, now, items), similar.bought(USERS, now)[:, items])


def test_what_was_found_for_some_queries_changes_nothing_for_others(random_timeline, monkeypatch):
    """Moments, timelines and batches take turns, and each is as if it were the only one."""
    half = np.arange(len(random_timeline)) % 2 == 0
    t = random_timeline
    past = Timeline(t.user[half], t.item[half], t.time[half], n_users=t.n_users + 7, n_items=t.n_items, week_zero=t.week_zero)
    batches = [USERS, USERS[::-1], np.array([5, 5, -1]), np.array([3, 12, 5, 7])]
    asked = [(users, timeline.at_week(week)) for users in batches for week in (30, 20) for timeline in (random_timeline, past)]
    similar, searched = SimilarUsers(3), []
    search = similar._neighbours

    def counted(users, *where):
        searched.append(len(users))
        return search(users, *where)

    monkeypatch.setattr(similar, "_neighbours", counted)
    for users, now in [*asked, *asked]:
        np.testing.assert_array_equal(similar.bought(users, now), SimilarUsers(3).bought(users, now))
    assert sum(searched) == 4 * (5 + 2), "the same query is sought once for each of four moments: five users, then 3 and 7"


def test_what_was_bought_of_a_whole_catalogue_is_summed_once(random_timeline, monkeypatch):
    """And again, by the same neighbours, of some items, and of a catalogue that has grown."""
    t = random_timeline
    grown = Timeline(t.user, t.item, t.time, n_users=t.n_users, n_items=t.n_items + 1, week_zero=t.week_zero)
    similar, summed = SimilarUsers(3), []
    weigh = similar._weights
    monkeypatch.setattr(similar, "_weights", lambda users, *where: summed.append(len(users)) or weigh(users, *where))
    first = similar.bought(USERS, t.at_week(30))
    first[:] = -1  # a caller's own
    for timeline, n_items in ((t, 32), (grown, 33)):
        for items in (None, np.arange(4)):
            expected = SimilarUsers(3).bought(USERS, timeline.at_week(30), items)
            assert expected.shape[1] == (n_items if items is None else 4)
            np.testing.assert_array_equal(similar.bought(USERS, timeline.at_week(30), items), expected)
            assert expected.any()
    assert summed == [5, 5, 5, 5], "whole, some items, whole of the grown one, some of its items"


def test_of_a_large_catalogue_nothing_is_kept_but_the_neighbours(random_timeline, monkeypatch):
    monkeypatch.setattr("seasonrec.data.similar_users.FEW_ROWS", 10**9)
    similar, summed = SimilarUsers(3), []
    weigh = similar._weights
    monkeypatch.setattr(similar, "_weights", lambda users, *where: summed.append(len(users)) or weigh(users, *where))
    once, twice = (similar.bought(USERS, random_timeline.at_week(30)) for _ in range(2))
    np.testing.assert_array_equal(once, twice)
    assert summed == [5, 5]


def test_a_moment_that_is_made_again_remembers_whom_it_was_asked_about(random_timeline, monkeypatch):
    similar, searched = SimilarUsers(3, max_gb=0), []
    search = similar._neighbours
    monkeypatch.setattr(similar, "_neighbours", lambda users, *where: searched.append(len(users)) or search(users, *where))
    for week in (30, 20) * 3:
        similar.bought(USERS, random_timeline.at_week(week))
    assert searched == [5, 5]


def test_users_outside_a_small_sample_have_all_of_it_as_neighbours(random_timeline):
    now = random_timeline.at_week(30)
    own, (among,) = decayed(random_timeline, now.time, 0.97), [(0, 4, 8)]
    bought = SimilarUsers(300, n_users=3).bought(np.array([5, 4]), now)
    sharing = [[other for other in among if other != user and own[user] @ own[other] > 0] for user in (5, 4)]
    assert len(sharing[0]) == 3
    np.testing.assert_allclose(bought, [own[others].sum(0) / n for others, n in zip(sharing, (3, 2), strict=True)], rtol=1e-5)


def test_a_shop_of_one_user_has_no_neighbours(random_timeline):
    assert not SimilarUsers(n_users=1).bought(np.array([0]), random_timeline.at_week(30)).any()


@pytest.mark.parametrize("decay", [0.0, 1e-12])
def test_users_whose_purchases_have_faded_to_nothing_are_nobody_s_neighbours(random_timeline, decay):
    bought = SimilarUsers(4, decay).bought(USERS, random_timeline.at_week(30))
    assert np.isfinite(bought).all()


def test_among_no_users_nobody_has_neighbours_and_nothing_is_usual(random_timeline):
    similar, now = SimilarUsers(n_users=0), random_timeline.at_week(30)
    assert SimilarUsers().bought(USERS, now).any(1).sum() > 1
    assert not similar.bought(USERS, now).any()
    assert not similar.usual(now).any()


@pytest.mark.parametrize("options", [{"k": 0}, {"decay": 1.1}, {"n_users": -1}])
def test_settings_that_cannot_be_are_refused(options):
    with pytest.raises(ConfigError, match="similar users: wanted k of at least 1, n_users of at least 0 and decay in 0 to 1, got"):
        SimilarUsers(**options)
