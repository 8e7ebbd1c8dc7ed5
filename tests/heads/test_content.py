"""The content head: texts of what was bought against texts of what could be."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from seasonrec.data.candidates import Candidates
from seasonrec.errors import ConfigError
from seasonrec.heads.content import Content, NearestTexts, ProfileText


def scores_of(head, shop, batch):
    return head(batch, shop.texts(batch.moment.context, candidates=batch.candidate))


def test_what_the_user_has_bought_before_gets_0_and_all_else_what_it_would_get(small_shop):
    head, batch = ProfileText(small_shop.sizes, own=False).eval(), small_shop.batch()
    own = torch.zeros(len(batch.user), batch.n_candidates, dtype=torch.bool)
    own[batch.history.query, batch.history.item] = True
    without = scores_of(head, small_shop, batch)
    head.own = True
    whole = scores_of(head, small_shop, batch)
    assert whole[own].count_nonzero() > 0
    torch.testing.assert_close(without, whole.masked_fill(own, 0), rtol=0, atol=0)


def test_items_of_one_text_score_alike_and_others_do_not(small_shop):
    batch = small_shop.batch()
    scores = scores_of(ProfileText(small_shop.sizes).eval(), small_shop, batch)
    torch.testing.assert_close(scores[:, 4], scores[:, 5])
    assert (scores[:2, 4] != scores[:2, 6]).all()
    assert (scores[:2, 2] != scores[:2, 3]).all()  # item 3 has none


def test_a_profile_by_hand(small_shop):
    torch.manual_seed(0)
    head, batch = ProfileText(small_shop.sizes, d=6).eval(), small_shop.batch(users=(4,))
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    head.centre.mean.copy_(torch.randn(6))
    vectors, h = torch.from_numpy(small_shop.texts.item_vectors()), batch.history
    weight = torch.log1p(h.weight @ torch.softmax(head.decay.blend, 0))
    bought = (weight[:, None] * vectors[h.item]).sum(0) / (weight.sum() + 1).sqrt()
    own_text = torch.from_numpy(small_shop.texts.encoder.encode(["likes small"])[0])  # user 4's
    user = head.profile.weight @ bought - head.centre.mean + head.user.weight @ own_text
    expected = head.log_temperature.exp() * (vectors @ head.item.weight.T) @ user
    torch.testing.assert_close(scores_of(head, small_shop, batch)[0], expected)


def test_it_starts_as_a_likeness_of_projected_texts(small_shop):
    head = ProfileText(small_shop.sizes)
    torch.testing.assert_close(head.profile.weight, head.item.weight)
    assert head.profile.weight is not head.item.weight
    assert head.user.weight.eq(0).all()


def test_a_user_who_bought_one_text_only_likes_it_best(small_shop):
    # As wide as the text space and orthogonal, projections change no likeness.
    head, batch = ProfileText(small_shop.sizes, d=8).eval(), small_shop.batch(week=1, users=range(12))
    for map_ in (head.profile, head.item):
        torch.nn.init.eye_(map_.weight)
    scores, h = scores_of(head, small_shop, batch), batch.history
    texts = small_shop.texts.of_item
    single = [query for query in range(12) if len(texts[h.item[h.query == query]].unique()) == 1]
    assert single
    for query in single:
        item = h.item[h.query == query][0]
        if small_shop.texts.vectors[texts[item]].any():
            assert texts[scores[query].argmax()] == texts[item]


def test_without_history_the_user_s_own_text_is_the_profile(small_shop):
    head, batch = ProfileText(small_shop.sizes).eval(), small_shop.batch(week=0, users=(1, 0, 2, -1))
    assert scores_of(head, small_shop, batch).eq(0).all()  # own texts count nothing at first
    torch.nn.init.normal_(head.user.weight)
    scores = scores_of(head, small_shop, batch).detach().numpy()
    assert np.abs(scores[0] - scores[1]).max() > 0
    np.testing.assert_array_equal(scores[2:], 0)  # user 2 has no text


def test_a_learning_encoder_gets_gradients_from_both_sides(learning_shop):
    batch = learning_shop.batch()
    texts = learning_shop.texts(batch.moment.context, torch.tensor([0, 9]))
    ProfileText(learning_shop.sizes)(batch, texts).square().sum().backward()
    assert learning_shop.texts.encoder.words.grad.any()


def nearest_by_loops(head, shop, batch, items):
    """[B, len(items)]."""
    texts, h, k = shop.texts.of_item.tolist(), batch.history, shop.texts.near.index.shape[1]
    vectors = shop.texts.vectors.numpy()
    used = sorted({text for text in texts if vectors[text].any()})
    near = {a: sorted(used, key=lambda b: -(2 if a == b else vectors[a] @ vectors[b]))[:k] for a in used}
    sharpness, scale = head.log_sharpness.exp().item(), head.log_scale.exp().item()
    total = np.zeros((len(batch.user), len(items)))
    for query, own, weight in zip(h.query.tolist(), h.item.tolist(), head.decay(h).tolist(), strict=True):
        for column, item in enumerate(items):
            if texts[item] in near.get(texts[own], []):
                cosine = min(vectors[texts[own]] @ vectors[texts[item]], 1)
                total[query, column] += weight * np.exp(sharpness * (cosine - 1)) * (cosine > 0)
    return head.weight.item() * np.log1p(scale * total)


def drawn_numbers(head):
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.rand(parameter.shape))
    return head


def test_what_reads_nearly_like_a_single_purchase_by_loops(small_shop):
    small_shop.texts.find_neighbours(5)
    head, batch = drawn_numbers(NearestTexts(small_shop.sizes)), small_shop.batch()
    expected = nearest_by_loops(head, small_shop, batch, range(32))
    np.testing.assert_allclose(scores_of(head, small_shop, batch).detach(), expected, rtol=1e-5)
    assert (expected[0] > 0).any()
    assert not expected[:, 3].any()  # it has no text
    assert not expected[2:4].any()  # users without history
    assert expected[:, 30:].any()  # never sold


def test_among_candidates_it_says_what_it_says_of_the_whole_catalogue(small_shop):
    head, items = drawn_numbers(NearestTexts(small_shop.sizes)), np.array([2, 3, 5, 6, 7, 30])
    some = scores_of(head, small_shop, small_shop.batch(candidates=Candidates(items, np.zeros(6, np.float32))))
    torch.testing.assert_close(some, scores_of(head, small_shop, small_shop.batch())[:, items])


def test_all_of_its_numbers_learn_also_where_texts_are_missing(small_shop):
    head = NearestTexts(small_shop.sizes)
    scores_of(head, small_shop, small_shop.batch()).sum().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in head.parameters())


def test_its_gradients_are_those_of_a_sum_over_all_pairs_of_texts(small_shop):
    """The same in one dense formula, by double numbers: weight * log(1 + scale * sum of own purchases * likeness)."""
    small_shop.texts.find_neighbours(5)
    head, batch = drawn_numbers(NearestTexts(small_shop.sizes)).double(), small_shop.batch()
    h, texts = batch.history, small_shop.texts
    wanted = torch.rand(len(batch.user), 32, dtype=torch.float64)

    def by_pairs():
        cosine = torch.full((len(texts.vectors),) * 2, -torch.inf, dtype=torch.float64)
        cosine = cosine.scatter(1, texts.near.index, texts.near.cosine.double())
        likeness = torch.where(cosine > 0, (head.log_sharpness.exp() * (cosine.clamp(min=-9) - 1)).exp(), 0)
        weight = torch.log1p(h.weight.double() @ torch.softmax(head.decay.blend, 0))
        own = torch.zeros(len(batch.user), len(texts.vectors), dtype=torch.float64)
        own = own.index_put((h.query, texts.of_item[h.item]), weight, accumulate=True)
        return (head.weight * (head.log_scale.exp() * (own @ likeness)).log1p())[:, texts.of_item]

    parameters = list(head.parameters())
    ours = scores_of(head, small_shop, replace(batch, history=replace(h, weight=h.weight.double())))
    expected = by_pairs()
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-9)
    found, wanted_gradients = (torch.autograd.grad((each * wanted).sum(), parameters) for each in (ours, expected))
    torch.testing.assert_close(found, wanted_gradients, rtol=1e-5, atol=1e-7)


def test_a_batch_in_which_nobody_has_a_history_is_near_nothing(small_shop):
    small_shop.texts.find_neighbours(5)
    assert not scores_of(NearestTexts(small_shop.sizes), small_shop, small_shop.batch(users=(-1, 12))).any()


def test_neighbours_stay_when_the_encoder_moves(learning_shop):
    head, batch = NearestTexts(learning_shop.sizes), learning_shop.batch()
    before = scores_of(head, learning_shop, batch)
    with torch.no_grad():
        learning_shop.texts.encoder.words.add_(torch.rand_like(learning_shop.texts.encoder.words))
    assert learning_shop.texts.refresh() > 0
    assert torch.equal(scores_of(head, learning_shop, batch), before)


def test_without_neighbours_it_says_which_key_is_missing(small_shop):
    small_shop.texts.near = None
    with pytest.raises(ConfigError, match=r"needs model\.text_neighbours"):
        scores_of(NearestTexts(small_shop.sizes), small_shop, small_shop.batch())


@pytest.mark.parametrize("own", [True, False])
def test_parts_add_up_and_own_items_get_0_where_they_are_not_scored(small_shop, own):
    parts = {"profile": ProfileText, "nearest": NearestTexts}
    head, batch = Content(small_shop.sizes, {name: partial(part) for name, part in parts.items()}, own=own).eval(), small_shop.batch()
    expected = sum(scores_of(part, small_shop, batch) for part in head.parts.values())
    if not own:
        expected[batch.history.query, batch.history.item] = 0
    torch.testing.assert_close(scores_of(head, small_shop, batch), expected)
