"""Hydra's way in: `hydra/sweeper=seasonrec_optuna` runs a study where the basic sweeper would run a grid."""

import logging
import re
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from seasonrec.errors import ConfigError
from seasonrec.experiments.config import TrainConfig, check_config, nearest
from seasonrec.experiments.overrides import NO_STUDY

log = logging.getLogger(__name__)
# Hydra makes plug-ins of this package alone and finds them by importing it; ours is known by such a name without being there.
NAME: Final = "hydra_plugins.seasonrec.StudySweeper"
OWN: Final = ("sweep", "stage", "trial")  # root keys of which a trial gets its own


class StudySweeper(Sweeper):
    """Runs the study that the config's node `sweep` describes.

    Trials are processes of their own, so Hydra's launchers have no part in it.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Takes what Hydra composed."""
        self.hydra_context, self.config, self.launcher = hydra_context, config, None

    def sweep(self, arguments: list[str]) -> Any:
        """Runs trials until the study has its number of them, then writes report and best.yaml; the picked trial's values by name.

        Raises:
            ConfigError: no study was chosen, its config is not in order, or a word that trials cannot share.
        """
        from seasonrec.experiments.sweep.run import run_study
        from seasonrec.experiments.sweep.space import Space

        config, context = self.config, self.hydra_context
        assert config is not None
        assert context is not None
        task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        check_config(task, TrainConfig)
        if task.get("sweep") is None:
            raise ConfigError(NO_STUDY)
        if task.stage not in ("whole", "selection"):
            raise ConfigError(f"sweep: trials are judged by how they rank validation weeks, but stage={task.stage} ranks nothing")
        space = Space(instantiate(task.sweep.space, _convert_="all"))
        keys, groups = space.keys, config.hydra.runtime.choices
        refuse_unknown(keys, task, groups)
        if not any(word.startswith("hydra.searchpath=") for word in config.hydra.overrides.hydra):  # where else there may be more
            searched = {group: choices for group, choices in space.choices.items() if group in groups}
            refuse_unknown_choices(searched, context.config_loader)
        words = shared_words(arguments, keys)
        _log_to(config, Path(task.sweep.folder))
        return run_study(task, words, flags_of(config), dict(config.hydra.runtime.choices))


def register() -> None:
    """Makes the sweeper known to Hydra."""
    Plugins.instance().class_name_to_class[NAME] = StudySweeper


def shared_words(arguments: Sequence[str], space: Sequence[str]) -> list[str]:
    """The overrides of the command line that every trial gets.

    Args:
        space: the keys that the study searches.

    Raises:
        ConfigError: several values for a key, a key taken out, or a key that is searched too.
    """
    words = []
    for override in parsed(arguments):
        key, written = override.key_or_group, str(override.input_line)
        if re.split("[./]", key)[0] in OWN:
            continue
        if override.is_sweep_override():
            raise ConfigError(f"{written}: a study has one value for what it does not search; put {key} into sweep.space")
        if override.is_delete():
            raise ConfigError(f"{written}: best.yaml could not say so; choose a group's `none`, or set the key to null")
        if any(each == key or ("." in key and each.startswith(f"{key}.")) for each in (searched.lstrip("+") for searched in space)):
            raise ConfigError(f"{written}: the study searches {key}; leave it out here, or out of sweep.space")
        words.append(written)
    return words


def refuse_unknown(keys: Sequence[str], cfg: DictConfig, groups: Container[str]) -> None:
    """Nothing, if a trial can set every key of a study, which may begin with the + of one that the config lacks.

    Raises:
        ConfigError: a key that is neither a config group nor in the config, nor below what a group that is searched brings.
    """
    brought = {key.partition("/")[0] for key in keys if key in groups}
    brought |= {"model"} if "head" in brought else set()
    for key in keys:
        if key in groups or key.startswith("+") or key.partition(".")[0] in brought or brought & {"experiment", "debug"}:
            continue
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if not OmegaConf.is_list(node) and (not OmegaConf.is_dict(node) or name not in node):
            known = [".".join(filter(None, (parent, str(each)))) for each in node] if OmegaConf.is_dict(node) else []
            raise ConfigError(f"sweep.space: a trial cannot set {key}, which is not in the config; {nearest(key, known)}")


def refuse_unknown_choices(groups: Mapping[str, Sequence[Any]], loader: Any) -> None:
    """Nothing, if each config group that a study searches has the choices that it may draw.

    Args:
        groups: what is searched, by the group's name.
        loader: Hydra's, of configs.

    Raises:
        ConfigError: one of them is missing.
    """
    for group, choices in groups.items():
        for choice in choices:
            if not loader.repository.config_exists(f"{group}/{choice}"):
                raise ConfigError(
                    f"sweep.space.{group}: there is no choice {choice!r}; {nearest(str(choice), loader.get_group_options(group))}"
                )


def parsed(words: Sequence[str]) -> list[Override]:
    """Overrides as Hydra understands them."""
    return OverridesParser.create().parse_overrides(list(words))


def flags_of(config: DictConfig) -> list[str]:
    """What tells a trial where configs are: the user's own folders."""
    of_user = [source.path for source in config.hydra.runtime.config_sources if source.provider == "command-line"]
    search = [word for word in config.hydra.overrides.hydra if word.startswith("hydra.searchpath=")]
    return [*(f"--config-dir={path}" for path in of_user), *search]


def _log_to(config: DictConfig, folder: Path) -> None:
    """Lets messages go where those of a single run go; Hydra sets up no more than its own in a multirun."""
    folder.mkdir(parents=True, exist_ok=True)
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.runtime.output_dir = str(folder)
        config.hydra.job.name = "sweep"
    configure_log(config.hydra.job_logging, config.hydra.verbose)
