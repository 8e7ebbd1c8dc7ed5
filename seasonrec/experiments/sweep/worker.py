"""One worker: draws trials, runs each as a process of its own, and tells the study what came out."""

import logging
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import optuna
from omegaconf import OmegaConf
from optuna.trial import TrialState

from seasonrec.errors import TrainingError
from seasonrec.evaluation.selection import METRIC
from seasonrec.experiments.overrides import quoted
from seasonrec.experiments.record import FINISHED, JOINT, PRUNED, RECORD, read_record, read_table
from seasonrec.experiments.sweep.space import Values
from seasonrec.experiments.sweep.study import FOLDER, OUTCOMES, REASON, SECONDS_PER_EPOCH, VALUES, Plan, SharedStudy
from seasonrec.experiments.sweep.trial import SECONDS

log = logging.getLogger(__name__)
OUTPUT: Final = "output.log"
COMMAND: Final = (sys.executable, "-m", "seasonrec.experiments.sweep.trial")
PLAIN: Final = re.compile(r"[A-Za-z_/][\w./-]*")
READ_AS_OTHER: Final = re.compile(r"(?i)null|true|false|nan|inf")


@dataclass
class Worker:
    """Runs trials one after another until the study has enough.

    Args:
        plan: what the study explores.
        study: the study as this worker sees it.
        words: the overrides that all trials share.
        environment: beyond that of this process, e.g. which GPUs the worker has.
    """

    plan: Plan
    study: SharedStudy
    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen | None = None

    def work(self) -> None:
        """Every trial that the study has to give.

        Raises:
            TrainingError: several trials in a row failed.
        """
        failures = 0
        while (trial := self.study.next()) is not None:
            failures = failures + 1 if self._do(trial) == TrialState.FAIL else 0
            if failures >= self.plan.cfg.max_failures:
                raise TrainingError(
                    f"sweep: {failures} trials in a row failed, the last one with: {self._reason(trial.number)}; mend it and call again"
                )

    def stop(self) -> None:
        """Ends the trial that runs; whoever goes on with the study begins with it."""
        if self.process:
            self.process.kill()

    def _do(self, trial: optuna.Trial) -> TrialState | None:
        """How the trial ended; None if it was interrupted, and queued once more."""
        with self.study.beating(trial):
            values = self.plan.space.draw(trial)
            trial.set_user_attr(VALUES, values)
            folder = self._folder(trial)
            if self._exceeds(trial, values):
                return self._tell(trial, TrialState.PRUNED, "breaks a limit, so it was not run")
            log.info("trial %d: %s", trial.number, " ".join(word(key, value) for key, value in values.items()))
            status = self._run(trial, folder, values)
            return self._close(trial, folder, status)

    def _folder(self, trial: optuna.Trial) -> Path:
        """The folder of the trial's run; a trial that was interrupted goes on in the one that it had.

        Raises:
            TrainingError: a new trial finds the run of another study there, whose checkpoints it would take for its own.
        """
        if FOLDER not in trial.user_attrs:
            name = f"trials/{trial.number:04d}"
            if (self.plan.folder / name / RECORD).exists():
                raise TrainingError(f"sweep: {self.plan.folder / name} is of another study; move it away, or give sweep.name=...")
            trial.set_user_attr(FOLDER, name)
        return self.plan.folder / trial.user_attrs[FOLDER]

    def _run(self, trial: optuna.Trial, folder: Path, values: Values) -> int:
        """The exit status of the trial's process; its checkpoints in the folder, if there are any, are gone on from."""
        words = [*self.words, *(word(key, value) for key, value in values.items()), *self._own_words(trial)]
        self.process = started("train", words, folder, self.environment)
        if self.study.stop.is_set():
            self.stop()  # which was called before there was a process
        with self.process:
            return self.process.wait()

    def _own_words(self, trial: optuna.Trial) -> list[str]:
        report = {
            "_target_": "seasonrec.experiments.sweep.trial.StudyReport",
            "storage": self.plan.cfg.storage,
            "study": self.plan.cfg.name,
            "number": trial.number,
            "pruner": OmegaConf.to_container(self.plan.cfg.pruner, resolve=True) if self.plan.cfg.pruner else None,
        }
        return ["stage=selection", word("trial", report)]

    def _close(self, trial: optuna.Trial, folder: Path, status: int) -> TrialState | None:
        if status < 0:
            killed = f"killed by signal {-status}"
            again = self.study.requeue(trial._trial_id, killed)
            log.warning("trial %d was %s: %s", trial.number, killed, "queued once more" if again else "given up")
            return None if again else TrialState.FAIL
        record = read_record(folder) if (folder / RECORD).exists() else {}
        if status or record.get("status") not in (FINISHED, PRUNED):
            return self._tell(trial, TrialState.FAIL, error_of(folder))
        found = self._outcomes(trial, record, folder)
        trial.set_user_attr(OUTCOMES, found)
        self._exceeds(trial, trial.user_attrs[VALUES] | found)
        if record["status"] == PRUNED:
            return self._tell(trial, TrialState.PRUNED, "given up by the pruner")
        if missing := [name for name in self.plan.outcomes if name not in found]:
            return self._tell(trial, TrialState.FAIL, f"ended without {', '.join(missing)}; it ended with {', '.join(sorted(found))}")
        return self._tell(trial, TrialState.COMPLETE, values=[found[name] for name in self.plan.objectives])

    def _outcomes(self, trial: optuna.Trial, record: Mapping[str, Any], folder: Path) -> dict[str, float]:
        """The numbers that a trial ends with; all of validation weeks, for its process knows no others."""
        found = {METRIC: float(record["facts"]["selection"])}
        table = read_table(folder, "metrics")
        if table is not None:
            rows = table.filter(method=JOINT, split="validation").drop_nulls("value")
            found |= {f"validation/{metric}/{name}": value for metric, name, value in rows.select("metric", "slice", "value").iter_rows()}
        seconds = self.study.storage.get_trial(trial._trial_id).user_attrs.get(SECONDS, {})
        return found | ({SECONDS_PER_EPOCH: statistics.median(seconds.values())} if seconds else {})

    def _exceeds(self, trial: optuna.Trial, values: Mapping[str, Any]) -> bool:
        """Whether a limit is broken, as far as the values tell; the study is told each limit that they tell of."""
        excess = {limit.name: each for limit in self.plan.limits if (each := limit.excess(values)) is not None}
        for name, value in excess.items():
            if name not in trial.constraints:
                trial.set_constraint(name, value)
        return any(value > 0 for value in excess.values())

    def _tell(self, trial: optuna.Trial, state: TrialState, reason: str = "", values: Sequence[float] | None = None) -> TrialState:
        if reason:
            trial.set_user_attr(REASON, reason)
        told = ", ".join(f"{name} {value:.4g}" for name, value in zip(self.plan.objectives, values or (), strict=False))
        log.info("trial %d %s%s", trial.number, state.name.lower(), f": {reason or told}" if reason or told else "")
        self.study.study.tell(trial, values, state)
        return state

    def _reason(self, number: int) -> str:
        return self.study.study.get_trials(deepcopy=False)[number].user_attrs[REASON]


def started(verb: str, words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.Popen:
    """A run as a process of its own, which ends when this one does. What it says goes to output.log in its folder.

    Args:
        verb: of the command.
        words: its overrides.
        folder: of the run; what an interrupted run left there is gone on from.
        environment: beyond that of this process, e.g. which GPUs are the run's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / OUTPUT).open("ab") as output:
        return subprocess.Popen(
            [*COMMAND, verb, *words, word("hydra.run.dir", str(folder))],
            stdin=subprocess.PIPE,  # closes when this process dies, and the run ends itself
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C reaches this process alone
        )


def word(key: str, value: Any) -> str:
    """key=value as Hydra reads it back, e.g. `trial={number:3,study:'a b'}`."""
    return f"{key}={_text(value)}"


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(_text, value)) + "]"
    if isinstance(value, str) and not (PLAIN.fullmatch(value) and not READ_AS_OTHER.fullmatch(value)):
        return quoted(value)
    return str(value)


def error_of(folder: Path) -> str:
    """What a failed run said, in one line."""
    if (folder / RECORD).exists() and (error := read_record(folder).get("error")):
        return f"{error['type']}: {error['message'].partition(chr(10))[0]}"
    output = folder / OUTPUT
    lines = output.read_text(errors="replace").strip().splitlines() if output.exists() else []
    return lines[-1] if lines else "it said nothing"
