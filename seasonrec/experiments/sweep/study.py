"""A study that many workers share: where it lives, who does which trial, and what happens to a trial whose worker died."""

import copy
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Final, cast

import optuna
from filelock import FileLock
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from seasonrec.errors import ConfigError
from seasonrec.evaluation.evaluate import BEYOND_ACCURACY
from seasonrec.evaluation.selection import METRIC
from seasonrec.experiments.config import check_number
from seasonrec.experiments.record import masked_word
from seasonrec.experiments.sweep.lease import MISSED, WORKER, Lease, beating, is_gone
from seasonrec.experiments.sweep.space import Limit, Space, Values

# User attributes: of a trial what it set, where it ran and what came out; of a study what it explores and that it is ready.
VALUES, FOLDER, OUTCOMES, REASON = "values", "folder", "outcomes", "reason"
DEFINITION, READY = "definition", "ready"
SECONDS_PER_EPOCH: Final = "seconds_per_epoch"
POLL: Final = 1.0  # seconds between looks at a study that has no trial to give
OF_MACHINE: Final = ("paths.", "n_threads=", "trainer=", "trainer.devices=")  # words that may differ from one machine to the next
PATIENCE: Final = 60.0  # seconds for which another process may take to begin a study


@dataclass(frozen=True)
class Plan:
    """What a study explores and how, as objects.

    Args:
        cfg: the config's node `sweep`.
        objectives: "maximize" or "minimize" by the name of what a trial ends with.
        sampler: makes the sampler of a trial from its seed.
    """

    cfg: DictConfig
    space: Space
    limits: Sequence[Limit]
    objectives: Mapping[str, str]
    sampler: Callable[[int], BaseSampler]
    pruner: BasePruner
    points: Sequence[dict[str, Any]] = field(default_factory=tuple)

    @classmethod
    def of(cls, cfg: DictConfig) -> "Plan":
        """The plan that a config describes.

        Raises:
            ConfigError: nothing to search or no objective, a condition or known point that the space does not have, or a pruner
                beside objectives that are not known before a trial's end.
        """
        objectives = dict.fromkeys(cfg.maximize, "maximize") | dict.fromkeys(cfg.minimize, "minimize")
        if not cfg.space or not objectives:
            raise ConfigError("sweep: there is nothing to search, or no objective; give sweep.space, and sweep.maximize or sweep.minimize")
        space = Space(instantiate(cfg.space, _convert_="all"))
        plan = cls(
            cfg=cfg,
            space=space,
            limits=instantiate(cfg.limits, _convert_="all"),
            objectives=objectives,
            sampler=functools.partial(_sampler, instantiate(cfg.sampler, _convert_="all"), cfg.seed),
            pruner=instantiate(cfg.pruner, _convert_="all") or NopPruner(),
            points=[space.point(point) for point in cast(list[Values], OmegaConf.to_container(cfg.enqueue, resolve=True))],
        )
        for name in plan.outcomes:
            if name in (SECONDS_PER_EPOCH, METRIC):
                continue
            split, _, number = name.partition("/")
            if split == "validation" and "/" in number:
                metric, _, of = number.partition("/")
                check_number(f"sweep, {name}", of, metric, BEYOND_ACCURACY)
            else:
                raise ConfigError(
                    f"sweep: no trial ends with {name!r}; wanted {SECONDS_PER_EPOCH}, {METRIC}, validation/<metric>/<slice>, or in a"
                    f" limit a key of the space: {', '.join(space.keys)}"
                )
        if cfg.pruner and objectives != {METRIC: "maximize"}:
            raise ConfigError(
                f"sweep.pruner: before they end, trials are compared by {METRIC} alone, which is not what this study looks for;"
                " give sweep/pruner=none"
            )
        return plan

    @property
    def outcomes(self) -> list[str]:
        """What a trial has to end with: its objectives, and what limits compare that the space does not set."""
        limited = {name for limit in self.limits for name in limit.names}
        return sorted({*self.objectives, *(limited - set(self.space.keys))})

    @property
    def folder(self) -> Path:
        """Where the runs of the trials and the report go."""
        return Path(self.cfg.folder)

    def definition(self, words: Sequence[str]) -> dict[str, Any]:
        """What must stay the same for as long as a study goes on, on whatever machine, in plain containers."""
        parts = {name: OmegaConf.to_container(self.cfg[name], resolve=True) for name in ("space", "maximize", "minimize", "limits")}
        return parts | {"words": sorted(masked_word(word) for word in words if not word.startswith(OF_MACHINE))}


def _sampler(configured: Any, seed: int, number: int) -> BaseSampler:
    """A partial sampler is seeded for each trial, so that a study that goes on draws as if it had never stopped."""
    return configured(seed=seed * 100_003 + number) if isinstance(configured, functools.partial) else configured


def storage_of(location: str, every: float = 30.0, retry: Callable | None = None) -> BaseStorage:
    """The storage at a database URL, e.g. sqlite:///study.db or postgresql+psycopg2://host/name, or in a journal file.

    Args:
        every: seconds between the heartbeats of a running trial, where the storage keeps them.
        retry: called with the study and each trial that a heartbeat shows to be dead.

    Raises:
        ConfigError: a database that cannot be reached.
    """
    if "://" not in location:
        Path(location).parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(location))
    interval = max(1, round(every))
    try:
        return RDBStorage(location, heartbeat_interval=interval, grace_period=MISSED * interval, heartbeat_stale_trial_callback=retry)
    except Exception as error:  # of the database's own driver
        raise ConfigError(
            f"sweep.storage: {type(error).__name__}: {str(error).splitlines()[0]}; wanted a journal file or a URL,"
            " e.g. postgresql+psycopg2://host/name after pip install 'seasonrec[postgresql]'"
        ) from error


class SharedStudy:
    """A study as one worker sees it. Every worker, in whatever process, has one of its own.

    Args:
        words: the overrides that all trials share.
        stop: ends the waiting for a trial.
        of: what else must stay the same: what the words come to, and the data, in plain containers.
    """

    def __init__(self, plan: Plan, words: Sequence[str], lease: Lease, stop: Event, of: Mapping[str, Any] | None = None):
        self.plan, self._lease, self.stop = plan, lease, stop
        self._retry = RetryHeartbeatStaleTrialCallback(plan.cfg.max_retries, inherit_intermediate_values=True)
        self.storage = storage_of(plan.cfg.storage, plan.cfg.heartbeat, self._retry)
        # Counting trials and taking one is one step for all processes that see the folder.
        self._lock = FileLock(plan.folder / "study.lock")
        self.study = self._open(plan.definition(words) | dict(of or {}))

    def _open(self, definition: dict[str, Any]) -> optuna.Study:
        """The study, begun if it is new, with the known points that it has not tried yet in its queue.

        Raises:
            ConfigError: there is one of that name which explores something else.
        """
        name = self.plan.cfg.name
        directions = [StudyDirection[direction.upper()] for direction in self.plan.objectives.values()]
        try:
            study = optuna.create_study(storage=self.storage, study_name=name, directions=directions, pruner=self.plan.pruner)
        except DuplicatedStudyError:
            study = optuna.load_study(storage=self.storage, study_name=name, pruner=self.plan.pruner)
            self._wait_until_ready(study)
        if READY not in study.user_attrs:
            study.set_user_attr(DEFINITION, definition)
            study.set_user_attr(READY, True)
        begun = study.user_attrs[DEFINITION]
        if changed := sorted(part for part in definition if part in begun and begun[part] != definition[part]):
            what = _changed(begun[changed[0]], definition[changed[0]])
            raise ConfigError(
                f"sweep: the study {name!r} was begun with other {', '.join(changed)}: {what}; give the new one a name, sweep.name=..."
            )
        with self._lock:  # also of a study that goes on: points that are new to it come next
            for point in self.plan.points:
                study.enqueue_trial(point, skip_if_exists=True)
        return study

    def _wait_until_ready(self, study: optuna.Study) -> None:
        """Waits for the process that began the study; if it died in between, this one goes on in its place."""
        until = time.monotonic() + PATIENCE
        while READY not in study.user_attrs and time.monotonic() < until:
            self.stop.wait(POLL)

    def next(self) -> optuna.Trial | None:
        """A trial to run, which nobody else runs: an interrupted one, a known point or a new one; None once the study is complete.

        While others run the last ones it waits, for one of them may die.
        """
        while not self.stop.is_set():
            with self._lock:
                self.recover()
                trials = self.study.get_trials(deepcopy=False)
                n_done, n_running = n_ended(trials), sum(trial.state == TrialState.RUNNING for trial in trials)
                if n_done >= self.plan.cfg.n_trials:
                    return None
                if n_done + n_running < self.plan.cfg.n_trials:
                    return self._ask()
            self.stop.wait(POLL)
        return None

    def _ask(self) -> optuna.Trial:
        trial = self.study.ask()
        self.study.sampler = self.plan.sampler(trial.number)
        with beating(self.storage, trial._trial_id, self.plan.cfg.heartbeat):
            trial.set_user_attr(WORKER, self._lease.mark)
        return trial

    def recover(self) -> None:
        """Queues the running trials whose workers are gone once more."""
        if isinstance(self.storage, RDBStorage):
            optuna.storages.fail_stale_trials(self.study)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if is_gone(trial, self.plan.cfg.heartbeat, self.storage):
                self.requeue(trial._trial_id)

    def requeue(self, trial_id: int, reason: str = "its process died") -> bool:
        """Ends a trial as failed and puts its copy into the queue; False if it was retried too often for that.

        Args:
            reason: why it ended, for a trial that is not tried again.
        """
        trial = copy.deepcopy(self.storage.get_trial(trial_id))  # the retry writes into what it gets
        n_tried = len(RetryHeartbeatStaleTrialCallback.retry_history(trial))
        again = n_tried < self.plan.cfg.max_retries
        with suppress(UpdateFinishedTrialError):  # somebody else did so
            if not again:
                self.storage.set_trial_user_attr(trial_id, REASON, f"{reason}, {n_tried + 1} times")
            self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
            if again:
                self._retry(self.study, trial)
        return again

    def beating(self, trial: optuna.Trial):
        """While open, the trial is known to be worked on."""
        return beating(self.storage, trial._trial_id, self.plan.cfg.heartbeat)


def _changed(before: Any, now: Any) -> str:
    """In words what changed; of settings those that did."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        other = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        before, now = ({key: each.get(key) for key in other} for each in (before, now))
    return f"{before}, now {now}"


def retried(trials: Sequence[FrozenTrial]) -> set[int]:
    """The numbers of interrupted trials of which there is a copy."""
    return {number for trial in trials for number in RetryHeartbeatStaleTrialCallback.retry_history(trial)}


def n_ended(trials: Sequence[FrozenTrial]) -> int:
    """How many trials came to an end of their own, good or bad; an interrupted one counts once its copy has ended."""
    copied = retried(trials)
    return sum(trial.state.is_finished() and trial.number not in copied for trial in trials)


def pick(study: optuna.Study) -> FrozenTrial | None:
    """The trial to go on with; None if no trial completed within the limits.

    Of several objectives: of the Pareto front the point nearest to the best value of each, every objective scaled to 0..1 over
    the front.
    """
    front = study.best_trials
    if not front:
        return None
    signs = [1.0 if direction == StudyDirection.MINIMIZE else -1.0 for direction in study.directions]
    losses = [[sign * value for sign, value in zip(signs, trial.values, strict=True)] for trial in front]
    lows, highs = ([bound(column) for column in zip(*losses, strict=True)] for bound in (min, max))
    scaled = [[(x - low) / (high - low or 1) for x, low, high in zip(row, lows, highs, strict=True)] for row in losses]
    nearest = min(range(len(front)), key=lambda place: (sum(x * x for x in scaled[place]), front[place].number))
    return front[nearest]
