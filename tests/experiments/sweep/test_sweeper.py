"""A study by the command line, in this process or killed in another one, whose trials only pretend to train."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import optuna
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from optuna.trial import TrialState

from seasonrec.errors import ConfigError
from seasonrec.experiments.cli import conf_dir
from seasonrec.experiments.config import TrainConfig, check_config
from seasonrec.experiments.sweep import worker
from seasonrec.experiments.sweep.best import command_of
from seasonrec.experiments.sweep.run import devices, shared_out
from seasonrec.experiments.sweep.study import FOLDER, Plan
from seasonrec.experiments.sweep.sweeper import refuse_unknown, shared_words

QUICK = ["sweep=loss_weights", "sweep.n_trials=3", "sweep/pruner=none", "sweep.sampler.n_startup_trials=1"]
STUDY = Path("outputs/sweep/loss_weights")
ELSEWHERE = """
import sys
from seasonrec.experiments.cli import main
from seasonrec.experiments.sweep import worker

worker.COMMAND = (sys.executable, sys.argv[1])
main(["sweep", *sys.argv[2:]])
"""


def calls(stand_in):
    """The folder and the process of each call."""
    return [(line.split()[0], int(line.split()[2])) for line in stand_in.read_text().splitlines()] if stand_in.exists() else []


def test_a_study_ends_in_a_report_and_in_a_config_that_experiment_takes(command, stand_in):
    command("sweep", *QUICK, "seed=5", "head/content=none", "optim.lr=0.01")
    assert {path.name for path in STUDY.iterdir()} >= {"report.html", "plots", "trials.csv", "study.journal", "trials"}
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        best = compose("train", [f"hydra.searchpath=[file://{STUDY.resolve()}]", "experiment=best"])
    check_config(best, TrainConfig)
    # The stand-in is best at a seasonal weight of 1/2: of the defaults (.8), equal weights (.33) and a drawn one.
    drawn = {line.split()[0]: float(line.split()[1]) for line in stand_in.read_text().splitlines()}
    assert best.loss.weights.seasonal == min(drawn.values(), key=lambda weight: abs(weight - 0.5))
    assert (best.seed, best.optim.lr, best.stage, "sweep" in best) == (5, 0.01, "whole", False)
    assert set(best.model.heads) == {"seasonal", "cf"}
    assert "validation/selection" in (STUDY / "experiment/best.yaml").read_text()


def test_both_ways_of_calling_are_the_same_study(command, stand_in, trials_of):
    command("sweep", *QUICK)
    command("train", "-m", "hydra/sweeper=seasonrec_optuna", *QUICK, "sweep.n_trials=4")
    assert [folder for folder, _ in calls(stand_in)] == ["0000", "0001", "0002", "0003"]
    assert len(trials_of(STUDY, "loss_weights")) == 4


def test_two_workers_share_a_study_without_doing_a_trial_twice(command, stand_in, trials_of, monkeypatch):
    monkeypatch.setenv("SLOW", "0.2")
    command("sweep", *QUICK, "sweep.n_trials=6", "sweep.n_workers=2")
    assert Counter(folder for folder, _ in calls(stand_in)) == Counter(f"{number:04d}" for number in range(6))
    assert {trial.state for trial in trials_of(STUDY, "loss_weights")} == {TrialState.COMPLETE}


def test_a_killed_study_goes_on_where_it_was_and_its_trial_dies_with_it(command, stand_in, trials_of):
    words = [*QUICK, "sweep.n_trials=4"]
    process = subprocess.Popen([sys.executable, "-c", ELSEWHERE, worker.COMMAND[1], *words], env={**os.environ, "HANGS": "0001"})
    while len(calls(stand_in)) < 2 and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, trial_process = calls(stand_in)[1]
    until = time.monotonic() + 30
    while _is_alive(trial_process) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _is_alive(trial_process)
    assert [trial.state for trial in trials_of(STUDY, "loss_weights")] == [TrialState.COMPLETE, TrialState.RUNNING]
    command("sweep", *words)
    trials = trials_of(STUDY, "loss_weights")
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.FAIL, *[TrialState.COMPLETE] * 3]
    assert trials[2].user_attrs[FOLDER] == trials[1].user_attrs[FOLDER] == "trials/0001"
    assert trials[2].params == trials[1].params
    assert Counter(folder for folder, _ in calls(stand_in)) == {"0000": 1, "0001": 2, "0003": 1, "0004": 1}
    assert "interrupted, queued again" in (STUDY / "report.html").read_text()


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_trials_get_their_share_of_the_machine_and_their_study_as_group(command, stand_in, monkeypatch, tmp_path):
    monkeypatch.setattr("seasonrec.experiments.sweep.run.n_cores", lambda: 8)
    seen = tmp_path / "seen.txt"
    script = tmp_path / "echo.py"
    script.write_text(f"import sys; open({str(seen)!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10)); sys.exit(1)")
    monkeypatch.setattr(worker, "COMMAND", (sys.executable, str(script)))
    with pytest.raises(SystemExit):
        command("sweep", *QUICK, "sweep.n_workers=2", "sweep.max_failures=1", "--config-dir", str(tmp_path))
    words = seen.read_text().splitlines()[0].split()
    assert words[:2] == ["train", f"--config-dir={tmp_path}"]
    assert {"n_threads=4", "group=loss_weights", "stage=selection"} <= set(words)
    assert not [each for each in words if each.startswith("sweep")]


@pytest.mark.parametrize("words", [[], ["sweep.n_workers=2"], ["sweep/pruner=none", "seed=1"]])
def test_no_study_chosen_is_an_error(command, capsys, words):
    with pytest.raises(SystemExit):
        command("sweep", *words)
    assert "sweep: no study chosen; add e.g. sweep=loss_weights" in capsys.readouterr().err


def test_an_unknown_key_of_a_study_is_named(command, capsys):
    with pytest.raises(SystemExit):
        command("sweep", "sweep=loss_weights", "+sweep.n_trial=3")
    assert "sweep.n_trial: there is no such key; did you mean 'n_trials'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=1,2"], r"seed=1,2: a study has one value for what it does not search; put seed into sweep\.space"),
        (["~callbacks.progress"], r"best\.yaml could not say so"),
        (["optim.lr=0.1"], r"the study searches optim\.lr; leave it out here"),
        (["loss.weights={cf: 1}"], r"the study searches loss\.weights; leave it out here"),
    ],
)
def test_words_that_trials_cannot_share_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        shared_words(words, ["optim.lr", "loss.weights.cf"])


def test_the_words_of_the_study_itself_are_not_those_of_its_trials():
    assert shared_words(["sweep=heads", "sweep.n_trials=3", "sweep/pruner=none", "stage=whole", "data.path=a.csv", "+a.b=1"], []) == [
        "data.path=a.csv",
        "+a.b=1",
    ]


def test_a_group_above_what_is_searched_may_be_chosen():
    assert shared_words(["loss=default", "optim=default"], ["optim.lr", "loss.weights.cf"]) == ["loss=default", "optim=default"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep=loss_weights", "loss.weights.cf=1"], "loss.weights.cf=1: the study searches loss.weights.cf; leave it out here"),
        (
            ["sweep=loss_weights", "sweep/pruner=none", "sweep.maximize=[validation/ndcg@11/all]"],
            "there is no metric 'ndcg@11' of slice 'all'",
        ),
        (
            ["sweep=loss_weights", "sweep/pruner=none", "sweep.maximize=[validation/ndcg@10/al]"],
            "there is no slice 'al'; did you mean 'all'",
        ),
        (
            ["sweep=loss_weights", "sweep/pruner=none", "sweep.maximize=[validation/gini@10/repeat]"],
            "there is no metric 'gini@10' of slice",
        ),
        (["sweep=loss_weights", "sweep/pruner=none", "sweep.maximize=[ndcg@10]"], "no trial ends with 'ndcg@10'"),
    ],
)
def test_what_no_trial_can_do_is_an_error_before_any_begins(command, stand_in, capsys, words, message):
    with pytest.raises(SystemExit):
        command("sweep", *words)
    assert message in capsys.readouterr().err
    assert calls(stand_in) == []


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["optim.lrr"], r"^sweep\.space: a trial cannot set optim\.lrr, which is not in the config; did you mean 'optim\.lr'"),
        (["optin.lr"], r"^sweep\.space: a trial cannot set optin\.lr, which is not in the config; there are none$"),
        (["sead"], r"^sweep\.space: a trial cannot set sead, which is not in the config; did you mean 'seed'"),
        (["mixer", "optim.lrr"], r"^sweep\.space: a trial cannot set optim\.lrr"),
    ],
)
def test_a_key_that_is_not_in_the_config_is_an_error(composed, keys, message):
    with pytest.raises(ConfigError, match=message):
        refuse_unknown(keys, composed(), ["mixer", "head/cf"])


@pytest.mark.parametrize(
    ("group", "choices", "message"),
    [
        ("mixer", "gated,gatet", "sweep.space.mixer: there is no choice 'gatet'; did you mean 'gated'?"),
        ("experiment", "complete_journey,best/complete_journey", ""),
        ("mixer", "gated,mine/flat", ""),
    ],
)
def test_a_searched_group_has_the_choices_that_may_be_drawn(command, stand_in, capsys, tmp_path, group, choices, message):
    """Also of those in folders below it, and those of the user's own."""
    (tmp_path / "mixer/mine").mkdir(parents=True)
    (tmp_path / "mixer/mine/flat.yaml").write_text("{_target_: seasonrec.joint.mixer.Weighted, _partial_: true}")
    space = f"+sweep.space.{group}={{_target_: optuna.distributions.CategoricalDistribution, choices: [{choices}]}}"
    with pytest.raises(SystemExit) if message else nullcontext():
        command("sweep", "sweep=loss_weights", space, f"sweep.folder={tmp_path / 'study'}", "--config-dir", str(tmp_path))
    assert message in capsys.readouterr().err
    assert bool(calls(stand_in)) == (not message)


def test_keys_of_the_config_groups_and_new_ones_may_be_searched(composed):
    keys = ["optim.lr", "loss.weights.cf", "head/cf", "mixer", "mixer.of_another", "model.heads.cf.d", "+trainer.new"]
    refuse_unknown(keys, composed(), ["mixer", "head/cf"])
    refuse_unknown(["seed", "+trainer.new"], composed(), [])


def test_a_study_of_what_ranks_nothing_is_refused(command, capsys):
    with pytest.raises(SystemExit):
        command("sweep", "sweep=loss_weights", "stage=ratings")
    assert "trials are judged by how they rank validation weeks, but stage=ratings ranks nothing" in capsys.readouterr().err


def test_the_command_for_what_was_picked_finds_the_user_s_own_configs_too(sweep_config, tmp_path):
    plan = Plan.of(sweep_config(folder="my study"))
    assert command_of(plan, []) == "seasonrec train --config-dir 'my study' experiment=best"
    assert f"'hydra.searchpath=[file://{tmp_path}]' experiment=best" in command_of(plan, [str(tmp_path)])


def test_each_worker_has_gpus_of_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert devices(2, 2) == [{"CUDA_VISIBLE_DEVICES": "4,5"}, {"CUDA_VISIBLE_DEVICES": "6,7"}]
    with pytest.raises(ConfigError, match=r"^n_workers: 3 workers with 2 GPUs each want 6, there are 4; lower one"):
        devices(3, 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices(2, 1) == [{}, {}]


def test_several_workers_share_a_gpu_and_spread_over_all_of_them(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert [share["CUDA_VISIBLE_DEVICES"] for share in devices(6, 0.33)] == ["4", "5", "4", "5", "4", "5"]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in devices(3, 0.25)] == ["4", "5", "4"]
    with pytest.raises(ConfigError, match=r"^n_workers: 5 workers with 0\.5 GPUs each want 2\.5, there are 2; lower one"):
        devices(5, 0.5)


@pytest.mark.parametrize("gpus", [0, -1, 1.5])
def test_neither_none_nor_one_and_a_half_gpus_are_given_to_a_run(monkeypatch, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ConfigError, match=rf"^{gpus:g} GPUs for each run: wanted a whole number, or a share of one"):
        devices(1, gpus)


def test_several_gpus_of_each_worker_train_as_the_shipped_trainer_does_unless_another_is_chosen():
    words = ["trainer.max_epochs=2"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        trainer = compose("train", [*words, *shared_out(words, 2, 4, "grid")]).trainer
        wanted = compose("train", [*words, "trainer=ddp", "trainer.devices=4"]).trainer
    assert trainer == wanted
    assert not trainer.use_distributed_sampler
    assert shared_out(["trainer=mine"], 2, 4, "grid")[-1] == "trainer.devices=4"
    assert not [word for word in shared_out(["trainer=mine"], 2, 4, "grid") if word.startswith("trainer=")]
    assert not [word for word in shared_out([], 2, 1, "grid") if word.startswith("trainer")]
    assert shared_out([], 2, 1, "grid", {"n_threads": 1, "group": None}) == ["group=grid"]  # an experiment file has said so


@pytest.mark.parametrize("choice", sorted(path.stem for path in (conf_dir() / "sweep").glob("*.yaml") if path.stem != "default"))
def test_every_shipped_study_draws_what_composes_and_begins_with_its_known_point(choice):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", [f"sweep={choice}"])
        plan = Plan.of(cfg.sweep)
        study = optuna.create_study(sampler=plan.sampler(0), directions=list(plan.objectives.values()))
        study.enqueue_trial(plan.points[0])
        points = [plan.space.draw(study.ask()) for _ in range(3)]
        for point in points:
            check_config(compose("train", [worker.word(key, value) for key, value in point.items()]), TrainConfig)
    known = OmegaConf.to_container(cfg.sweep.enqueue)[0]
    assert {key: point for key, point in points[0].items() if "weights" not in key and key in known} == {
        key: value for key, value in known.items() if "weights" not in key
    }


@pytest.mark.parametrize("choice", sorted(path.stem for path in (conf_dir() / "hydra/launcher").glob("*.yaml")))
def test_launchers_that_are_not_installed_here_compose(choice):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", [f"hydra/launcher={choice}"], return_hydra_config=True)
    assert cfg.hydra.launcher._target_ == yaml.safe_load((conf_dir() / f"hydra/launcher/{choice}.yaml").read_text())["_target_"]
    assert OmegaConf.to_container(cfg.hydra.launcher, resolve=True)
