"""Optimiser groups, the schedule, and one step of training on a model small enough to know."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from seasonrec.data.batches import Batcher, Moments
from seasonrec.data.candidates import Candidates
from seasonrec.errors import ConfigError, TrainingError
from seasonrec.joint.model import Scores
from seasonrec.joint.module import FreshTexts, JointModule, Optimisation, truth_of
from seasonrec.losses import CrossEntropy, JointLoss
from seasonrec.seasons.calendar import Calendar
from seasonrec.seasons.context import SeasonContext


class Texts(nn.Module):
    """An encoder of two blocks, the upper of which learns; counts how often its texts are encoded."""

    def __init__(self, trained=True):
        super().__init__()
        self.encoder = nn.ModuleDict({"bottom": nn.Linear(2, 2), "top": nn.Linear(2, 2)})
        self.encoder["bottom"].requires_grad_(False)
        self.encoder["top"].requires_grad_(trained)
        self.trained, self.n_refreshed = trained, 0

    def refresh(self):
        self.n_refreshed += 1


class Model(nn.Module):
    """Scores by item alone; as many heads as named."""

    def __init__(self, trained=True, n_items=32, heads=("seasonal", "cf")):
        super().__init__()
        self.texts = Texts(trained)
        self.heads = nn.ModuleDict({name: nn.Embedding(n_items, 1) for name in heads})
        self.mixer = nn.Linear(2, 1)
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def forward(self, batch, detach_heads=False):
        self.detached = detach_heads
        by_head = {name: head.weight.T for name, head in self.heads.items()}
        mixed = {name: s.detach() if detach_heads else s for name, s in by_head.items()}
        total = sum(mixed.values()).expand(len(batch.user), -1) * self.log_temperature.exp()
        return Scores(total, mixed, by_head)


@pytest.fixture
def batch(random_timeline):
    """The queries of week 20 with what they bought, over the whole catalogue."""
    batcher = Batcher(Moments(SeasonContext(Calendar("US", "UTC", "north"))))
    return batcher.with_truth(random_timeline.queries(range(20, 21)), random_timeline.at_week(20))


def module_of(model, weights=None, optimisation=None, **options):
    loss = JointLoss(weights or {"seasonal": 1.0, "cf": 0.5}, {"seasonal": CrossEntropy(), "cf": CrossEntropy()})
    module = JointModule(model, loss, optimisation or Optimisation(), **options)
    module.logged = {}
    module.log = lambda name, value, **_: module.logged.update({name: float(value)})
    return module


def names_of(model, group):
    name_of = {id(p): name for name, p in model.named_parameters()}
    return {name_of[id(p)] for p in group["params"]}


def test_groups_have_their_own_rates_and_decays():
    model = Model()
    groups = Optimisation(lr=0.1, encoder_lr=0.01, weight_decay=0.5, embedding_decay=0.7).groups(model)
    by_options = {(group["lr"], group["weight_decay"]): names_of(model, group) for group in groups}
    assert by_options == {
        (0.01, 0.5): {"texts.encoder.top.weight"},
        (0.01, 0.0): {"texts.encoder.top.bias"},
        (0.1, 0.5): {"mixer.weight"},
        (0.1, 0.0): {"mixer.bias", "log_temperature"},
        (0.1, 0.7): {"heads.seasonal.weight", "heads.cf.weight"},
    }


def test_what_is_frozen_is_in_no_group():
    model = Model(trained=False)
    grouped = set().union(*(names_of(model, group) for group in Optimisation().groups(model)))
    assert grouped == {name for name, _ in model.named_parameters() if not name.startswith("texts.")}


def test_the_optimiser_moves_the_groups_at_their_rates(batch):
    model = Model()
    module = module_of(model, optimisation=Optimisation(lr=0.1, encoder_lr=0.01, weight_decay=0, embedding_decay=0, warmup=0), n_epochs=1)
    module.trainer = SimpleNamespace(estimated_stepping_batches=10, max_epochs=1)
    made = module.configure_optimizers()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    made["optimizer"].step()
    # The first step of Adam moves each number by its rate, whatever the gradient.
    moved = {name: float((before[name] - p.detach()).flatten()[0]) for name, p in model.named_parameters()}
    assert moved["texts.encoder.top.weight"] == pytest.approx(0.01, rel=1e-4)
    assert moved["mixer.weight"] == pytest.approx(0.1, rel=1e-4)
    assert moved["texts.encoder.bottom.weight"] == 0


@pytest.mark.parametrize(
    "wrong", [{"lr": 0}, {"encoder_lr": -1}, {"weight_decay": -0.1}, {"embedding_decay": -0.1}, {"warmup": 1.0}, {"lr": float("nan")}]
)
def test_impossible_rates_are_an_error(wrong):
    with pytest.raises(ConfigError, match="wanted positive rates, decays of at least 0 and warmup in"):
        Optimisation(**wrong)


def test_the_rate_rises_and_falls_linearly():
    # Of 10 steps 4 warm up: step 0 has 1/5 of the rate, step 3 has 4/5, step 4 all of it; the 6 steps left lose 1/6 each.
    rates = [Optimisation(warmup=0.4).rate(step, 10) for step in range(11)]
    np.testing.assert_allclose(rates, [1 / 5, 2 / 5, 3 / 5, 4 / 5, 6 / 6, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])


def test_without_a_warm_up_the_first_step_has_the_whole_rate():
    assert [Optimisation(warmup=0).rate(step, 4) for step in range(5)] == [1, 0.75, 0.5, 0.25, 0]


def test_the_rate_never_falls_below_0():
    assert Optimisation().rate(99, 10) == 0


def test_the_schedule_is_that_of_all_epochs_though_fewer_are_trained():
    module = module_of(Model(), optimisation=Optimisation(lr=1.0, warmup=0), n_epochs=5)
    module.trainer = SimpleNamespace(estimated_stepping_batches=8, max_epochs=2)  # 4 batches an epoch
    made = module.configure_optimizers()
    schedule = made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "step"
    rates = []
    for _ in range(8):
        rates.append(schedule.get_last_lr()[-1])
        made["optimizer"].step()
        schedule.step()
    np.testing.assert_allclose(rates, 1 - np.arange(8) / 20)


def test_every_term_is_logged_by_name(batch):
    module = module_of(Model())
    total = module.training_step(batch, 0)
    logged = module.logged
    assert set(logged) == {"train/loss/seasonal", "train/loss/cf", "train/loss/total"}
    assert logged["train/loss/total"] == pytest.approx(logged["train/loss/seasonal"] + 0.5 * logged["train/loss/cf"])
    assert float(total.detach()) == pytest.approx(logged["train/loss/total"])


def test_without_a_weight_for_the_list_only_the_mixer_learns_from_it(batch):
    module = module_of(model := Model(heads=["cf"]), {"seasonal": 0.0, "cf": 0.5})
    module.training_step(batch, 0).backward()
    with_list, temperature = model.heads["cf"].weight.grad.clone(), model.log_temperature.grad
    assert model.detached
    assert temperature != 0
    model.zero_grad()
    (0.5 * CrossEntropy()(model.heads["cf"].weight.T.expand(len(batch.user), -1), truth_of(batch))).backward()
    torch.testing.assert_close(with_list, model.heads["cf"].weight.grad)


def test_a_loss_that_is_not_finite_names_epoch_batch_queries_and_terms(batch):
    model = Model()
    with torch.no_grad():
        model.heads["cf"].weight[3] = torch.inf
    user = ", ".join(map(str, batch.user[:5].tolist()))
    with pytest.raises(TrainingError) as error:
        module_of(model).training_step(batch, 17)
    message = str(error.value)
    assert f"in epoch 0, batch 17 (queries of {batch.moment.time} s UTC, user rows [{user}]...)" in message
    assert "'cf': nan" in message
    assert "lower optim.lr" in message


@pytest.mark.parametrize(("overfit_batches", "epoch"), [(0.0, 3), (2, 0)])
def test_an_epoch_has_its_own_order_and_dropout_but_what_is_learnt_by_heart_comes_again(overfit_batches, epoch):
    module = module_of(Model(), seed=5)
    batches = SimpleNamespace(epoch=None)
    loader = SimpleNamespace(dataset=batches)
    module.trainer = SimpleNamespace(current_epoch=3, overfit_batches=overfit_batches, train_dataloader=loader)
    module.on_train_epoch_start()
    drawn = torch.rand(2)
    torch.manual_seed(5 * 100_003 + 3)
    assert torch.equal(drawn, torch.rand(2))
    assert batches.epoch == epoch


@pytest.mark.parametrize(("trained", "resumed_at", "n"), [(True, 0, 1), (True, 2, 2), (False, 2, 0)])
def test_texts_are_encoded_anew_after_each_epoch_and_when_a_training_is_resumed(trained, resumed_at, n):
    module, fresh = module_of(model := Model(trained)), FreshTexts()
    trainer = SimpleNamespace(current_epoch=resumed_at)
    fresh.on_train_start(trainer, module)
    fresh.on_train_epoch_end(trainer, module)
    assert model.texts.n_refreshed == n


def test_a_truth_item_is_new_if_the_user_had_not_bought_it(batch, random_timeline):
    truth = truth_of(batch)
    for query, item, is_new in zip(truth.query.tolist(), truth.column.tolist(), truth.is_new.tolist(), strict=True):
        own = (random_timeline.user == int(batch.user[query])) & (random_timeline.time < batch.moment.time)
        assert is_new == (item not in random_timeline.item[own])
    assert 0 < truth.is_new.sum() < len(truth.is_new)
    assert truth.log_inclusion is None


def test_own_purchases_outside_the_candidates_are_left_out(random_timeline):
    batcher = Batcher(Moments(SeasonContext(Calendar("US", "UTC", "north"))))
    queries = random_timeline.queries(range(20, 21))
    item = np.union1d(np.unique(queries.truth_item), [1, 2, 3]).astype(np.int64)
    candidates = Candidates(item, np.zeros(len(item), np.float32))
    batch = batcher.with_truth(queries, random_timeline.at_week(20), candidates)
    truth, whole = truth_of(batch), truth_of(batcher.with_truth(queries, random_timeline.at_week(20)))
    listed = np.isin(whole.own_column, item)
    assert 0 < listed.sum() < len(listed)
    np.testing.assert_array_equal(item[truth.own_column], whole.own_column[listed])
    np.testing.assert_array_equal(truth.own_query, whole.own_query[listed])
    assert torch.equal(truth.is_new, whole.is_new)
