"""The whole job by the command line: what a run leaves, and a run that was killed twice against one that was not."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hydra.core.hydra_config import HydraConfig
from polars.testing import assert_frame_equal

from seasonrec.baselines.personal_frequency import PersonalFrequency
from seasonrec.data.adapters.table import Table
from seasonrec.errors import ConfigError, DataError
from seasonrec.evaluation.calibration import fit_platt
from seasonrec.evaluation.evaluate import evaluate
from seasonrec.evaluation.labels import season_labels
from seasonrec.evaluation.lists import read_lists
from seasonrec.evaluation.tables import selection_score
from seasonrec.experiments import train
from seasonrec.experiments.build import calendar_of
from seasonrec.experiments.fit import Fit
from seasonrec.experiments.judge import SPLITS, Judge
from seasonrec.experiments.record import TABLES, read_record, read_table

METHODS = ["personal_frequency", "popular_4_weeks", "joint"]
STAGES = ["data", "texts", "baselines", "selection fit", "final fit", "evaluation", "report"]

KILLER = """
import os, signal
from pathlib import Path
from pytorch_lightning import Callback

class Killer(Callback):
    '''Kills its process once in each fit, at batch 3 of the second epoch.'''

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        mark = Path(trainer.default_root_dir) / "killed"
        if (trainer.current_epoch, batch_idx) == (1, 3) and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_record_says_what_ran_on_what_and_what_it_cost(run, dataset):
    record = read_record(run)
    assert (record["status"], record["error"], record["stage"], record["resumed"], record["seed"]) == ("finished", None, None, [], 0)
    assert [stage["name"] for stage in record["stages"]] == STAGES
    assert all(stage["seconds"] >= 0 and stage["peak_memory_mb"] > 50 and "failed" not in stage for stage in record["stages"])
    assert record["data"]["digest"] == dataset.digest
    assert record["config"]["trainer"]["max_epochs"] == 3
    assert set(record["facts"]["parameters"]) == {"encoder", "seasonal", "cf", "content", "mixer"}
    assert record["facts"]["parameters"]["encoder"]["trainable"] == 0
    assert record["facts"]["parameters"]["mixer"]["trainable"] > 0


def test_metrics_has_every_method_on_both_splits(run):
    metrics = read_table(run, "metrics")
    assert tuple(metrics.columns) == TABLES["metrics"]
    assert metrics["method"].unique(maintain_order=True).to_list() == METHODS
    rows = metrics.group_by("method", "split").len()
    assert len(rows) == 2 * len(METHODS)
    assert rows["len"].min() > 50
    assert_frame_equal(metrics, pl.read_parquet(run / "metrics.parquet"))


@pytest.mark.parametrize("method", METHODS)
def test_every_number_can_be_recomputed_from_the_lists_alone(run, dataset, texts, method):
    labels, calendar = season_labels(dataset), calendar_of(dataset)
    lists = {"test": read_lists(run / f"lists/{method}.parquet", dataset)}
    lists["validation"] = read_lists(run / f"lists/validation/{method}.parquet", dataset)
    platt = {"test": fit_platt(lists["validation"]), "validation": None}
    for split, of in lists.items():
        assert set(of.queries.week) == set(dataset.split.weeks[split])
        holidays = calendar.windows(of.queries.fourth_day)
        evaluation = evaluate(of, dataset.timeline, labels, holidays=holidays, vectors=_vectors(texts, dataset), platt=platt[split])
        own = evaluation.table(method, split, n_resamples=50)
        assert_frame_equal(read_table(run, "metrics").filter(method=method, split=split), own, check_dtypes=False)


def _vectors(texts, dataset):
    """Those of the test weeks' texts, which in this shop are the same as earlier but for what was not sold yet."""
    return texts.encoder.encode(dataset.item_texts(dataset.start_of(dataset.split.test[0])))


def test_baselines_that_predict_ratings_are_refused_where_items_are_ranked(composed, judge, texts):
    cfg = composed("+baseline.mine._target_=seasonrec.baselines.ratings.MeanRating")
    with pytest.raises(ConfigError, match=r"baseline\.mine predicts ratings and ranks nothing: it is for stage=ratings"):
        train.judge_baselines(cfg, judge, dict.fromkeys(SPLITS, texts))


def test_a_baseline_that_lacks_a_method_is_told_which(composed, judge, texts):
    cfg = composed("+baseline.mine._target_=builtins.object")
    with pytest.raises(ConfigError, match=r"baseline\.mine \(object\) has no fit and scores; a baseline has fit\(past\) and scores"):
        train.judge_baselines(cfg, judge, dict.fromkeys(SPLITS, texts))


class Unlearning(PersonalFrequency):
    def fit(self):
        pass


class Forgetful(PersonalFrequency):
    def scores(self, users):
        return users


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("Unlearning", r"baseline\.mine \(Unlearning\): fit is called with past, which it does not take: too many positional"),
        ("Forgetful", r"baseline\.mine \(Forgetful\): scores is called with users and now, which it does not take: too many positional"),
        (
            "Unlearning, _partial_: true",
            r"baseline\.mine \(Unlearning\) is made with the texts' vectors, as its `_partial_: true` asks: got an unexpected keyword",
        ),
    ],
)
def test_a_baseline_that_cannot_be_called_as_it_will_be_is_told_why(composed, judge, texts, target, message):
    cfg = composed(f"+baseline.mine={{_target_: {__name__}.{target}}}")
    with pytest.raises(ConfigError, match=message):
        train.judge_baselines(cfg, judge, dict.fromkeys(SPLITS, texts))


def test_an_encoder_of_other_weights_has_only_what_reads_texts_ranked_again(composed, dataset, texts, tmp_path, monkeypatch):
    """Whatever the config calls it: a model that was trained further may stand in the same folder."""
    ranked, rank = [], Judge.rank
    monkeypatch.setattr(Judge, "rank", lambda judge, method, *args, **kwargs: ranked.append(method) or rank(judge, method, *args, **kwargs))
    profile = "+baseline.text_profile={_target_: seasonrec.baselines.text_profile.TextProfile, _partial_: true}"
    cfg = composed(profile, f"paths.cache={tmp_path}")
    for weights in ("first", "first", "second"):
        texts.pretrained = weights
        train.judge_baselines(cfg, train.judge_of(cfg, dataset, tmp_path / weights), {"validation": texts})
    assert ranked == ["personal_frequency", "popular_4_weeks", "text_profile", "text_profile"]


def test_where_what_an_own_adapter_calls_has_changed_baselines_are_ranked_again(composed, dataset, texts, tmp_path, monkeypatch):
    """Its class alone is a part of the data's digest."""
    ranked, rank = [], Judge.rank
    monkeypatch.setattr(Judge, "rank", lambda judge, method, *args, **kwargs: ranked.append(method) or rank(judge, method, *args, **kwargs))
    cfg = composed(f"paths.cache={tmp_path}")
    for name, code in (("first", {"shop": "a"}), ("again", {"shop": "a"}), ("other", {"shop": "b"})):
        monkeypatch.setattr(train, "own_part", lambda config, part, code=code: code if part == "data" else {})
        train.judge_baselines(cfg, train.judge_of(cfg, dataset, tmp_path / name), {"validation": texts})
    assert ranked == 2 * ["personal_frequency", "popular_4_weeks"]


def test_the_selection_metric_and_its_epoch_are_on_record(run):
    facts, losses = read_record(run)["facts"], read_table(run, "losses")
    outcome = json.loads((run / "fits/selection/fit.json").read_text())
    assert (outcome["n_epochs"], outcome["staleness"]) == (facts["epochs"], [])  # of a frozen encoder
    joint, reference = (read_table(run, "metrics").filter(method=name, split="validation") for name in ("joint", "personal_frequency"))
    assert facts["selection"] == pytest.approx(selection_score(joint, reference))
    assert facts["selection"] > outcome["score"], "epochs are judged without trees"
    of = {fit: losses.filter(fit=fit) for fit in ("selection", "final")}
    assert of["selection"]["epoch"].max() == 2
    assert of["final"]["epoch"].max() + 1 == facts["epochs"]
    assert set(losses["name"]) == {"seasonal", "cf", "content", "total"}


def test_the_total_loss_is_the_weighted_sum_of_its_terms(run):
    terms = read_table(run, "losses").pivot("name", index=["fit", "epoch", "step"], values="value")
    weights = read_record(run)["config"]["loss"]["weights"]
    assert set(weights) == {"seasonal", "cf", "content"}
    np.testing.assert_allclose(terms["total"], sum(weight * terms[task] for task, weight in weights.items()), rtol=1e-5)


def test_each_week_and_the_significance_are_there(run, dataset):
    weeks, significance = read_table(run, "weeks"), read_table(run, "significance")
    assert set(weeks.filter(split="test")["week"]) == set(dataset.split.weeks["test"])
    assert weeks.filter(week=62)["date"].unique().to_list() == ["2022-11-07"]
    assert set(significance["other"]) == set(METHODS) - {"joint"}


def test_the_parts_of_an_example_add_up_to_its_score(run):
    shown = read_table(run, "examples")
    parts = shown.select("seasonal", "cf", "content", "reranker").sum_horizontal()
    np.testing.assert_allclose(parts, shown["score"], atol=1e-4)
    assert shown["date"].unique(maintain_order=True).to_list() == ["2022-11-07", "2023-05-08"]
    assert shown["user_id"].n_unique() == 3
    november, may = shown["season"].unique(maintain_order=True).to_list()
    assert "November" in november
    assert "May" in may


def test_seasonality_shows_a_year_of_each_item(run):
    items = read_table(run, "seasonality").group_by("item_id").agg(pl.len(), pl.col("share").sum())
    assert (len(items), items["len"].unique().to_list()) == (12, [52])
    np.testing.assert_allclose(items["share"], 1, rtol=1e-5)


def test_pictures_and_the_report_are_there(run):
    assert {path.stem for path in (run / "plots").glob("*.png")} >= {"leaderboard", "weeks", "losses", "seasonality"}
    report = (run / "report.html").read_text()
    assert all(method in report for method in METHODS)


@pytest.fixture(scope="session")
def killed_twice(words, command, tmp_path_factory, run):
    """A run like `run` that was killed in its selection fit, resumed, killed in its final fit, and resumed."""
    folder, code = tmp_path_factory.mktemp("killed"), tmp_path_factory.mktemp("code")
    (code / "killer.py").write_text(KILLER)
    killer = "+callbacks.killer._target_=killer.Killer"
    environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    script = [sys.executable, "-c", "from seasonrec.experiments.cli import main; main()"]
    for argv in (["train", *words, killer, f"hydra.run.dir={folder}"], ["train", f"resume={folder.name}"]):
        done = subprocess.run([*script, *argv], cwd=folder.parent, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert read_record(folder)["stage"] == "final fit"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(code)
        command("train", f"resume={folder}")
    return folder


def test_a_run_that_was_killed_in_both_fits_ends_with_the_same_figures(run, killed_twice):
    assert (killed_twice / "fits/selection/killed").exists()
    assert (killed_twice / "fits/final/killed").exists()
    for name in ("metrics.csv", "weeks.csv", "losses.csv", "examples.csv", "significance.csv"):
        assert (killed_twice / name).read_text() == (run / name).read_text(), name


def test_a_resumed_run_keeps_its_configuration_and_says_that_it_was_resumed(run, killed_twice):
    record = read_record(killed_twice)
    assert (record["status"], len(record["resumed"])) == ("finished", 2)
    own, other = record["config"], read_record(run)["config"]
    assert own["callbacks"].pop("killer") == {"_target_": "killer.Killer"}
    assert own.pop("resume") == str(killed_twice)
    assert own | {"paths": other["paths"], "logger": other["logger"], "callbacks": other["callbacks"], "resume": None} == other


def test_a_finished_run_that_is_resumed_only_evaluates_again(run, command, tmp_path, monkeypatch):
    again = shutil.copytree(run, tmp_path / "again")
    (again / "metrics.csv").unlink()
    monkeypatch.setattr(Fit, "_train", lambda self, cfg: pytest.fail("it trains again"))
    monkeypatch.setattr(train, "write_report", lambda folder: folder)
    command("train", f"resume={again}", "trainer.enable_progress_bar=true")  # what it shows is not what it was asked for
    assert read_record(again)["config"]["trainer"]["enable_progress_bar"] is True
    assert (again / "metrics.csv").read_text() == (run / "metrics.csv").read_text()
    assert [stage["name"] for stage in read_record(again)["stages"]] == 2 * STAGES
    assert str(run) not in json.dumps(read_record(again)["config"]), "its folder was copied: it logs there"


def test_a_resumed_run_takes_no_other_words(run, command, capsys):
    with pytest.raises(SystemExit):
        command("train", f"resume={run}", "optim.lr=1")
    assert f"resume={run}: an interrupted run goes on with its own configuration; leave out optim.lr=1" in capsys.readouterr().err


def test_a_folder_without_a_record_cannot_be_resumed(composed, tmp_path, monkeypatch):
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # Hydra keeps the words of the last command that this process was given
    with pytest.raises(DataError, match=r"no run\.json there"):
        train.resumed(composed(f"resume={tmp_path}"))


def test_a_secret_is_asked_for_again_when_a_run_goes_on(run, command, tmp_path, capsys):
    again = shutil.copytree(run, tmp_path / "again")
    record = json.loads((again / "run.json").read_text())
    record["config"]["data"] |= {"_target_": f"{__name__}.Guarded", "password": "***"}
    (again / "run.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit):
        command("train", f"resume={again}")
    assert "a run's record keeps no secrets; give ++data.password=... again" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command("train", f"resume={again}", "++data.password=s3cret", "optim.lr=1")
    assert "goes on with its own configuration; leave out optim.lr=1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command("train", f"resume={again}", "++data.password=s3cret")
    assert "the data have changed" in capsys.readouterr().err  # what this adapter reads would be other data
    assert Guarded.given == "s3cret"
    assert not any("s3cret" in file.read_text(errors="ignore") for file in again.rglob("*") if file.is_file())


class Guarded(Table):
    """A table behind a password."""

    def __init__(self, *, password, **options):
        super().__init__(**options)
        type(self).given = password


def test_a_run_whose_data_have_changed_cannot_be_resumed(run, command, purchases, tmp_path, capsys):
    again = shutil.copytree(run, tmp_path / "again")
    changed_data(again, purchases, tmp_path)
    with pytest.raises(SystemExit):
        command("train", f"resume={again}")
    assert "the data have changed since this run was trained" in capsys.readouterr().err


def changed_data(run: Path, purchases: Path, folder: Path) -> None:
    """Lets the run read a file of one purchase more."""
    more = purchases.read_text() + "u00,i000,1672500000,red christmas candle\n"
    (folder / "more.csv").write_text(more)
    record = json.loads((run / "run.json").read_text())
    record["config"]["data"]["path"] = str(folder / "more.csv")
    (run / "run.json").write_text(json.dumps(record))


def test_a_resumed_run_whose_data_are_not_there_stays_what_it_was(run, command, tmp_path, capsys):
    again = shutil.copytree(run, tmp_path / "again")
    record = read_record(again)
    record["config"]["data"]["path"] = "purchases.csv"  # as seen from the folder in which it began
    (again / "run.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit):
        command("train", f"resume={again}")
    said = capsys.readouterr().err
    assert "purchases.csv does not exist" in said
    assert "as they are seen from the folder in which it began: call the command there" in said
    assert read_record(again) == record


@pytest.mark.parametrize("changed", ["seed=1", "loss.weights.content=0.5", "eval.split={validation: [40, 43], test: [44, 47]}"])
def test_a_folder_with_a_run_of_other_settings_is_refused_for_its_fits_would_pass_for_the_new_ones(
    run, command, words, tmp_path, capsys, changed
):
    again, key = shutil.copytree(run, tmp_path / "again"), changed.partition("=")[0]
    before = (again / "run.json").read_bytes()
    with pytest.raises(SystemExit):
        command("train", *words, changed, f"hydra.run.dir={again}")
    assert f"{again}: the run there has other settings ({key}); name another folder" in capsys.readouterr().err
    assert (again / "run.json").read_bytes() == before


def test_the_lists_of_a_run_give_its_metrics_once_more(run, command, tmp_path):
    command("evaluate", f"run={run}", "eval.n_resamples=50", "n_threads=1", f"hydra.run.dir={tmp_path}")
    by = ["method", "split"]
    assert_frame_equal(
        read_table(tmp_path, "metrics").sort(by, maintain_order=True), read_table(run, "metrics").sort(by, maintain_order=True)
    )
    assert (tmp_path / "lists/joint.parquet").exists()


def test_lists_are_evaluated_where_the_data_have_moved_to(run, purchases, command, tmp_path):
    again = shutil.copytree(run, tmp_path / "again")
    record = read_record(again)
    record["config"]["data"]["path"] = "gone.csv"
    (again / "run.json").write_text(json.dumps(record))
    words = ["eval.n_resamples=50", "n_threads=1", f"hydra.run.dir={tmp_path / 'out'}"]
    command("evaluate", f"run={again}", "data=table", f"data.path={purchases}", *words)
    once_more, first = (
        read_table(folder, "metrics").filter(method="joint").sort("split", maintain_order=True) for folder in (tmp_path / "out", run)
    )
    assert_frame_equal(once_more, first)


def test_a_run_that_has_no_lists_yet_cannot_be_evaluated(run, command, tmp_path, capsys):
    early = tmp_path / "early"
    early.mkdir()
    record = read_record(run)
    of_selection = {**record, "config": {**record["config"], "stage": "selection"}}
    for found, advice in (
        (record | {"status": "failed"}, f"finish it with `seasonrec train resume={early}`"),
        (of_selection, "it was run with stage=selection: train with stage=whole"),
    ):
        (early / "run.json").write_text(json.dumps(found))
        with pytest.raises(SystemExit):
            command("evaluate", f"run={early}", "n_threads=1", f"hydra.run.dir={tmp_path / 'out'}")
        assert f"{early}: no lists of test weeks there; {advice}" in capsys.readouterr().err


def test_what_epochs_says_is_known_before_anything_begins(command, words, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command("train", *words, "epochs=some", f"hydra.run.dir={tmp_path}")
    assert "epochs is 'some', wanted whole or best" in capsys.readouterr().err
    assert not (tmp_path / "run.json").exists()


def test_the_baselines_alone_have_the_same_figures_as_beside_the_model(run, command, words, tmp_path):
    shared = [word for word in words if word.split("=")[0].split(".")[0] in ("data", "encoder", "baseline", "eval", "paths", "n_threads")]
    command("evaluate", *shared, f"hydra.run.dir={tmp_path}")
    assert_frame_equal(read_table(tmp_path, "metrics"), read_table(run, "metrics").filter(pl.col("method") != "joint"))


def test_an_encoder_that_learns_gives_the_same_lists_after_it_is_loaded(words, command, tmp_path, gives_its_lists, monkeypatch):
    monkeypatch.setattr(train, "write_report", lambda folder: folder)
    learning = ["finetune=frozen_bottom", "optim.encoder_lr=0.01", "trainer.max_epochs=1", "sampling.n_weeks=4", "baseline=none"]
    command("train", *words, *learning, f"hydra.run.dir={tmp_path}")
    gives_its_lists(tmp_path)
    distance = read_table(tmp_path, "metrics").filter(metric="distance@10", split="test", method="joint")["value"][0]
    command("evaluate", f"run={tmp_path}", "eval.n_resamples=50", "n_threads=1", f"hydra.run.dir={tmp_path / 'out'}")
    assert read_table(tmp_path / "out", "metrics").filter(metric="distance@10", split="test", method="joint")["value"][0] == distance
