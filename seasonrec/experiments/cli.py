"""The `seasonrec` command: a verb, then Hydra overrides.

Imports of this module stay light, so that `seasonrec --help` answers at once; a verb imports what it needs when it runs.
"""

import os
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import compress
from operator import not_
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import seasonrec
from seasonrec.errors import ConfigError, SeasonrecError
from seasonrec.experiments.overrides import NO_STUDY, quoted

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

REPRODUCE: Final = ("reproduce", "words", "runs", "folder", "paths", "hydra")  # keys of this verb, beside those of its runs
# Hydra's flags that a value follows.
PLACES: Final = frozenset(("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn"))
FLAGS_WITH_VALUE: Final = PLACES | {"--cfg", "-c", "--package", "-p", "--info", "-i"}
FAILED: Final = 2  # exit status after an error that the user can mend; 1 is Python's own after a traceback
INTERRUPTED: Final = 130  # by Ctrl-C, as shells have it


@dataclass(frozen=True)
class Verb:
    """Something that the command does.

    Args:
        function: "module:name" of the function that takes the config.
        config: name of its root file in conf/, and of its schema.
        says: one line for the list of verbs.
    """

    function: str
    config: str
    says: str


VERBS: Final = {
    "train": Verb("seasonrec.experiments.train:train", "train", "data -> text encoder -> joint training -> evaluation -> report"),
    "evaluate": Verb("seasonrec.experiments.evaluate:evaluate", "evaluate", "the baselines alone, or the lists of a run once more"),
    "recommend": Verb("seasonrec.experiments.recommend:recommend", "recommend", "lists of a trained run for users and a date"),
    "report": Verb("seasonrec.experiments.aggregate:report", "report", "one table from any runs: means over seeds, paired tests"),
    "sweep": Verb("seasonrec.experiments.train:train", "sweep", "many trainings in search of the best config, by validation weeks"),
    "ablate": Verb("seasonrec.experiments.ablate:ablate", "ablate", "what each part of the model is worth: trains it without"),
    "reproduce": Verb("seasonrec.experiments.reproduce:reproduce", "reproduce", "a published table once more: published against found"),
    "check-data": Verb("seasonrec.experiments.check_data:check_data", "check_data", "what seasonrec sees in a file, before anyone trains"),
}

GO_ON: Final = ("sweep", "ablate", "reproduce")  # take up the runs that they find in their folder


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a verb with its overrides, e.g. ["train", "seed=1,2,3"].

    Args:
        argv: without the program's name; those of the process by default.

    Raises:
        SystemExit: status 0 after help, 2 after an error, which is then on stderr in one line.
    """
    verb, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if verb in ("-h", "--help"):
        print(overview())
    elif verb == "--version":
        print(f"seasonrec {version('seasonrec')}")
    else:
        name = verb.replace("_", "-")
        errors = nullcontext if os.environ.get("HYDRA_FULL_ERROR") == "1" else partial(plain_errors, name)
        with errors():
            run(name, rest, errors)


def overview() -> str:
    """The verbs and how to learn more."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:{width}}  {verb.says}" for name, verb in VERBS.items())
    return f"""usage: seasonrec VERB [key=value ...]

Seasonal product recommendation with language models: this user, this week of the year, which products?

{verbs}

  seasonrec VERB --help      its keys, its config groups with their choices, examples
  seasonrec VERB --cfg job   the config that it would run with
  key=1,2,3                  runs once for each value
  --config-dir DIR           adds config files of your own"""


def run(name: str, arguments: Sequence[str], errors: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
    """Lets Hydra compose the verb's config and run it, once or for each value of a sweep.

    Args:
        errors: the context in which a single run does its work, for Hydra announces every error that leaves it.

    Raises:
        ConfigError: no such verb, or no configs.
    """
    import hydra
    from omegaconf import OmegaConf

    from seasonrec.experiments.sweep.sweeper import register

    if name not in VERBS:
        from seasonrec.experiments.config import nearest

        raise ConfigError(f"there is no verb {name!r}; {nearest(name, VERBS)}")
    verb, words = VERBS[name], rewrite(name, arguments)
    sweep = bool({"-m", "--multirun"} & set(words))
    called, made = sys.argv, []

    def run_folder(folder: str) -> str:
        made.append(unused(folder))
        return made[-1]

    def job(cfg: "DictConfig") -> Any:
        sys.argv = called  # Lightning starts the processes of further devices by this command line
        # A sweep has to go on when one of its jobs fails: its errors are left to Hydra until the end.
        with _told(name) if sweep else errors():
            return prepare(verb, cfg)(cfg)

    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # a class of the user's own is named by its file in the folder that the command is called from
    register()
    OmegaConf.register_new_resolver("choices", choices, replace=True)
    OmegaConf.register_new_resolver("unused", run_folder, replace=True, use_cache=True)
    sys.argv = [f"seasonrec {name}", *words]
    try:
        with _hydra_raises():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=verb.config)(job)()
    finally:
        sys.argv = called
        for folder in made:  # a verb that overrides the folder of its run has asked for it all the same
            with suppress(OSError):
                os.rmdir(folder)  # an empty one alone


def prepare(verb: Verb, cfg: "DictConfig") -> Callable[["DictConfig"], Any]:
    """The verb's function, after its config was found to be in order and got the folder of this run."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from seasonrec.experiments.config import SCHEMAS, check_config

    hydra = HydraConfig.get()
    if "paths" in cfg:
        cfg.paths.run = hydra.runtime.output_dir
    if "group" in cfg and cfg.group is None and hydra.mode == RunMode.MULTIRUN:
        cfg.group = "/".join(Path(hydra.sweep.dir).parts[-2:])  # W&B takes no long names
    if not cfg.get("resume"):  # then that run's own configuration, which was checked when it began, takes the place of this one
        check_config(cfg, SCHEMAS[verb.config])
    return pkgutil.resolve_name(verb.function)


def conf_dir() -> Path:
    """The folder of configs: inside the package when it was installed, beside it in the repository.

    Raises:
        ConfigError: neither is there.
    """
    package = Path(seasonrec.__file__).parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError(f"no configs in {package / 'conf'} nor beside {package}; install seasonrec again")


def groups() -> list[str]:
    """The config groups that seasonrec ships, e.g. head/seasonal."""
    return sorted({path.parent.relative_to(conf_dir()).as_posix() for path in conf_dir().glob("*/**/*.yaml")})


def unused(folder: str) -> str:
    """The folder, newly made; with a number behind its name where another command has it, begun in the same second."""
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    path, n = folder, 1
    while True:
        try:
            os.mkdir(path)
            return path
        except FileExistsError:
            n += 1
            path = f"{folder}_{n}"


def choices(*, _root_: "DictConfig") -> str:
    """For the help of a verb: the groups of its defaults list and those below them, a line each with its choices."""
    from hydra.core.global_hydra import GlobalHydra

    own = [group for group in _root_.hydra.runtime.choices if not group.startswith("hydra/")]
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None  # it asks for this help
    lines = hydra.format_config_groups(lambda group: group in own or group.rpartition("/")[0] in own)
    return f"Config groups (group=choice):\n\n{lines}\n" if lines else ""


def rewrite(name: str, arguments: Sequence[str]) -> list[str]:
    """A verb's arguments as Hydra wants them.

    A sweep asks for `--multirun` by itself, `check-data` takes a bare file name, `report` bare folders and `reproduce` a bare name, in any
    place, a resumed run goes on in its own folder, a run's folder is Hydra's, the seeds of an ablation are one list, and ids of users stay
    text: Hydra would read `users=1,2` as a sweep and `users=1e5` as a number.
    """
    words = list(arguments)
    if name == "train" and (own := [_run_in(word) for word in words if word.startswith("resume=") and word != "resume=null"]):
        words += own  # one that names another folder beside is refused later
    elif name in ("train", "evaluate"):
        words = [re.sub("^paths.run=(?!null$)", "hydra.run.dir=", word) for word in words]
    if name == "check-data":
        words = _file_first(words)
    if name == "report":
        words = [_as_text(word) if word.startswith("runs=") else word for word in _runs_first(words)]
    if name == "reproduce":
        words = _name_first(_seeds_as_list(words, name))
    if name == "sweep" and _lacks_study(words):
        raise ConfigError(NO_STUDY)
    if name == "ablate":
        words = _seeds_as_list(words, "ablation")
    if name == "recommend":
        words = [_as_text(word) if word.startswith("users=") else word for word in words]
    if name == "train" and int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) > 0:
        words += ["hydra/job_logging=none"]  # of several processes, that of rank 0 writes
    words = _places_first(words)
    return [*words, "--multirun"] if _is_sweep(words) else words


def _seeds_as_list(words: Sequence[str], node: str) -> list[str]:
    """The words, `seed=0,1` as the list of seeds of a node of the config."""
    return [f"{node}.seeds=[{word.removeprefix('seed=')}]" if word.startswith("seed=") else word for word in words]


def _places_first(words: Sequence[str]) -> list[str]:
    """The words, those that say where configs lie first: Hydra's parser takes no overrides after such a flag that stands among them."""
    of_flag = [False, *(word in PLACES for word in words)]
    place = [word.partition("=")[0] in PLACES or after for word, after in zip(words, of_flag, strict=False)]
    return [*compress(words, place), *compress(words, map(not_, place))]


def _run_in(resume: str) -> str:
    """The override that makes a resumed run's folder the folder of this run.

    Raises:
        ConfigError: there is no such folder, and Hydra would make an empty one.
    """
    folder = resume.removeprefix("resume=")
    if not Path(folder.strip("'\""), "run.json").is_file():
        raise ConfigError(f"resume: there is no run in {folder}; give the folder of an interrupted one, e.g. resume=outputs/train/<time>")
    return f"hydra.run.dir={folder}"


def _bare(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words that are no override, no flag and no flag's value, and the others. A folder of a multirun may have = in its name."""
    of_flag = [False, *(word in FLAGS_WITH_VALUE for word in words)]
    bare = [
        not after_flag and not word.startswith(("-", "~", "+")) and ("=" not in word or Path(word).exists())
        for word, after_flag in zip(words, of_flag, strict=False)
    ]
    return list(compress(words, bare)), list(compress(words, map(not_, bare)))


def _file_first(words: list[str]) -> list[str]:
    bare, rest = _bare(words)
    if not bare:
        return words
    file, *more = bare
    rest = [*more, *rest]
    adapter = [] if any(word.startswith("data=") for word in rest) else ["data=table"]
    return [*adapter, f"data.path={quoted(file)}", *rest]


def _runs_first(words: list[str]) -> list[str]:
    runs, rest = _bare(words)
    return [f"runs=[{','.join(map(quoted, runs))}]", *rest] if runs else words


def _name_first(words: list[str]) -> list[str]:
    """A bare name is what to reproduce; what is no key of this verb is for its runs."""
    bare, rest = _bare(words)
    if bare:
        words = [f"reproduce={bare[0]}", *bare[1:], *rest]
    key = lambda word: re.split("[.=]", word.lstrip("+~"), maxsplit=1)[0]
    others = [word for word in words if "=" in word and not word.startswith("-") and key(word) not in REPRODUCE]
    own = [word for word in words if word not in others]
    return [f"words=[{','.join(map(quoted, others))}]", *own] if others else own


def _lacks_study(words: Sequence[str]) -> bool:
    """Whether keys of a study are given without one: Hydra would say that there is no such key. An experiment or a flag may choose it."""
    chooses = any(word.lstrip("+").startswith(("sweep=", "experiment=", "-")) for word in words)
    return not chooses and any(word.startswith(("sweep.", "sweep/")) for word in words)


def _as_text(word: str) -> str:
    """key=value with the value in quotes; one in quotes already and a [list] stay."""
    key, _, value = word.partition("=")
    return word if value[:1] in ("'", '"', "[") else f"{key}={quoted(value)}"


def _is_sweep(words: Sequence[str]) -> bool:
    """Whether an override has several values and nothing says yet what to do with them."""
    from hydra._internal.utils import get_args_parser
    from hydra.core.override_parser.overrides_parser import OverridesParser

    # Hydra's own parser knows which words are values of its flags, e.g. of --config-dir.
    flags = get_args_parser().parse_known_args(list(words))[0]
    overrides = OverridesParser.create().parse_overrides(flags.overrides)
    for each in overrides:
        _refuse_no_name(each)
        if each.is_sweep_override() and flags.cfg:
            raise ConfigError(f"{each.input_line}: --cfg shows a single run; give {each.key_or_group} one value")
    if flags.multirun or flags.run or flags.cfg or flags.info or flags.help:
        return False
    return any(each.is_sweep_override() for each in overrides)


def _refuse_no_name(override: "Override") -> None:
    """Nothing, if a config group is given choices by their names; Hydra has a traceback for `mixer=null`."""
    from hydra.core.override_parser.types import ChoiceSweep

    group, value = override.key_or_group, override.value()
    known = [path.stem for path in (conf_dir() / group).glob("*.yaml")]
    if override.is_delete() or group.startswith("hydra") or not known:
        return
    for choice in value.list if isinstance(value, ChoiceSweep) else [value]:
        if choice is None:
            from seasonrec.experiments.config import nearest

            raise ConfigError(f"{override.input_line}: {group} has no choice null; {nearest('null', known)}")
        if isinstance(choice, bool | int | float):
            raise ConfigError(f"{override.input_line}: the choices of {group} have names; one that looks like {choice} needs quotes")


@contextmanager
def _hydra_raises() -> Iterator[None]:
    """While open, Hydra hands its errors over; left alone it would print them, some with a traceback, and exit."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        del os.environ["HYDRA_FULL_ERROR"]
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


@contextmanager
def plain_errors(verb: str) -> Iterator[None]:
    """While open, an error that the user can mend ends the program with one message on stderr, any other with its traceback.

    Args:
        verb: that is at work, which says how to go on after Ctrl-C.

    Raises:
        SystemExit: status 2, after such an error; 130, after Ctrl-C.
    """
    from hydra.errors import CompactHydraException

    try:
        yield
    except (SeasonrecError, CompactHydraException) as error:
        print(f"error: {_in_words(error)}", file=sys.stderr)
        raise SystemExit(FAILED) from None
    except KeyboardInterrupt as stop:
        print("; ".join(["interrupted", *(stop.args or _how_to_go_on(verb))]), file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _how_to_go_on(verb: str) -> Iterator[str]:
    """With what was interrupted, if anything was done that need not be done again."""
    if verb == "train":
        yield f"`seasonrec train resume={_interrupted()}` goes on with a training"
    elif verb in GO_ON:
        yield "the same command goes on"


def _interrupted() -> str:
    """The folder of the run at work, where it is known."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    known = HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().runtime, "output_dir")
    folder = HydraConfig.get().runtime.output_dir if known else ""
    return folder if Path(folder, "run.json").is_file() else "<folder of the run>"


@contextmanager
def _told(verb: str) -> Iterator[None]:
    """While open, an error of one of several jobs is named as it happens: of all that fail, Hydra hands over the first alone.

    Ctrl-C comes with what goes on with them all, which Hydra has forgotten when it hands that over.
    """
    from hydra.core.hydra_config import HydraConfig

    try:
        yield
    except Exception as error:
        print(f"error in job {HydraConfig.get().job.num}: {_in_words(error)}", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        again = f"the same command with hydra.sweep.dir={HydraConfig.get().sweep.dir} goes on"
        raise KeyboardInterrupt(f"{again}, and reads back what had been learnt" if verb == "train" else again) from None


def _in_words(error: Exception) -> str:
    """What is wrong and what the nearest valid names are."""
    from hydra.errors import MissingConfigException
    from omegaconf.errors import OmegaConfBaseException

    from seasonrec.experiments.config import explain, nearest

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, SeasonrecError | OmegaConfBaseException):
        cause = cause.__cause__
    if isinstance(cause, SeasonrecError):
        return str(cause)  # Hydra wraps what a constructor raises
    if isinstance(cause, OmegaConfBaseException):
        if "/" in str(cause.key):
            return f"there is no config group {cause.key}; {nearest(str(cause.key), groups())}"
        return explain(cause)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return f"{group} has no choice {option!r}; {nearest(option, error.options)}"
    return f"{str(error).strip()}\nHYDRA_FULL_ERROR=1 shows where it comes from"
