"""A study from the first trial to the report: as many workers as asked for, on one machine or each machine's share of them."""

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Event
from typing import Any, Final

import optuna
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.exceptions import ExperimentalWarning

from seasonrec.data.prepare import digest_of
from seasonrec.errors import ConfigError
from seasonrec.experiments.cores import n_cores
from seasonrec.experiments.record import plain_config
from seasonrec.experiments.settings import asked_of
from seasonrec.experiments.sweep.best import command_of, write_best
from seasonrec.experiments.sweep.lease import Lease
from seasonrec.experiments.sweep.report import write_study_report
from seasonrec.experiments.sweep.study import Plan, SharedStudy, pick
from seasonrec.experiments.sweep.worker import Worker, word

LISTEN: Final = 0.2  # seconds between looks for Ctrl-C
log = logging.getLogger(__name__)


def run_study(cfg: DictConfig, words: Sequence[str], flags: Sequence[str], choices: Mapping[str, Any]) -> dict[str, float] | None:
    """The picked trial's values by objective, once the study has its trials, its report and best.yaml; None if no trial is good.

    Args:
        cfg: the composed config of the main job, with its node `sweep`.
        words: overrides that all trials share.
        flags: what else the command of a trial needs, to find the user's own configs.
        choices: config groups, and what was chosen of each.
    """
    plan = Plan.of(cfg.sweep)
    plan.folder.mkdir(parents=True, exist_ok=True)
    command = command_of(plan, [flag.partition("=")[2] for flag in flags if flag.startswith("--config-dir=")])
    with _quiet():
        study = _with_workers(cfg, plan, words, flags)
        if chosen := pick(study):
            write_best(plan, study, chosen, words, choices, command)
        report = write_study_report(plan, study, command)
        log.info("report: %s", report)
        if chosen is None:
            log.warning("no trial completed within the limits, so there is no best.yaml")
            return None
        log.info("best: trial %d; %s", chosen.number, command)
        return dict(zip(plan.objectives, chosen.values, strict=True))


def _with_workers(cfg: DictConfig, plan: Plan, words: Sequence[str], flags: Sequence[str]) -> optuna.Study:
    """The study after its last trial."""
    n, stop, lease = cfg.sweep.n_workers, Event(), Lease(plan.folder / "workers")
    shares = devices(n, cfg.sweep.gpus_per_trial)
    of_trial = [*flags, *words, *shared_out(words, n, cfg.sweep.gpus_per_trial, cfg.sweep.name, cfg)]
    of = {"settings": _shared_settings(cfg), "data": digest_of(instantiate(cfg.data))}
    workers: list[Worker] = []
    try:
        for share in shares:
            workers.append(Worker(plan, SharedStudy(plan, words, lease, stop, of), of_trial, share))
        with ThreadPoolExecutor(n) as pool:
            futures = [pool.submit(worker.work) for worker in workers]
            try:
                wait_for(futures)
            finally:  # an error of one worker, or Ctrl-C, ends all
                if not all(future.done() for future in futures):
                    stop.set()
                    for worker in workers:
                        worker.stop()
        return workers[0].study.study
    finally:
        lease.release()


def wait_for(futures: Iterable[Future]) -> None:
    """Returns when all are done; an error of the first that fails, or Ctrl-C, ends it at once.

    A wait without an end may not hear of a signal: Polars has the system resume it.
    """
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=LISTEN, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()


def _shared_settings(cfg: DictConfig) -> dict[str, Any]:
    """What all trials' numbers depend on, whichever file or word it comes from; but for the data and what may differ between machines."""
    asked = asked_of(plain_config(cfg))
    return {key: value for key, value in asked.items() if key != "data" and not key.startswith("trainer.")}


def devices(n_workers: int, gpus_each: float) -> list[dict[str, str]]:
    """The environment that shows each worker the GPUs which are its own; nothing where there are none.

    Args:
        gpus_each: of a worker; below 1 several share one, e.g. four with .25 each.

    Raises:
        ConfigError: fewer GPUs than the workers need, or one and a half for each.
    """
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(n) for n in range(torch.cuda.device_count())] if listed is None else listed.split(",")
    gpus = [name for name in names if name not in ("", "-1")]
    if gpus_each <= 0 or (gpus_each > 1 and gpus_each % 1):
        raise ConfigError(f"{gpus_each:g} GPUs for each run: wanted a whole number, or a share of one, e.g. 0.25 where four runs share it")
    if not gpus:
        return [{} for _ in range(n_workers)]
    n_sharing, n_own = (int(1 / gpus_each + 1e-9), 1) if gpus_each < 1 else (1, int(gpus_each))
    places = [gpus[first : first + n_own] for _ in range(n_sharing) for first in range(0, len(gpus) - n_own + 1, n_own)]
    if n_workers > len(places):
        raise ConfigError(
            f"n_workers: {n_workers} workers with {gpus_each:g} GPUs each want {n_workers * gpus_each:g}, there are {len(gpus)}; "
            "lower one of the two (0.25 GPUs: four share one)"
        )
    return [{"CUDA_VISIBLE_DEVICES": ",".join(place)} for place in places[:n_workers]]


def shared_out(words: Sequence[str], n_workers: int, gpus: float, group: str, cfg: Mapping[str, Any] | None = None) -> list[str]:
    """Overrides that share the machine out among the workers and name their group, unless the command line or a file says otherwise.

    Args:
        words: of the command line.
        gpus: of each worker.
        cfg: what words and files come to.
    """
    n_threads = max(1, n_cores() // n_workers)
    own = {"n_threads": f"n_threads={n_threads}", "group": word("group", group)}
    if gpus > 1:  # the trainer whole, for how it shares batches and synchronises goes with its strategy
        own |= {"trainer": "trainer=ddp", "trainer.devices": f"trainer.devices={gpus:g}"}
    in_files = {key for key in ("n_threads", "group") if (cfg or {}).get(key) is not None}
    given = {each.lstrip("+").partition("=")[0] for each in words} | in_files
    return [each for key, each in own.items() if key not in given]


@contextmanager
def _quiet() -> Iterator[None]:
    """While open, Optuna says neither what we log ourselves, nor that heartbeats are experimental and meant for its own loop."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ExperimentalWarning)
        warnings.filterwarnings("ignore", "Heartbeat of storage is supposed")
        yield
    optuna.logging.set_verbosity(level)
