"""Weighting strategies on cases whose answer can be worked out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from seasonrec.errors import ConfigError
from seasonrec.heads.cf import Factors
from seasonrec.heads.content import ProfileText
from seasonrec.heads.seasonal import HarmonicText
from seasonrec.joint.mixer import Gated
from seasonrec.joint.model import JointModel
from seasonrec.joint.module import truth_of
from seasonrec.losses import CrossEntropy, JointLoss
from seasonrec.weighting import DynamicWeightAverage, Fixed, GradNorm, PCGrad, TaskGradients, Uncertainty, projected

EQUAL = {"one": 1.0, "other": 1.0}
STRATEGIES = [Fixed, Uncertainty, GradNorm, PCGrad, DynamicWeightAverage]


def learn(weighting, terms, parameters, lr=0.1, n_steps=500):
    """The weights after the loss of terms was minimised over the parameters and what the weighting learns, with rates that fall to 0."""
    optimizer = torch.optim.Adam([{"params": parameters, "lr": lr}, *weighting.groups()])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / n_steps)
    for _ in range(n_steps):
        optimizer.zero_grad()
        weighting(terms(), parameters).backward()
        optimizer.step()
        schedule.step()
    return {name.removeprefix("weight/"): float(value) for name, value in weighting.course.items()}


def test_fixed_weights_are_the_plain_weighted_sum_to_the_last_bit():
    terms = {"cf": torch.tensor(7.123456), "content": torch.tensor(0.333333), "seasonal": torch.tensor(6.98765)}
    total = Fixed({"seasonal": 0.7, "cf": 0.05, "content": 0.2})(terms)
    assert torch.equal(total, 0.05 * terms["cf"] + 0.2 * terms["content"] + 0.7 * terms["seasonal"])


def test_uncertainty_ends_with_the_precision_of_each_task():
    # Two noisy measurements of one number: (x - y)^2 is least at the mean, where it is the variance sigma^2.
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 500))
    noise -= noise.mean(1, keepdims=True)
    first, second = 3 + noise * np.array([[0.5], [2.0]]) / noise.std(1, keepdims=True)
    x = nn.Parameter(torch.zeros(()))
    y = {"one": torch.tensor(first), "other": torch.tensor(second)}
    weights = learn(Uncertainty(EQUAL, lr=0.1), lambda: {task: (x - values).square().mean() for task, values in y.items()}, [x])
    assert x.item() == pytest.approx(3, abs=1e-3)
    assert weights == pytest.approx({"one": 1 / (2 * 0.5**2), "other": 1 / (2 * 2.0**2)}, rel=1e-2)


def test_uncertainty_is_least_where_a_weight_times_its_loss_is_a_half():
    weighting = Uncertainty({"one": 1 / (2 * 5.0)})
    loss = weighting({"one": torch.tensor(5.0)})
    loss.backward()
    assert weighting.log_weight.grad.item() == pytest.approx(0, abs=1e-6)
    assert loss.item() == pytest.approx(1 / 2 + np.log(10) / 2)


def test_gradnorm_without_alpha_ends_with_equal_gradient_norms():
    x = torch.tensor([3.0, 4.0], requires_grad=True)
    # The gradients are 100 x and x, so that weights of sum 2 must be as 1 to 100.
    weights = learn(GradNorm(EQUAL, alpha=0, lr=0.1), lambda: {"one": 50 * x.square().sum(), "other": 0.5 * x.square().sum()}, [x], lr=0)
    assert weights == pytest.approx({"one": 2 / 101, "other": 200 / 101}, rel=1e-2)


def test_gradnorm_favours_the_task_that_lags_behind():
    x = torch.tensor([2.0], requires_grad=True)
    weighting = GradNorm({"one": 3, "other": 1}, alpha=1)  # whole numbers, as YAML may have them
    weighting({"one": 2 * x.sum(), "other": 5 * x.sum()}, [x])  # first losses 4 and 10
    # Now they are 1 and 7.5: a quarter and three quarters of that, half their mean and one and a half. Gradients are 2 and 5.
    weights = learn(weighting, lambda: {"one": 2 * x.sum() - 3, "other": 5 * x.sum() - 2.5}, [x], lr=0)
    assert sum(weights.values()) == pytest.approx(4, rel=1e-5)
    assert (5 * weights["other"]) / (2 * weights["one"]) == pytest.approx(1.5 / 0.5, rel=1e-2)


def test_gradnorm_compares_only_what_is_shared():
    shared, own = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    lonely = torch.ones(1, requires_grad=True)
    terms = [3 * shared.sum() + 100 * own.sum(), 4 * shared[0], 2 * lonely.sum()]
    gradients = TaskGradients.of(terms, [shared, own, lonely])
    assert gradients.shared == [True, False, False]
    assert gradients.sharing == [True, True, False]
    torch.testing.assert_close(gradients.products(), torch.tensor([[18.0, 12, 0], [12, 16, 0], [0, 0, 0]]))


@pytest.mark.parametrize("weighting", [GradNorm, PCGrad])
def test_tasks_that_share_nothing_keep_their_weights(weighting):
    x, y = torch.tensor([2.0], requires_grad=True), torch.tensor([5.0], requires_grad=True)
    made = weighting({"one": 3.0, "other": 0.5})
    loss = made({"one": x.sum(), "other": y.sum()}, [x, y])
    loss.backward()
    assert (loss.item(), x.grad.item(), y.grad.item()) == (8.5, 3, 0.5)
    assert all(p.grad is None or not p.grad.any() for p in made.parameters())


def pcgrad(rows, weights, *others):
    """The gradient that PCGrad makes of tasks with the given gradients."""
    x = torch.zeros(len(rows[0]), requires_grad=True)
    names = [f"task {n}" for n in range(len(rows))]
    weighting = PCGrad(dict(zip(names, weights, strict=True)))
    loss = weighting({name: x @ torch.tensor(row) for name, row in zip(names, rows, strict=True)}, [x, *others])
    loss.backward()
    return x.grad.tolist(), float(weighting.course["conflicts"])


def test_pcgrad_projects_two_gradients_in_conflict():
    # (1, 0) loses its part along (-1, 1): (1, 0) + 1/2 (-1, 1) = (1/2, 1/2); (-1, 1) loses its along (1, 0): (0, 1).
    assert pcgrad([[1.0, 0.0], [-1.0, 1.0]], [1, 1]) == ([0.5, 1.5], 1)
    # Twice the second: it is (-2, 2), whose plane is the same; projected it is (0, 2).
    assert pcgrad([[1.0, 0.0], [-1.0, 1.0]], [1, 2]) == ([0.5, 2.5], 1)


def test_pcgrad_adds_up_gradients_in_harmony():
    assert pcgrad([[1.0, 0.0], [1.0, 1.0]], [1, 3]) == ([4, 3], 0)
    assert pcgrad([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [1, 1, 1]) == ([1, 1], 0)


@pytest.mark.parametrize("seed", range(5))
def test_pcgrad_of_many_tasks_is_the_algorithm_written_out(seed):
    rows = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)).double()
    torch.manual_seed(seed)
    found = projected(rows @ rows.T) @ rows
    torch.manual_seed(seed)
    wanted = torch.zeros(3).double()
    for task in range(4):
        gradient = rows[task].clone()
        for other in torch.randperm(4).tolist():
            if other != task and gradient @ rows[other] < 0:
                gradient -= (gradient @ rows[other]) / rows[other].square().sum() * rows[other]
        wanted += gradient
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(found, rows.sum(0))


def test_pcgrad_leaves_alone_what_one_task_alone_reaches():
    shared, own = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    terms = {"one": shared[0] + own[0], "other": shared[1] - shared[0]}
    # Over all four numbers the product of (1, 0, 1, 0) and (-1, 1, 0, 0) would be the same, but not the square that divides it.
    PCGrad(EQUAL)(terms, [shared, own]).backward()
    assert (shared.grad.tolist(), own.grad.tolist()) == ([0.5, 1.5], [1, 0])


@pytest.mark.parametrize("weighting", [PCGrad, GradNorm])
def test_a_task_that_nothing_learns_from_has_no_part_in_the_gradient(weighting):
    x = torch.zeros(2, requires_grad=True)
    loss = weighting(EQUAL)({"one": 3 * x[0] + 2 * x[1] + 1, "other": torch.tensor(5.0)}, [x])
    assert loss.item() == 6
    loss.backward()
    assert x.grad.tolist() == [3, 2]


def test_dynamic_weights_follow_the_ratios_of_epoch_means():
    weighting = DynamicWeightAverage({"one": 1.0, "other": 0.5}, temperature=2)
    epochs = [[(5, 4), (3, 4)], [(1, 3), (3, 5)], [(9, 9)], [(9, 9)]]  # means (4, 4), (2, 4), (9, 9)
    seen = []
    for epoch in epochs:
        weighting.begin_epoch()
        for one, other in epoch:
            loss = weighting({"one": torch.tensor(float(one)), "other": torch.tensor(float(other))})
            weights = [float(weight) for weight in weighting.course.values()]
            assert loss.item() == pytest.approx(weights[0] * one + weights[1] * other)
        seen.append(weights)

    def wanted(*ratios):
        parts = np.exp(np.array(ratios) / 2)
        return pytest.approx(np.array([1.0, 0.5]) * 2 * parts / parts.sum())

    assert seen[:2] == [[1, 0.5]] * 2
    assert seen[2] == wanted(2 / 4, 4 / 4)
    assert seen[3] == wanted(9 / 2, 9 / 4)


def test_dynamic_weights_of_tasks_without_a_head_do_not_count():
    weighting = DynamicWeightAverage({"one": 1.0, "none": 1.0, "other": 1.0})
    for _ in range(3):
        weighting.begin_epoch()
        weighting({"one": torch.tensor(1.0), "other": torch.tensor(1.0)})
    assert {name: float(weight) for name, weight in weighting.course.items()} == {"weight/one": 1, "weight/other": 1}


HEADS = {"seasonal": HarmonicText, "cf": Factors, "content": ProfileText}


def terms_of(shop, weighting=Fixed):
    """A model of the shop with its loss, the terms of a batch by it, and the names of the parameters that learn."""
    torch.manual_seed(0)
    model = JointModel(shop.texts, shop.sizes, HEADS, Gated)
    for parameter in [*model.heads.parameters(), *model.mixer.parameters()]:
        nn.init.normal_(parameter, std=0.2)
    loss = JointLoss({"seasonal": 1.0, "cf": 0.05, "content": 0.2}, dict.fromkeys(HEADS, CrossEntropy(0.3)), weighting=weighting)
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    batch = shop.training_batch()
    torch.manual_seed(1)
    scores = model(batch)
    return loss(scores.total, scores.by_head, truth_of(batch), list(learning.values())), learning


def shared(shop):
    terms, learning = terms_of(shop)
    gradients = TaskGradients.of([terms[task] for task in HEADS], list(learning.values()))
    return {name for name, shared in zip(learning, gradients.shared, strict=True) if shared}, set(learning)


def test_with_a_frozen_encoder_tasks_share_the_heads_that_two_of_them_reach(small_shop):
    found, learning = shared(small_shop)
    assert found == {name for name in learning if name.startswith(("heads.cf.", "heads.content."))}
    assert len(found) < len(learning)


def test_an_encoder_that_learns_is_shared_too(learning_shop):
    found, learning = shared(learning_shop)
    assert found == {name for name in learning if name.startswith(("heads.cf.", "heads.content.", "texts.encoder."))}


@pytest.mark.parametrize("weighting", [GradNorm, DynamicWeightAverage])
def test_at_the_start_a_strategy_is_the_weighted_sum(learning_shop, weighting):
    (plain, learning), (terms, same) = terms_of(learning_shop), terms_of(learning_shop, weighting)
    torch.testing.assert_close(terms["total"], plain["total"])
    wanted = torch.autograd.grad(plain["total"], learning.values(), allow_unused=True)
    for expected, found in zip(wanted, torch.autograd.grad(terms["total"], same.values(), allow_unused=True), strict=True):
        assert (expected is None) == (found is None)
        if expected is not None:
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("weighting", [GradNorm, PCGrad])
def test_gradients_made_by_hand_scale_with_their_loss(small_shop, weighting):
    terms, learning = terms_of(small_shop, weighting)
    whole, quarter = (torch.autograd.grad(part * terms["total"], learning.values(), retain_graph=True) for part in (1, 0.25))
    torch.testing.assert_close([gradient / 4 for gradient in whole], list(quarter))


@pytest.mark.parametrize("weighting", STRATEGIES)
def test_a_strategy_goes_on_from_its_saved_state(weighting):
    def go_on(made, n):
        for _ in range(n):
            made.begin_epoch()
            terms = {"one": 3 * x.square().sum(), "other": (x - next(draws)).square().sum()}
            optimizer = torch.optim.SGD([{"params": [x], "lr": 0.01}, *made.groups()])
            optimizer.zero_grad()
            made(terms, [x]).backward()
            optimizer.step()
        return x.detach().clone(), made.state_dict()

    numbers = torch.randn(8, generator=torch.Generator().manual_seed(2))
    x, draws = torch.ones(2, requires_grad=True), iter(numbers)
    whole, _ = go_on(weighting(EQUAL), 8)
    x, draws = torch.ones(2, requires_grad=True), iter(numbers)
    _, state = go_on(weighting(EQUAL), 4)
    resumed = weighting(EQUAL)
    resumed.load_state_dict(state)
    assert torch.equal(go_on(resumed, 4)[0], whole)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uncertainty(EQUAL, lr=-1), r"lr is -1, wanted a rate of at least 0"),
        (lambda: GradNorm(EQUAL, alpha=-1), r"alpha is -1, wanted at least 0"),
        (lambda: DynamicWeightAverage(EQUAL, temperature=0), r"temperature is 0, wanted more than 0"),
    ],
)
def test_impossible_arguments_are_refused(make, message):
    with pytest.raises(ConfigError, match=rf"loss\.weighting: {message}"):
        make()
