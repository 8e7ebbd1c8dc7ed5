"""The joint model as evaluation and serving see it."""

import numpy as np
import pytest
import torch

from seasonrec.data.timeline import Timeline
from seasonrec.evaluation.ranking import rank
from seasonrec.evaluation.scorer import Scorer
from seasonrec.heads.cf import Factors, Repeat
from seasonrec.heads.content import ProfileText
from seasonrec.heads.seasonal import AsOfDemand, ContextText
from seasonrec.joint.mixer import Gated
from seasonrec.joint.model import JointModel
from seasonrec.joint.module import truth_of
from seasonrec.joint.scorer import JointScorer
from seasonrec.losses import cross_entropy
from seasonrec.schema import WEEK

USERS = np.array([3, -1, 12, 0])


def scorer_of(shop):
    """A model whose every part says something."""
    torch.manual_seed(0)
    heads = {"seasonal": AsOfDemand, "context": ContextText, "cf": Factors, "repeat": Repeat, "content": ProfileText}
    model = JointModel(shop.texts, shop.sizes, heads, Gated)
    for parameter in [*model.heads.parameters(), *model.mixer.parameters()]:
        torch.nn.init.normal_(parameter, std=0.2)
    return JointScorer(model, shop.batcher)


def test_scores_are_the_model_s_totals_in_evaluation_mode(small_shop):
    scorer, now = scorer_of(small_shop), small_shop.timeline.at_week(95)
    scores = scorer.scores(USERS, now)
    assert scores.shape == (4, 32)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    expected = scorer.model.eval()(small_shop.batch(95, USERS)).total
    np.testing.assert_array_equal(scores, expected.detach())


def test_asking_twice_gives_the_same_and_leaves_the_model_as_it_was(small_shop):
    scorer, now = scorer_of(small_shop), small_shop.timeline.at_week(95)
    for training in (True, False):
        scorer.model.train(training)
        np.testing.assert_array_equal(scorer.scores(USERS, now), scorer.scores(USERS, now))
        assert {module.training for module in scorer.model.heads.modules()} == {training}
        assert not scorer.explained(USERS, now).total.requires_grad


def test_a_model_that_fails_is_put_back_too(small_shop):
    scorer = scorer_of(small_shop)
    with pytest.raises(IndexError):
        scorer.scores(np.array([99]), small_shop.timeline.at_week(95))
    assert scorer.model.training


def test_a_user_s_scores_do_not_depend_on_who_else_is_asked_for(small_shop):
    scorer, now = scorer_of(small_shop), small_shop.timeline.at_week(95)
    together = scorer.scores(np.arange(13), now)
    np.testing.assert_allclose(scorer.scores(np.array([8, 2]), now), together[[8, 2]], rtol=1e-4, atol=1e-5)


def test_users_of_whom_nothing_is_known_get_the_same_list_by_season_and_popularity(small_shop):
    scorer = scorer_of(small_shop)
    nobody, another = scorer.explained(np.array([-1, -1]), small_shop.timeline.at_week(95)).total
    assert torch.equal(nobody, another)
    explained = scorer.explained(np.array([-1]), small_shop.timeline.at_week(95))
    assert {name for name, score in explained.mixed.items() if score.any()} == {"seasonal", "context"}


def test_contributions_explain_the_scores(small_shop):
    scorer, now = scorer_of(small_shop), small_shop.timeline.at_week(95)
    explained = scorer.explained(USERS, now)
    contributions = sum(score.double() for score in explained.mixed.values()).numpy()
    np.testing.assert_allclose(contributions, scorer.scores(USERS, now), rtol=1e-4, atol=1e-5)


def test_a_later_week_is_scored_by_its_own_season(small_shop):
    scorer, now = scorer_of(small_shop), small_shop.timeline.at_week(95)
    here, there = scorer.explained(USERS, now), scorer.explained(USERS, now, about=now.time + 20 * WEEK)
    torch.testing.assert_close(here.total, scorer.explained(USERS, now, about=now.time).total)
    assert (here.by_head["context"] != there.by_head["context"]).any()
    torch.testing.assert_close(here.by_head["cf"], there.by_head["cf"])  # tastes are as old as now


def test_the_future_changes_no_score(small_shop):
    t, week = small_shop.timeline, 95
    past = np.flatnonzero(t.time < t.start_of(week))
    other = Timeline(t.user[past], t.item[past], t.time[past], n_users=13, n_items=32, week_zero=t.week_zero)
    shorter = small_shop.with_timeline(other)
    np.testing.assert_array_equal(
        scorer_of(small_shop).scores(USERS, t.at_week(week)), scorer_of(shorter).scores(USERS, other.at_week(week))
    )


def test_evaluation_can_rank_with_it(small_shop):
    scorer, queries = scorer_of(small_shop), small_shop.timeline.queries(range(95, 98))
    assert isinstance(scorer, Scorer)
    scorer.fit(small_shop.timeline.at_week(95))
    lists = rank(scorer, small_shop.timeline, queries, k=5)
    row = len(queries) - 1
    scores = scorer.scores(queries.user[[row]], small_shop.timeline.at_week(int(queries.week[row])))[0]
    np.testing.assert_array_equal(lists.of("all")[row], np.argsort(-scores, kind="stable")[:5])


def test_a_moment_that_was_scored_can_be_trained_on(small_shop):
    scorer = scorer_of(small_shop)
    scorer.scores(USERS, small_shop.timeline.at_week(95))
    batch = small_shop.training_batch(95)
    cross_entropy(scorer.model(batch).total, truth_of(batch)).backward()
    assert scorer.model.heads["seasonal"].score[0].weight.grad.any()
    assert scorer.model.heads["context"].context.weight.grad.any()
