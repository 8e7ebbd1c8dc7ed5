"""SASRec on sequences whose next item is known."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from seasonrec.baselines import sasrec
from seasonrec.baselines.sasrec import BLOCKS, Block, GatedBlock, SasRec, Transformer
from seasonrec.data.sequences import Sequences
from seasonrec.data.timeline import Timeline
from seasonrec.errors import ConfigError, DataError
from seasonrec.evaluation.leave_one_out import rank_leave_one_out
from seasonrec.evaluation.scorer import Scorer

N_ITEMS = 30
SMALL = {"d": 16, "dropout": 0.05, "n_negatives": 8, "lr": 0.02, "batch_size": 32, "max_epochs": 30, "patience": 6, "length": 6}


def walks(n_users=120, n_steps=8, seed=0):
    """Each user walks along the items in rows of three, from a start of their own: after i comes i + 3."""
    start = np.random.default_rng(seed).integers(0, N_ITEMS, n_users)
    user, step = (each.ravel() for each in np.meshgrid(np.arange(n_users), np.arange(n_steps), indexing="ij"))
    # One user more, who took nothing.
    return Timeline(user, (start[user] + 3 * step) % N_ITEMS, step.astype(np.int64), n_users=n_users + 1, n_items=N_ITEMS, week_zero=0)


@pytest.fixture(scope="module", params=BLOCKS)
def settings(request):
    return SMALL | {"block": request.param}


@pytest.fixture(scope="module")
def fitted(settings):
    scorer = SasRec(**settings)
    scorer.fit(walks().as_of(100))
    return scorer


def test_the_next_item_comes_first(fitted):
    users, now = np.arange(120), walks().as_of(100)
    last = Sequences.of(now).last(users)
    scores = fitted.scores(users, now)
    assert isinstance(fitted, Scorer)
    assert (scores.dtype, scores.shape) == (np.float32, (120, N_ITEMS))
    assert np.mean(scores.argmax(1) == (last + 3) % N_ITEMS) > 0.95


def test_a_user_without_history_has_finite_scores(fitted):
    assert np.isfinite(fitted.scores(np.array([120]), walks().as_of(100))).all()


def test_what_was_taken_since_the_fit_counts(fitted):
    earlier, later = (Sequences.of(walks().as_of(end)).last(np.arange(5)) for end in (4, 5))
    assert (fitted.scores(np.arange(5), walks().as_of(4)).argmax(1) == (earlier + 3) % N_ITEMS).all()
    assert (fitted.scores(np.arange(5), walks().as_of(5)).argmax(1) == (later + 3) % N_ITEMS).all()


def test_leave_one_out_finds_the_last_item(settings):
    evaluation = rank_leave_one_out(SasRec(**settings), walks(), "test")
    assert evaluation.select([("leave_one_out", "ndcg@10")]).mean() > 0.9


def test_the_same_seed_learns_the_same_and_draws_nothing_from_others(fitted, settings):
    state = torch.random.get_rng_state()
    again = SasRec(**settings)
    again.fit(walks().as_of(100))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert again.n_epochs == fitted.n_epochs
    now = walks().as_of(100)
    np.testing.assert_array_equal(again.scores(np.arange(9), now), fitted.scores(np.arange(9), now))


def test_too_short_histories_are_learnt_from_for_one_epoch():
    scorer = SasRec(**SMALL)
    scorer.fit(walks(n_steps=2).as_of(100))
    assert scorer.n_epochs == 1


def test_histories_of_one_event_are_an_error_that_says_what_is_wanted():
    with pytest.raises(DataError, match="sasrec: none of 121 users has two events to learn from, wanted at least one who has; give longer"):
        rank_leave_one_out(SasRec(**SMALL), walks(n_steps=3), "test")


@pytest.fixture(params=BLOCKS.values(), ids=BLOCKS)
def model(request):
    torch.manual_seed(0)
    return Transformer(N_ITEMS, 6, 8, 2, 2, 0.0, request.param).eval()


def test_no_place_sees_what_comes_after_it(model):
    one, other = torch.tensor([[3, 7, 11, 2]]), torch.tensor([[3, 7, 5, 9]])
    torch.testing.assert_close(model(one)[:, :2], model(other)[:, :2])
    assert not torch.allclose(model(one)[:, 2], model(other)[:, 2])


def test_places_count_from_the_end(model):
    """The item itself is all that the last place sees where the weights of attention to padding are taken away."""
    alone = torch.tensor([[4]])
    x = model.item(alone) + model.place.weight[0]
    for block in model.blocks:
        x = block(x[0], torch.tensor([[True]]))[None]
    torch.testing.assert_close(model(alone), model.norm(x))


def test_the_loss_is_that_of_each_place_but_the_first(model, monkeypatch):
    items = torch.tensor([[N_ITEMS, 4, 7, 2], [1, 2, 3, 4]])
    negatives = torch.arange(5 * 3).reshape(5, 3) % N_ITEMS
    monkeypatch.setattr(torch, "randint", lambda high, size, device: negatives)
    follows, terms = model(items[:, :-1]), []
    for (row, place), others in zip([(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)], negatives, strict=True):
        candidates = torch.cat([items[row, place + 1][None], others])
        terms.append(cross_entropy((model.item(candidates) @ follows[row, place])[None], torch.tensor([0])))
    torch.testing.assert_close(model.loss(items, 3), torch.stack(terms).mean())


def test_training_drops_the_same_units_of_an_item_wherever_it_stands(monkeypatch):
    """What is read and what the softmax runs over come from one table."""
    torch.manual_seed(0)
    tables, model = [], Transformer(N_ITEMS, 6, 8, 1, 1, 0.5, Block)
    known, products = model._known, sasrec.products
    monkeypatch.setattr(model, "_known", lambda items, at, table: tables.append(table) or known(items, at, table))
    monkeypatch.setattr(sasrec, "products", lambda x, table, rows: tables.append(table) or products(x, table, rows))
    model.train().loss(torch.tensor([[N_ITEMS, 4, 7, 2], [1, 2, 3, 4]]), 3)
    read, compared = tables
    assert read is compared
    dropped = read[:-1] == 0
    assert 0.3 < dropped.float().mean() < 0.7
    torch.testing.assert_close(read[:-1][~dropped], 2 * model.item.weight[:-1][~dropped])
    assert torch.equal(model.eval()._table(), model.item.weight)


def test_a_block_attends_as_written_out():
    torch.manual_seed(0)
    block, x = Block(4, 1, 0.0, 1).eval(), torch.randn(1, 3, 4)
    weight, bias = block.attention.in_proj_weight, block.attention.in_proj_bias
    query = block.before(x[0])
    q, k, v = (part @ weight[4 * n : 4 * n + 4].T + bias[4 * n : 4 * n + 4] for n, part in enumerate((query, x[0], x[0])))
    attention = (q @ k.T / 2).masked_fill(torch.ones(3, 3).triu(1).bool(), -torch.inf).softmax(1) @ v
    between = block.between(query + attention @ block.attention.out_proj.weight.T + block.attention.out_proj.bias)
    torch.testing.assert_close(block(x[0], torch.ones(1, 3, dtype=torch.bool)), between + block.network(between))


def test_a_gated_block_is_as_written_out():
    """Two heads of one unit each over a history of three places, the first of which is padding."""
    torch.manual_seed(0)
    block, known = GatedBlock(2, 2, 0.0, 3).eval(), torch.tensor([[False, True, True]])
    x, state = torch.randn(2, 2), block.state_dict()
    normed = block.before(x)
    q, k, v = (normed @ state["attention.in_proj_weight"].T + state["attention.in_proj_bias"]).split(2, 1)
    # The second item of two attends to both, by the sigmoid of the difference of their products; the first only to itself.
    to_first = torch.sigmoid(q[1] * k[0] - q[1] * k[1])
    attended = torch.stack([v[0], to_first * v[0] + (1 - to_first) * v[1]])
    attended = attended @ state["attention.out_proj.weight"].T + state["attention.out_proj.bias"]
    x_1 = x + torch.sigmoid(x @ state["gate.weight"].T + state["gate.bias"]) * attended
    normed = block.between(x_1)
    inner = normed @ state["inner_gate.weight"].T
    network = (inner * torch.sigmoid(inner) * (normed @ state["up.weight"].T)) @ state["down.weight"].T
    gate = torch.sigmoid(x_1 @ state["network_gate.weight"].T + state["network_gate.bias"])
    torch.testing.assert_close(block(x, known), x_1 + gate * network)


def test_what_gates_close_stays_as_it_is():
    block, x = GatedBlock(4, 1, 0.0, 4).eval(), torch.randn(3, 4)
    for gate in (block.gate, block.network_gate):
        nn.init.zeros_(gate.weight)
        nn.init.constant_(gate.bias, -50)
    torch.testing.assert_close(block(x, torch.ones(1, 3, dtype=torch.bool)), x)


def test_gated_blocks_do_not_see_padding():
    torch.manual_seed(0)
    model = Transformer(N_ITEMS, 6, 8, 2, 2, 0.0, GatedBlock, 4).eval()
    short, long = torch.tensor([[4, 9]]), torch.tensor([[N_ITEMS, N_ITEMS, 4, 9]])
    torch.testing.assert_close(model(short)[0], model(long)[0, 2:])


def test_padding_learns_nothing_and_gradients_are_finite(model):
    model.train()
    model.loss(torch.tensor([[N_ITEMS, N_ITEMS, N_ITEMS, 4, 7], [1, 2, 3, 4, 5]]), 3).backward()
    assert all(each.grad.isfinite().all() for each in model.parameters())
    assert (model.item.weight.grad[N_ITEMS] == 0).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dropout": 2}, r"sasrec\.dropout"),
        ({"block": "hstu"}, "sasrec.block is 'hstu', wanted one of sasrec, ligr"),
        ({"widening": 0}, "widening"),
    ],
)
def test_a_setting_out_of_range_is_an_error(wrong, message):
    with pytest.raises(ConfigError, match=message):
        SasRec(**wrong)


@pytest.mark.parametrize(("n", "wanted"), [(None, 120), (7, 7)])
def test_the_number_of_epochs_is_chosen_by_the_last_items_of_all_users_or_of_some(n, wanted, monkeypatch):
    chosen_by = []
    monkeypatch.setattr(SasRec, "_best_epoch", lambda self, sequences, held_out: chosen_by.append(held_out) or 1)
    SasRec(**SMALL, n_held_out=n).fit(walks().as_of(100))
    assert len(np.unique(chosen_by[0])) == len(chosen_by[0]) == wanted, "120 users have eight items each"


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ConfigError, match=f"sasrec.device is '{device}', which is not there; wanted auto, cpu or cuda"):
        SasRec(device=device)


def test_a_training_that_went_to_nan_finds_nothing(fitted, monkeypatch):
    monkeypatch.setattr(fitted, "_scores", lambda *_: np.full((2, N_ITEMS), np.nan, np.float32))
    assert fitted._places(None, None, np.arange(2), np.array([3, 4])).tolist() == [N_ITEMS] * 2
