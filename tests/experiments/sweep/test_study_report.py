"""The page about a study, its table and its pictures."""

import numpy as np
import optuna
import polars as pl
import pytest
from optuna.trial import TrialState

from seasonrec.errors import DataError
from seasonrec.experiments.sweep import plots
from seasonrec.experiments.sweep.report import write_study_report
from seasonrec.experiments.sweep.study import FOLDER, OUTCOMES, REASON, VALUES, Plan

COMMAND = "seasonrec train --config-dir small experiment=best"


@pytest.fixture
def told(sweep_config):
    """A plan, and a study of it whose trials have ended: good where the rate is near 0.01, whatever the weights are."""

    def make(n=30, **changed):
        plan = Plan.of(sweep_config(n_trials=n, **changed))
        study = optuna.create_study(directions=list(plan.objectives.values()), sampler=plan.sampler(3))
        study.set_user_attr("definition", {"words": ["seed=1"]})
        for number in range(n):
            trial = study.ask()
            values = plan.space.draw(trial)
            trial.set_user_attr(VALUES, values)
            trial.set_user_attr(FOLDER, f"trials/{number:04d}")
            good = 1.2 - 0.05 * abs(np.log10(values.get("optim.lr", 0.001) / 0.01)) - (values["head/cf"] == "default") * 0.02
            found = {"validation/selection": good, "seconds_per_epoch": 10 + 40 * values["loss.weights.cf"]}
            trial.set_user_attr(OUTCOMES, found)
            for epoch in range(1 + number % 4):  # past trial.report, which takes no epochs of trials with several objectives
                study._storage.set_trial_intermediate_value(trial._trial_id, epoch, good - 0.3 / (epoch + 1))
            if number % 4 == 1 and len(plan.objectives) == 1:
                trial.set_user_attr(REASON, "given up <by> the pruner")
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, [found[name] for name in plan.objectives])
        plan.folder.mkdir(parents=True, exist_ok=True)
        return plan, study

    return make


def test_the_page_says_what_was_tried_what_came_out_and_what_it_cost(told):
    plan, study = told()
    (plan.folder / "trials/0007").mkdir(parents=True)
    page = write_study_report(plan, study, COMMAND).read_text()
    best = study.best_trial
    assert f"Trial {best.number}: validation/selection {best.value:.5g}." in page
    assert "30 of 30 trials (22 completed, 8 pruned) · seed 0" in page
    assert "validation weeks only" in page
    assert "given up &lt;by&gt; the pruner" in page
    assert "href='trials/0007/'" in page  # and none to what does not lie here
    assert "href='trials/0008/'" not in page
    assert "No picture" not in page
    assert {path.stem for path in (plan.folder / "plots").glob("*.png")} == {"history", "curves", "importances", "slices", "parallel"}


def test_the_table_has_a_row_for_each_trial(told):
    plan, study = told()
    write_study_report(plan, study, COMMAND)
    table = pl.read_csv(plan.folder / "trials.csv")
    assert table["trial"].to_list() == list(range(30))
    row = table.row(3, named=True)
    assert row["validation/selection"] == pytest.approx(study.trials[3].value)
    assert {key: row[key] for key in study.trials[3].user_attrs[VALUES]} == pytest.approx(study.trials[3].user_attrs[VALUES])


def test_several_objectives_show_their_front_and_the_rule_that_picks(told):
    plan, study = told(maximize=["validation/selection"], minimize=["seconds_per_epoch"])
    page = write_study_report(plan, study, COMMAND).read_text()
    assert "the point nearest to the best value of each objective" in page
    assert (plan.folder / "plots/pareto.png").exists()
    assert "No picture" not in page


def test_a_study_without_a_completed_trial_has_a_page_too(told):
    plan, study = told(n=0)
    page = write_study_report(plan, study, COMMAND).read_text()
    assert "No trial completed within the limits." in page
    assert "No picture. 0 trials completed, wanted at least 1; go on with the study" in page


def test_the_parameter_that_decides_is_the_most_important(told):
    _, study = told(n=60)
    found = plots.importances_of(study)
    assert next(iter(found)) == "optim.lr"
    assert sum(found.values()) == pytest.approx(1)
    assert {"loss.weights.cf", "head/cf"} < set(found)


def test_importances_want_parameters_that_differ(told):
    _, study = told(n=3)
    with pytest.raises(DataError, match="trials completed, wanted at least 4"):
        plots.importances_of(study)


def test_the_best_so_far_never_gets_worse(told):
    _, study = told()
    figure = plots.history(study.trials, ["validation/selection"], [True])
    (line,) = figure.axes[0].lines
    values = [trial.value for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert list(line.get_ydata()) == list(np.maximum.accumulate(values))


def test_a_parameter_that_a_trial_lacks_leaves_a_gap_in_its_line(told):
    _, study = told()
    figure = plots.parallel_coordinates(study.trials, ["head/cf", "optim.lr"], "validation/selection")
    done = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    lines = [line.get_ydata() for line in figure.axes[0].lines if len(line.get_ydata()) == 3]
    assert sum(np.isnan(line[1]) for line in lines) == sum("optim.lr" not in trial.user_attrs[VALUES] for trial in done)
    assert max(line[2] for line in lines) == 1


def test_the_password_of_a_database_is_on_no_page(told):
    plan, study = told(n=1, storage="postgresql+psycopg2://me:sesame@host/studies")
    page = write_study_report(plan, study, COMMAND).read_text()
    assert "postgresql+psycopg2://me:***@host/studies" in page
    assert "sesame" not in page
