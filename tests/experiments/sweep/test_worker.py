"""What a worker makes of a trial's process: told, failed, pruned, interrupted or not run at all."""

from threading import Event

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.trial import TrialState

from seasonrec.errors import TrainingError
from seasonrec.experiments.sweep import worker
from seasonrec.experiments.sweep.lease import Lease
from seasonrec.experiments.sweep.study import FOLDER, OUTCOMES, REASON, Plan, SharedStudy
from seasonrec.experiments.sweep.worker import Worker, word


@pytest.fixture
def work(stand_in, sweep_config):
    """Lets one worker work on the small study; the trials then."""

    def do(**changed):
        plan = Plan.of(sweep_config(**changed))
        lease = Lease(plan.folder / "workers")
        shared = SharedStudy(plan, ["seed=1"], lease, Event())
        try:
            Worker(plan, shared, ["seed=1"]).work()
        finally:
            lease.release()
        return shared.study.trials

    return do


def calls(stand_in):
    """(folder, weight of the seasonal loss) of each call."""
    return [tuple(line.split()[:2]) for line in stand_in.read_text().splitlines()]


def test_each_trial_runs_once_and_is_told_what_it_ended_with(work, stand_in):
    trials = work(n_trials=3)
    assert [folder for folder, _ in calls(stand_in)] == ["0000", "0001", "0002"]
    for trial, (folder, weight) in zip(trials, calls(stand_in), strict=True):
        assert trial.state == TrialState.COMPLETE
        assert trial.value == pytest.approx(1 - (float(weight) - 0.5) ** 2)
        assert trial.user_attrs[FOLDER] == f"trials/{folder}"


def test_only_numbers_of_validation_weeks_are_outcomes(work):
    (trial,) = work(n_trials=1)
    assert set(trial.user_attrs[OUTCOMES]) == {"validation/selection", "validation/ndcg@10/all"}  # the stand-in wrote one of test weeks too


def test_several_objectives_are_told_in_their_order(work):
    (trial,) = work(n_trials=1, maximize=["validation/ndcg@10/all"], minimize=["validation/selection"])
    weight = trial.user_attrs["values"]["loss.weights.seasonal"]
    assert trial.values == pytest.approx([weight, 1 - (weight - 0.5) ** 2])


def test_a_trial_without_an_objective_fails_and_says_what_there_is(work):
    with pytest.raises(TrainingError, match=r"without validation/mrr/all; it ended with validation/ndcg@10/all, validation/selection"):
        work(maximize=["validation/mrr/all"])


def test_a_trial_of_which_a_limit_is_not_known_fails_and_says_so(work):
    limit = {"_target_": "seasonrec.experiments.sweep.space.Limit", "of": "validation/recall@50/in_season", "low": 0.1}
    with pytest.raises(TrainingError, match=r"without validation/recall@50/in_season; it ended with validation/ndcg@10/all"):
        work(limits=[limit])


def test_a_study_whose_trials_are_all_killed_gives_up_and_says_why(work, monkeypatch, tmp_path):
    monkeypatch.setattr(worker, "COMMAND", ("sh", "-c", "kill -9 $$"))
    with pytest.raises(TrainingError, match=r"2 trials in a row failed, the last one with: killed by signal 9, 1 times"):
        work(n_trials=10, max_retries=0)


def test_a_pruned_run_is_a_pruned_trial(work, monkeypatch):
    monkeypatch.setenv("STATUS", "pruned")
    assert [trial.state for trial in work(n_trials=2)] == [TrialState.PRUNED] * 2


def test_a_trial_whose_process_is_killed_goes_on_in_its_own_folder(work, stand_in, tmp_path, monkeypatch):
    (tmp_path / "dies").touch()
    monkeypatch.setenv("DIES", str(tmp_path / "dies"))
    trials = work(n_trials=2)
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    (first, weight), (again, same), (third, _) = calls(stand_in)
    assert (again, same, third) == (first, weight, "0002")


def test_a_study_whose_trials_all_fail_gives_up_and_says_why(work, stand_in, monkeypatch):
    monkeypatch.setenv("FAILS", "yes")
    with pytest.raises(TrainingError, match="2 trials in a row failed, the last one with: error: the shop is closed; mend it"):
        work(n_trials=10)
    assert len(calls(stand_in)) == 2


def test_a_trial_that_breaks_a_limit_between_parameters_is_not_run(work, stand_in):
    limit = {"_target_": "seasonrec.experiments.sweep.space.Limit", "of": "loss.weights.seasonal", "high": 0.4}
    trials = work(n_trials=6, limits=[limit])
    kept = [trial for trial in trials if trial.user_attrs["values"]["loss.weights.seasonal"] <= 0.4]
    assert 0 < len(kept) < 6
    assert len(calls(stand_in)) == len(kept)
    assert {trial.number for trial in trials if trial.state == TrialState.COMPLETE} == {trial.number for trial in kept}
    assert all("breaks a limit" in trial.user_attrs[REASON] for trial in trials if trial not in kept)


def test_a_trial_beyond_a_limit_on_what_it_ends_with_is_known_to_be_so(work):
    limit = {"_target_": "seasonrec.experiments.sweep.space.Limit", "of": "validation/ndcg@10/all", "low": 2}
    (trial,) = work(n_trials=1, limits=[limit])
    weight = trial.user_attrs["values"]["loss.weights.seasonal"]
    assert trial.constraints == {"2 <= validation/ndcg@10/all": pytest.approx(2 - weight)}


def test_a_new_study_does_not_take_the_runs_of_an_old_one_for_its_own(work, tmp_path):
    work(n_trials=1)
    (tmp_path / "small/study.journal").unlink()
    with pytest.raises(TrainingError, match="trials/0000 is of another study"):
        work(n_trials=1)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        1e-05,
        "default",
        "null",
        "1e5",
        "a b, 'c'",
        r"back\slash\'s and end\\",
        "postgresql://me:pa,ss@host:5432/db?sslmode=require",
        "/folder with=signs/{x}",
        [1, "two", None],
        {"_target_": "optuna.pruners.MedianPruner", "n_warmup_steps": 2, "path": "a b"},
    ],
)
def test_hydra_reads_a_word_back_as_it_was(value):
    (override,) = OverridesParser.create().parse_overrides([word("key", value)])
    assert override.value() == value
