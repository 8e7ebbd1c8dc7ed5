"""What loggers get of a run, read back from their own files; and runs whose loggers fail."""

import csv
import json
import logging
import shutil
import sys
import time
from collections import defaultdict

import numpy as np
import polars as pl
import pytest
import wandb
from omegaconf import OmegaConf
from pytorch_lightning.loggers import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from seasonrec.errors import ConfigError
from seasonrec.experiments import tracking
from seasonrec.experiments.record import RunRecord, read_record, read_table
from seasonrec.experiments.tracking import FitLogger, Tracker, Trackers

BLOCK, HEAD = 32_768, 7  # W&B's files are logs in the format of LevelDB


def wandb_records(path):
    """What a .wandb file holds, kind by kind."""
    data, at, whole, found = path.read_bytes(), HEAD, b"", defaultdict(list)
    while at + HEAD <= len(data):
        if BLOCK - at % BLOCK < HEAD:
            at += BLOCK - at % BLOCK
        end, kind = at + HEAD + int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole, at = whole + data[at + HEAD : end], end
        if kind in (1, 4):  # a whole record, or the last part of one
            record, whole = Record.FromString(whole), b""
            name = record.WhichOneof("record_type")
            found[name].append(getattr(record, name))
    return found


def history(records):
    """The rows of metrics that were logged, in order."""
    return [{"/".join(item.nested_key): json.loads(item.value_json) for item in row.item} for row in records["history"]]


def offline(run):
    """The records of each part of a run, oldest first; W&B's service may still be writing the last of them."""
    deadline = time.monotonic() + 20
    while True:
        parts = [wandb_records(path) for path in sorted(run.glob("wandb/offline-run-*/*.wandb"))]
        if all(part["exit"] for part in parts) or time.monotonic() > deadline:
            return parts
        time.sleep(0.1)


@pytest.fixture(scope="module")
def of_wandb(two_seeds):
    """The records of the first seed's run."""
    (records,) = offline(two_seeds / "0")
    return records


def test_wandb_has_one_run_per_seed_and_both_stand_in_one_group(two_seeds):
    runs = [offline(two_seeds / seed)[0]["run"][0] for seed in "01"]
    assert [run.run_group for run in runs] == ["train/today"] * 2
    assert [run.display_name for run in runs] == ["train-0", "train-1"]
    assert [run.job_type for run in runs] == ["whole"] * 2
    assert [run.run_id for run in runs] == [read_record(two_seeds / seed)["facts"]["trackers"]["wandb"] for seed in "01"]
    assert runs[0].run_id != runs[1].run_id


def test_wandb_has_the_config_of_the_run(two_seeds, of_wandb):
    told = {update.key: json.loads(update.value_json) for record in of_wandb["config"] for update in record.update}
    config = read_record(two_seeds / "0")["config"]
    assert told["optim"] == config["optim"]
    assert told["model"] == config["model"]
    assert set(config) <= set(told)


def test_wandb_has_the_joint_models_metrics_by_slice(two_seeds, of_wandb):
    values = {name: value for row in history(of_wandb) for name, value in row.items()}
    metrics = read_table(two_seeds / "0", "metrics").filter(pl.col("value").is_not_null(), method="joint")
    assert {"test", "validation"} == set(metrics["split"])
    for split, name, metric, value in metrics.select("split", "slice", "metric", "value").iter_rows():
        assert values[f"{split}/{metric}/{name}"] == pytest.approx(value)


def test_wandb_has_the_leaderboard_as_a_table(two_seeds):
    (path,) = (two_seeds / "0").glob("wandb/offline-run-*/files/media/table/leaderboard*.json")
    table = json.loads(path.read_text())
    metrics = read_table(two_seeds / "0", "metrics").filter(split="test", slice="all", metric="ndcg@10")
    assert table["columns"][:2] == ["method", "all NDCG@10"]
    assert {row[0]: row[1] for row in table["data"]} == pytest.approx(dict(metrics.select("method", "value").iter_rows()))


def test_wandb_has_the_plots_and_the_record_of_a_finished_run(two_seeds, of_wandb):
    run = two_seeds / "0"
    drawn = {path.stem for path in (run / "plots").glob("*.png")}
    images = {path.name.rsplit("_", 2)[0]: path for path in run.glob("wandb/offline-run-*/files/media/images/plots/*.png")}
    assert set(images) == drawn
    assert images["leaderboard"].read_bytes() == (run / "plots/leaderboard.png").read_bytes()
    (artifact,) = [each for each in of_wandb["artifact"] if each.type == "run"]
    (content,) = artifact.manifest.contents
    assert (content.path, content.size) == ("run.json", (run / "run.json").stat().st_size)
    assert read_record(run)["status"] == "finished"
    assert of_wandb["exit"][0].exit_code == 0


def test_the_curves_of_the_two_fits_do_not_share_a_name(of_wandb):
    losses = defaultdict(list)
    for row in history(of_wandb):
        for name, value in row.items():
            if name.endswith("train/loss/total"):
                losses[name].append((row["trainer/global_step"], value))
    assert set(losses) == {"selection_fit/train/loss/total", "final_fit/train/loss/total"}
    for points in losses.values():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps))
        assert steps[0] == 0


def test_tensorboard_has_both_fits_the_leaderboard_and_the_plots(two_seeds):
    events = EventAccumulator(str(two_seeds / "0/logs/tensorboard")).Reload()
    scalars = events.Tags()["scalars"]
    assert {"selection_fit/train/loss/total", "final_fit/train/loss/total", "test/ndcg@10/in_season"} <= set(scalars)
    assert not any(name.startswith("train/") for name in scalars)
    text = events.Tensors("leaderboard/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text.startswith("| method | all NDCG@10 |")
    assert "| joint |" in text
    assert {f"plots/{path.stem}" for path in (two_seeds / "0/plots").glob("*.png")} == set(events.Tags()["images"])


def test_csv_has_both_fits_and_the_leaderboard(two_seeds):
    with (two_seeds / "0/logs/csv/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for fit in ("selection_fit", "final_fit"):
        steps = [int(row["step"]) for row in rows if row[f"{fit}/train/loss/total"]]
        assert steps == sorted(set(steps))
        assert len(steps) > 3
    board = pl.read_csv(two_seeds / "0/logs/csv/leaderboard.csv")
    wanted = read_table(two_seeds / "0", "metrics").filter(split="test", slice="in_season", metric="recall@50")
    np.testing.assert_allclose(board["in_season R@50"], wanted["value"])
    assert board["method"].to_list() == wanted["method"].to_list()


def test_a_resumed_run_goes_on_under_its_id_and_keeps_what_was_written(two_seeds, command, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    again = shutil.copytree(two_seeds / "0", tmp_path / "again")
    before = (again / "logs/csv/metrics.csv").read_text()
    command("train", f"resume={again}")
    first, second = offline(again)
    assert second["run"][0].run_id == first["run"][0].run_id
    assert second["run"][0].run_group == "train/today"
    assert second["exit"]
    assert (again / "logs/csv/metrics.csv").read_text() == before
    assert (again / "logs/csv_1/leaderboard.csv").exists()
    assert read_record(again)["facts"]["trackers"] == read_record(two_seeds / "0")["facts"]["trackers"]


# ---- loggers that fail ----


class Broken(Logger):
    """Takes as many rows of metrics as it is told to, then raises."""

    name, version = "broken", "1"

    def __init__(self, n_good=0, fails_at="log"):
        self.n_good, self.fails_at, self.rows, self.calls = n_good, fails_at, [], []
        if fails_at == "make":
            raise RuntimeError("cannot be made")

    @property
    def experiment(self):
        if self.fails_at == "begin":
            raise ConnectionError("no service")

    def log_metrics(self, metrics, step=None):
        self.calls.append(step)
        if len(self.rows) >= self.n_good:
            raise OSError("disk full")
        self.rows.append((metrics, step))

    def log_hyperparams(self, params, *args, **kwargs):
        pass


def broken(**options):
    return OmegaConf.create({"broken": {"_target_": f"{__name__}.Broken", **options}})


@pytest.mark.parametrize("fails_at", ["make", "begin"])
def test_a_logger_that_cannot_begin_is_one_warning(tmp_path, caplog, fails_at):
    with Trackers(broken(fails_at=fails_at), tmp_path) as trackers, RunRecord(tmp_path, {}) as record:
        trackers.begin(record)
        (logger,) = trackers.of("selection")
        logger.log_metrics({"a": 1.0}, 0)
    assert [line.levelname for line in caplog.records] == ["WARNING"]
    error = {"make": "RuntimeError: cannot be made", "begin": "ConnectionError: no service"}[fails_at]
    assert f"logger.broken has failed and is left out, the run goes on: {error}" in caplog.text


def test_a_logger_that_fails_midway_is_one_warning_and_is_left_alone():
    tracker = Tracker("broken", {"_target_": f"{__name__}.Broken", "n_good": 1})
    inner, loggers = tracker._logger, [FitLogger(tracker, "selection"), FitLogger(tracker, "final")]
    for step in range(3):
        for logger in loggers:
            logger.log_metrics({"loss": 1.0}, step)
    assert inner.rows == [({"selection_fit/loss": 1.0}, 0)]
    assert inner.calls == [0, 0], "after its first failure it is not called again"


def no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)


def init_raises(monkeypatch):
    monkeypatch.setattr(wandb, "init", lambda **_: (_ for _ in ()).throw(wandb.errors.CommError("no service")))


def log_raises(monkeypatch):
    seen = []

    def log(self, *args, **kwargs):
        seen.append(args)
        if len(seen) == 3:
            raise ValueError("in the middle")

    monkeypatch.setattr(wandb.sdk.wandb_run.Run, "log", log)


@pytest.mark.parametrize(("breaks", "error"), [(no_package, "ModuleNotFoundError"), (init_raises, "CommError"), (log_raises, "ValueError")])
def test_a_failing_wandb_does_not_stop_a_fit(composed, joint, selection_fit, tmp_path, monkeypatch, caplog, breaks, error):
    monkeypatch.setenv("WANDB_SILENT", "true")
    breaks(monkeypatch)
    cfg = composed("logger=wandb", "sampling.n_weeks=4", "trainer.max_epochs=2", "trainer.log_every_n_steps=1")
    cfg.paths.run = str(tmp_path)
    with Trackers(cfg.logger, tmp_path) as trackers, RunRecord(tmp_path, {}) as record:
        trackers.begin(record)
        outcome = selection_fit(joint("sampling.n_weeks=4"), tmp_path / "fit", loggers=trackers.of("selection")).run(cfg)
        (tmp_path / "metrics.csv").write_text("method,split,slice,metric,k,value,low,high,n_queries\njoint,test,all,ndcg@10,10,0.1,,,5\n")
    assert outcome.score > 0
    warnings = [line.message for line in caplog.records if line.levelno >= logging.WARNING and line.name == tracking.__name__]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"logger.wandb has failed and is left out, the run goes on: {error}: ")
    assert read_record(tmp_path)["status"] == "finished"


def test_a_run_that_fails_is_failed_in_wandb_too(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    call = {"_target_": "pytorch_lightning.loggers.WandbLogger", "save_dir": str(tmp_path), "offline": True}

    def run():
        with Trackers(OmegaConf.create({"wandb": call}), tmp_path) as trackers, RunRecord(tmp_path, {}) as record:
            trackers.begin(record)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    (records,) = offline(tmp_path)
    assert records["exit"][0].exit_code == 1
    assert wandb.run is None


@pytest.mark.parametrize(("choice", "package"), [("mlflow", "mlflow"), ("tensorboard", "tensorboard")])
def test_a_package_that_must_be_installed_is_an_error_before_anything_runs(composed, tmp_path, monkeypatch, choice, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"logger\.{choice} needs the package {package}, which is not installed: pip install"):
        Trackers(composed(f"logger={choice}").logger, tmp_path)
    assert not (tmp_path / "run.json").exists()


def test_mlflow_gets_names_that_it_takes():
    from pytorch_lightning.loggers import CSVLogger, MLFlowLogger

    named = {"validation/ndcg@10/month=11": 0.5}
    assert tracking._as_taken(MLFlowLogger.__new__(MLFlowLogger), named) == {"validation/ndcg_at_10/month_11": 0.5}
    assert tracking._as_taken(CSVLogger.__new__(CSVLogger), named) == named
