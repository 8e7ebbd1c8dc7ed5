"""The processes of a run on several devices: that of rank 0 does the whole job and writes every file, the others lend it their devices.

On one machine rank 0 starts the others when its first fit begins, with its own config, and ends them with the run; torchrun and SLURM start
all of them, on any number of machines that share the run's folder. As a program this is one of the others; it ends when rank 0 does.
"""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from seasonrec.errors import ConfigError, SeasonrecError, TrainingError
from seasonrec.evaluation.selection import EpochScores
from seasonrec.experiments.build import dataset_of, joint_of, similar_users_of, texts_of
from seasonrec.experiments.cli import FAILED
from seasonrec.experiments.devices import named
from seasonrec.experiments.fit import Fit, Outcome
from seasonrec.experiments.recommender import FITS
from seasonrec.experiments.record import RunRecord
from seasonrec.experiments.sweep.trial import end_with_worker

log = logging.getLogger(__name__)
# By these Lightning knows its place among processes that it did not start itself.
PLACE: Final = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "NODE_RANK", "LOCAL_RANK")
NOTICED: Final = 10.0  # seconds in which whoever lost a process knows of it
PATIENCE: Final = 30.0  # seconds after which a process that still waits for a lost one is ended


def n_wanted(trainer: DictConfig) -> int:
    """How many processes a trainer's config asks for: one for each device of each machine."""
    devices, n_nodes = trainer.get("devices", 1), int(trainer.get("num_nodes", 1))
    if (listed := named(trainer)) is not None:
        return len(listed) * n_nodes
    if str(devices) in ("auto", "-1"):
        return (1 if trainer.get("accelerator") == "cpu" else max(1, torch.cuda.device_count())) * n_nodes
    return int(devices) * n_nodes


def came_together() -> bool:
    """Whether all processes of a run were started by something else, such as torchrun or srun."""
    return "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", 1)) > 1


def follows(trainer: DictConfig) -> bool:
    """Whether this process is one of the others.

    Raises:
        ConfigError: processes that were started together may mean different folders, nothing has started those of other machines, or none
            of them would have the whole model.
    """
    if n_wanted(trainer) == 1:
        return False
    if "fsdp" in str(trainer.get("strategy")).lower():
        raise ConfigError(
            "trainer.strategy: under Lightning's FSDPStrategy rank 0, which alone measures epochs and ranks, would wait for the others'"
            " parts of the model forever; take trainer=fsdp, which brings them together"
        )
    if not came_together():
        if int(trainer.get("num_nodes", 1)) > 1:
            raise ConfigError("trainer.num_nodes: several machines need torchrun or srun to start each process; see conf/trainer/ddp.yaml")
        return False
    if not _is_named():
        raise ConfigError(
            "each process would make a folder of its own, for torchrun and srun start them one by one: name that of the run, e.g."
            " hydra.run.dir=outputs/train/first"
        )
    return getattr(rank_zero_only, "rank", 0) > 0


def _is_named() -> bool:
    """Whether all processes mean the same folder, which by default is named by the time."""
    if not HydraConfig.initialized():
        return True
    hydra = HydraConfig.get()
    return hydra.mode == RunMode.MULTIRUN or any(word.startswith("hydra.run.dir=") for word in hydra.overrides.hydra)


def follow(cfg: DictConfig) -> float:
    """Lends this process's device to the fits of a run, which rank 0 does all else of; the selection metric."""
    dataset = dataset_of(cfg)
    if cfg.stage == "selection":
        dataset = dataset.before_test()
    similar = similar_users_of(cfg)

    def learn(name: str, split: str, **kwargs: Any) -> Outcome:
        week = dataset.split.weeks[split].start
        joint = joint_of(cfg, dataset, texts_of(cfg, dataset, week), similar)
        return Fit(name, dataset, joint, week, Path(cfg.paths.run) / FITS / name, **kwargs).run(cfg)

    chosen = learn("selection", "validation", selection=EpochScores(), watchers=[instantiate(cfg.trial)] if cfg.trial else [])
    if cfg.stage != "selection":
        learn("final", "test", n_epochs=chosen.n_epochs)
    return chosen.score or 0.0


class Ranks:
    """The other processes as rank 0 sees them; none where one device is enough.

    As a context manager it ends them, and this process is alone again, so that its next run may have others.

    Args:
        cfg: of the run.
        record: of the run.
    """

    def __init__(self, cfg: DictConfig, record: RunRecord):
        self._cfg, self._record, self._n = cfg, record, n_wanted(cfg.trainer)
        self._others: list[subprocess.Popen] = []
        self._before = {name: os.environ.get(name) for name in (*PLACE, "OMP_NUM_THREADS")}  # Lightning sets the last one
        self._learns, self._ended = False, threading.Event()

    @contextmanager
    def learning(self) -> Iterator[None]:
        """While open, the others are there, and learn the same fit.

        Raises:
            TrainingError: one of them ended, and so nothing could go on.
        """
        if self._n > 1 and not self._others and not came_together():
            self._start()
        self._learns = True
        try:
            yield
        except SeasonrecError:
            raise
        except Exception as error:  # whatever the backend says when it waits for somebody who is gone
            if self._others and (why := self._lost(NOTICED)):
                raise TrainingError(why) from error
            raise
        finally:
            self._learns = False

    def _start(self) -> None:
        network = LightningEnvironment()
        place = {"MASTER_ADDR": network.main_address, "MASTER_PORT": str(network.main_port), "WORLD_SIZE": str(self._n), "NODE_RANK": "0"}
        config = json.dumps(OmegaConf.to_container(self._cfg, resolve=True)).encode() + b"\n"
        self._others = [started(config, {**place, "LOCAL_RANK": str(rank)}) for rank in range(1, self._n)]
        os.environ.update(place, LOCAL_RANK="0")
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """Ends this process if it does not notice by itself that it waits in vain."""
        while not self._ended.wait(1.0):
            if self._learns and (why := self._lost()) and not self._ended.wait(PATIENCE) and self._learns:
                self._record.fail(TrainingError(why))
                self._end()
                print(f"error: {why}", file=sys.stderr, flush=True)
                os._exit(FAILED)

    def _lost(self, seconds: float = 0.0) -> str | None:
        """Which of the others failed, if any does within some seconds."""
        until = time.monotonic() + seconds
        while True:
            for rank, process in enumerate(self._others, 1):
                if status := process.poll():
                    return (
                        f"the process of rank {rank} of {self._n} {said(status)}, so all stop, for each learns a share of every batch; what"
                        f" it had to say stands above. `seasonrec train resume={self._record.folder}` goes on after the last whole epoch"
                    )
            if time.monotonic() >= until:
                return None
            time.sleep(0.1)

    def _end(self) -> None:
        for process in self._others:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._end()
        if self._others or self._n == 1:  # one process alone has a group too where it spreads a model over it
            alone_again(self._before)


def started(config: bytes, place: Mapping[str, str]) -> subprocess.Popen:
    """Another process of this run.

    Args:
        config: JSON in one line.
        place: its place among the processes, as environment variables.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", __spec__.name if __spec__ else __name__],
        stdin=subprocess.PIPE,  # closes when this process dies, and the other ends itself
        env={**os.environ, **place, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,  # Ctrl-C reaches this process alone
    )
    assert process.stdin is not None
    process.stdin.write(config)
    process.stdin.flush()
    return process


def said(status: int) -> str:
    """What an exit status other than 0 says."""
    return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"


def alone_again(environment: Mapping[str, str | None]) -> None:
    """Leaves the others, and puts environment variables back; None takes one out."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for name, value in environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


if __name__ == "__main__":
    from seasonrec.experiments.train import train

    read = OmegaConf.create(json.loads(sys.stdin.buffer.readline()))
    end_with_worker()
    train(read)
