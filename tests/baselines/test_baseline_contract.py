"""What every baseline of the leaderboard must keep, whichever it is."""

import functools
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from seasonrec.data.timeline import Timeline
from seasonrec.evaluation.ranking import rank
from seasonrec.evaluation.scorer import Scorer
from seasonrec.metrics import ndcg
from seasonrec.schema import WEEK

CONF = Path(__file__).parents[2] / "conf"


def configured(choice):
    """A choice of baselines, with what it takes from the evaluation's config."""
    parts = {group: OmegaConf.load(CONF / group / f"{name}.yaml") for group, name in (("eval", "default"), ("baseline", choice))}
    return OmegaConf.create(parts).baseline


DEFAULT = configured("default")
CUTOFF, WEEKS = 108, range(108, 112)
EVERYONE = np.arange(61)


def built(name, n_items=100):
    """A new baseline as configured; the text profile gets random vectors."""
    made = instantiate(DEFAULT[name])
    vectors = np.random.default_rng(5).normal(size=(n_items, 16)).astype(np.float32)
    return made(vectors=vectors) if isinstance(made, functools.partial) else made


def fitted(name, timeline):
    baseline = built(name)
    baseline.fit(timeline.at_week(CUTOFF))
    return baseline


class AtRandom:
    """Scores without any knowledge."""

    def __init__(self):
        self._rng = np.random.default_rng(0)

    def fit(self, past):
        pass

    def scores(self, users, now):
        return self._rng.random((len(users), now.n_items), np.float32)


every_baseline = pytest.mark.parametrize("name", list(DEFAULT))


@every_baseline
def test_scores_are_finite_float32_for_users_with_and_without_history(world, name):
    baseline, now = fitted(name, world), world.at_week(CUTOFF)
    assert isinstance(baseline, Scorer)
    assert not now.known_users[60]
    assert not now.sold[98:].any()
    scores = baseline.scores(EVERYONE, now)
    assert (scores.shape, scores.dtype) == ((61, 100), np.float32)
    assert np.isfinite(scores).all()


@every_baseline
def test_a_user_without_history_gets_what_is_popular(world, name):
    now = world.at_week(CUTOFF)
    scores, of_everyone = fitted(name, world).scores(np.array([60]), now)[0], now.demand(4) > 0
    assert scores[of_everyone].mean() > 2 * scores[~of_everyone].mean()


@every_baseline
def test_a_shop_without_any_past_gets_finite_scores(world, name):
    baseline, now = built(name), world.at_week(0)
    baseline.fit(now)
    assert np.isfinite(baseline.scores(EVERYONE, now)).all()


@every_baseline
def test_two_builds_score_alike(world, name):
    one, other = (fitted(name, world).scores(EVERYONE, world.at_week(CUTOFF)) for _ in range(2))
    np.testing.assert_array_equal(one, other)


@every_baseline
def test_a_users_scores_do_not_depend_on_the_batch(world, name):
    baseline, now = fitted(name, world), world.at_week(CUTOFF)
    whole = baseline.scores(EVERYONE, now)
    for users in (EVERYONE[:1], EVERYONE[1:30], EVERYONE[::-1]):
        # BLAS may add in another order for another shape.
        np.testing.assert_allclose(baseline.scores(users, now), whole[users], rtol=1e-5, atol=1e-6)


@every_baseline
def test_scores_go_with_the_moment_and_belong_to_the_caller(world, name):
    baseline = fitted(name, world)
    first = baseline.scores(EVERYONE, world.at_week(CUTOFF)).copy()
    later = baseline.scores(EVERYONE, world.at_week(CUTOFF + 2))
    assert not np.array_equal(first, later)
    baseline.scores(EVERYONE, world.at_week(CUTOFF))[:] = -1
    np.testing.assert_array_equal(baseline.scores(EVERYONE, world.at_week(CUTOFF)), first)


@every_baseline
@pytest.mark.parametrize("change", ["changed", "added", "removed"])
def test_nothing_that_happens_at_or_after_the_moment_counts(world, name, change):
    week, rng = CUTOFF + 2, np.random.default_rng(1)
    start = int(world.start_of(week))
    past = world.time < start
    user, item, time = world.user.copy(), world.item.copy(), world.time.copy()
    if change == "changed":
        user[~past], item[~past] = rng.integers(61, size=(~past).sum()), rng.integers(100, size=(~past).sum())
    elif change == "added":
        more = np.concatenate([np.full(61, start), start + rng.integers(20 * WEEK, size=500)])
        user, item = np.append(user, rng.integers(61, size=len(more))), np.append(item, rng.integers(100, size=len(more)))
        time = np.append(time, more)
    else:
        user, item, time = user[past], item[past], time[past]
    other = Timeline(user, item, time, n_users=61, n_items=100, week_zero=world.week_zero)
    scores = (fitted(name, t).scores(EVERYONE, t.at_week(week)) for t in (world, other))
    np.testing.assert_array_equal(*scores)


@every_baseline
def test_it_finds_more_than_chance_where_users_repeat_and_items_have_seasons(world, name):
    queries = world.queries(WEEKS)
    n_relevant = np.diff(queries.truth_starts)
    found, chance = (ndcg(rank(s, world, queries).hits("all"), n_relevant, 10).mean() for s in (fitted(name, world), AtRandom()))
    assert found > 2 * chance


def test_quick_is_a_part_of_default():
    quick = configured("quick")
    assert list(quick) == ["popular_4_weeks", "personal_frequency"]
    assert all(quick[name] == DEFAULT[name] for name in quick)


def test_none_is_empty():
    assert configured("none") == {}
