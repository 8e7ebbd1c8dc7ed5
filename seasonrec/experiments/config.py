"""What a composed config may hold, checked before anything runs.

Hydra refuses unknown keys on the command line but takes any key from a file. Here a key must be known wherever it stands:
plain keys by a typed schema, the keys of a constructor call (`_target_`) by the signature of what it calls.
"""

import pkgutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import singledispatch
from importlib import import_module
from typing import Any, Final

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from seasonrec.bounds import bounded, parameters
from seasonrec.errors import ConfigError
from seasonrec.evaluation.slices import SLICES
from seasonrec.experiments.record import JOINT, REFERENCE, TUNED
from seasonrec.metrics import METRICS

# The extra that brings an optional package which configs name.
EXTRAS: Final = {"peft": "lora"}
# What Hydra itself reads in a constructor call.
HYDRA_KEYS: Final = frozenset({"_target_", "_partial_", "_args_", "_recursive_", "_convert_"})


@dataclass
class Paths:
    """Folders.

    Args:
        output: where runs go.
        multirun: where several runs of one command go.
        cache: prepared data, text vectors and results of baselines, shared by all runs.
        run: the folder of this run; the command fills it in.
    """

    output: str = MISSING
    multirun: str = MISSING
    cache: str = MISSING
    run: str | None = None


@dataclass
class Rolling:
    """Several cut-offs instead of one split; see conf/eval/rolling.yaml."""

    n_weeks: int = MISSING
    every: int = MISSING
    n_validation: int = MISSING
    min_weeks: int = MISSING


@dataclass
class Eval:
    """How lists are made and compared; see conf/eval/default.yaml."""

    k: int = MISSING
    batch_size: int = MISSING
    n_resamples: int = MISSING
    n_paired: int = MISSING
    reference: dict[str, Any] = MISSING
    split: Any = None  # a mapping, or auto
    rolling: Rolling | None = None
    n_selection: int | None = None


@dataclass
class RefreshTexts:
    """When all texts are encoded anew; see conf/train.yaml."""

    every_n_epochs: int = 1
    every_n_steps: int | None = None


@dataclass
class Model:
    """The joint model: each head under a name of its own, as `# @package model.heads.<name>` puts it; see conf/train.yaml."""

    heads: dict[str, Any] = field(default_factory=dict)
    n_fresh_texts: int = MISSING
    refresh_texts: RefreshTexts = field(default_factory=RefreshTexts)
    prefix_cache_gb: float = 0.0
    text_neighbours: dict[str, Any] | None = None
    purchase_texts: int | None = None
    last_year: bool = True
    daily_purchases: bool = False  # as configs have it that lack the key
    similar_users: dict[str, Any] = field(default_factory=dict)
    user_words: dict[str, Any] = field(default_factory=dict)


@dataclass
class CheckDataConfig:
    """The keys of `seasonrec check-data`; a group whose file is a constructor call stays a mapping."""

    data: dict[str, Any] = MISSING
    paths: Paths = field(default_factory=Paths)
    output: str | None = None


@dataclass
class RecommendConfig:
    """The keys of `seasonrec recommend`."""

    run: str = MISSING
    users: Any = MISSING  # a list, or text: ids with commas or the path of a file
    date: str = MISSING
    k: int = 10
    new_only: bool = False
    output: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    cache: str | None = None
    n_threads: int | None = None


@dataclass
class ReportConfig:
    """The keys of `seasonrec report`."""

    runs: Any = MISSING  # a list, or text: folders with commas
    split: str | None = None
    reference: str | None = None
    n_resamples: int = MISSING
    data: dict[str, Any] = field(default_factory=dict)
    output: str = MISSING
    paths: Paths = field(default_factory=Paths)


@dataclass
class EvaluateConfig:
    """The keys of `seasonrec evaluate`."""

    name: str = MISSING
    seed: int = 0
    n_threads: int | None = None
    run: str | None = None
    protocol: str = "weekly"
    rank_seen: bool = True
    n_folds: int = 5
    data: dict[str, Any] = MISSING
    encoder: dict[str, Any] = MISSING
    finetune: dict[str, Any] = MISSING
    model: Model = field(default_factory=Model)
    baseline: dict[str, Any] = MISSING
    eval: Eval = field(default_factory=Eval)
    paths: Paths = field(default_factory=Paths)


@dataclass
class Sweep:
    """A study over the main job; see conf/sweep/default.yaml."""

    name: str = MISSING
    folder: str = MISSING
    storage: str = MISSING
    seed: int = 0
    n_trials: int = MISSING
    n_workers: int = 1
    gpus_per_trial: float = 1
    space: dict[str, Any] = MISSING
    enqueue: list[dict[str, Any]] = field(default_factory=list)
    limits: list[dict[str, Any]] = field(default_factory=list)
    maximize: list[str] = field(default_factory=list)
    minimize: list[str] = field(default_factory=list)
    sampler: dict[str, Any] = MISSING
    pruner: dict[str, Any] | None = None
    heartbeat: float = MISSING
    max_retries: int = MISSING
    max_failures: int = MISSING


@dataclass
class TrainConfig:
    """The keys of `seasonrec train`."""

    name: str = MISSING
    group: str | None = None
    seed: int = 0
    resume: str | None = None
    epochs: str = "whole"
    stage: str = "whole"
    trial: dict[str, Any] | None = None
    sweep: Sweep | None = None
    n_threads: int | None = None
    data: dict[str, Any] = MISSING
    seasons: dict[str, Any] = MISSING
    encoder: dict[str, Any] = MISSING
    finetune: dict[str, Any] = MISSING
    model: Model = field(default_factory=Model)
    mixer: dict[str, Any] = MISSING
    reranker: dict[str, Any] | None = None
    loss: dict[str, Any] = MISSING
    optim: dict[str, Any] = MISSING
    sampling: dict[str, Any] = MISSING
    trainer: dict[str, Any] = MISSING
    callbacks: dict[str, Any] = field(default_factory=dict)  # callbacks=none and logger=none are empty files
    logger: dict[str, Any] = field(default_factory=dict)
    eval: Eval = field(default_factory=Eval)
    baseline: dict[str, Any] = field(default_factory=dict)
    paths: Paths = field(default_factory=Paths)


@dataclass
class Claim:
    """That one variant's mean in a (slice, metric) is at least so many times another's."""

    variant: str = MISSING
    over: str = MISSING
    slice: str = MISSING
    metric: str = MISSING
    at_least: float = MISSING


@dataclass
class Ablation:
    """Variants of the joint model; see conf/ablation/base.yaml."""

    name: str = MISSING
    folder: str = MISSING
    seeds: list[int] = field(default_factory=list)
    n_workers: int = 1
    gpus_per_run: float = 1
    n_resamples: int = MISSING
    shared: list[str] = field(default_factory=list)
    variants: dict[str, list[str]] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)


@dataclass
class AblateConfig(TrainConfig):
    """The keys of `seasonrec ablate`."""

    ablation: Ablation = field(default_factory=Ablation)


@dataclass
class Order:
    """Methods by their values in a (slice, metric), best first."""

    slice: str = MISSING
    metric: str = MISSING
    methods: list[str] = field(default_factory=list)


@dataclass
class Published:
    """A published result; see conf/reproduce/complete_journey.yaml."""

    name: str = MISSING
    source: str = MISSING
    verb: str = MISSING
    words: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    absolute: float = 0.0
    relative: float = 0.0
    published: dict[str, Any] = field(default_factory=dict)
    orders: list[Order] = field(default_factory=list)


@dataclass
class ReproduceConfig:
    """The keys of `seasonrec reproduce`."""

    reproduce: Published = field(default_factory=Published)
    words: list[str] = field(default_factory=list)
    runs: Any = None  # a list, or text: folders with commas
    folder: str = MISSING
    paths: Paths = field(default_factory=Paths)


SCHEMAS: Final[Mapping[str, type]] = {
    "train": TrainConfig,
    "ablate": AblateConfig,
    "reproduce": ReproduceConfig,
    "sweep": TrainConfig,
    "evaluate": EvaluateConfig,
    "recommend": RecommendConfig,
    "report": ReportConfig,
    "check_data": CheckDataConfig,
}


AT_LEAST_ONE: Final = (
    "n_threads",
    "eval.k",
    "eval.batch_size",
    "eval.n_selection",
    "eval.n_resamples",
    "eval.n_paired",
    "trainer.max_epochs",
    "model.purchase_texts",
    "sweep.n_trials",
    "sweep.n_workers",
    "ablation.n_workers",
    "ablation.n_resamples",
)
SEEDS: Final = ("seed", "sweep.seed", "ablation.seeds", "reproduce.seeds")
LAST_SEED: Final = 2**32 - 1  # that NumPy takes


def check_config(cfg: DictConfig, schema: type = TrainConfig) -> None:
    """Nothing, if every key of the config is known, every mandatory one is given and every class can be called as written.

    Args:
        cfg: composed by Hydra, without Hydra's own node.
        schema: dataclass of the root keys, one of `SCHEMAS`.

    Raises:
        ConfigError: an unknown key or argument (with the nearest known ones), a value of the wrong type, a missing one, a
            `_target_` that cannot be imported.
    """
    try:
        for name in cfg.get("head") or ():  # a group that stands elsewhere in the config than its files do
            raise ConfigError(
                f"head.{name}: keys of a head are model.heads.{name}, and a file of group head/{name} begins with the line"
                f" # @package model.heads.{name}"
            )
        if not isinstance(split := OmegaConf.select(cfg, "eval.split"), DictConfig | None) and split != "auto":
            raise ConfigError(f"eval.split is {split}, wanted null, auto or e.g. {{validation: [44, 47], test: [48, 51]}}")
        if missing := sorted(OmegaConf.missing_keys(cfg)):
            needed = " ".join(f"{key}=..." for key in missing)
            raise ConfigError(f"{', '.join(missing)}: no value given; add {needed} to the command line or to a config file")
        OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), cfg))
        if (reranker := cfg.get("reranker")) and "_target_" not in reranker:
            raise ConfigError(
                f"reranker.{next(iter(reranker))} is given, but there is no reranker: choose one, e.g. reranker=boosted_trees"
            )
        if cfg.get("protocol", "weekly") == "weekly":
            _refuse_taken_names(cfg)
        for key in AT_LEAST_ONE:
            if (value := OmegaConf.select(cfg, key)) is None:
                continue
            if not isinstance(value, int | float):
                raise ConfigError(f"{key} is {value!r}, wanted a number of at least 1")
            bounded(key, value, 1)
        for key in SEEDS:
            given = OmegaConf.select(cfg, key)
            for seed in given if isinstance(given, ListConfig) else [given]:
                bounded(key, seed or 0, 0, LAST_SEED)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    check_calls(OmegaConf.to_container(cfg, resolve=True))


def _refuse_taken_names(cfg: DictConfig) -> None:
    """Nothing, if no baseline takes the name of what a run judges by itself."""
    baselines = cfg.get("baseline") or {}
    for name in (JOINT, TUNED):
        if name in baselines:
            raise ConfigError(f"baseline.{name}: a run calls a method of its own {name}; give the baseline another name")
    if REFERENCE in baselines and (reference := OmegaConf.select(cfg, "eval.reference")) != baselines[REFERENCE]:
        raise ConfigError(
            f"baseline.{REFERENCE} is not eval.reference ({dict(reference or {})}), which selection is relative to and which stands under"
            f" this name; set eval.reference.<key>, or give the baseline another name"
        )


def nearest(name: str, known: Iterable[Any]) -> str:
    """The known names most like one that is not among them, as words: "did you mean 'seed'?", or all there are."""
    names = sorted(str(each) for each in known)
    if close := get_close_matches(name, names, n=3):
        return f"did you mean {' or '.join(map(repr, close))}?"
    return f"known are {', '.join(names)}" if names else "there are none"


def explain(error: OmegaConfBaseException) -> str:
    """OmegaConf's error in one line: where, what, and the nearest known keys if one is unknown."""
    what = str(error.msg or error).partition("\n")[0]
    if isinstance(error, ConfigKeyError | ConfigAttributeError) and isinstance(error.parent_node, DictConfig):
        known = [key for key in error.parent_node if key != "hydra"]
        return f"{error.full_key}: there is no such key; {nearest(str(error.key), known)}"
    return f"{error.full_key}: {what}" if error.full_key else what


def check_number(where: str, name: str, metric: str, overall: Collection[str] = ()) -> None:
    """Nothing, if an evaluation may give a metric in a slice; months and holidays are slices where its weeks hold them.

    Args:
        where: the key that names it, for errors.
        name: of the slice.
        overall: further metrics, of slice `all` alone.

    Raises:
        ConfigError: there is no such metric or slice.
    """
    if metric not in METRICS and not (name == "all" and metric in overall):
        raise ConfigError(f"{where}: there is no metric {metric!r} of slice {name!r}; {nearest(metric, [*METRICS, *overall])}")
    if name not in SLICES and not name.startswith(("month=", "holiday=")):
        raise ConfigError(f"{where}: there is no slice {name!r}; {nearest(name, SLICES)}")


@singledispatch
def check_calls(node: object, path: str = "") -> None:
    """Nothing, if each constructor call at and under a node of plain mappings and lists can be made as written.

    Args:
        path: of the node, for errors.

    Raises:
        ConfigError: a `_target_` that cannot be imported, or an argument that it does not take or lacks.
    """


@check_calls.register
def _(node: dict, path: str = "") -> None:
    if "_target_" in node:
        _check_call(node, path)
    for key, child in node.items():
        check_calls(child, f"{path}.{key}" if path else str(key))


@check_calls.register
def _(node: list, path: str = "") -> None:
    for place, child in enumerate(node):
        check_calls(child, f"{path}[{place}]")


def _check_call(node: Mapping[str, Any], path: str) -> None:
    target = node["_target_"]
    if (takes := parameters(resolve(target, path))) is None:
        return
    given = {str(key) for key in node} - HYDRA_KEYS
    named = {each.name for each in takes if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    if not any(each.kind == each.VAR_KEYWORD for each in takes):
        for name in sorted(given - named):
            raise ConfigError(
                f"{path}.{name}: {target} takes no argument {name!r}; {nearest(name, named)}; if another file of the config gives it,"
                f" take it out with '~{path}.{name}'"
            )
    # A partial call is finished by the builder, positional arguments are counted by Python itself.
    if node.get("_partial_") or node.get("_args_"):
        return
    for each in takes:
        if each.name in named - given and each.default is each.empty:
            raise ConfigError(
                f"{path}: {target} needs the argument {each.name!r}; add {path}.{each.name}, or `_partial_: true` if it is given later"
            )


def resolve(target: object, path: str) -> Callable:
    """The class or function that a `_target_` names.

    Raises:
        ConfigError: not a dotted name, not importable, not there, not callable.
    """
    if not isinstance(target, str) or "." not in target:
        raise ConfigError(f"{path}._target_: wanted a dotted name such as package.module.Class, got {target!r}")
    try:
        found = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError, OSError) as error:
        why = _needs(target) or f"{error}{_siblings(target)}"
        raise ConfigError(f"{path}._target_: cannot import {target}: {why}") from error
    if not callable(found):
        raise ConfigError(f"{path}._target_: {target} is {type(found).__name__}, which cannot be called; name a class or a function")
    return found


def _siblings(target: str) -> str:
    """The public names of the target's module that are most like the target's own, as the end of a sentence."""
    module, _, name = target.rpartition(".")
    try:
        found = pkgutil.resolve_name(module)
    except (ImportError, AttributeError, ValueError, OSError):
        if (package := module.partition(".")[0]) in EXTRAS:
            return _install(package)
        return "; is its package installed, or its file in the folder that you call from?"
    return f"; {nearest(name, [each for each in vars(found) if not each.startswith('_')])}"


def _needs(target: str) -> str:
    """What the target's own module imports and does not find; empty if that is not what is wrong."""
    module = target.rpartition(".")[0]
    try:
        import_module(module)
    except (AttributeError, TypeError, ValueError):  # no module by that name, or one that fails by itself
        return ""
    except OSError as error:  # a library that a package is built on
        return f"{error}; if that is a library of the system's, install it"
    except ImportError as error:
        package = str(error.name or "").partition(".")[0]
        if package != module.partition(".")[0]:
            return f"{error}{_install(package) if package in EXTRAS else ''}"
    return ""


def _install(package: str) -> str:
    return f"; pip install 'seasonrec[{EXTRAS[package]}]'"
