"""best.yaml: the picked trial as an experiment file, for `seasonrec train --config-dir <study> experiment=best`."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial

from seasonrec.experiments.record import masked_word
from seasonrec.experiments.sweep.space import Values
from seasonrec.experiments.sweep.study import VALUES, Plan
from seasonrec.experiments.sweep.sweeper import parsed

BEST: Final = "experiment/best.yaml"


def command_of(plan: Plan, places: Sequence[str]) -> str:
    """The command that trains what a study picked.

    Args:
        places: folders of the user's own configs, which the study was called with.
    """
    search = [f"hydra.searchpath=[{','.join(f'file://{Path(place).resolve()}' for place in places)}]"] if places else []
    return shlex.join(["seasonrec", "train", "--config-dir", str(plan.folder), *search, "experiment=best"])


def write_best(
    plan: Plan, study: optuna.Study, chosen: FrozenTrial, words: Sequence[str], choices: Mapping[str, Any], command: str
) -> Path:
    """The path of best.yaml: what all trials share, and what the picked one sets.

    Args:
        words: overrides that all trials share.
        choices: config groups, and what was chosen of each.
        command: that trains it.
    """
    told = ", ".join(f"{name} {value:.5g}" for name, value in zip(plan.objectives, chosen.values, strict=True))
    # Trials are judged by validation weeks alone: what they were spared is no part of what was found.
    kept = [word for word in words if masked_word(word) == word]  # secrets are given anew by who trains it
    shared = {each.key_or_group: each.value() for each in parsed(kept) if each.key_or_group.partition(".")[0] != "baseline"}
    path = plan.folder / BEST
    path.parent.mkdir(exist_ok=True)
    head = [
        "# @package _global_",
        f"# Trial {chosen.number} of the {len(study.trials)} of study {plan.cfg.name}, picked by validation weeks on"
        f" {datetime.now(UTC):%Y-%m-%d}: {told}.",
        f"# {command}",
    ]
    path.write_text("\n".join(head) + "\n" + OmegaConf.to_yaml(experiment(shared | chosen.user_attrs[VALUES], choices)), "utf-8")
    return path


def experiment(values: Values, choices: Mapping[str, Any]) -> DictConfig:
    """The experiment file that sets the values: config groups in its defaults list, other keys in its body."""
    groups = {key: value for key, value in values.items() if key in choices}
    # These two are null by default, which cannot be overridden from a file; our own overrides still come before theirs.
    begun = [f"/{key}/{groups.pop(key)}" for key in ("experiment", "debug") if groups.get(key)]
    content = OmegaConf.create({"defaults": [*begun, *({f"override /{key}": value} for key, value in groups.items())]})
    for key, value in values.items():
        if key not in choices:
            OmegaConf.update(content, key, value, force_add=True)
    return content
