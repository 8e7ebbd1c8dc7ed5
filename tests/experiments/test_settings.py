"""What experiments are called that differ in a few settings."""

import pytest

from seasonrec.errors import DataError
from seasonrec.experiments.settings import labels, refuse_mixtures, settings_of

CHOICES = {"head/seasonal": "default", "head/cf": "default", "logger": "csv"}
CONFIG = {
    "seed": 0,
    "paths": {"run": "a"},
    "optim": {"lr": 0.004, "encoder_lr": 2e-5},
    "loss": {"weights": {"seasonal": 1.0, "cf": 0.05}},
    "model": {"heads": {"seasonal": {"_target_": "pkg.Sum"}, "cf": {"_target_": "pkg.Repeat", "d": 8}}},
    "data": {"path": "here.csv"},
}


def record(*words, choices=None, **changes):
    """A run's record: its words, its choices and its config with dotted keys changed."""
    config = {key: dict(value) if isinstance(value, dict) else value for key, value in CONFIG.items()}
    for key, value in changes.items():
        first, last = key.split("__")
        config[first] = config[first] | {last: value}
    return {"config": config, "overrides": list(words), "choices": CHOICES | (choices or {})}


def test_seed_paths_data_and_loggers_are_no_settings():
    other = record("seed=1", choices={"logger": "wandb"}, paths__run="b", data__path="there.csv")
    other["config"]["seed"] = 1
    assert settings_of(other) == settings_of(record())
    assert settings_of(record(optim__lr=1.0)) != settings_of(record())


def test_another_version_of_own_code_is_another_experiment():
    of_code = lambda digest: record() | {"code": {"commit": "a", "own": {"my_heads": digest}}}
    assert settings_of(of_code("1f")) != settings_of(of_code("2e"))
    assert labels([of_code("1f"), of_code("2e")]) == ["my_heads=1f", "my_heads=2e"]


def test_one_experiment_needs_no_name():
    assert labels([record()]) == [""]


def test_a_key_is_as_short_as_it_can_be_and_everyone_says_what_it_has():
    weights = record("loss.weights.seasonal=0.5", loss__weights={"seasonal": 0.5, "cf": 0.05})
    assert labels([record(), weights]) == ["weights.seasonal=1", "weights.seasonal=0.5"]
    assert labels([record(), record("optim.lr=0.1", optim__lr=0.1)]) == ["lr=0.004", "lr=0.1"]


def test_a_choice_of_a_group_is_named_by_its_choice():
    without = record("head/cf=none", choices={"head/cf": "none"}, model__heads={"seasonal": {"_target_": "pkg.Sum"}})
    assert labels([record(), without]) == ["head/cf=default", "head/cf=none"]


def test_two_settings_that_vary_together_are_both_named():
    runs = [record(f"optim.lr={lr}", f"loss.weights={w}", optim__lr=lr, loss__weights={"seasonal": w}) for lr, w in ((0.1, 1), (0.2, 2))]
    assert [label.split(", ")[0] for label in labels(runs)] == ["lr=0.1", "lr=0.2"]


def test_without_words_the_configs_tell_them_apart():
    runs = [record(optim__lr=0.1), record(optim__lr=0.2), record(model__heads={"cf": {"_target_": "pkg.Other", "d": 8}}, optim__lr=0.1)]
    for each in runs:
        each["overrides"], each["choices"] = [], {}
    assert labels(runs) == [
        "lr=0.1, seasonal=Sum, cf=Repeat",
        "lr=0.2, seasonal=Sum, cf=Repeat",
        "lr=0.1, seasonal=none, cf=Other",
    ]


def test_many_differences_are_cut_short_and_equal_names_get_a_number():
    runs = [record(optim__lr=0.1) | {"overrides": [], "choices": {}} for _ in range(2)]
    for place, each in enumerate(runs):
        each["config"] |= {"sampling": {f"a{n}": place if n > 3 else n for n in range(9)}}
    first, second = labels(runs)
    assert first == "a4=0, a5=0, a6=0, a7=0 and 1 more"
    assert second == "a4=1, a5=1, a6=1, a7=1 and 1 more"


def seen(name="shop", digest="a" * 32, split=(5, 6)):
    return {"data": {"name": name, "digest": digest, "split": {"test": list(split)}}}


def test_runs_of_the_same_data_may_stand_in_one_table():
    refuse_mixtures({"one": seen(), "two": seen()})


def test_runs_with_and_without_the_shop_s_plan_may_stand_in_one_table():
    with_plan, without = seen(digest="b" * 32), seen()
    with_plan["data"]["purchases_digest"] = "a" * 32
    refuse_mixtures({"with": with_plan, "without": without})


def test_another_plan_of_the_shop_s_is_another_experiment():
    """They stand in one table, in rows of their own."""
    plan = lambda digest, kinds: record() | seen(digest=digest) | {"data": seen(digest=digest)["data"] | {"promotion_kinds": kinds}}
    runs = [plan("a" * 32, None), plan("b" * 32, ["flyer"]), plan("c" * 32, [*"flyer"])]
    assert len({repr(settings_of(run)) for run in runs}) == 3
    assert settings_of(record() | seen()) == settings_of(record() | seen(digest="d" * 32))
    for run, lr in zip(runs, (0.1, 0.2, 0.2), strict=True):
        run["config"], run["overrides"] = run["config"] | {"optim": {"lr": lr}}, [f"optim.lr={lr}"]
    assert labels(runs)[1:] == ["lr=0.2, promotions=flyer (bbbbbbbb)", "lr=0.2, promotions=5 kinds (cccccccc)"]
    runs = [plan("a" * 32, None), plan("b" * 32, ["flyer"]), plan("c" * 32, [*"flyer"])]
    assert labels(runs) == ["promotions=none", "promotions=flyer (bbbbbbbb)", "promotions=5 kinds (cccccccc)"]


@pytest.mark.parametrize("other", [seen(digest="b" * 32), seen(split=(6, 7))])
def test_runs_of_other_data_or_splits_are_refused_by_name(other):
    with pytest.raises(
        DataError, match=r"these runs saw 2 data sets or splits \(one: shop aaaaaaaaaaaa, .*; two: shop .*report each of them alone"
    ):
        refuse_mixtures({"one": seen(), "two": other})
