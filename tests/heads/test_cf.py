"""The collaborative heads."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seasonrec.data.candidates import Candidates
from seasonrec.heads.cf import Factors, MatrixFactorization, Neighbours, Repeat, lift
from seasonrec.joint.module import truth_of
from seasonrec.losses import cross_entropy


def scores_of(head, shop, batch):
    return head(batch, shop.texts(batch.moment.context, candidates=batch.candidate))


def test_what_was_not_bought_has_no_repeat_score(small_shop):
    batch = small_shop.batch()
    scores = scores_of(Repeat(small_shop.sizes), small_shop, batch)
    h = batch.history
    bought = torch.zeros(5, 32, dtype=torch.bool)
    bought[h.query, h.item] = True
    assert scores[~bought].eq(0).all()
    assert scores[bought].ne(0).all()
    assert 0 < bought.sum() < bought.numel()


def test_a_repeat_score_is_the_network_s_of_its_pair(small_shop):
    head, batch = Repeat(small_shop.sizes), small_shop.batch()
    scores, h = scores_of(head, small_shop, batch), batch.history
    for pair in (0, 7, len(h.item) - 1):
        similar, usual = batch.similar[h.query[pair], h.item[pair]], batch.usual[h.item[pair]]
        of_others = torch.stack([torch.log(1 + 20 * similar), torch.log((similar + usual + 2e-4) / (2 * usual + 2e-4))])
        features = torch.cat([h.features[pair], of_others, batch.moment.demand[h.item[pair]]])
        torch.testing.assert_close(scores[h.query[pair], h.item[pair]], head.score(features)[0])


def test_a_neighbours_score_is_the_weighted_lift_among_similar_users(small_shop):
    head, batch = Neighbours(small_shop.sizes), small_shop.batch()
    with torch.no_grad():
        head.log_shrinkage.fill_(np.log(3))
        head.user.bias.fill_(np.log(2))
    scores, usual = scores_of(head, small_shop, batch), batch.usual + 1e-4
    expected = 0.3 * 2 * torch.log((batch.similar[0] + 1e-4 + 3 * usual) / (4 * usual))
    torch.testing.assert_close(scores[0], expected)
    assert expected.min() < 0 < expected.max()
    assert scores[[2, 3]].eq(0).all()  # of users without history


def test_a_lift_is_0_where_similar_users_buy_as_all_do():
    assert lift(torch.tensor([0.2, 0.0, 0.6]), torch.tensor([0.2, 0.0, 0.2]), 0.5).tolist() == pytest.approx(
        [0, 0, np.log(0.7 / 0.3)], abs=2e-3
    )


def test_factors_of_a_user_are_the_decayed_sum_of_what_was_bought_less_the_average_user(small_shop):
    head, batch = Factors(small_shop.sizes, d=4).eval(), small_shop.batch()
    torch.nn.init.normal_(head.item.weight)
    head.centre.mean.copy_(torch.tensor([0.5, -0.1, 0.0, 0.2]))
    weight, h = torch.log1p(batch.history.weight.mean(1)), batch.history
    of_user = h.query == 1
    user = (weight[of_user, None] * head.bought.weight[h.item[of_user]]).sum(0) / (weight[of_user].sum() + 1).sqrt()
    scores = scores_of(head, small_shop, batch)
    torch.testing.assert_close(scores[1], head.item.weight @ (user - head.centre.mean))
    assert scores[[2, 3]].eq(0).all()  # of users without history nothing is known that sets them apart


def test_an_item_that_was_never_a_candidate_scores_0(small_shop):
    head, rows = Factors(small_shop.sizes), np.arange(20)
    batch = small_shop.batch(users=range(12), candidates=Candidates(rows, np.zeros(20, np.float32)))
    optimizer = torch.optim.AdamW(head.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.mse_loss(scores_of(head, small_shop, batch), torch.randn(12, 20)).backward()
        optimizer.step()
    scores = scores_of(head.eval(), small_shop, small_shop.batch(users=range(12)))
    assert scores[:, 20:].eq(0).all()
    assert scores[:, :20].ne(0).all()


@pytest.mark.parametrize("decay", [0, 10])
def test_an_item_that_nobody_buys_is_a_negative_and_weight_decay_keeps_it_near_0(small_shop, decay):
    torch.manual_seed(0)
    head, batch = Factors(small_shop.sizes, history_dropout=0, dropout=0), small_shop.training_batch()
    optimizer = torch.optim.AdamW(head.parameters(), 0.01, weight_decay=decay)
    for _ in range(40):
        optimizer.zero_grad()
        cross_entropy(scores_of(head, small_shop, batch), truth_of(batch)).backward()
        optimizer.step()
    scores = scores_of(head.eval(), small_shop, batch)
    unsold = small_shop.timeline.at_week(100).sold == 0
    assert unsold.nonzero()[0].tolist() == [30, 31]
    bought = scores[batch.truth_query, batch.truth_column].mean()
    assert scores[:, unsold].mean() < 0 < bought
    # Adam moves a number by about 0.01 a step, and decay takes a tenth of it away: they meet at about 0.1. Without it 40 steps are 0.4.
    largest = head.item.weight[unsold].abs().max()
    assert (largest < 0.15) == (decay == 10)


def test_factors_learn_what_is_bought_together(small_shop):
    torch.manual_seed(0)
    head, batch = Factors(small_shop.sizes, history_dropout=0, dropout=0), small_shop.batch(users=range(12))
    target = torch.arange(12) * 2  # an item of its own for each user
    optimizer = torch.optim.Adam(head.parameters(), 0.05)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(scores_of(head, small_shop, batch), target).backward()
        optimizer.step()
    assert scores_of(head, small_shop, batch).argmax(1).tolist() == target.tolist()


def test_purchases_are_hidden_from_factors_in_training_only(small_shop):
    torch.manual_seed(0)
    head, batch = Factors(small_shop.sizes, dropout=0, history_dropout=0.5), small_shop.batch()
    torch.nn.init.normal_(head.item.weight)
    assert not torch.equal(scores_of(head, small_shop, batch), scores_of(head, small_shop, batch))
    head.eval()
    assert torch.equal(scores_of(head, small_shop, batch), scores_of(head, small_shop, batch))


def test_matrix_factorization_by_hand(small_shop):
    head, batch = MatrixFactorization(small_shop.sizes, d=3, mean=4.0), small_shop.batch(users=(2, 11))
    for bias in (head.user_bias, head.item_bias):
        torch.nn.init.normal_(bias.weight)
    scores = scores_of(head, small_shop, batch)
    for row, user in enumerate((2, 11)):
        for item in (0, 5, 31):
            bias = 4.0 + head.user_bias.weight[user, 0] + head.item_bias.weight[item, 0]
            torch.testing.assert_close(scores[row, item], bias + head.user.weight[user] @ head.item.weight[item])


def test_a_user_unknown_to_matrix_factorization_is_rated_by_the_items_alone(small_shop):
    torch.manual_seed(0)
    head = MatrixFactorization(small_shop.sizes, mean=4.0)
    optimizer = torch.optim.AdamW(head.parameters(), 0.1)
    batch = small_shop.batch(users=range(12))
    F.mse_loss(scores_of(head, small_shop, batch), torch.rand(12, 32) * 5).backward()
    optimizer.step()
    scores = scores_of(head, small_shop, small_shop.batch(users=(-1,)))
    torch.testing.assert_close(scores[0], head.mean + head.item_bias.weight[:, 0])


def test_ratings_are_learnt_by_squared_error(small_shop):
    torch.manual_seed(0)
    head, batch = MatrixFactorization(small_shop.sizes, mean=3.0), small_shop.training_batch()
    rating, at = batch.truth_rating, (batch.truth_query, batch.truth_column)
    first = F.mse_loss(scores_of(head, small_shop, batch)[at], rating).item()
    optimizer = torch.optim.Adam(head.parameters(), 0.05)
    for _ in range(80):
        optimizer.zero_grad()
        loss = F.mse_loss(scores_of(head, small_shop, batch)[at], rating)
        loss.backward()
        optimizer.step()
    assert loss < 0.05 * first
