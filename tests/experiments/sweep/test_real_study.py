"""Trials that really train: what a trial may see, what it tells its study, and one study from end to end."""

from types import SimpleNamespace

import numpy as np
import optuna
import polars as pl
import pytest
import torch
from optuna.trial import TrialState
from polars.testing import assert_frame_equal

from seasonrec.data.timeline import Timeline
from seasonrec.errors import ConfigError
from seasonrec.evaluation.labels import season_labels
from seasonrec.experiments import train as main_job
from seasonrec.experiments.record import read_record, read_table
from seasonrec.experiments.sweep.study import FOLDER, storage_of
from seasonrec.experiments.sweep.trial import SECONDS, StudyReport
from seasonrec.schema import TIME

SHORT = ["stage=selection", "trainer.max_epochs=2", "sampling.n_weeks=8", "logger=none", "callbacks=none"]


@pytest.fixture
def select(command, words, tmp_path):
    """The folder of a run that ends after its selection fit."""

    def run(name, *more):
        command("train", *words, *SHORT, *more, f"hydra.run.dir={tmp_path / name}")
        return tmp_path / name

    return run


def test_the_data_before_the_test_weeks_are_those_without_any_event_of_theirs(dataset):
    before, first = dataset.before_test(), dataset.start_of(dataset.split.test[0])
    assert before.events[TIME].max() < first <= dataset.events[TIME].max()
    assert_frame_equal(before.events, dataset.events.filter(pl.col(TIME) < first))
    week = dataset.split.validation[0]
    assert before.item_texts(dataset.start_of(week)) == dataset.item_texts(dataset.start_of(week))
    assert (before.n_items, before.n_users, before.digest) == (dataset.n_items, dataset.n_users, dataset.digest)


def test_nothing_that_a_trial_works_with_holds_an_event_of_the_test_weeks(select, dataset, monkeypatch):
    """But for the labels of seasons, which are made first, no timeline reaches into the test weeks."""
    first, made, make = dataset.start_of(dataset.split.test[0]), [], Timeline.__init__

    def noted(self, *args, **kwargs):
        make(self, *args, **kwargs)
        made.append(int(self.time.max()))

    labels = season_labels(dataset)
    monkeypatch.setattr(main_job, "season_labels", lambda whole: labels)
    monkeypatch.setattr(Timeline, "__init__", noted)
    folder = select("run")
    assert made
    assert max(made) < first
    assert set(read_table(folder, "metrics")["split"]) == {"validation"}
    assert not list((folder / "lists").glob("*.parquet"))


def test_other_purchases_in_test_weeks_change_nothing_in_a_trial(select, dataset, purchases, tmp_path, monkeypatch):
    labels = season_labels(dataset)
    monkeypatch.setattr(main_job, "season_labels", lambda whole: labels)
    table, rng = pl.read_csv(purchases), np.random.default_rng(0)
    is_test = (table["when"] >= dataset.start_of(dataset.split.test[0])).to_numpy()
    customers = table["customer"].to_numpy().copy()
    customers[is_test] = rng.permutation(customers[is_test])
    table.with_columns(customer=pl.Series(customers)).write_csv(tmp_path / "other.csv")
    # Without cached lists of the reference, which are named by the data.
    own, other = select("own"), select("other", f"data.path={tmp_path / 'other.csv'}", f"paths.cache={tmp_path / 'cache'}")
    assert read_record(own)["data"]["digest"] != read_record(other)["data"]["digest"]
    assert_frame_equal(read_table(own, "metrics"), read_table(other, "metrics"))


def test_a_trial_has_the_selection_metric_that_the_whole_run_has(select, run):
    folder = select("run", "trainer.max_epochs=3", "sampling.n_weeks=20", "callbacks=default", "~callbacks.progress")
    assert read_record(folder)["facts"]["selection"] == pytest.approx(read_record(run)["facts"]["selection"], rel=1e-6)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("word", "message"), [("stage=test", "stage is 'test', wanted whole or selection"), ("sweep=heads", "run by `seasonrec sweep`")]
)
def test_a_run_that_is_neither_whole_nor_of_a_study_is_refused(composed, tmp_path, word, message):
    cfg = composed(word)
    cfg.paths.run = str(tmp_path)
    with pytest.raises(ConfigError, match=message):
        main_job.train(cfg)


def fit_of(selection_by_epoch, report):
    """Lets a report see epochs; how many there were until it stopped."""
    trainer = SimpleNamespace(
        is_global_zero=True,
        should_stop=False,
        max_epochs=len(selection_by_epoch),
        strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision),
    )
    for epoch, value in enumerate(selection_by_epoch):
        trainer.current_epoch, trainer.callback_metrics = epoch, {"validation/selection": torch.tensor(value)}
        report.on_train_epoch_start(trainer, None)
        report.on_train_epoch_end(trainer, None)
        if trainer.should_stop:
            return epoch + 1
    return len(selection_by_epoch)


@pytest.fixture
def reported(tmp_path):
    """Lets trials report their epochs to a study by its journal; how many each did, and the study."""
    journal = str(tmp_path / "study.journal")
    study = optuna.create_study(storage=storage_of(journal), study_name="s", direction="maximize")

    def report(*curves, pruner):
        n = []
        for curve in curves:
            trial = study.ask()
            n.append(fit_of(curve, StudyReport(journal, "s", trial.number, pruner)))
            study.tell(trial, state=TrialState.PRUNED if n[-1] < len(curve) else None, values=None if n[-1] < len(curve) else curve[-1])
        return n, study.trials

    return report


def test_epochs_and_their_seconds_reach_the_study(reported):
    _, (trial,) = reported([0.5, 0.75], pruner=None)
    assert trial.intermediate_values == {0: 0.5, 1: 0.75}
    assert list(trial.user_attrs[SECONDS]) == ["0", "1"]


def test_a_trial_below_the_median_stops_but_never_after_its_last_epoch(reported):
    pruner = optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=0)
    n, trials = reported([0.5, 0.75], [0.75, 1.0], [0.5, 0.5], [0.75, 0.25], pruner=pruner)
    assert n == [2, 2, 1, 2]  # medians after one epoch: 0.625 of two trials; the last trial is bad in its last epoch alone
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"]


def test_hyperband_stops_trials_too(reported):
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=4, reduction_factor=2)
    n, _ = reported(*([value] * 4 for value in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)), pruner=pruner)
    assert n[0] == 4
    assert min(n) < 4


KILLER = """
import os, signal
from pathlib import Path
from pytorch_lightning import Callback

class Killer(Callback):
    '''Kills its process once in a study, in the second epoch of whatever trial that is.'''

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        mark = Path("killed")
        if (trainer.current_epoch, batch_idx) == (1, 1) and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_study_of_real_trials_goes_on_from_a_checkpoint(words, command, tmp_path, monkeypatch, trials_of):
    (tmp_path / "killers.py").write_text(KILLER)
    monkeypatch.chdir(tmp_path)
    quick = [word for word in words if not word.startswith(("trainer.max_epochs", "epochs", "sampling.n_weeks"))]
    study = ["sweep=loss_weights", "sweep.n_trials=1", "sweep.enqueue=[]"]
    more = ["trainer.max_epochs=2", "sampling.n_weeks=4", "logger=none", "+callbacks.killer._target_=killers.Killer"]
    command("sweep", *quick, *study, "sweep/pruner=none", *more)
    folder = tmp_path / "outputs/sweep/loss_weights"
    first, again = trials_of(folder, "loss_weights")
    assert (first.state, again.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert again.user_attrs[FOLDER] == "trials/0000"
    record = read_record(folder / "trials/0000")
    assert (record["status"], len(record["resumed"])) == ("finished", 1)
    assert again.value == record["facts"]["selection"]
    # Its first epoch was not trained again: value and seconds are those that the killed process told.
    assert again.intermediate_values[0] == first.intermediate_values[0]
    assert again.user_attrs[SECONDS]["0"] == first.user_attrs[SECONDS]["0"]
    assert (set(first.intermediate_values), set(again.intermediate_values)) == ({0}, {0, 1})
