"""The seasonal heads: alike for all queries of a moment, and different at another time of the year."""

from dataclasses import replace

import pytest
import torch

from seasonrec.heads.seasonal import AsOfDemand, ContextText, HarmonicText


def scores_of(head, shop, week):
    batch = shop.batch(week)
    with torch.no_grad():
        return head(batch, shop.texts(batch.moment.context, candidates=batch.candidate))


def learnt(head):
    torch.manual_seed(1)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head.eval()


@pytest.mark.parametrize("kind", [HarmonicText, ContextText])
def test_a_text_head_starts_at_0(small_shop, kind):
    assert scores_of(kind(small_shop.sizes), small_shop, 100).eq(0).all()


@pytest.mark.parametrize("kind", [AsOfDemand, HarmonicText, ContextText])
def test_scores_change_with_the_date(small_shop, kind):
    head = learnt(kind(small_shop.sizes))
    autumn, winter = (scores_of(head, small_shop, week) for week in (92, 102))
    assert autumn.shape == (1, 32)
    assert (autumn - winter).abs().max() > 0.01


@pytest.mark.parametrize("kind", [HarmonicText, ContextText])
def test_a_text_head_sees_the_season_and_the_texts_and_nothing_else(small_shop, kind):
    head, batch = learnt(kind(small_shop.sizes)), small_shop.batch()
    texts = small_shop.texts(batch.moment.context, candidates=batch.candidate)
    other = replace(batch, moment=replace(batch.moment, demand=torch.randn_like(batch.moment.demand)))
    with torch.no_grad():
        scores = head(batch, texts)
        torch.testing.assert_close(scores, head(other, texts))
    torch.testing.assert_close(scores[0, 0], scores[0, 1])  # one text
    assert scores[0, 3] == 0  # no text
    assert scores[0, 0] != scores[0, 4]


def test_harmonics_meet_texts_by_hand(small_shop):
    head, batch = learnt(HarmonicText(small_shop.sizes, d=5)), small_shop.batch()
    season = head.season.weight @ batch.moment.season + head.season.bias
    expected = [season @ (head.text.weight @ torch.from_numpy(vector)) for vector in small_shop.texts.item_vectors()]
    torch.testing.assert_close(scores_of(head, small_shop, 100)[0], torch.stack(expected).detach())


def test_the_season_in_words_meets_texts_by_hand(small_shop):
    head, batch = learnt(ContextText(small_shop.sizes, d=5)), small_shop.batch()
    words = torch.from_numpy(small_shop.texts.encoder.encode([batch.moment.context])[0])
    context = head.context.weight @ words + head.context.bias
    expected = [context @ (head.text.weight @ torch.from_numpy(vector)) for vector in small_shop.texts.item_vectors()]
    torch.testing.assert_close(scores_of(head, small_shop, 100)[0], torch.stack(expected).detach())


def test_demand_is_all_that_the_demand_head_sees(small_shop):
    head, batch = learnt(AsOfDemand(small_shop.sizes)), small_shop.batch()
    demand = batch.moment.demand.clone()
    demand[6] = demand[5]
    with torch.no_grad():
        scores = head(replace(batch, moment=replace(batch.moment, demand=demand)), small_shop.texts(""))
    assert scores[0, 5] == pytest.approx(scores[0, 6].item(), rel=1e-5)
    torch.testing.assert_close(scores[0, 7], scores_of(head, small_shop, 100)[0, 7])
