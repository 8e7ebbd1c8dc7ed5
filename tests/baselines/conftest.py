"""A shop in which users repeat and items have seasons, so that it is known what a baseline should find."""

import numpy as np
import pytest

from seasonrec.data.timeline import Timeline
from seasonrec.schema import WEEK

START = 1_483_228_800  # 2017-01-01 UTC
N_WEEKS = 120


def world_events():
    """user, item, time: 60 users, 50 everyday items of which each user has five, and 48 items with a yearly season."""
    rng = np.random.default_rng(11)
    # Some everyday items are many users' favourites: a popular list is worth something.
    liking = 1 / np.arange(1, 51)
    favourites = np.stack([rng.choice(50, 5, replace=False, p=liking / liking.sum()) for _ in range(60)])
    week, user, nth = (x.ravel() for x in np.meshgrid(np.arange(N_WEEKS), np.arange(60), np.arange(7), indexing="ij"))
    in_season = 50 + (week + rng.integers(-2, 3, len(week))) % 52 * 48 // 52
    item = np.where(nth < 5, favourites[user, np.minimum(nth, 4)], in_season)
    bought = rng.random(len(week)) < 0.4
    user, item, week = user[bought], item[bought], week[bought]
    return user, item, START + week * WEEK + rng.integers(0, WEEK, len(week))


def world_of(user, item, time):
    """The last user never buys, the last two items are never sold."""
    return Timeline(user, item, time, n_users=61, n_items=100, week_zero=START)


@pytest.fixture(scope="session")
def world() -> Timeline:
    return world_of(*world_events())


def purchases_of(timeline, time):
    """{(user, item): ages in weeks of the purchases before `time`}, by a loop over the raw events."""
    week = int(timeline.week_of(time))
    weeks = {}
    for u, i, t in zip(timeline.user.tolist(), timeline.item.tolist(), timeline.time.tolist(), strict=True):
        if t < time:
            weeks.setdefault((u, i), set()).add(week - 1 - int(timeline.week_of(t)))
    return weeks


def popularity_of(timeline, time):
    """Purchases of the last four weeks divided by the largest number, by loops."""
    counts = np.zeros(timeline.n_items)
    for (_, item), ages in purchases_of(timeline, time).items():
        counts[item] += sum(age < 4 for age in ages)
    return counts / max(counts.max(), 1)


def decayed_of(timeline, time, decay):
    """decay ** age summed over each user's purchases of each item, by loops, [n_users, n_items]."""
    total = np.zeros((timeline.n_users, timeline.n_items))
    for (user, item), ages in purchases_of(timeline, time).items():
        total[user, item] = sum(decay**age for age in ages)
    return total


class Loops:
    """The definitions that all methods share, in plain Python."""

    purchases = staticmethod(purchases_of)
    popularity = staticmethod(popularity_of)
    decayed = staticmethod(decayed_of)


@pytest.fixture(scope="session")
def loops() -> type[Loops]:
    return Loops
