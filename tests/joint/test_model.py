"""The joint model: any heads, one mix, and a step of training."""

import textwrap
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from seasonrec.data.candidates import CandidateSampler
from seasonrec.errors import ConfigError
from seasonrec.heads.cf import MANY, Factors, Repeat, lift
from seasonrec.heads.content import ProfileText
from seasonrec.heads.head import Sum
from seasonrec.heads.seasonal import AsOfDemand, ContextText, HarmonicText
from seasonrec.joint.mixer import LIMIT, Gated, Paired, Weighted
from seasonrec.joint.model import JointModel
from seasonrec.joint.module import truth_of
from seasonrec.losses import CrossEntropy, JointLoss

CONF = Path(__file__).parents[2] / "conf"
HEADS = {
    "seasonal": partial(Sum, parts={"demand": AsOfDemand, "harmonic": HarmonicText, "context": ContextText}),
    "cf": partial(Sum, parts={"repeat": Repeat, "factors": Factors}),
    "content": ProfileText,
}
SUBSETS = [subset for n in (1, 2, 3) for subset in combinations(HEADS, n)]


def model_of(shop, heads=tuple(HEADS), mixer=Gated):
    torch.manual_seed(0)
    return JointModel(shop.texts, shop.sizes, {name: HEADS[name] for name in heads}, mixer)


def loss_of(**weights):
    return JointLoss(weights, dict.fromkeys(HEADS, CrossEntropy(0.3)))


def sampled(shop, week=100):
    truth = shop.timeline.queries(range(week, week + 1)).truth_item
    return shop.training_batch(week, CandidateSampler(12).draw(np.full(32, 0.4), truth, np.random.default_rng(0)))


def step(model, loss, batch, detach_heads=False):
    """The terms of a batch, with gradients left in the model."""
    scores = model(batch, detach_heads=detach_heads)
    terms = loss(scores.total, scores.by_head, truth_of(batch))
    terms["total"].backward()
    return terms


def learnt(model):
    for parameter in [*model.heads.parameters(), *model.mixer.parameters()]:
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def touched(model):
    """Parts of the model that got gradients, e.g. "heads.cf", "mixer"."""
    names = [name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()]
    return {".".join(name.split(".")[: 1 if name.startswith("mixer") else 2]) for name in names}


@pytest.mark.parametrize("mixer", [Weighted, Gated, Paired])
@pytest.mark.parametrize("heads", SUBSETS, ids="+".join)
def test_any_subset_of_heads_scores_and_learns(small_shop, heads, mixer):
    model, batch = model_of(small_shop, heads, mixer), sampled(small_shop)
    scores = model(batch)
    assert scores.total.shape == (len(batch.user), batch.n_candidates)
    assert list(scores.mixed) == list(scores.by_head) == list(heads)
    loss, optimizer = loss_of(seasonal=1, cf=0.2, content=0.2), torch.optim.AdamW(model.parameters(), 0.01)
    history = []
    for _ in range(8):
        optimizer.zero_grad()
        history.append(step(model, loss, batch)["total"].item())
        optimizer.step()
    assert history[-1] < history[0]
    assert touched(model) == {"mixer", *(f"heads.{name}" for name in heads)}


@pytest.mark.parametrize("mixer", [Weighted, Gated, Paired])
def test_contributions_add_up_to_the_total_exactly(small_shop, mixer):
    model = learnt(model_of(small_shop, mixer=mixer))
    scores = model(small_shop.batch())
    seasonal, cf, content = (scores.mixed[name].expand(5, -1) for name in HEADS)
    assert torch.equal(scores.total, seasonal + cf + content)


def test_gates_of_pairs_begin_at_those_without_them(small_shop):
    model, batch = model_of(small_shop, mixer=Paired), small_shop.batch()
    scores = model(batch)
    for name, score in Gated.forward(model.mixer, scores.by_head, model.eval().seen(batch)).items():
        assert torch.equal(scores.mixed[name], score)


def test_a_pairs_gate_is_that_of_a_network_over_its_facts_alone(small_shop):
    model, batch = learnt(model_of(small_shop, mixer=Paired)), model_of(small_shop).seen(small_shop.batch())
    mixer, by_head = model.mixer, {name: torch.randn(5, 32) for name in HEADS}
    mixed, alike = mixer(by_head, batch), Gated.forward(mixer, by_head, batch)
    owned = set(zip(batch.history.query.tolist(), batch.history.column.tolist(), strict=True))
    assert owned, "some pairs are owned"
    for query in range(5):
        for column in range(32):
            similar = batch.similar[query, column]
            said = [by_head[name][query, column] / 4 for name in HEADS]
            facts = torch.stack(
                [similar.new_tensor(float((query, column) in owned)), (MANY * similar).log1p(), lift(similar, batch.usual[column]), *said]
            )
            hidden = mixer.of_query(mixer.query_facts(batch)[query]) + mixer.of_item(batch.demand[column]) + mixer.of_pair(facts)
            gate = mixer.last(hidden.tanh()).clamp(-LIMIT, LIMIT).exp()
            for n, name in enumerate(HEADS):
                torch.testing.assert_close(mixed[name][query, column], alike[name][query, column] * gate[n], rtol=1e-4, atol=1e-5)


def test_where_nothing_learns_pairs_are_judged_in_portions(small_shop, monkeypatch):
    model, batch = learnt(model_of(small_shop, mixer=Paired)), small_shop.batch()
    model(batch)  # sees the range of the inputs
    whole = model.eval()(batch).total
    monkeypatch.setattr("seasonrec.joint.mixer.PAIRS", 70)  # two of five queries with 32 candidates each
    with torch.no_grad():
        torch.testing.assert_close(model(batch).total, whole)


def test_a_total_of_heads_alike_for_all_queries_has_a_row_for_each(small_shop):
    total = model_of(small_shop, ["seasonal"], Weighted)(small_shop.batch()).total
    assert total.shape == (5, 32)
    assert torch.equal(total[0], total[4])


def test_a_total_of_heads_alike_for_all_items_has_a_column_for_each(small_shop):
    model = JointModel(small_shop.texts, small_shop.sizes, {"seasonal": partial(Turned, shape=(5, 1))}, Weighted)
    assert model(small_shop.batch()).total.shape == (5, 32)


def test_a_model_without_heads_is_refused(small_shop):
    with pytest.raises(ConfigError, match=r"the model has no heads; choose at least one, e\.g\. head/seasonal=default"):
        JointModel(small_shop.texts, small_shop.sizes, {}, Gated)


def test_what_training_has_not_seen_counts_as_the_nearest_that_it_has(small_shop):
    """In the shop's first year last year's counters are 0, and at week 50 they begin to move."""
    model, scored = learnt(model_of(small_shop, ["seasonal", "cf"])), small_shop.batch(58)
    before = model.eval()(scored).total
    model.train()
    seen = [small_shop.training_batch(week) for week in range(30, 40)]
    for batch in seen:
        model(batch)
    assert not torch.equal(model.eval()(scored).total, before)
    parts = {
        "season": (torch.stack([b.moment.season for b in seen]), scored.moment.season),
        "demand": (torch.cat([b.moment.demand for b in seen]), scored.moment.demand),
        "pair": (torch.cat([b.history.features for b in seen]), scored.history.features),
        "user": (torch.cat([b.history.user for b in seen]), scored.history.user),
    }
    nearest = {name: value.clamp(seen.min(0).values, seen.max(0).values) for name, (seen, value) in parts.items()}
    assert all((nearest[name] != value).any() for name, (_, value) in parts.items())
    moment = replace(scored.moment, season=nearest["season"], demand=nearest["demand"])
    within = replace(scored, moment=moment, history=replace(scored.history, features=nearest["pair"], user=nearest["user"]))
    assert torch.equal(model(scored).total, model(within).total)
    for name, (values, _) in parts.items():  # scoring has moved nothing
        assert torch.equal(getattr(model.seen, name).highest, values.max(0).values)


def test_detached_heads_get_nothing_from_the_mixed_score(small_shop):
    model, batch = model_of(small_shop), sampled(small_shop)
    whole, detached = model(batch).total, model(batch, detach_heads=True).total
    detached.square().sum().backward()
    assert touched(model) == {"mixer"}
    assert detached.shape == whole.shape


def test_with_alpha_0_the_list_loss_trains_only_the_mixer(small_shop):
    loss = loss_of(seasonal=0, cf=0.5, content=0)
    model, batch = model_of(small_shop, loss.active(HEADS)).eval(), sampled(small_shop)
    terms = step(model, loss, batch, detach_heads=True)
    assert list(model.heads) == ["cf"]
    together = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    torch.testing.assert_close(terms["total"], terms["seasonal"] + 0.5 * terms["cf"])
    # The head's gradient is that of its own loss, the mixer's that of the list's.
    scores = model(batch, detach_heads=True)
    heads, mixer = dict(model.heads.named_parameters()), dict(model.mixer.named_parameters())
    own = torch.autograd.grad(0.5 * CrossEntropy(0.3)(scores.by_head["cf"], truth_of(batch)), heads.values(), allow_unused=True)
    list_loss = torch.autograd.grad(CrossEntropy(0.3)(scores.total, truth_of(batch)), mixer.values(), allow_unused=True)
    for prefix, names, gradients in (("heads", heads, own), ("mixer", mixer, list_loss)):
        for name, gradient in zip(names, gradients, strict=True):
            torch.testing.assert_close(together[f"{prefix}.{name}"], gradient)


def test_truth_says_what_the_user_had_bought_before(small_shop):
    batch = sampled(small_shop)
    truth = truth_of(batch)
    own = {(q, i) for q, i in zip(batch.history.query.tolist(), batch.history.item.tolist(), strict=True)}
    items = batch.candidate[truth.column]
    assert truth.is_new.tolist() == [(q, i) not in own for q, i in zip(truth.query.tolist(), items.tolist(), strict=True)]
    assert {(q, int(batch.candidate[c])) for q, c in zip(truth.own_query.tolist(), truth.own_column.tolist(), strict=True)} == {
        pair for pair in own if pair[1] in batch.candidate.tolist()
    }
    assert truth.is_new.any()
    assert not truth.is_new.all()


def test_a_learning_encoder_gets_gradients_and_a_frozen_one_none(small_shop, learning_shop):
    for shop, expected in ((small_shop, set()), (learning_shop, {"texts.encoder"})):
        model = model_of(shop)
        for _ in range(2):  # text heads that start at 0 send nothing back at first
            model.zero_grad()
            step(model, loss_of(seasonal=1, cf=1, content=1), shop.training_batch())
            with torch.no_grad():
                for p in model.heads.parameters():
                    p -= 0.1 * p.grad
        assert touched(model) == {"mixer", "heads.seasonal", "heads.cf", "heads.content"} | expected


@pytest.mark.parametrize("mixer", [Weighted, Gated, Paired])
def test_a_step_in_bfloat16_works_as_with_trainer_gpu(learning_shop, mixer):
    model, batch, loss = model_of(learning_shop, mixer=mixer), sampled(learning_shop), loss_of(seasonal=1, cf=1, content=1)
    exact = step(model.eval(), loss, batch)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = step(model, loss, batch)
        scores = model.train()(batch)
    assert {score.dtype for score in (scores.total, *scores.by_head.values())} == {torch.float32}
    for name, term in exact.items():
        assert rounded[name].item() == pytest.approx(term.item(), rel=0.05)
    assert touched(model) >= {"mixer", "heads.seasonal", "heads.cf", "heads.content"}


OWN_MODULE = '''
import torch
from torch import nn


class Popular(nn.Module):
    """A head of one's own: one learnt number an item."""

    def __init__(self, sizes, start):
        super().__init__()
        self.level = nn.Parameter(torch.full((sizes.n_items,), float(start)))

    def forward(self, batch, texts):
        return batch.of_candidates(self.level)[None]


class Halves(nn.Module):
    """A mixer of one's own."""

    def __init__(self, sizes, heads):
        super().__init__()
        self.share = nn.Parameter(torch.full((len(heads),), 0.5))

    def forward(self, by_head, batch):
        return {name: score * share for (name, score), share in zip(by_head.items(), self.share)}


def hinge(scores, truth, margin):
    """A loss of one's own."""
    return (margin - scores[truth.query, truth.column] + scores.mean(1)[truth.query]).clamp(min=0).mean()
'''


def test_a_head_a_mixer_and_a_loss_of_one_s_own_are_class_paths(small_shop, tmp_path, monkeypatch):
    (tmp_path / "my_shop_model.py").write_text(OWN_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    own = OmegaConf.create(
        textwrap.dedent("""
        heads:
          seasonal: {_target_: my_shop_model.Popular, _partial_: true, start: 0.25}
        mixer: {_target_: my_shop_model.Halves, _partial_: true}
        loss:
          terms:
            seasonal: {_target_: my_shop_model.hinge, _partial_: true, margin: 1.0}
        """)
    )
    shipped = OmegaConf.create(
        {"heads": {"cf": OmegaConf.load(CONF / "head/cf/default.yaml")}, "loss": OmegaConf.load(CONF / "loss/default.yaml")}
    )
    cfg = OmegaConf.merge(shipped, own)
    # A term of another kind replaces the shipped one's arguments.
    cfg.loss.terms.seasonal = own.loss.terms.seasonal
    heads, loss = instantiate(cfg.heads), instantiate(cfg.loss, _convert_="all")
    model = JointModel(small_shop.texts, small_shop.sizes, {task: heads[task] for task in loss.active(heads)}, instantiate(cfg.mixer))
    batch, optimizer = sampled(small_shop), torch.optim.AdamW(model.parameters(), 0.01)
    assert model(small_shop.batch()).mixed["seasonal"].eq(0.25 * 0.5).all()
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        losses.append(step(model, loss, batch)["total"].item())
        optimizer.step()
    assert losses[-1] < losses[0]
    assert touched(model) == {"mixer", "heads.seasonal", "heads.cf"}


class Turned(torch.nn.Module):
    """A head whose author took candidates for queries."""

    def __init__(self, sizes, shape):
        super().__init__()
        self.shape = shape

    def forward(self, batch, texts):
        return torch.zeros(self.shape)


@pytest.mark.parametrize("shape", [(32, 5), (5, 31), (2, 32), (32,), (1, 5, 32)])
def test_scores_of_another_shape_are_an_error_that_names_the_head_or_its_part(small_shop, shape):
    model = JointModel(small_shop.texts, small_shop.sizes, {"seasonal": partial(Turned, shape=shape)}, Weighted)
    with pytest.raises(ConfigError, match=r"head seasonal \(Turned\) gave scores of shape .*, wanted \[5 or 1, 32 or 1\], a row for each"):
        model(small_shop.batch())
    of_parts = partial(Sum, parts={"turned": partial(Turned, shape=shape)})
    model = JointModel(small_shop.texts, small_shop.sizes, {"seasonal": of_parts}, Weighted)
    with pytest.raises(ConfigError, match=r"part turned \(Turned\) gave scores of shape"):
        model(small_shop.batch())


class Mixing(torch.nn.Module):
    """A mixer that gives what it is told to."""

    def __init__(self, sizes, heads, of):
        super().__init__()
        self.of = of

    def forward(self, by_head, batch):
        return self.of(by_head)


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (lambda by_head: sum(by_head.values()), r"mixer \(Mixing\) gave a Tensor, wanted what each head contributes, by its name"),
        (lambda by_head: {"bias": by_head["seasonal"]}, r"mixer \(Mixing\) says nothing of seasonal, but gave bias; wanted every head"),
        (lambda by_head: {"seasonal": by_head["seasonal"][0]}, r"mixer, for seasonal, \(Mixing\) gave scores of shape \[32\], wanted"),
        (lambda by_head: {"seasonal": 1.0}, r"mixer, for seasonal, \(Mixing\) gave a float, wanted"),
    ],
)
def test_what_a_mixer_gives_is_checked(small_shop, of, message):
    model = JointModel(small_shop.texts, small_shop.sizes, {"seasonal": partial(Turned, shape=(5, 32))}, partial(Mixing, of=of))
    with pytest.raises(ConfigError, match=message):
        model(small_shop.batch())


def test_a_part_of_the_mixer_s_own_counts(small_shop):
    of = lambda by_head: by_head | {"bias": torch.ones(1, 1)}
    model = JointModel(small_shop.texts, small_shop.sizes, {"seasonal": partial(Turned, shape=(5, 32))}, partial(Mixing, of=of))
    assert model(small_shop.batch()).total.eq(1).all()


def test_sizes_may_have_a_default(small_shop):
    class Mine(torch.nn.Identity):
        def __init__(self, sizes=None, d=8):
            super().__init__()

        def forward(self, batch, texts):
            return batch.similar

    JointModel(small_shop.texts, small_shop.sizes, {"seasonal": Mine}, Weighted)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (torch.nn.Identity(), r"^head seasonal \(Identity\) was made without sizes; give its config `_partial_: true`$"),
        (lambda sizes: "a head", r"^head seasonal \(.*\) is a str, wanted a torch\.nn\.Module$"),
        (
            lambda sizes: torch.nn.Tanh(),
            r"^head seasonal \(.*\) is called with batch and texts alone, which does not go",
        ),
        (partial(Sum, parts={"mine": torch.nn.Tanh()}), r"^part mine \(Tanh\) was made without sizes"),
        (
            lambda width=8, depth=2: torch.nn.Identity(),
            r"^head seasonal \(.*\) is made with sizes, and would take sizes for its width=8: name sizes before it$",
        ),
        (lambda: None, r"^head seasonal \(.*\) is made with sizes alone, which does not go: too many positional"),
    ],
)
def test_a_head_that_is_not_made_of_sizes_is_an_error_before_anything_learns(small_shop, head, message):
    with pytest.raises(ConfigError, match=message):
        JointModel(small_shop.texts, small_shop.sizes, {"seasonal": head}, Weighted)
