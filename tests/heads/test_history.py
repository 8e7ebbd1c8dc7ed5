"""A user as what the user bought, against loops."""

import numpy as np
import pytest
import torch

from seasonrec.data.batches import DECAYS
from seasonrec.heads.history import Centre, Decay, ranges, user_vectors


def test_a_purchase_counts_by_a_learnt_blend_of_the_decays(small_shop):
    history, decay = small_shop.batch().history, Decay()
    torch.testing.assert_close(decay(history), torch.log1p(history.weight.mean(1)))  # all decays alike at first
    with torch.no_grad():
        decay.blend[2] = 50.0
    torch.testing.assert_close(decay(history), torch.log1p(history.weight[:, 2]))
    assert len(decay.blend) == len(DECAYS)


def test_a_user_is_the_sum_of_a_loop_and_0_without_history(small_shop):
    history = small_shop.batch(users=(-1, 3, 12, 8)).history
    table = torch.randn(32, 5)
    weight = torch.rand(len(history.item))
    total, n = np.zeros((4, 5)), np.zeros(4)
    for query, item, w in zip(history.query.tolist(), history.item.tolist(), weight.tolist(), strict=True):
        total[query] += w * table[item].numpy()
        n[query] += w
    users = user_vectors(history, table, history.item, weight)
    np.testing.assert_allclose(users, total / np.sqrt(n + 1)[:, None], rtol=1e-4, atol=1e-6)
    assert users[[0, 2]].eq(0).all()
    assert users[[1, 3]].ne(0).all()


def test_hidden_purchases_are_missed_and_the_others_count_for_them(small_shop):
    torch.manual_seed(0)
    history = small_shop.batch(users=range(12)).history
    pairs = torch.arange(len(history.item))
    weight = torch.rand(len(pairs)) + 1
    # With a dimension of its own for each pair, a user's vector shows what each purchase gave.
    users = user_vectors(history, torch.eye(len(pairs)), pairs, weight, hidden=0.3)
    gave = users[history.query, pairs]
    n = torch.stack([weight[history.query == query].sum() for query in range(12)])
    whole = weight / (n + 1).sqrt()[history.query]  # all purchases are counted, the hidden ones too
    kept = gave != 0
    torch.testing.assert_close(gave[kept], whole[kept] / 0.7)
    assert 1 - kept.float().mean().item() == pytest.approx(0.3, abs=0.06)  # of 360 at most, 2.5 standard errors
    assert users.count_nonzero() == kept.sum()


def test_hiding_keeps_a_user_s_vector_on_average(small_shop):
    torch.manual_seed(0)
    history, table = small_shop.batch(users=(3,)).history, torch.rand(32, 4)
    weight = torch.rand(len(history.item)) + 1
    draws = torch.cat([user_vectors(history, table, history.item, weight, 0.5) for _ in range(2000)])
    torch.testing.assert_close(draws.mean(0), user_vectors(history, table, history.item, weight)[0], rtol=0.02, atol=0)
    assert draws.std(0).min() > 0.1


def test_a_batch_without_any_history_is_all_zeros(small_shop):
    history = small_shop.batch(users=(-1, 12)).history
    assert user_vectors(history, torch.randn(32, 5), history.item, history.age).eq(0).all()


def test_gradients_reach_rows_and_weights(small_shop):
    history = small_shop.batch().history
    table, decay = torch.randn(32, 5, requires_grad=True), Decay()
    user_vectors(history, table, history.item, decay(history)).square().sum().backward()
    assert table.grad.any(1).nonzero().flatten().tolist() == history.item.unique().tolist()
    assert decay.blend.grad.any()


KNOWN = torch.tensor([True, False, True, True])


def test_users_are_centred_on_the_mean_of_those_with_a_history():
    centre, vectors = Centre(3), torch.randn(4, 3) * KNOWN[:, None] + 5 * KNOWN[:, None]
    centred = centre(vectors, KNOWN)
    torch.testing.assert_close(centred[KNOWN], vectors[KNOWN] - vectors[KNOWN].mean(0))
    assert centred[1].eq(0).all()


def test_after_training_the_centre_is_the_running_mean_in_which_the_first_batches_count_alike():
    centre, means = Centre(3, momentum=0.25), []
    for n in range(1, 8):
        vectors = torch.randn(4, 3) + 5
        centre(vectors, KNOWN)
        means.append(vectors[KNOWN].mean(0))
        if n <= 4:  # a quarter each at most
            torch.testing.assert_close(centre.mean, torch.stack(means).mean(0))
    expected = torch.stack(means[:4]).mean(0)
    for mean in means[4:]:
        expected = 0.75 * expected + 0.25 * mean
    torch.testing.assert_close(centre.mean, expected)
    vectors = torch.randn(4, 3)
    torch.testing.assert_close(centre.eval()(vectors, KNOWN), (vectors - expected) * KNOWN[:, None])
    torch.testing.assert_close(centre.mean, expected)  # evaluation moves nothing
    assert centre.n_batches == 7


def test_a_centre_that_is_loaded_goes_on_where_it_was():
    torch.manual_seed(0)
    centre, again = Centre(3), Centre(3)
    centre(torch.randn(4, 3) + 5, KNOWN)
    again.load_state_dict(centre.state_dict())
    vectors = torch.randn(4, 3)
    for each in (centre, again):
        each(vectors, KNOWN)
    assert torch.equal(again.mean, centre.mean)
    assert again.n_batches == centre.n_batches == 2


def test_the_centre_sends_gradients_through_the_batch_s_mean():
    vectors = torch.randn(4, 3, requires_grad=True)
    Centre(3)(vectors, KNOWN)[0].sum().backward()
    # d(v_0 - mean of three) / dv: 1 - 1/3 for user 0, -1/3 for the other two, nothing for the one without history.
    torch.testing.assert_close(vectors.grad[:, 0], torch.tensor([2 / 3, 0, -1 / 3, -1 / 3]))


def test_a_single_user_is_centred_on_the_mean_of_the_batches_before():
    centre, only = Centre(3), torch.tensor([False, True])
    before = torch.randn(4, 3) + 5
    centre(before, KNOWN)
    vectors = torch.randn(2, 3, requires_grad=True)
    centred = centre(vectors, only)
    torch.testing.assert_close(centred[1], vectors[1] - before[KNOWN].mean(0))
    torch.testing.assert_close(centre.mean, torch.stack([before[KNOWN].mean(0), vectors[1]]).mean(0).detach())
    centred.sum().backward()
    assert vectors.grad.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_a_batch_of_users_without_history_moves_no_centre():
    centre = Centre(3)
    assert centre(torch.randn(2, 3), torch.tensor([False, False])).eq(0).all()
    assert centre.mean.eq(0).all()
    assert centre.n_batches == 0


def test_ranges_are_counted_out_one_after_another():
    number, which = ranges(torch.tensor([7, 0, 3, 7]), torch.tensor([2, 0, 3, 1]))
    assert number.tolist() == [7, 8, 3, 4, 5, 7]
    assert which.tolist() == [0, 0, 2, 2, 2, 3]
    assert all(len(each) == 0 for each in ranges(torch.tensor([5]), torch.tensor([0])))
