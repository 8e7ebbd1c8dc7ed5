"""One step of training on a model small enough to know: rates, schedule, losses, seeds."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from seasonrec.data.batches import Batcher, Moments
from seasonrec.data.candidates import Candidates
from seasonrec.errors import ConfigError, TrainingError
from seasonrec.joint.model import Scores
from seasonrec.joint.module import FreshTexts, JointModule, truth_of
from seasonrec.joint.optimisation import Optimisation
from seasonrec.losses import CrossEntropy, JointLoss
from seasonrec.seasons.calendar import Calendar
from seasonrec.seasons.context import SeasonContext
from seasonrec.weighting import DynamicWeightAverage, Fixed, GradNorm, Uncertainty


class Texts(nn.Module):
    """An encoder of two blocks, the upper of which learns; counts how often its texts are encoded."""

    def __init__(self, trained=True):
        super().__init__()
        self.encoder = nn.ModuleDict({"bottom": nn.Linear(2, 2), "top": nn.Linear(2, 2)})
        self.encoder["bottom"].requires_grad_(False)
        self.encoder["top"].requires_grad_(trained)
        self.trained, self.n_refreshed, self.vectors = trained, 0, torch.zeros(3)

    def refresh(self):
        self.n_refreshed += 1
        self.vectors += 1
        return 0.25 * self.n_refreshed


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


def module_of(model, weights=None, optimisation=None, weighting=Fixed, **options):
    loss = JointLoss(weights or {"seasonal": 1.0, "cf": 0.5}, {"seasonal": CrossEntropy(), "cf": CrossEntropy()}, weighting=weighting)
    module = JointModule(model, loss, optimisation or Optimisation(), **options)
    module.logged = {}
    module.log = lambda name, value, **_: module.logged.update({name: float(value)})
    return module


def test_the_optimiser_moves_the_groups_at_their_rates(batch):
    model = Model()
    module = module_of(model, optimisation=Optimisation(lr=0.1, encoder_lr=0.01, weight_decay=0, embedding_decay=0, warmup=0), n_epochs=1)
    module.trainer = SimpleNamespace(estimated_stepping_batches=10, max_epochs=1, precision="32-true")
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


def test_the_schedule_is_that_of_all_epochs_though_fewer_are_trained():
    module = module_of(Model(), optimisation=Optimisation(lr=1.0, warmup=0), n_epochs=5)
    module.trainer = SimpleNamespace(estimated_stepping_batches=8, max_epochs=2, precision="32-true")  # 4 batches an epoch
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


def test_the_tasks_weights_are_logged_where_they_move(batch):
    module = module_of(Model(), weighting=Uncertainty)
    module.training_step(batch, 0)
    weights = {name: value for name, value in module.logged.items() if not name.startswith("train/loss/")}
    assert weights == pytest.approx({"train/weight/seasonal": 1.0, "train/weight/cf": 0.5})


def test_what_a_weighting_learns_has_a_rate_of_its_own_and_a_place_in_the_checkpoint():
    module = module_of(Model(), optimisation=Optimisation(lr=0.1), weighting=partial(GradNorm, lr=0.3))
    module.trainer = SimpleNamespace(estimated_stepping_batches=10, max_epochs=1, precision="32-true")
    *_, group = module.configure_optimizers()["optimizer"].param_groups
    assert group["params"] == [module.loss.weighting.log_weight]
    assert (group["initial_lr"], group["weight_decay"]) == (0.3, 0)
    assert {name for name in module.state_dict() if not name.startswith("model.")} == {"weighting.log_weight", "weighting.first"}


def test_fixed_weights_add_nothing_to_optimiser_and_checkpoint():
    module = module_of(model := Model())
    module.trainer = SimpleNamespace(estimated_stepping_batches=10, max_epochs=1, precision="32-true")
    assert len(module.configure_optimizers()["optimizer"].param_groups) == len(Optimisation().groups(model))
    assert all(name.startswith("model.") for name in module.state_dict())


def test_the_pull_at_the_tasks_weights_neither_counts_in_clipping_nor_is_clipped(batch):
    module = module_of(model := Model(), weighting=Uncertainty)
    module.clip_gradients = lambda optimizer, norm, _: nn.utils.clip_grad_norm_(module.parameters(), norm)
    module.training_step(batch, 0).backward()
    pull = module.weighting.log_weight.grad.clone()
    module.configure_gradient_clipping(None, 1e-3, "norm")
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    assert torch.stack(norms).norm() == pytest.approx(1e-3, rel=1e-3)
    assert torch.equal(module.weighting.log_weight.grad, pull)
    assert pull.norm() > 1


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
    assert "what was learnt is not finite any more: lower optim.lr" in message


@pytest.mark.parametrize("of", ["head cf", "the mixer", "a loss"])
def test_a_loss_that_is_not_finite_names_what_made_it_so(batch, monkeypatch, of):
    model = Model()
    module, scores = module_of(model), model(batch)
    made = {
        "head cf": replace(scores, by_head=scores.by_head | {"cf": scores.by_head["cf"] * torch.nan}),
        "the mixer": replace(scores, total=scores.total / 0),
        "a loss": scores,
    }
    monkeypatch.setattr(model, "forward", lambda *_, **__: made[of])
    if of == "a loss":
        module.loss.terms["cf"] = lambda scores, truth: scores.sum() * torch.nan
    with pytest.raises(TrainingError, match=f"all parameters are: {of} makes of them what is not; look for a division by 0"):
        module.training_step(batch, 17)


@pytest.mark.parametrize(("overfit_batches", "epoch"), [(0.0, 3), (2, 0)])
def test_an_epoch_has_its_own_order_and_dropout_but_what_is_learnt_by_heart_comes_again(overfit_batches, epoch):
    module = module_of(Model(), seed=5, weighting=DynamicWeightAverage)
    module.weighting.total += 6
    module.weighting.n_steps += 2
    batches = SimpleNamespace(epoch=None)
    loader = SimpleNamespace(dataset=batches)
    module.trainer = SimpleNamespace(current_epoch=3, overfit_batches=overfit_batches, train_dataloader=loader)
    module.on_train_epoch_start()
    drawn = torch.rand(2)
    torch.manual_seed(5 * 100_003 + 3)
    assert torch.equal(drawn, torch.rand(2))
    assert batches.epoch == epoch
    assert module.weighting.means[1].tolist() == [3, 3]


def trained_with(fresh, n_epochs, n_steps, *, trained=True, stop_after=None):
    """After which steps the texts were encoded anew, and the model, when epochs of so many steps have passed."""
    module = module_of(Model(trained))
    trainer = SimpleNamespace(global_step=0, max_epochs=n_epochs)
    for trainer.current_epoch in range(stop_after or n_epochs):
        for batch_idx in range(n_steps):
            trainer.global_step += 1
            fresh.on_train_batch_end(trainer, module, None, None, batch_idx)
        fresh.on_train_epoch_end(trainer, module)
    return [step for step, _ in fresh.staleness], module, trainer


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        ({}, [4, 8, 12, 16, 20]),
        ({"every_n_epochs": 2}, [8, 16, 20]),  # and after the last epoch
        ({"every_n_steps": 3}, [3, 4, 6, 8, 9, 12, 15, 16, 18, 20]),
        ({"every_n_epochs": 9, "every_n_steps": 10}, [10, 20]),
    ],
)
def test_texts_are_encoded_anew_on_schedule(schedule, steps):
    found, module, _ = trained_with(FreshTexts(**schedule), 5, 4)
    assert found == steps
    assert module.model.texts.n_refreshed == len(steps)
    assert module.logged == {"texts/staleness": 0.25 * len(steps)}  # the last one's


def test_texts_of_a_frozen_encoder_stay():
    found, module, _ = trained_with(FreshTexts(every_n_steps=1), 2, 4, trained=False)
    assert (found, module.model.texts.n_refreshed) == ([], 0)


def test_a_step_of_several_batches_counts_once():
    fresh, module = FreshTexts(every_n_steps=2), module_of(model := Model())
    trainer = SimpleNamespace(current_epoch=0, global_step=0, max_epochs=1)
    for batch_idx in range(8):
        trainer.global_step = (batch_idx + 1) // 2
        fresh.on_train_batch_end(trainer, module, None, None, batch_idx)
    assert [step for step, _ in fresh.staleness] == [2, 4]
    assert model.texts.n_refreshed == 2


def test_a_resumed_training_begins_with_the_vectors_of_the_interrupted_one():
    fresh = FreshTexts(every_n_epochs=2)
    _, module, trainer = trained_with(fresh, 5, 4, stop_after=3)
    fresh.on_save_checkpoint(trainer, module, checkpoint := {})
    resumed, again = FreshTexts(every_n_epochs=2), module_of(Model())
    resumed.load_state_dict(fresh.state_dict())
    resumed.on_load_checkpoint(trainer, again, checkpoint)
    assert torch.equal(again.model.texts.vectors, torch.ones(3))  # encoded anew once, after two epochs
    assert resumed.staleness == [(8, 0.25)]


def test_a_checkpoint_of_a_frozen_encoder_holds_no_vectors():
    fresh = FreshTexts()
    _, module, trainer = trained_with(fresh, 2, 4, trained=False)
    fresh.on_save_checkpoint(trainer, module, checkpoint := {})
    fresh.on_load_checkpoint(trainer, module, checkpoint)
    assert checkpoint == {}


@pytest.mark.parametrize("schedule", [{"every_n_epochs": 0}, {"every_n_steps": -1}])
def test_a_schedule_without_a_period_is_an_error(schedule):
    with pytest.raises(ConfigError, match=r"model\.refresh_texts\.every_n_(epochs is 0|steps is -1), wanted at least 1"):
        FreshTexts(**schedule)


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
