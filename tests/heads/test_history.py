"""A user as what the user bought, against loops."""

import numpy as np
import pytest
import torch

from seasonrec.data.batches import DECAYS
from seasonrec.heads.history import Centre, Decay, hide, weighted_mean


def test_a_purchase_counts_by_a_learnt_blend_of_the_decays(small_shop):
    history, decay = small_shop.batch().history, Decay()
    torch.testing.assert_close(decay(history), torch.log1p(history.weight.mean(1)))  # all decays alike at first
    with torch.no_grad():
        decay.blend[2] = 50.0
    torch.testing.assert_close(decay(history), torch.log1p(history.weight[:, 2]))
    assert len(decay.blend) == len(DECAYS)


def test_purchases_are_hidden_in_training_only():
    weight = torch.rand(20_000) + 1
    assert hide(weight, 0.3, False) is weight
    assert hide(weight, 0.0, True) is weight
    hidden = hide(weight, 0.3, True)
    assert hidden.eq(0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    torch.testing.assert_close(hidden[hidden > 0], weight[hidden > 0])


def test_the_mean_is_that_of_a_loop_and_0_without_history(small_shop):
    history = small_shop.batch(users=(-1, 3, 12, 8)).history
    table = torch.randn(32, 5)
    weight = torch.rand(len(history.item))
    total, n = np.zeros((4, 5)), np.zeros(4)
    for query, item, w in zip(history.query.tolist(), history.item.tolist(), weight.tolist(), strict=True):
        total[query] += w * table[item].numpy()
        n[query] += w
    mean = weighted_mean(history, table, history.item, weight)
    np.testing.assert_allclose(mean, total / np.sqrt(n + 1)[:, None], rtol=1e-4, atol=1e-6)
    assert mean[[0, 2]].eq(0).all()
    assert mean[[1, 3]].ne(0).all()


def test_a_batch_without_any_history_is_all_zeros(small_shop):
    history = small_shop.batch(users=(-1, 12)).history
    assert weighted_mean(history, torch.randn(32, 5), history.item, history.age).eq(0).all()


def test_gradients_reach_rows_and_weights(small_shop):
    history = small_shop.batch().history
    table, decay = torch.randn(32, 5, requires_grad=True), Decay()
    weighted_mean(history, table, history.item, decay(history)).square().sum().backward()
    assert table.grad.any(1).nonzero().flatten().tolist() == history.item.unique().tolist()
    assert decay.blend.grad.any()


KNOWN = torch.tensor([True, False, True, True])


def test_users_are_centred_on_the_mean_of_those_with_a_history():
    centre, vectors = Centre(3), torch.randn(4, 3) * KNOWN[:, None] + 5 * KNOWN[:, None]
    centred = centre(vectors, KNOWN)
    torch.testing.assert_close(centred[KNOWN], vectors[KNOWN] - vectors[KNOWN].mean(0))
    assert centred[1].eq(0).all()


def test_after_training_the_centre_is_the_running_mean_of_the_batches():
    centre, expected = Centre(3, momentum=0.2), torch.zeros(3)
    for _ in range(4):
        vectors = torch.randn(4, 3) + 5
        centre(vectors, KNOWN)
        expected = 0.8 * expected + 0.2 * vectors[KNOWN].mean(0)
    torch.testing.assert_close(centre.mean, expected)
    vectors = torch.randn(4, 3)
    torch.testing.assert_close(centre.eval()(vectors, KNOWN), (vectors - expected) * KNOWN[:, None])
    torch.testing.assert_close(centre.mean, expected)  # evaluation moves nothing


def test_a_batch_of_users_without_history_moves_no_centre():
    centre = Centre(3)
    assert centre(torch.randn(2, 3), torch.tensor([False, False])).eq(0).all()
    assert centre.mean.eq(0).all()
