"""Which runs are the same experiment, and what the others are called: by the few settings in which they differ."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from seasonrec.errors import DataError

Record = Mapping[str, Any]
# What a joint model's numbers do not depend on. The data are known by their digest and split, wherever they lie.
IRRELEVANT: Final = (
    "seed",
    "name",
    "group",
    "resume",
    "stage",
    "trial",
    "sweep",
    "n_threads",
    "paths",
    "logger",
    "baseline",
    "data",
    "eval.batch_size",
    "eval.n_resamples",
    "eval.n_paired",
    "eval.split",
    "callbacks.progress",
    "callbacks.checkpoints",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
)
ABSENT: Final = {"model.daily_purchases": False, "model.purchase_texts": None}  # what a config means that is older than the key
N_SHOWN: Final = 4  # settings in a label; the table of runs has them all


def settings_of(record: Record) -> dict[str, Any]:
    """Every value of a run's config that its results depend on beside data and seed, by its dotted key; modules of a user's own; and what
    the shop tells of its promotions, which another run of the same purchases may not have known.
    """
    own = (record.get("code") or {}).get("own") or {}
    told = {key: value for key, value in _leaves(record["config"]).items() if not _is_irrelevant(key)}
    return ABSENT | told | _plan_of(record) | own


def _plan_of(record: Record) -> dict[str, str]:
    """What the shop told of its promotions, in short, by its key; nothing where it told nothing."""
    data = record.get("data") or {}
    if not (kinds := data.get("promotion_kinds")):
        return {}
    named = ", ".join(kinds) if len(kinds) <= N_SHOWN else f"{len(kinds)} kinds"
    return {"data.promotions": f"{named} ({data['digest'][:8]})"}


def asked_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Everything in a config that its metrics table depends on, by its key; the data as they are named."""
    weeks = {f"eval.{key}": (config.get("eval") or {}).get(key) for key in ("split", "rolling")}
    return settings_of({"config": config}) | weeks | {key: config.get(key) for key in ("data", "baseline", "seed", "stage")}


def refuse_mixtures(records: Mapping[str, Record]) -> None:
    """Nothing, if all runs saw the same data with the same split.

    Args:
        records: by the folder of the run.

    Raises:
        DataError: they did not, so that no number of one can be compared with another's.
    """
    seen: dict[tuple, str] = {}
    for folder, record in records.items():
        data = record.get("data") or {}
        # With and without the shop's plan the queries and their truth are the same.
        digest = data.get("purchases_digest") or data.get("digest")
        seen.setdefault((data.get("name"), digest, str(data.get("split"))), folder)
    if len(seen) > 1:
        kinds = "; ".join(
            f"{folder}: {name} {(digest or 'without digest')[:12]}, {split}" for (name, digest, split), folder in seen.items()
        )
        raise DataError(f"report: these runs saw {len(seen)} data sets or splits ({kinds}); report each of them alone")


def labels(records: Sequence[Record]) -> list[str]:
    """A short name for each of several different experiments, e.g. "weights.seasonal=0.5, head/cf=none"; "" for one alone.

    Named are the words of the command lines in which they differ, with the value that each experiment has; where these do
    not tell all of them apart, the keys of their configs that do. Keys are as short as they can be.
    """
    asked = [_asked(record, _words(records)) | _plan_of(record) for record in records]
    named = told_apart(asked)
    if len(set(named)) < len(named):
        named = told_apart([settings_of(record) for record in records])
    return [name if named.count(name) == 1 else f"{name} ({place + 1})" for place, name in enumerate(named)]


def told_apart(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each of several settings in words, by what differs between them; "" where nothing does."""
    return [_named(each) for each in _differing(settings)]


def _words(records: Sequence[Record]) -> list[str]:
    """The keys of all command lines, and the groups that any run chose from."""
    words = [word.partition("=")[0].lstrip("+~") for record in records for word in record.get("overrides") or ()]
    groups = [group for record in records for group in record.get("choices") or ()]
    return [key for key in dict.fromkeys([*groups, *words]) if not _is_irrelevant(key)]


def _asked(record: Record, keys: Sequence[str]) -> dict[str, Any]:
    """What a run has for each key: the choice of a group, or the value in its config."""
    leaves, choices = _leaves(record["config"]), record.get("choices") or {}
    below = lambda key: {name: value for name, value in leaves.items() if name.startswith(f"{key}.")}
    return {key: choices.get(key, leaves.get(key, below(key) or None)) for key in keys}


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The settings without those that are the same everywhere, keys shortened."""
    keys = list(dict.fromkeys(key for each in settings for key in each))
    differing = [key for key in keys if len({repr(each.get(key)) for each in settings}) > 1]
    return [{_short(key, keys): each.get(key) for key in differing} for each in settings]


def _short(key: str, keys: Sequence[str]) -> str:
    """The end of a key that no other key has: lr for optim.lr, weights.seasonal for loss.weights.seasonal; a group stays whole."""
    parts = key.split(".")
    ends = (parts[-n:] for n in range(1, len(parts)))
    alone = lambda end: sum(re.split(r"[./]", other)[-len(end) :] == end for other in keys) == 1
    return ".".join(next((end for end in ends if alone(end)), parts))


def _named(settings: Mapping[str, Any]) -> str:
    shown = [f"{key.removesuffix('._target_')}={_value(key, value)}" for key, value in settings.items()]
    return ", ".join(shown[:N_SHOWN]) + (f" and {len(shown) - N_SHOWN} more" if len(shown) > N_SHOWN else "")


def _value(key: str, value: Any) -> str:
    """A class by its own name, a number without noise."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if value is None:
        return "none"
    return str(value).rpartition(".")[2] if key.endswith("_target_") else str(value)


def _leaves(node: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The values of nested mappings by their dotted keys; an empty mapping is a value."""
    leaves: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{above}{key}"
        leaves |= _leaves(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return leaves


def _is_irrelevant(key: str) -> bool:
    return any(key == each or key.startswith((f"{each}.", f"{each}/")) for each in IRRELEVANT)
