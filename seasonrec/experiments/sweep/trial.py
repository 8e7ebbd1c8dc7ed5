"""A trial from within: the training that tells its study how each epoch went, and stops where the study wants it to.

As a program it is `seasonrec` for as long as the worker lives that started it: `python -m seasonrec.experiments.sweep.trial train ...`
"""

import os
import sys
import threading
import time
from functools import cached_property
from typing import Final

import optuna
import pytorch_lightning as lightning
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage

from seasonrec.evaluation.selection import METRIC
from seasonrec.experiments.sweep.study import storage_of

SECONDS, PRUNED = "seconds", "pruned"  # user attributes: of each epoch; after which epoch the study had seen enough


class StudyReport(lightning.Callback):
    """Tells a study the selection metric of each epoch; a trial that its pruner gives up stops after that epoch.

    Args:
        storage: journal file or database URL of the study.
        study: its name.
        number: of the trial.
        pruner: None lets every trial end, and of several objectives is the only choice.
    """

    def __init__(self, storage: str, study: str, number: int, pruner: BasePruner | None = None):
        self._location, self._name, self._number, self._pruner = storage, study, number, pruner
        self._began = 0.0

    @cached_property
    def _storage(self) -> BaseStorage:
        return storage_of(self._location)

    @cached_property
    def _study(self) -> optuna.Study:
        return optuna.load_study(storage=self._storage, study_name=self._name, pruner=self._pruner)

    @property
    def _trial(self) -> optuna.trial.FrozenTrial:
        return self._study.get_trials(deepcopy=False)[self._number]

    @property
    def pruned(self) -> bool:
        """Whether the study gave the trial up, in this process or in one that was interrupted."""
        return PRUNED in self._trial.user_attrs

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Takes the time."""
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Reports the epoch that was just measured. Only the process of rank 0 does; it decides for all."""
        if trainer.is_global_zero:
            is_last = trainer.current_epoch + 1 == trainer.max_epochs
            self._report(trainer.current_epoch, float(trainer.callback_metrics[METRIC]), is_last)
        if trainer.strategy.reduce_boolean_decision(trainer.is_global_zero and self.pruned, all=False):
            trainer.should_stop = True

    def _report(self, epoch: int, value: float, is_last: bool) -> None:
        trial = self._trial
        seconds = trial.user_attrs.get(SECONDS, {}) | {str(epoch): round(time.perf_counter() - self._began, 3)}
        self._storage.set_trial_user_attr(trial._trial_id, SECONDS, seconds)
        self._storage.set_trial_intermediate_value(trial._trial_id, epoch, value)
        if self._pruner and not is_last and self._pruner.prune(self._study, self._trial):
            self._storage.set_trial_user_attr(trial._trial_id, PRUNED, epoch)


GONE: Final = 3  # exit status of a trial whose worker is gone


def end_with_worker() -> None:
    """Ends this process once its worker is gone, however that ended: the pipe that it holds at our stdin then closes."""

    def wait() -> None:
        os.read(0, 1)
        os._exit(GONE)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    from seasonrec.experiments.cli import main

    end_with_worker()
    main(sys.argv[1:])
