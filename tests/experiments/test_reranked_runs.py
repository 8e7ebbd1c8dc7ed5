"""Runs in which boosted trees have the last word, from training to recommending."""

import json
import re
import shutil
import sys

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

import seasonrec
from seasonrec.data.purchase_texts import N_WORDS
from seasonrec.errors import ConfigError, DataError
from seasonrec.experiments.config import check_config
from seasonrec.experiments.record import read_record, read_table
from seasonrec.joint.reranker import BoostedTrees

RERANKED = [
    "reranker=boosted_trees",
    "reranker.n_rounds=20",
    "reranker.n_best=30",
    "reranker.options.min_data_in_leaf=10",
    "reranker.options.learning_rate=0.4",  # so fast that not all of what they have learnt is to be trusted
]


@pytest.fixture(scope="module")
def reranked(command, words, tmp_path_factory):
    """The run of `run` with more trees."""
    folder = tmp_path_factory.mktemp("reranked")
    command("train", *words, *RERANKED, f"hydra.run.dir={folder}")
    return folder


@pytest.fixture(scope="module")
def plain(command, words, tmp_path_factory):
    """The same without any."""
    folder = tmp_path_factory.mktemp("plain")
    command("train", *words, "reranker=none", f"hydra.run.dir={folder}")
    return folder


@pytest.fixture
def forgotten(monkeypatch):
    """The reranker's module has not been imported yet."""
    monkeypatch.delitem(sys.modules, "seasonrec.joint.reranker")
    monkeypatch.delattr("seasonrec.joint.reranker")


def ndcg(run, split, name="all"):
    (value,) = read_table(run, "metrics").filter(split=split, method="joint", slice=name, metric="ndcg@10")["value"]
    return value


def test_the_model_is_that_of_a_run_without_and_its_lists_are_others(plain, reranked):
    for name in ("selection", "final"):
        ours, theirs = (load_file(folder / f"fits/{name}/model.safetensors") for folder in (reranked, plain))
        assert all(np.array_equal(ours[key], theirs[key]) for key in {*ours, *theirs})
        assert not (plain / f"fits/{name}/reranker.json").exists()
    selection, final = (json.loads((reranked / f"fits/{name}/reranker.json").read_text()) for name in ("selection", "final"))
    assert selection["trees"] != final["trees"], "each fit has its own, from what was known at its cut-off"
    assert 0 < selection["trust"] < 1, "found on validation weeks"
    assert final["trust"] == selection["trust"] == read_record(reranked)["facts"]["reranker"]["trust"]
    for split, name in (("validation", "all"), ("validation", "new_to_user"), ("test", "new_to_user")):
        assert ndcg(reranked, split, name) > ndcg(plain, split, name) + 0.01, "a model of three epochs leaves much to say"


def test_without_trees_the_selection_metric_is_that_of_the_best_epoch(plain):
    facts = read_record(plain)["facts"]
    outcome = json.loads((plain / "fits/selection/fit.json").read_text())
    assert outcome == {"n_epochs": facts["epochs"], "score": facts["selection"], "staleness": []}  # of a frozen encoder


def test_a_run_from_its_folder_gives_the_lists_that_it_ranked(reranked, gives_its_lists):
    gives_its_lists(reranked)


def test_recommendations_say_what_the_reranker_added(reranked):
    found = seasonrec.load(reranked).recommend(["u03", "u04", "nobody"], "2022-11-07")
    parts = ["seasonal", "cf", "content", "reranker"]
    assert found.columns[-4:] == parts
    np.testing.assert_allclose(found.select(parts).sum_horizontal(), found["score"], atol=1e-5)
    assert (found["reranker"] != 0).any()
    assert "reranker" in pl.read_csv(reranked / "examples.csv").columns
    assert "reranker</span>" in (reranked / "report.html").read_text()


def test_a_resumed_run_learns_no_tree_again(reranked, command, tmp_path, monkeypatch):
    again = shutil.copytree(reranked, tmp_path / "again")
    shutil.rmtree(again / "lists")
    (again / "fits/final/reranker.json").unlink()
    weeks, learn = [], BoostedTrees.learn
    monkeypatch.setattr(BoostedTrees, "find_trust", None)  # that of the selection fit is taken over

    def counted(self, scorer, past, *others):
        weeks.append(past.week)
        learn(self, scorer, past, *others)

    monkeypatch.setattr(BoostedTrees, "learn", counted)
    command("train", f"resume={again}")
    assert weeks == [62], "those of the final fit were lost, those of the selection fit were not"
    assert (again / "lists/joint.parquet").read_bytes() == (reranked / "lists/joint.parquet").read_bytes()


def test_a_selection_alone_is_reranked_alike_trusts_by_validation_weeks_and_shows_them(
    reranked, command, words, tmp_path, monkeypatch, capsys
):
    asked, find = [], BoostedTrees.find_trust

    def noted(self, scorer, now, weeks, *others):
        asked.append((now.week, weeks))
        find(self, scorer, now, weeks, *others)

    monkeypatch.setattr(BoostedTrees, "find_trust", noted)
    command("train", *words, *RERANKED, "stage=selection", f"hydra.run.dir={tmp_path}")
    assert asked == [(62, range(54, 62))]
    what = "fits/selection/reranker.json"
    assert (tmp_path / what).read_bytes() == (reranked / what).read_bytes(), "although it has never seen the test weeks"
    assert ndcg(tmp_path, "validation") == pytest.approx(ndcg(reranked, "validation"))
    assert re.search(rf"validation weeks .*│ joint +│ +{ndcg(tmp_path, 'validation'):.4f} ", capsys.readouterr().out, re.DOTALL)


def test_trees_that_read_purchases_rank_alike_from_the_run_s_folder(reranked, command, words, tmp_path, gives_its_lists):
    command("train", *words, *RERANKED, "model.purchase_texts=5", f"hydra.run.dir={tmp_path}")
    gives_its_lists(tmp_path)
    facts = [json.loads((run / "fits/final/reranker.json").read_text())["trees"] for run in (reranked, tmp_path)]
    before, seen = (int(re.search(r"max_feature_idx=(\d+)", trees)[1]) for trees in facts)
    assert seen == before + N_WORDS


def test_a_run_that_ranks_nothing_takes_no_reranker(command, words, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command("train", *words, "stage=ratings", "reranker=boosted_trees", f"paths.run={tmp_path}")
    assert "stage=ratings predicts ratings and ranks nothing that could be reranked; give reranker=none" in capsys.readouterr().err


def test_where_lightgbm_cannot_be_loaded_the_reranker_says_so_and_a_run_without_one_goes_on(composed, joint, forgotten, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    wanted = r"^reranker\._target_: cannot import seasonrec\.joint\.reranker\.BoostedTrees: .*lightgbm"
    with pytest.raises(ConfigError, match=wanted):
        check_config(composed("reranker=boosted_trees"))
    with pytest.raises(ConfigError, match=wanted):
        joint("reranker=boosted_trees")
    check_config(composed("reranker=none"))
    assert joint("reranker=none").reranker is None


def test_a_library_of_the_system_s_that_lightgbm_lacks_is_named(composed, forgotten, monkeypatch):
    class Broken:
        def find_spec(self, name, path, target=None):
            if name == "lightgbm":
                raise OSError("libomp.dylib: no such file")

    for name in [each for each in sys.modules if each.partition(".")[0] == "lightgbm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ConfigError, match=r"BoostedTrees: libomp\.dylib: no such file; if that is a library of the system's, install it"):
        check_config(composed("reranker=boosted_trees"))


def test_values_for_a_reranker_that_is_not_there_are_an_error(composed):
    with pytest.raises(ConfigError, match=r"reranker\.n_best is given, but there is no reranker: choose one"):
        check_config(composed("reranker=none", "+reranker.n_best=30"))


def test_a_run_whose_trees_are_missing_has_no_final_model(reranked, tmp_path):
    copy = shutil.copytree(reranked, tmp_path / "copy")
    (copy / "fits/final/reranker.json").unlink()
    with pytest.raises(DataError, match=r"there is no final model .*; `seasonrec train resume=.*copy` makes again what is gone"):
        seasonrec.load(copy)


def test_no_head_is_called_reranker(joint):
    with pytest.raises(ConfigError, match=r"model\.heads\.reranker: this is what the reranker's part of a score is called"):
        joint(
            "+model.heads.reranker={_target_: seasonrec.heads.cf.Factors, _partial_: true}",
            "+loss.weights.reranker=1",
            "+loss.terms.reranker={_target_: seasonrec.losses.CrossEntropy}",
        )
