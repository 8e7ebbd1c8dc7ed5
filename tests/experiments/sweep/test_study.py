"""Who does which trial, and what becomes of one whose worker died."""

import os
import time
from threading import Event

import optuna
import pytest
from optuna.trial import TrialState

from seasonrec.errors import ConfigError
from seasonrec.experiments.sweep.lease import BEAT, WORKER, Lease, is_gone
from seasonrec.experiments.sweep.study import READY, REASON, VALUES, Plan, SharedStudy, n_ended, pick, retried, storage_of

MEDIAN = {"_target_": "optuna.pruners.MedianPruner"}
LIMIT = {"_target_": "seasonrec.experiments.sweep.space.Limit"}


@pytest.fixture
def share(sweep_config):
    """A worker's own view of the small study, of one process by default."""
    leases = []

    def make(lease=None, words=(), of=None, **changed):
        plan = Plan.of(sweep_config(**changed))
        leases.append(lease or Lease(plan.folder / "workers"))
        return SharedStudy(plan, list(words), leases[-1], Event(), of)

    yield make
    for lease in leases:
        lease.release()


def finish(shared, trial, value=1.0):
    shared.study.tell(trial, value)


def test_a_study_gives_as_many_trials_as_it_wants_and_then_none(share):
    shared = share(n_trials=3)
    for number in range(3):
        trial = shared.next()
        assert trial.number == number
        finish(shared, trial)
    assert shared.next() is None


def test_two_workers_never_get_the_same_trial_nor_one_too_many(share):
    one, other = share(n_trials=2), share(n_trials=2)
    first, second = one.next(), other.next()
    assert (first.number, second.number) == (0, 1)
    other.stop.set()
    assert other.next() is None  # both run: there is nothing to give, and it was told to wait no longer
    finish(one, first)
    finish(other, second)
    assert [trial.state for trial in one.study.trials] == [TrialState.COMPLETE] * 2


def test_a_trial_is_drawn_alike_by_whoever_draws_it(share, tmp_path):
    def drawn(n, **changed):
        found = []
        for _ in range(n):
            shared = share(**changed)  # every time a new process, as it were
            trial = shared.next()
            found.append(shared.plan.space.draw(trial))
            finish(shared, trial)
        return found

    unbroken = share(folder=str(tmp_path / "b"), storage=str(tmp_path / "b/study.journal"))
    values = []
    for _ in range(3):
        trial = unbroken.next()
        values.append(unbroken.plan.space.draw(trial))
        finish(unbroken, trial)
    assert drawn(3) == values
    assert len({str(each) for each in values}) == 3


def test_the_trial_of_a_dead_worker_is_queued_again_with_its_values_and_its_epochs(share):
    dead = Lease(share().plan.folder / "workers")
    trial = share(dead).next()
    values = share().plan.space.draw(trial)
    trial.set_user_attr(VALUES, values)
    share().storage.set_trial_intermediate_value(trial._trial_id, 0, 0.5)
    shared = share(n_trials=1)
    shared.stop.set()
    assert shared.next() is None  # while its worker lives, it is not to be had
    shared.stop.clear()
    dead.release()
    again = shared.next()
    assert again.number == 1
    assert shared.plan.space.draw(again) == values
    assert shared.study.trials[1].intermediate_values == {0: 0.5}
    finish(shared, again)
    assert (retried(shared.study.trials), n_ended(shared.study.trials)) == ({0}, 1)
    assert shared.next() is None


def test_a_trial_that_dies_again_and_again_is_given_up(share):
    shared = share(n_trials=1, max_retries=2)
    assert [shared.requeue(shared.next()._trial_id, "killed by signal 9") for _ in range(3)] == [True, True, False]
    assert shared.study.trials[2].user_attrs[REASON] == "killed by signal 9, 3 times"
    assert [trial.state for trial in shared.study.trials] == [TrialState.FAIL] * 3
    assert n_ended(shared.study.trials) == 1
    assert shared.next() is None


def test_only_one_of_two_workers_queues_a_dead_trial(share):
    one, other = share(), share()
    trial = one.next()
    one.requeue(trial._trial_id)
    other.requeue(trial._trial_id)
    assert [each.state for each in one.study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_a_worker_on_another_machine_is_dead_after_three_missed_beats(share, monkeypatch):
    shared = share()
    number = shared.next().number
    shared.storage.set_trial_user_attr(number, WORKER, {"machine": "elsewhere", "lock": os.devnull})
    for age, gone in ((80, False), (100, True)):
        shared.storage.set_trial_user_attr(number, BEAT, time.time() - age)
        assert is_gone(shared.storage.get_trial(number), 30, shared.storage) == gone


def test_a_database_keeps_heartbeats_and_a_trial_without_any_is_taken_over(share, tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/study.db"
    shared = share(storage=url, heartbeat=1, n_trials=1)
    trial = shared.next()
    shared.storage.set_trial_user_attr(trial._trial_id, WORKER, {"machine": "elsewhere", "lock": os.devnull})
    assert not is_gone(shared.storage.get_trial(trial._trial_id), 1, shared.storage)  # the database is asked, not we
    monkeypatch.setattr(shared.storage, "_get_stale_trial_ids", lambda study_id: [trial._trial_id])
    again = shared.next()
    assert again.number == 1
    assert [each.state for each in shared.study.trials] == [TrialState.FAIL, TrialState.RUNNING]


def test_known_points_come_first_and_once(share):
    point = {"loss.weights.seasonal": 0.5, "loss.weights.cf": 0.25, "loss.weights.content": 0.25, "head/cf": "default"}
    share(enqueue=[point])
    shared = share(enqueue=[point])
    assert shared.plan.space.draw(shared.next()) == pytest.approx(point)
    assert len(shared.study.trials) == 1


def test_known_points_are_queued_by_another_process_if_the_first_one_died_before(share, sweep_config, monkeypatch):
    plan = Plan.of(sweep_config())
    optuna.create_study(storage=storage_of(plan.cfg.storage), study_name="small", direction="maximize")
    monkeypatch.setattr("seasonrec.experiments.sweep.study.PATIENCE", 0)
    shared = share(enqueue=[{"head/cf": "repeat"}])
    assert shared.study.user_attrs[READY]
    assert shared.plan.space.draw(shared.next())["head/cf"] == "repeat"


@pytest.mark.parametrize("changed", [{"maximize": ["validation/ndcg@10/all"]}, {"words": ["seed=1"]}, {"space": {"optim.lr": {}}}])
def test_a_study_that_explores_something_else_needs_another_name(share, changed):
    share()
    changed = dict(changed)
    if "space" in changed:
        changed["space"] = {"optim.lr": {"_target_": "optuna.distributions.FloatDistribution", "low": 1, "high": 2}}
    with pytest.raises(ConfigError, match=r"was begun with other .*give the new one a name, sweep\.name="):
        share(**changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"space": {}}, "nothing to search"),
        ({"maximize": []}, "no objective"),
        ({"minimize": ["seconds_per_epoch"], "pruner": MEDIAN}, r"give sweep/pruner=none"),
        ({"maximize": ["validation/recall@50/in_season"], "pruner": MEDIAN}, r"compared by validation/selection alone"),
        ({"maximize": ["recall@50"]}, r"no trial ends with 'recall@50'; wanted seconds_per_epoch, validation/selection"),
        (
            {"limits": [LIMIT | {"of": "optim.lrr", "high": 1.0}]},
            r"no trial ends with 'optim\.lrr'; .* a limit a key of the space: .*optim\.lr",
        ),
        ({"limits": [LIMIT | {"of": "optim.lr", "high": "loss.weights.cff"}]}, r"no trial ends with 'loss\.weights\.cff'"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(sweep_config, changed, message):
    with pytest.raises(ConfigError, match=message):
        Plan.of(sweep_config(**changed))


def test_points_that_are_new_to_a_study_that_goes_on_come_next(share):
    old, new = {"head/cf": "default"}, {"head/cf": "repeat", "optim.lr": 0.005}
    first = share(enqueue=[old])
    trial = first.next()
    first.plan.space.draw(trial)
    finish(first, trial)
    for _ in range(2):
        again = share(enqueue=[old, new])
    assert again.plan.space.draw(again.next())["optim.lr"] == 0.005
    assert len(again.study.trials) == 2


def test_a_study_does_not_go_on_with_other_settings_or_data_whatever_file_they_come_from(share):
    share(of={"settings": {"optim.lr": 0.1, "seed": 0}, "data": "aa"})
    share(of={"settings": {"optim.lr": 0.1, "seed": 0}, "data": "aa"})
    with pytest.raises(ConfigError, match=r"begun with other settings: \{'optim\.lr': 0\.1\}, now \{'optim\.lr': 0\.2\}; give"):
        share(of={"settings": {"optim.lr": 0.2, "seed": 0}, "data": "aa"})
    with pytest.raises(ConfigError, match=r"begun with other data: aa, now bb"):
        share(of={"settings": {"optim.lr": 0.1, "seed": 0}, "data": "bb"})


def test_a_database_that_cannot_be_reached_is_named():
    with pytest.raises(ConfigError, match=r"sweep\.storage: .*wanted a journal file or a URL"):
        storage_of("sqlite:////nowhere/at/all/study.db")


def told(directions, *values, constraints=()):
    """A study with the values of its trials."""
    study = optuna.create_study(directions=directions)
    for number, each in enumerate(values):
        trial = study.ask()
        trial.set_constraint("limit", 1.0 if number in constraints else 0.0)
        study.tell(trial, each)
    return study


def test_of_one_objective_the_best_trial_within_the_limits_is_picked():
    assert pick(told(["maximize"], [1], [3], [2])).number == 1
    assert pick(told(["maximize"], [1], [3], [2], constraints=(1,))).number == 2
    assert pick(told(["maximize"])) is None


def test_of_several_objectives_the_point_nearest_to_the_ideal_one_is_picked():
    # The front: (10, 9), (9, 3), (6, 1); the last one is dominated. Scaled: quality 0, 1/4, 1 from the best; seconds 1, 1/4, 0.
    study = told(["maximize", "minimize"], [10, 9], [9, 3], [6, 1], [5, 5])
    assert [trial.number for trial in study.best_trials] == [0, 1, 2]
    assert pick(study).number == 1
