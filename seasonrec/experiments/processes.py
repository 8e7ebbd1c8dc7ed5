"""Many runs, a process each: finished ones are found again, interrupted ones go on, and failed ones say why."""

import json
import logging
import subprocess
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seasonrec.data.prepare import digest_of
from seasonrec.errors import ConfigError, TrainingError
from seasonrec.experiments.config import SCHEMAS, check_config
from seasonrec.experiments.record import is_finished, plain_config, read_record, refuse_other_data, refuse_other_settings, tell_changed_code
from seasonrec.experiments.sweep.run import devices, wait_for
from seasonrec.experiments.sweep.sweeper import flags_of, parsed
from seasonrec.experiments.sweep.worker import error_of, started

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A run of `seasonrec train` or `seasonrec evaluate` with its place.

    Args:
        name: in messages.
        folder: of the run.
        words: overrides of its command line.
        config: that they make, from `config_of`.
    """

    name: str
    folder: Path
    words: Sequence[str]
    config: Mapping[str, Any]
    verb: str = "train"

    @property
    def is_finished(self) -> bool:
        """Whether its folder holds the whole run."""
        return is_finished(self.folder)

    def check(self) -> None:
        """Nothing, if the run can begin or go on; a warning, if it has finished with other code of the user's own.

        Raises:
            ConfigError: its folder holds a run of other settings.
            DataError: it holds a finished run, and the data have changed since.
        """
        refuse_other_settings(self.config, self.folder)
        if self.is_finished:
            refuse_other_data(self.folder, _digest(json.dumps(self.config["data"], sort_keys=True)))
            tell_changed_code(self.folder, read_record(self.folder))


def jobs_of(what: str, folder: Path, words: Sequence[str], seeds: Sequence[int], verb: str = "train") -> list[Job]:
    """A run for each seed, in folders of their own under `folder`.

    Args:
        what: names them in messages.
        words: that they share.

    Raises:
        ConfigError: their config is not in order, a folder holds a run of other settings, or seeds are none or not all different.
        DataError: a folder holds a finished run of other data.
    """
    if twice := sorted({n for n in seeds if list(seeds).count(n) > 1}):
        raise ConfigError(f"seeds: {twice[0]} stands there more than once; each seed is one run")
    if not seeds:
        raise ConfigError("seeds: there is none; give at least one, e.g. seed=0")
    config = config_of(words, verb, what)
    jobs = [Job(f"{what}, seed {n}", folder / f"seed{n}", [*words, f"seed={n}"], config | {"seed": n}, verb) for n in seeds]
    for job in jobs:
        job.check()
    return jobs


def config_of(words: Sequence[str], verb: str, what: str) -> dict[str, Any]:
    """The config that a verb with these overrides gets, in plain containers.

    Args:
        what: names them in errors.

    Raises:
        ConfigError: it cannot be composed, or is not in order.
    """
    try:
        cfg = compose(verb, list(words))
        check_config(cfg, SCHEMAS[verb])
        return plain_config(cfg)
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{what}, {' '.join(words)}: {str(error).strip().partition(chr(10))[0]}") from error


@lru_cache
def _digest(data: str) -> str:
    """The digest of what a config's `data`, as JSON, reads."""
    return digest_of(instantiate(OmegaConf.create(json.loads(data))))


def flags() -> list[str]:
    """What tells a process of ours where the configs are that this one was called with."""
    return flags_of(OmegaConf.create({"hydra": HydraConfig.get()}))


def words_without(*keys: str) -> list[str]:
    """The overrides of this process's command line but those at or under some root keys."""
    own = parsed(HydraConfig.get().overrides.task)
    return [str(each.input_line) for each in own if each.key_or_group.partition("/")[0].partition(".")[0] not in keys]


def run_all(jobs: Sequence[Job], n_workers: int = 1, gpus: float = 1, needed: Collection[str] = ()) -> dict[str, str]:
    """Runs what has not finished yet; by the names of those that failed, what they said.

    Args:
        n_workers: runs at a time.
        gpus: of each, where there are some; below 1 several runs share one.
        needed: names of those without which the others are for nothing: once one has failed, no further one begins.
    """
    todo = [job for job in jobs if not job.is_finished]
    log.info("%d of %d runs are there, %d to go", len(jobs) - len(todo), len(jobs), len(todo))
    running: set[subprocess.Popen] = set()
    ended, in_vain = Event(), Event()
    shares: SimpleQueue[dict[str, str]] = SimpleQueue()
    here = flags()
    for share in devices(n_workers, gpus):
        shares.put(share)

    def run(job: Job) -> str | None:
        if ended.is_set() or in_vain.is_set():
            return None
        share = shares.get()
        log.info("%s: %s", job.name, job.folder)
        try:
            with started(job.verb, [*here, *job.words], job.folder, share) as process:
                running.add(process)
                if ended.is_set():  # while it was started
                    process.kill()
                status = process.wait()
            running.discard(process)
        finally:
            shares.put(share)
        if status == 0 and job.is_finished:
            return None
        if job.name in needed:
            in_vain.set()
        return error_of(job.folder)

    with ThreadPoolExecutor(n_workers) as pool:
        try:
            futures = {job.name: pool.submit(run, job) for job in todo}
            wait_for(futures.values())
            said = {name: future.result() for name, future in futures.items()}
        except BaseException:  # Ctrl-C ends all
            ended.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):  # which its thread takes out of them as it ends
                process.kill()
            raise
    return {name: why for name, why in said.items() if why is not None}


def failure_of(failed: Mapping[str, str]) -> TrainingError:
    """The error to raise of runs that failed: how many, and what the first one said.

    Args:
        failed: from `run_all`, not empty.
    """
    name, why = next(iter(failed.items()))
    return TrainingError(f"{len(failed)} runs failed, e.g. {name}: {why}; mend it and call again, those that finished are kept")
