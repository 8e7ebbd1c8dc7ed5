"""The content head: texts of what was bought against texts of what could be."""

import numpy as np
import torch

from seasonrec.heads.content import ProfileText


def scores_of(head, shop, batch):
    return head(batch, shop.texts(batch.moment.context))


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
