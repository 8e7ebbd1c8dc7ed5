"""Keys that Hydra would let pass inside a file, found by `check_config`."""

import re
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest
from omegaconf import MISSING, OmegaConf, open_dict

from seasonrec.errors import ConfigError
from seasonrec.experiments.config import AblateConfig, check_config, nearest

SPLIT = {"_target_": "seasonrec.data.dataset.Split", "validation": [1, 2], "test": [3, 4]}


@dataclass
class Inner:
    k: int = 10


@dataclass
class Schema:
    seed: int = 0
    name: str | None = None
    inner: Inner = field(default_factory=Inner)
    call: dict[str, Any] = field(default_factory=dict)
    must: str = MISSING


def check(**keys):
    check_config(OmegaConf.create({"must": "x"} | keys), Schema)


def test_a_config_that_is_in_order_passes():
    check(seed=3, name=None, inner={"k": "${seed}"}, call=SPLIT)


@pytest.mark.parametrize(
    "word", ["eval.n_resamples=0", "trainer.max_epochs=0", "n_threads=0", "eval.k=-1", "eval.n_selection=0", "model.purchase_texts=-1"]
)
def test_a_number_of_things_below_one_is_an_error(composed, word):
    key, _, value = word.partition("=")
    with pytest.raises(ConfigError, match=rf"^{re.escape(key)} is {value}, wanted at least 1$"):
        check_config(composed(word))


@pytest.mark.parametrize("word", ["seed=-1", "seed=4294967296"])
def test_a_seed_that_numpy_does_not_take_is_an_error(composed, word):
    key, _, value = word.partition("=")
    with pytest.raises(ConfigError, match=rf"^{key} is {value}, wanted 0 to 4294967295$"):
        check_config(composed(word))


def test_each_seed_of_an_ablation_is_looked_at(composed):
    with open_dict(cfg := composed()):
        cfg.ablation = {"name": "x", "seeds": [0, -1], "folder": "here", "n_resamples": 1}
    with pytest.raises(ConfigError, match=r"^ablation\.seeds is -1, wanted 0 to"):
        check_config(cfg, AblateConfig)


def test_a_word_where_a_number_of_things_is_wanted_is_an_error(composed):
    with pytest.raises(ConfigError, match=r"^trainer\.max_epochs is 'abc', wanted a number of at least 1$"):
        check_config(composed("trainer.max_epochs=abc"))


def test_an_unknown_key_at_the_root_says_the_nearest():
    with pytest.raises(ConfigError, match=r"^sead: there is no such key; did you mean 'seed'\?$"):
        check(sead=3)


def test_an_unknown_key_in_a_plain_group_is_named_with_its_path():
    with pytest.raises(ConfigError, match=r"^inner\.length: there is no such key; known are k$"):
        check(inner={"length": 3})


def test_a_value_of_the_wrong_type_is_named_with_its_path():
    with pytest.raises(ConfigError, match=r"^inner\.k: Value 'ten' of type 'str' could not be converted to Integer$"):
        check(inner={"k": "ten"})


def test_a_group_that_holds_no_mapping_is_an_error():
    with pytest.raises(ConfigError, match="call: Cannot assign str"):
        check(call="split")


def test_all_missing_values_are_named_at_once():
    with pytest.raises(ConfigError, match=r"^call\.a, must: no value given; add call\.a=\.\.\. must=\.\.\. to the command line"):
        check(must="???", call={"a": "???"})


def test_an_interpolation_of_what_is_not_there_is_an_error():
    with pytest.raises(ConfigError, match=r"inner\.k: Interpolation key 'nothing' not found"):
        check(inner={"k": "${nothing}"})


def test_an_interpolation_inside_a_constructor_call_is_checked_too():
    with pytest.raises(ConfigError, match=r"call\.test: Interpolation key 'nothing' not found"):
        check(call=SPLIT | {"test": "${nothing}"})


def test_an_unknown_argument_says_the_nearest_and_how_to_take_it_out():
    with pytest.raises(ConfigError) as error:
        check(call=SPLIT | {"vaildation": [1, 2]})
    says = "call.vaildation: seasonrec.data.dataset.Split takes no argument 'vaildation'; did you mean 'validation'?"
    assert str(error.value).startswith(says)
    assert str(error.value).endswith("if another file of the config gives it, take it out with '~call.vaildation'")


@pytest.mark.parametrize(
    ("nested", "path"), [({"a": [SPLIT, SPLIT | {"x": 1}]}, "call.a[1].x"), ({"a": {"b": SPLIT | {"x": 1}}}, "call.a.b.x")]
)
def test_constructor_calls_are_found_at_any_depth(nested, path):
    with pytest.raises(ConfigError) as error:
        check(call=nested)
    assert str(error.value).startswith(f"{path}: ")


def test_a_constructor_call_needs_all_its_arguments():
    with pytest.raises(
        ConfigError,
        match=r"^call: seasonrec\.data\.dataset\.Split needs the argument 'test'; add call\.test, or `_partial_: true` if",
    ):
        check(call={"_target_": "seasonrec.data.dataset.Split", "validation": [1, 2]})


def test_a_partial_call_may_lack_arguments_but_has_no_unknown_ones():
    check(call={"_target_": "seasonrec.data.dataset.Split", "_partial_": True})
    with pytest.raises(ConfigError, match="takes no argument 'tset'"):
        check(call={"_target_": "seasonrec.data.dataset.Split", "_partial_": True, "tset": [1, 2]})


def test_hydras_own_keys_are_no_arguments():
    check(call=SPLIT | {"_convert_": "all", "_recursive_": False})
    check(call={"_target_": "builtins.dict", "_args_": [[["a", 1]]]})


def test_a_target_that_takes_any_keyword_takes_any():
    check(call={"_target_": "functools.partial", "_args_": ["x"], "anything": 1})


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("seasonrec.data.dataset.Splitt", "did you mean 'Split'"),
        ("no_such_package.Head", "cannot import no_such_package.Head: No module named 'no_such_package'; is its package installed"),
        ("seasonrec.data.datset.Split", "module 'seasonrec.data' has no attribute 'datset'"),
        ("Split", "wanted a dotted name such as package.module.Class, got 'Split'"),
        (".Split", "cannot import .Split"),
        ("..data.Split", "cannot import ..data.Split"),
        ("broken_heads.Head", "cannot import broken_heads.Head: module 'numpy' has no attribute 'bool8'"),
        (7, "wanted a dotted name"),
        ("seasonrec.schema.WEEK", "is int, which cannot be called"),
    ],
)
def test_a_target_that_cannot_be_called_is_an_error(target, message, tmp_path, monkeypatch):
    (tmp_path / "broken_heads.py").write_text("import numpy\n\nHead = numpy.bool8\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=message) as error:
        check(call={"_target_": target})
    assert str(error.value).startswith("call._target_: ")


def test_the_nearest_names_are_all_names_where_none_is_near():
    assert nearest("zzz", ["b", "a"]) == "known are a, b"
    assert nearest("zzz", []) == "there are none"


def test_a_package_that_is_missing_names_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"^call\._target_: cannot import peft\.LoraConfig: .*; pip install 'seasonrec\[lora\]'$"):
        check(call={"_target_": "peft.LoraConfig"})


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "+baseline.joint={_target_: builtins.dict}",
            r"^baseline\.joint: a run calls a method of its own joint; give the baseline another name$",
        ),
        ("+baseline.text_profile_tuned={_target_: builtins.dict}", r"^baseline\.text_profile_tuned: "),
        (
            "baseline.personal_frequency={_target_: builtins.dict}",
            r"^baseline\.personal_frequency is not eval\.reference .* set eval\.reference\.",
        ),
    ],
)
def test_a_baseline_cannot_take_the_name_of_what_a_run_judges_by_itself(composed, word, message):
    with pytest.raises(ConfigError, match=message):
        check_config(composed(word))


def test_the_reference_stands_among_the_baselines_as_it_is(composed):
    check_config(composed("eval.reference.decay=0.5", "+baseline.mine=${eval.reference}"))
