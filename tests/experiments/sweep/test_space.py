"""What a study explores: weights on a simplex, parameters under conditions, limits and known points."""

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from seasonrec.errors import ConfigError
from seasonrec.experiments.sweep.space import Conditional, Limit, Simplex, Space

WEIGHTS = Space({"loss.weights": Simplex(["seasonal", "cf", "content"])})
TUNED = Space(
    {
        "finetune": CategoricalDistribution(["frozen", "adapter", "full"]),
        "finetune.size": Conditional({"finetune": "adapter"}, IntDistribution(8, 128, log=True)),
        "optim.encoder_lr": Conditional({"finetune": ["adapter", "full"]}, FloatDistribution(1e-6, 1e-3, log=True)),
    }
)


def drawn(space, n, seed=0):
    """The values of n random trials."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    return [space.draw(study.ask()) for _ in range(n)]


def test_weights_are_positive_and_sum_to_one():
    for values in drawn(WEIGHTS, 50):
        assert list(values) == ["loss.weights.seasonal", "loss.weights.cf", "loss.weights.content"]
        assert min(values.values()) >= 0
        assert sum(values.values()) == pytest.approx(1, abs=2e-6)


def test_weights_have_the_distribution_of_a_flat_dirichlet():
    weights = np.array([list(values.values()) for values in drawn(WEIGHTS, 2_000)])
    # Each is Beta(1, 2): mean 1/3, variance 1/18, and more than half with probability 1/4.
    assert weights.mean(0) == pytest.approx([1 / 3] * 3, abs=0.02)
    assert weights.var(0) == pytest.approx([1 / 18] * 3, abs=0.005)
    assert (weights > 0.5).mean(0) == pytest.approx([1 / 4] * 3, abs=0.04)
    assert np.corrcoef(weights.T)[0, 1] == pytest.approx(-1 / 2, abs=0.05)


@pytest.mark.parametrize("point", [(1.0, 0.05, 0.2), (1, 1, 1), (1, 0, 0), (0.2, 0.3, 0.5)])
def test_a_known_point_on_the_simplex_is_drawn_as_it_is(point):
    study = optuna.create_study()
    study.enqueue_trial(WEIGHTS.point(dict(zip(WEIGHTS.keys, point, strict=True))))
    assert list(WEIGHTS.draw(study.ask()).values()) == pytest.approx([weight / sum(point) for weight in point], abs=1e-6)


def test_a_parameter_exists_only_where_its_condition_holds():
    for values in drawn(TUNED, 60):
        assert ("finetune.size" in values) == (values["finetune"] == "adapter")
        assert ("optim.encoder_lr" in values) == (values["finetune"] != "frozen")
    assert {values["finetune"] for values in drawn(TUNED, 60)} == {"frozen", "adapter", "full"}


def test_a_known_point_leaves_out_what_does_not_exist_there():
    assert TUNED.point({"finetune": "full", "optim.encoder_lr": 1e-5}) == {"finetune": "full", "optim.encoder_lr": 1e-5}
    assert TUNED.point({"finetune": "frozen", "finetune.size": 8}) == {"finetune": "frozen"}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"a": Conditional({"b": 1}, IntDistribution(1, 2)), "b": IntDistribution(1, 2)}, "a depends on b, which is not drawn before it"),
        ({"a": [1, 2]}, "a is a list, wanted a distribution of Optuna's"),
    ],
)
def test_a_space_that_cannot_be_drawn_is_refused(parameters, message):
    with pytest.raises(ConfigError, match=message):
        Space(parameters)


@pytest.mark.parametrize(
    ("space", "point", "message"),
    [
        (TUNED, {"finetune": "lora"}, "finetune=lora lies outside of"),
        (TUNED, {"finetune": "adapter", "finetune.size": 500}, "finetune.size=500 lies outside of"),
        (TUNED, {"finetun": "adapter"}, "finetun is not in the space; did you mean 'finetune'"),
        (WEIGHTS, {"loss.weights.cf": 1.0}, "no weights of loss.weights; give all of seasonal, cf, content"),
    ],
)
def test_a_known_point_outside_of_the_space_is_refused(space, point, message):
    with pytest.raises(ConfigError, match=message):
        space.point(point)


@pytest.mark.parametrize(
    ("limit", "values", "excess"),
    [
        (Limit("seconds_per_epoch", high=60), {"seconds_per_epoch": 75}, 15),
        (Limit("seconds_per_epoch", high=60), {"seconds_per_epoch": 60}, 0),
        (Limit("a", low=0.25), {"a": 0.5}, -0.25),
        (Limit("a", low=1, high=3), {"a": 5}, 2),
        (Limit("optim.encoder_lr", high="optim.lr"), {"optim.encoder_lr": 0.5, "optim.lr": 0.25}, 0.25),
        (Limit("optim.encoder_lr", high="optim.lr"), {"optim.lr": 0.25}, None),
        (Limit("seconds_per_epoch", high=60), {}, None),
    ],
)
def test_a_limit_says_by_how_much_it_is_broken(limit, values, excess):
    assert limit.excess(values) == excess


def test_a_limit_names_itself_and_wants_a_bound():
    assert Limit("a", low=1, high="b").name == "1 <= a <= b"
    with pytest.raises(ConfigError, match="neither low nor high"):
        Limit("a")


def test_equal_weights_are_drawn_where_every_exponential_is_zero():
    trial = optuna.trial.FixedTrial(dict.fromkeys((f"{key} (uniform)" for key in WEIGHTS.keys), 1.0))
    assert math.isclose(sum(WEIGHTS.draw(trial).values()), 1, abs_tol=2e-6)
