"""A study of trials that only pretend to train."""

import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from omegaconf import DictConfig, OmegaConf

from seasonrec.experiments.sweep import worker
from seasonrec.experiments.sweep.study import storage_of

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py")))
# Two parameters of which the sampler knows nothing: weights, and a rate that exists beside one head alone.
SPACE = {
    "loss.weights": {"_target_": "seasonrec.experiments.sweep.space.Simplex", "parts": ["seasonal", "cf", "content"]},
    "head/cf": {"_target_": "optuna.distributions.CategoricalDistribution", "choices": ["default", "repeat"]},
    "optim.lr": {
        "_target_": "seasonrec.experiments.sweep.space.Conditional",
        "when": {"head/cf": "repeat"},
        "of": {"_target_": "optuna.distributions.FloatDistribution", "low": 1e-4, "high": 1e-1, "log": True},
    },
}


@pytest.fixture
def stand_in(monkeypatch, tmp_path) -> Path:
    """Lets every trial be the stand-in; the file that tells of its calls."""
    calls = tmp_path / "calls.txt"
    monkeypatch.setattr(worker, "COMMAND", STAND_IN)
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.chdir(tmp_path)
    return calls


@pytest.fixture
def sweep_config(tmp_path) -> Callable[..., DictConfig]:
    """The config's node `sweep` of a small study, with other values for some of its keys."""

    def make(**changed) -> DictConfig:
        node = {
            "name": "small",
            "folder": str(tmp_path / "small"),
            "storage": str(tmp_path / "small/study.journal"),
            "seed": 0,
            "n_trials": 3,
            "n_workers": 1,
            "gpus_per_trial": 1,
            "space": SPACE,
            "enqueue": [],
            "limits": [],
            "maximize": ["validation/selection"],
            "minimize": [],
            "sampler": {"_target_": "optuna.samplers.RandomSampler", "_partial_": True},
            "pruner": None,
            "heartbeat": 30,
            "max_retries": 2,
            "max_failures": 2,
        }
        return OmegaConf.create(node | changed)

    return make


@pytest.fixture
def trials_of() -> Callable[..., list]:
    """The trials of the study in a folder."""

    def read(folder: Path, name: str) -> list[optuna.trial.FrozenTrial]:
        return optuna.load_study(storage=storage_of(str(folder / "study.journal")), study_name=name).trials

    return read
