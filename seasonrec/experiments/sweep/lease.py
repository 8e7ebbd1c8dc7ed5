"""Signs of life: whether the worker of a trial still works on it, on this machine or on another one."""

import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final
from uuid import uuid4

from filelock import FileLock, Timeout
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial

WORKER, BEAT = "worker", "beat"  # user attributes of a trial: whose it is, and when that was last heard of
MISSED: Final = 3  # beats, after which a worker counts as dead


class Lease:
    """This process's hold on its trials. It ends with the process, whatever ends it: a lock that the system takes back.

    Args:
        folder: of the locks, one per process.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder.resolve() / f"{uuid4().hex}.lock"
        self.mark = {"machine": platform.node(), "lock": str(path)}
        self._lock = FileLock(path, thread_local=False)
        self._lock.acquire()

    def release(self) -> None:
        """Gives the trials of this process away."""
        self._lock.release()


def is_gone(trial: FrozenTrial, every: float, storage: BaseStorage) -> bool:
    """Whether the worker of a running trial is dead, as far as can be told from here.

    On the worker's own machine its lock tells at once. Elsewhere its last beat does, unless the storage keeps heartbeats itself:
    then Optuna tells, once there was a first one.

    Args:
        every: seconds between beats.
    """
    mark = trial.user_attrs.get(WORKER)
    if mark and mark["machine"] == platform.node() and Path(mark["lock"]).exists():
        return _is_free(mark)
    if mark and isinstance(storage, RDBStorage):
        return False
    started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    return time.time() - trial.user_attrs.get(BEAT, started) > MISSED * every


@contextmanager
def beating(storage: BaseStorage, trial_id: int, every: float) -> Iterator[None]:
    """While open, the trial is known to be worked on, also to other machines."""
    stop = Event()
    _beat(storage, trial_id)

    def beat() -> None:
        while not stop.wait(every):
            _beat(storage, trial_id)

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _beat(storage: BaseStorage, trial_id: int) -> None:
    if isinstance(storage, RDBStorage):
        storage.record_heartbeat(trial_id)
    else:
        storage.set_trial_user_attr(trial_id, BEAT, time.time())


def _is_free(mark: Mapping[str, Any]) -> bool:
    try:
        with FileLock(mark["lock"], timeout=0):
            return True
    except Timeout:
        return False
