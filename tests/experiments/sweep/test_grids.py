"""Plain grids of Hydra's own, without a study: several values for keys and for heads."""

import pytest

from seasonrec.experiments import train
from seasonrec.experiments.record import read_record


def test_a_grid_runs_once_for_each_combination_of_values_and_heads(command, words, tmp_path, monkeypatch):
    monkeypatch.setitem(train.STAGES, "selection", lambda run: 1.0)
    grid = ["loss.weights.seasonal=0.5,1", "head/seasonal=asof_demand,harmonic_text", "head/content=default,none"]
    command("train", *words, "stage=selection", "logger=none", *grid, f"paths.multirun={tmp_path}")
    (folder,) = tmp_path.glob("*/*")
    configs = [read_record(folder / str(number))["config"] for number in range(8)]
    of = [(cfg["loss"]["weights"]["seasonal"], cfg["model"]["heads"]) for cfg in configs]
    ran = [(weight, heads["seasonal"]["_target_"], "content" in heads) for weight, heads in of]
    heads = [f"seasonrec.heads.seasonal.{name}" for name in ("AsOfDemand", "HarmonicText")]
    assert ran == [(weight, head, content) for weight in (0.5, 1) for head in heads for content in (True, False)]


def test_a_grid_runs_in_processes_of_joblib(command, data_words, tmp_path):
    """`check-data`, for its processes start quickly; what Hydra hands to them is made alike for every verb."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"hydra.sweep.dir={tmp_path}"]
    command("check-data", *data_words, f"output={tmp_path}/${{data.country}}.json", "data.country=GB,US", *launcher)
    assert {path.stem for path in tmp_path.glob("*.json")} == {"GB", "US"}
