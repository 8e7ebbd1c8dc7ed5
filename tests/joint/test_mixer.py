"""From the heads' scores to one."""

from dataclasses import replace

import pytest
import torch

from seasonrec.data.batches import N_USER_FEATURES
from seasonrec.joint.mixer import LIMIT, Gated, Weighted

HEADS = ("seasonal", "cf", "content")


def by_head(batch):
    """One head that scores all queries alike, and two that do not."""
    generator = torch.Generator().manual_seed(3)
    rows = {"seasonal": 1, "cf": len(batch.user), "content": len(batch.user)}
    return {name: torch.randn(n, batch.n_candidates, generator=generator) for name, n in rows.items()}


def learnt(mixer, std=0.3):
    torch.manual_seed(4)
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return mixer


def test_weighted_multiplies_each_head_by_its_own_weight(small_shop):
    batch, mixer = small_shop.batch(), Weighted(small_shop.sizes, HEADS)
    with torch.no_grad():
        mixer.log_weight.copy_(torch.tensor([0.0, 2.0, 0.5]).log())
    scores = by_head(batch)
    mixed = mixer(scores, batch)
    torch.testing.assert_close(mixed, {name: w * scores[name] for name, w in zip(HEADS, (0.0, 2.0, 0.5), strict=True)})


@pytest.mark.parametrize("kind", [Weighted, Gated])
def test_the_mix_starts_as_the_plain_sum(small_shop, kind):
    batch = small_shop.batch()
    scores = by_head(batch)
    mixed = kind(small_shop.sizes, HEADS)(scores, batch)
    assert list(mixed) == list(HEADS)
    for name in HEADS:
        assert torch.equal(mixed[name].expand(5, -1), scores[name].expand(5, -1))


@pytest.mark.parametrize("season", [False, True])
def test_each_gate_is_the_product_of_what_query_item_and_own_purchases_say(small_shop, season):
    batch, mixer = small_shop.batch(), learnt(Gated(small_shop.sizes, HEADS, season=season))
    scores, demand, h = by_head(batch), batch.moment.demand, batch.history
    mixed = mixer(scores, batch)
    own = {(query, item) for query, item in zip(h.query.tolist(), h.item.tolist(), strict=True)}
    item_part = mixer.item(demand)
    for query in range(5):
        pairs = [item for q, item in own if q == query]
        known = [*h.user[query].tolist(), float(len(pairs) > 0)]
        query_part = mixer.query(torch.tensor([*known, *(batch.moment.season.tolist() if season else [])]))
        for item in range(32):
            gate = query_part + item_part[item].clamp(-LIMIT, LIMIT) + mixer.own * ((query, item) in own)
            for n, name in enumerate(HEADS):
                expected = scores[name].expand(5, -1)[query, item] * gate[n].exp()
                torch.testing.assert_close(mixed[name][query, item], expected, rtol=1e-4, atol=1e-5)


def test_an_item_s_gate_stays_within_its_limit(small_shop):
    batch, mixer = small_shop.batch(), Gated(small_shop.sizes, HEADS)
    torch.nn.init.constant_(mixer.item.bias, 1000.0)
    scores = by_head(batch)
    torch.testing.assert_close(mixer(scores, batch)["cf"], scores["cf"] * torch.tensor(LIMIT).exp())


def test_the_own_part_touches_only_what_the_user_has_bought(small_shop):
    batch, mixer = small_shop.batch(), Gated(small_shop.sizes, HEADS)
    with torch.no_grad():
        mixer.own[1] = 1.0
    scores, h = by_head(batch), batch.history
    mixed = mixer(scores, batch)
    bought = torch.zeros(5, 32, dtype=torch.bool)
    bought[h.query, h.item] = True
    assert torch.equal(mixed["cf"][~bought], scores["cf"][~bought])
    torch.testing.assert_close(mixed["cf"][bought], scores["cf"][bought] * torch.e)
    assert torch.equal(mixed["content"], scores["content"])


@pytest.mark.parametrize("season", [False, True])
def test_gates_see_the_season_only_if_they_should(small_shop, season):
    mixer, batch = learnt(Gated(small_shop.sizes, HEADS, season=season)), small_shop.batch()
    summer = replace(batch, moment=replace(batch.moment, season=small_shop.batch(80).moment.season))
    ones = {name: torch.ones(5, 32) for name in HEADS}
    assert torch.equal(mixer(ones, batch)["cf"], mixer(ones, summer)["cf"]) == (not season)


def test_a_gate_sees_how_much_is_known_of_the_user(small_shop):
    batch, mixer = small_shop.batch(users=(-1, 12, 3)), learnt(Gated(small_shop.sizes, HEADS))
    mixed = mixer({name: torch.ones(3, 32) for name in HEADS}, batch)["seasonal"]
    torch.testing.assert_close(mixed[0], mixed[1])  # nothing is known of either
    assert (mixed[0] != mixed[2]).all()


@pytest.mark.parametrize("fact", range(N_USER_FEATURES))
def test_a_gate_sees_each_fact_that_is_known_of_the_user(small_shop, fact):
    batch, mixer = small_shop.batch(), learnt(Gated(small_shop.sizes, HEADS))
    user = batch.history.user.clone()
    user[1, fact] += 1
    other = replace(batch, history=replace(batch.history, user=user))
    ones = {name: torch.ones(5, 32) for name in HEADS}
    differs = (mixer(ones, batch)["cf"] != mixer(ones, other)["cf"]).all(1)
    assert differs.tolist() == [False, True, False, False, False]


@pytest.mark.parametrize("kind", [Weighted, Gated])
def test_gates_are_positive_and_every_parameter_learns(small_shop, kind):
    batch, mixer = small_shop.batch(), kind(small_shop.sizes, HEADS)
    alive = set()
    for _ in range(2):
        mixer.zero_grad()
        (sum(mixer(by_head(batch), batch).values()) - 1).square().mean().backward()
        alive |= {name for name, p in mixer.named_parameters() if p.grad.any()}
        with torch.no_grad():
            for p in mixer.parameters():
                p -= 0.1 * p.grad
    assert alive == {name for name, _ in mixer.named_parameters()}
    ones = {name: torch.ones(5, 32) for name in HEADS}
    assert all((mixed > 0).all() for mixed in learnt(mixer, std=2.0)(ones, batch).values())
