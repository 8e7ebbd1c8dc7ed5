"""Boosted trees that have the last word: what they see, what they learn from, what they change, and how much of it counts."""

import json
from dataclasses import replace

import lightgbm
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.special import logsumexp

from seasonrec.data.batches import N_PAIR_FEATURES, N_USER_FEATURES
from seasonrec.data.purchase_texts import N_WORDS, PurchaseTexts
from seasonrec.data.timeline import Timeline
from seasonrec.errors import ConfigError, DataError
from seasonrec.evaluation.evaluate import evaluate
from seasonrec.evaluation.ranking import rank
from seasonrec.heads.cf import Factors, Repeat
from seasonrec.heads.content import ProfileText
from seasonrec.heads.seasonal import AsOfDemand
from seasonrec.joint.datamodule import Sampling
from seasonrec.joint.mixer import Weighted
from seasonrec.joint.model import JointModel, Scores
from seasonrec.joint.module import truth_of
from seasonrec.joint.reranker import BoostedTrees, rows_of
from seasonrec.joint.scorer import JointScorer
from seasonrec.losses import cross_entropy
from seasonrec.seasons.in_season import SeasonLabels

HEADS = {"seasonal": AsOfDemand, "cf": Factors, "repeat": Repeat, "content": ProfileText}
WEEK_NOW, USERS = 95, np.array([3, -1, 12, 0])
SAMPLING = Sampling(n_weeks=40, n_queries=None, batch_size=8)
SMALL = {"n_rounds": 10, "n_best": 12, "options": {"min_data_in_leaf": 5, "learning_rate": 0.3, "bagging_fraction": 0.5, "bagging_freq": 1}}


def scorer_of(shop, reranker=None):
    """A model whose heads say something, and nothing that is true."""
    torch.manual_seed(0)
    model = JointModel(shop.texts, shop.sizes, HEADS, Weighted)
    for parameter in model.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return JointScorer(model, shop.batcher, reranker)


def learnt(shop, seed=0, **options):
    """A reranker that has learnt from the weeks before one."""
    reranker = BoostedTrees(**SMALL | options)
    reranker.learn(scorer_of(shop), shop.timeline.at_week(WEEK_NOW), SAMPLING, seed)
    return reranker


def test_trees_that_can_tell_nothing_apart_say_so(small_shop):
    with pytest.raises(DataError, match=r"reranker: nothing to learn from \d+ candidates .*; give reranker=none"):
        learnt(small_shop, options={"min_data_in_leaf": 10**6})


def blind(shop):
    """A model to which the two items that are never sold are always the best, and a shop in which nothing is bought twice."""
    scorer, t = scorer_of(shop), shop.timeline
    whole = scorer.of_batch

    def best_unsold(batch):
        scores = whole(batch)
        scores.total[:] = torch.arange(32.0)
        return scores

    scorer.of_batch = best_unsold
    first = np.unique(t.user.astype(np.int64) * 100 + t.item, return_index=True)[1]
    return scorer, Timeline(t.user[first], t.item[first], t.time[first], n_users=13, n_items=32, week_zero=t.week_zero)


@pytest.fixture
def asked(small_shop):
    """A batch and what the model says of it."""
    batch = small_shop.batch(WEEK_NOW, USERS)
    return batch, scorer_of(small_shop).of_batch(batch)


def test_candidates_are_what_the_user_has_had_and_the_best_of_the_rest(small_shop, asked):
    batch, scores = asked
    rows, now = rows_of(batch, scores, n_best=4), small_shop.timeline.at_week(WEEK_NOW)
    for query, user in enumerate(USERS):
        had = {int(item) for item in now.histories(np.array([user])).pair_item} if user >= 0 else set()
        rest = [item for item in scores.total[query].argsort(descending=True).tolist() if item not in had]
        of_query = rows.query == query
        assert set(rows.item[of_query].tolist()) == had | set(rest[:4])
        assert rows.item[of_query & rows.own].tolist() == sorted(had)
    assert rows.query.tolist() == sorted(rows.query.tolist())


def test_trees_see_what_heads_say_and_what_is_known_of_user_and_pair(asked):
    batch, scores = asked
    rows, h, n_own = rows_of(batch, scores, n_best=4), batch.history, N_PAIR_FEATURES - N_USER_FEATURES
    assert rows.features.shape == (len(rows.item), len(HEADS) + 6 + n_own + N_USER_FEATURES)
    for at in range(0, len(rows.item), 7):
        query, item = int(rows.query[at]), int(rows.item[at])
        total = scores.total[query]
        had = h.item[h.query == query].tolist()
        heads = [float(part.expand_as(scores.total)[query, item]) for part in scores.mixed.values()]
        best_new = max(float(total[i]) for i in range(len(total)) if i not in had)
        against = [float(total[item]), float(total[item] - total.max()), float(total[item]) - best_new]
        similar, usual = float(batch.similar[query, item]), float(batch.usual[item])
        of_others = [np.log1p(20 * similar), np.log((similar + usual + 2e-4) / (2 * (usual + 1e-4)))]
        pair = [n for n in range(len(h.item)) if (int(h.query[n]), int(h.item[n])) == (query, item)]
        own = h.features[pair[0], :n_own].tolist() if pair else [np.nan] * n_own
        wanted = [*heads, *against, float(total[item] - total.logsumexp(0)), *of_others, *own]
        wanted += h.user[query].tolist()
        np.testing.assert_allclose(rows.features[at], wanted, rtol=1e-5, atol=1e-5)
        assert float(rows.score[at]) == pytest.approx(heads[0] + heads[1] + heads[2] + heads[3], abs=1e-5)


@pytest.fixture
def wordy_shop(small_shop, asked):
    """The shop, whose purchases say something from now on."""
    t, rng = small_shop.timeline, np.random.default_rng(6)
    text, vectors = rng.integers(0, 9, len(t)), np.eye(9, dtype=np.float32)
    likeness = sp.csr_matrix(np.eye(9, dtype=np.float32) + 0.1)
    small_shop.batcher._purchases = PurchaseTexts(text, text, vectors, likeness)
    return small_shop


def test_trees_see_what_the_words_of_purchases_say_where_they_are_read(wordy_shop, asked):
    now, told_of = wordy_shop.timeline.at_week(WEEK_NOW), wordy_shop.batcher._purchases.told
    without, rows = rows_of(*asked, n_best=4), rows_of(wordy_shop.batch(WEEK_NOW, USERS), asked[1], n_best=4)
    told = told_of(USERS, now, now.histories(USERS, True), rows.query.numpy(), rows.item.numpy())
    torch.testing.assert_close(rows.features, torch.cat([without.features, torch.from_numpy(told)], 1), equal_nan=True)
    np.testing.assert_array_equal(np.isnan(told[:, 0]), ~rows.own.numpy())
    seen = learnt(wordy_shop)._trees.num_feature()
    wordy_shop.batcher._purchases = None
    assert seen == learnt(wordy_shop)._trees.num_feature() + N_WORDS


def test_a_score_that_all_queries_share_is_read_as_one_of_each(small_shop):
    batch = small_shop.batch(WEEK_NOW, USERS)
    model = JointModel(small_shop.texts, small_shop.sizes, {"seasonal": AsOfDemand}, Weighted)
    shared = JointScorer(model, small_shop.batcher).of_batch(batch)
    assert shared.total.stride(0) == 0
    each = Scores(shared.total.contiguous(), shared.mixed, shared.by_head)
    ours, theirs = rows_of(batch, shared, n_best=4), rows_of(batch, each, n_best=4)
    torch.testing.assert_close(ours.features, theirs.features, equal_nan=True)
    assert (ours.query.tolist(), ours.item.tolist()) == (theirs.query.tolist(), theirs.item.tolist())


def test_of_a_user_who_has_had_everything_nothing_is_new(small_shop):
    t, n = small_shop.timeline, small_shop.timeline.n_items
    user, item = np.append(t.user, np.zeros(n, int)), np.append(t.item, np.arange(n))
    shop = small_shop.with_timeline(
        Timeline(user, item, np.append(t.time, np.full(n, t.time[0])), n_users=13, n_items=n, week_zero=t.week_zero)
    )
    batch = shop.batch(WEEK_NOW, [0])
    rows = rows_of(batch, scorer_of(shop).of_batch(batch), n_best=4)
    assert rows.own.all()
    assert rows.item.tolist() == list(range(n))
    torch.testing.assert_close(rows.features[:, len(HEADS) + 2], rows.score)  # against the best of what is new, which is 0
    assert rows.features.isfinite().all()


def test_before_it_has_learnt_it_changes_nothing(small_shop):
    now = small_shop.timeline.at_week(WEEK_NOW)
    with_trees, without = scorer_of(small_shop, BoostedTrees()), scorer_of(small_shop)
    np.testing.assert_array_equal(with_trees.scores(USERS, now), without.scores(USERS, now))
    assert list(with_trees.explained(USERS, now).mixed) == list(HEADS)


def test_what_it_says_is_one_part_more_and_nothing_where_an_item_is_no_candidate(small_shop, asked):
    batch, before = asked
    after = learnt(small_shop)(batch, before)
    assert list(after.mixed) == [*HEADS, "reranker"]
    torch.testing.assert_close(sum(part.expand_as(after.total) for part in after.mixed.values()), after.total)
    torch.testing.assert_close(after.total - before.total, after.mixed["reranker"], atol=1e-5, rtol=0)
    rows = rows_of(batch, before, SMALL["n_best"])
    changed = after.mixed["reranker"] != 0
    assert changed[rows.query, rows.item].any()
    changed[rows.query, rows.item] = False
    assert not changed.any()


@pytest.mark.parametrize("n_best", [3, 8])
def test_no_candidate_falls_behind_what_the_trees_have_not_seen(small_shop, asked, n_best):
    batch, before = asked
    after, rows = learnt(small_shop, n_best=n_best)(batch, before), rows_of(batch, before, n_best)
    for query in range(len(USERS)):
        new = rows.item[(rows.query == query) & ~rows.own]
        others = np.setdiff1d(np.arange(32), rows.item[rows.query == query])
        assert not len(others) or after.total[query, new].min() >= after.total[query, others].max()
        assert after.mixed["reranker"][query].min() == 0
    assert after.mixed["reranker"].max() > 0


def test_what_the_trees_say_orders_the_candidates(small_shop, asked):
    batch, before = asked
    reranker = learnt(small_shop)
    after, rows = reranker(batch, before), rows_of(batch, before, SMALL["n_best"])
    said = torch.from_numpy(reranker._trees.predict(rows.features.numpy())).float() + rows.score
    for query in range(len(USERS)):
        of_query = rows.query == query
        differences = after.total[query, rows.item[of_query]] - said[of_query]
        torch.testing.assert_close(differences, differences[:1].expand_as(differences), atol=1e-5, rtol=0)


def lists_of(shop, in_season=0.0, **options):
    """What a reranker learns from."""
    past, sampling = shop.timeline.at_week(WEEK_NOW), replace(SAMPLING, in_season=in_season)
    return BoostedTrees(**SMALL | options).lists(scorer_of(shop), past, sampling.weeks(past), None, sampling, 0)


def split(values, size):
    """Rows list by list."""
    return np.split(values, np.cumsum(size)[:-1])


def test_each_list_is_a_query_s_candidates_with_something_to_be_found(small_shop):
    lists = lists_of(small_shop, n_best=1, n_negatives=10_000, new=0)
    np.testing.assert_array_equal(lists.score, lists.features[:, len(HEADS)])
    assert lists.size.sum() == len(lists.features) == len(lists.bought) == len(lists.own)
    assert all(bought.any() for bought in split(lists.bought, lists.size))
    assert (lists.stands_for == 1).all(), "all candidates are there"
    assert (lists.weight == 1).all()
    # The user's own purchases are those with something known of them.
    np.testing.assert_array_equal(lists.own, ~np.isnan(lists.features[:, len(HEADS) + 6]))
    queries = small_shop.timeline.queries(range(55, WEEK_NOW))
    assert 0 < len(queries) - len(lists.size) < 60, "a query is left out where all that was bought is new and not the best"


def test_lists_without_own_items_are_learnt_from_once_more(small_shop):
    alone, both = lists_of(small_shop, new=0), lists_of(small_shop, new=0.3)
    n, n_lists = len(alone.bought), len(alone.size)
    wanted = []
    for rows in split(np.arange(n), alone.size):
        new = [row for row in rows if not alone.own[row]]
        if any(alone.bought[row] for row in new):
            wanted.append(new)
    again = np.concatenate(wanted).astype(int)
    assert 0 < len(wanted) < n_lists
    np.testing.assert_array_equal(both.size, [*alone.size, *map(len, wanted)])
    np.testing.assert_array_equal(both.weight, np.float32([1] * n_lists + [0.3] * len(wanted)))
    for name in ("features", "score", "bought", "counts", "own", "stands_for"):
        values = getattr(alone, name)
        np.testing.assert_array_equal(getattr(both, name), np.concatenate([values, values[again]]))


def test_those_that_are_drawn_of_what_was_not_bought_stand_for_all(small_shop):
    few, every = lists_of(small_shop, n_negatives=3, new=0), lists_of(small_shop, n_negatives=10_000, new=0)
    assert few.bought.sum() == every.bought.sum(), "what was bought is always there"
    assert len(few.size) == len(every.size)
    assert 2.7 < (~few.bought).sum() / len(few.size) < 3.3
    assert (few.stands_for[few.bought] == 1).all()
    assert few.stands_for[~few.bought].sum() == pytest.approx((~every.bought).sum(), rel=0.05)
    of_list = [
        (size, each.max())
        for size, each in zip(
            every.size - np.add.reduceat(every.bought, np.cumsum(every.size) - every.size), split(few.stands_for, few.size), strict=True
        )
    ]
    assert all(most in (1, pytest.approx(size / 3)) for size, most in of_list), "3 of so many stand for a third of them each"


def test_what_is_in_season_counts_more_in_its_list(small_shop):
    alike, more = lists_of(small_shop), lists_of(small_shop, in_season=0.5)
    assert set(alike.counts[alike.bought]) == {1}
    assert set(more.counts[more.bought]) == {1, 1.5}
    assert not more.counts[~more.bought].any()
    np.testing.assert_array_equal(more.bought, alike.bought)


@pytest.mark.parametrize("in_season", [0.0, 0.5])
def test_derivatives_are_those_of_the_cross_entropy(small_shop, in_season):
    lists = lists_of(small_shop, in_season=in_season, n_negatives=3, new=0.3)
    score = torch.tensor(lists.score, dtype=torch.float64, requires_grad=True)
    loss, at = torch.zeros((), dtype=torch.float64), 0
    for size, weight in zip(lists.size, lists.weight, strict=True):
        rows = slice(at, at + size)
        logits = score[rows] + torch.tensor(lists.stands_for[rows]).double().log()
        bought = torch.from_numpy(lists.bought[rows])
        counts = torch.from_numpy(lists.counts[rows])[bought]
        loss = loss + float(weight) / bought.sum().sqrt() * (counts * (logits.logsumexp(0) - score[rows][bought])).sum()
        at += size
    (wanted,) = torch.autograd.grad(loss, score, create_graph=True)
    first, second = lists.gradients(lists.score.astype(np.float64))
    np.testing.assert_allclose(first, wanted.detach(), atol=1e-6)
    for row in range(0, len(score), 211):
        (curvature,) = torch.autograd.grad(wanted[row], score, retain_graph=True)
        weight = np.repeat(lists.weight / np.sqrt(np.add.reduceat(lists.bought, np.cumsum(lists.size) - lists.size)), lists.size)[row]
        assert second[row] == pytest.approx(float(curvature[row]) + lists.counts[row] * weight / 4, abs=1e-6)


def test_the_gradient_is_that_of_the_model_s_own_loss_where_all_candidates_are_there(small_shop, asked):
    # Of one week and the whole catalogue, so that both see the same lists.
    batch, scorer = small_shop.training_batch(WEEK_NOW), scorer_of(small_shop)
    scores = scorer.of_batch(batch)
    lists = BoostedTrees(n_best=32, n_negatives=10_000)._drawn(batch, scores, np.random.default_rng(0))
    assert (lists.size == 32).all()
    total = scores.total.double().requires_grad_()
    truth = truth_of(batch)
    (wanted,) = torch.autograd.grad(cross_entropy(total, truth), total)
    first, _ = lists.gradients(lists.score.astype(np.float64))
    weights = torch.bincount(truth.query).double().sqrt().sum()  # the loss is a mean
    np.testing.assert_allclose(first.reshape(-1, 32) / float(weights), wanted, atol=1e-7)


def test_it_begins_at_the_model_s_scores(small_shop, monkeypatch):
    given, table = [], lightgbm.Dataset
    monkeypatch.setattr(lightgbm, "Dataset", lambda *args, **options: given.append(options) or table(*args, **options))
    learnt(small_shop)
    np.testing.assert_array_equal(given[-1]["init_score"], lists_of(small_shop).score)


def test_demand_is_seen_where_it_is_asked_for(asked):
    batch, scores = asked
    without, having = (rows_of(batch, scores, 4, demand) for demand in (False, True))
    n = without.features.shape[1]
    np.testing.assert_array_equal(having.features[:, :n], without.features)
    np.testing.assert_array_equal(having.features[:, n:], batch.demand[having.item])


def test_it_learns_what_the_model_does_not_know(small_shop):
    # The heads' numbers are drawn by chance; demand, purchases and waits are there to be read.
    t = small_shop.timeline
    queries, labels = t.queries(range(95, 108)), SeasonLabels(np.zeros(32, int), *np.zeros((2, 1, 52), bool))
    score = lambda scorer: np.nanmean(evaluate(rank(scorer, t, queries, k=32), t, labels).select([("all", "ndcg@10")]))
    assert score(scorer_of(small_shop, learnt(small_shop))) > 1.2 * score(scorer_of(small_shop))


def test_of_a_large_catalogue_it_scores_few_queries_at_a_time(small_shop, monkeypatch):
    scorer, sizes = scorer_of(small_shop), []
    score = scorer.of_batch
    monkeypatch.setattr(scorer, "of_batch", lambda batch: sizes.append(len(batch.user)) or score(batch))
    monkeypatch.setattr("seasonrec.data.batches.MAX_SCORES", 3 * small_shop.timeline.n_items)
    BoostedTrees(**SMALL).lists(scorer, small_shop.timeline.at_week(WEEK_NOW), range(60, WEEK_NOW), None, SAMPLING, 0)
    assert max(sizes) == 3 < SAMPLING.batch_size


HELD_OUT = range(WEEK_NOW, WEEK_NOW + 8)


def judged(shop, reranker=None, sampling=SAMPLING):
    """A reranker that has learnt, and whose trust is found on the weeks that follow."""
    reranker = reranker or learnt(shop)
    reranker.find_trust(scorer_of(shop), shop.timeline.at_week(HELD_OUT.stop), HELD_OUT, sampling, 0)
    return reranker


def test_of_what_the_trees_say_that_share_counts_which_they_are_trusted_with(small_shop, asked):
    batch, before = asked
    reranker = learnt(small_shop)
    whole = reranker(batch, before).mixed["reranker"]
    for trust in (0.0, 0.25):
        reranker.trust = trust
        after = reranker(batch, before)
        torch.testing.assert_close(after.mixed["reranker"], trust * whole)
        torch.testing.assert_close(after.total, before.total + trust * whole)


def test_trust_is_the_share_with_the_least_loss_of_what_was_held_out(small_shop):
    reranker = BoostedTrees(**SMALL | {"n_rounds": 40})  # so many learn by heart
    reranker.learn(scorer_of(small_shop), small_shop.timeline.at_week(WEEK_NOW), SAMPLING, 0)
    judged(small_shop, reranker)
    now = small_shop.timeline.at_week(HELD_OUT.stop)
    lists = reranker.lists(scorer_of(small_shop), now, HELD_OUT, reranker._n_judged, SAMPLING, 0)
    told = reranker._trees.predict(lists.features)

    def loss(share):
        """Second opinion: the cross-entropy list by list."""
        total = 0.0
        for at, weight in zip(split(np.arange(len(told)), lists.size), lists.weight, strict=True):
            score = lists.score[at].astype(float) + share * told[at]
            bought = lists.bought[at]
            total += weight / np.sqrt(bought.sum()) * (logsumexp(score, b=lists.stands_for[at]) - score[bought]).sum()
        return total

    losses = [loss(share) for share in np.linspace(0, 1, 101)]
    assert 0 < reranker.trust < 1
    assert reranker.trust == pytest.approx(np.argmin(losses) / 100, abs=0.01)
    assert np.all(np.diff(losses, 2) > 0), "convex: there is no other least one"


@pytest.mark.parametrize(("turned", "trust"), [(-1.0, 0.0), (0.05, 1.0)])
def test_trees_that_say_the_wrong_thing_are_not_trusted_and_those_that_say_too_little_wholly(small_shop, turned, trust):
    reranker = learnt(small_shop)
    told = reranker._told
    reranker._told = lambda features: turned * told(features)
    assert judged(small_shop, reranker).trust == trust


def test_trust_is_that_of_all_users_whichever_were_learnt_from(small_shop):
    assert judged(small_shop, sampling=replace(SAMPLING, users=0.1)).trust == judged(small_shop).trust


def test_where_nothing_bought_is_a_candidate_no_tree_is_trusted(small_shop, caplog):
    reranker, (scorer, once) = learnt(small_shop, n_best=2), blind(small_shop)
    reranker.find_trust(scorer, once.at_week(HELD_OUT.stop), HELD_OUT, SAMPLING, 0)
    assert reranker.trust == 0
    assert "reranker: nothing bought in weeks 95 to 102 is a candidate, so nothing that the trees say counts" in caplog.text


def test_without_a_number_of_queries_all_of_them_find_the_trust(small_shop):
    few, many, every = (judged(small_shop, learnt(small_shop, n_judged=n)).trust for n in (8, 10_000, None))
    assert few != many == every


def test_whose_trust_is_found_learns_nothing_from_it(small_shop, asked):
    batch, before = asked
    plain, reranker = learnt(small_shop)(batch, before), judged(small_shop)
    reranker.trust = 1.0
    assert torch.equal(reranker(batch, before).total, plain.total)


def test_what_happens_after_the_weeks_that_were_held_out_changes_no_trust(small_shop):
    t = small_shop.timeline
    past = np.flatnonzero(t.time < t.start_of(HELD_OUT.stop))
    other = Timeline(t.user[past], t.item[past], t.time[past], n_users=13, n_items=32, week_zero=t.week_zero)
    assert judged(small_shop.with_timeline(other)).trust == judged(small_shop).trust


def test_one_seed_gives_one_reranker(small_shop, tmp_path):
    texts = []
    for seed in (0, 0, 1):
        learnt(small_shop, seed=seed).save(tmp_path / "trees.json")
        texts.append((tmp_path / "trees.json").read_text())
    assert texts[0] == texts[1] != texts[2]


def test_the_future_changes_no_tree(small_shop, tmp_path):
    t = small_shop.timeline
    past = np.flatnonzero(t.time < t.start_of(WEEK_NOW))
    other = Timeline(t.user[past], t.item[past], t.time[past], n_users=13, n_items=32, week_zero=t.week_zero)
    learnt(small_shop).save(tmp_path / "all.json")
    learnt(small_shop.with_timeline(other)).save(tmp_path / "past.json")
    assert (tmp_path / "all.json").read_text() == (tmp_path / "past.json").read_text()


def test_what_is_read_back_says_the_same(small_shop, asked, tmp_path):
    batch, scores = asked
    reranker, again = learnt(small_shop), BoostedTrees(**SMALL)
    reranker.trust = 0.4
    reranker.save(tmp_path / "trees.json")
    again.load(tmp_path / "trees.json")
    assert torch.equal(again(batch, scores).total, reranker(batch, scores).total)


@pytest.mark.parametrize("content", [None, "no JSON at all", "[]", '{"trust": 1.0}', '{"trust": 1.0, "trees": "none"}'])
def test_trees_that_cannot_be_read_are_an_error(tmp_path, content):
    path = tmp_path / "trees.json"
    if content:
        path.write_text(content)
    with pytest.raises(DataError, match=r"trees\.json: cannot be read as the trees of a reranker"):
        BoostedTrees().load(path)


@pytest.mark.parametrize("trust", [None, float("nan"), -0.1, 1.1])
def test_a_trust_that_is_no_share_is_an_error(small_shop, tmp_path, trust):
    learnt(small_shop).save(path := tmp_path / "trees.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"trust": trust}))
    with pytest.raises(DataError, match=r"trees\.json: cannot be read as the trees of a reranker: "):
        BoostedTrees().load(path)


def test_processes_that_learnt_together_do_not_share_its_lists(small_shop, monkeypatch, tmp_path):
    learnt(small_shop).save(tmp_path / "alone.json")
    for module in ("data.batches", "shares"):
        monkeypatch.setattr(f"seasonrec.{module}.n_processes", lambda: 2)
    learnt(small_shop).save(tmp_path / "one_of_two.json")
    assert (tmp_path / "alone.json").read_text() == (tmp_path / "one_of_two.json").read_text()


@pytest.mark.parametrize("wrong", [{"n_best": 0}, {"n_queries": 0}, {"n_negatives": 0}, {"n_rounds": 0}, {"n_judged": 0}, {"new": -0.1}])
def test_numbers_that_mean_nothing_are_an_error(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=rf"reranker\.{name} is "):
        BoostedTrees(**wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learnig_rate": 0.5}, r"reranker\.options\.learnig_rate: not the name of a parameter of LightGBM's"),
        ({"num_iterations": 7}, r"reranker\.options\.num_iterations: .* set here in another way"),
        ({"objective": "regression"}, r"reranker\.options\.objective: .* set here in another way"),
        ({"num_leaves": "many"}, r"reranker\.options: LightGBM does not take them: .*num_leaves"),
        ({"force_col_wise": True}, r"reranker\.options: LightGBM does not take them: .*force_col_wise"),
    ],
)
def test_options_that_lightgbm_would_pass_over_or_refuse_later_are_an_error(options, message):
    with pytest.raises(ConfigError, match=message):
        BoostedTrees(options=options)


def test_nothing_bought_among_the_candidates_is_an_error(small_shop):
    scorer, once = blind(small_shop)
    with pytest.raises(DataError, match=r"nothing that was bought in weeks 55 to 94 is among the candidates"):
        BoostedTrees(n_best=2).learn(scorer, once.at_week(WEEK_NOW), SAMPLING, 0)
