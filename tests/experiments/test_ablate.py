"""`seasonrec ablate`: which runs it makes, which it finds again, and what its table says. The runs only pretend to train."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from filelock import FileLock
from omegaconf import OmegaConf

from seasonrec.evaluation.bootstrap import bootstrap_means
from seasonrec.evaluation.evaluate import Column, Evaluation, evaluate
from seasonrec.evaluation.labels import season_labels
from seasonrec.evaluation.lists import read_lists
from seasonrec.evaluation.seeds import Seeded
from seasonrec.evaluation.significance import compare
from seasonrec.evaluation.tables import changes
from seasonrec.experiments import processes
from seasonrec.experiments.ablate import claims_of, sentences, table_of
from seasonrec.experiments.processes import config_of
from seasonrec.experiments.record import LOCK, read_record, read_table

MINE = """
defaults: [base, _self_]
name: mine
n_resamples: 300
seeds: [0, 1]
variants:
  without_content: [head/content=none]
  gated: [mixer=gated]
claims:
  - {variant: without_content, over: whole, slice: all, metric: ndcg@10, at_least: 1.0}
  - {variant: whole, over: without_content, slice: all, metric: ndcg@10, at_least: 0.001}
  - {variant: whole, over: without_content, slice: holiday=thanksgiving_day, metric: ndcg@10, at_least: 0.001}
"""
FOLDER = Path("train/mine")


class Pretended:
    """In the place of a process: leaves a finished run, whose model without content is personal frequency.

    Args:
        source: runs of seeds 0 and 1.
    """

    def __init__(self, source):
        self.source, self.calls, self.fails = source, [], ()

    def __call__(self, verb, words, folder, environment):
        self.calls.append(f"{folder.parent.name}/{folder.name}")
        if self.calls[-1] in self.fails:
            return subprocess.Popen([sys.executable, "-c", "raise SystemExit(2)"])
        leave = shutil.ignore_patterns("wandb", "logs", "fits", "plots", "*.ckpt")
        shutil.copytree(self.source / folder.name.removeprefix("seed"), folder, ignore=leave)
        if "head/content=none" in words:
            shutil.copy(folder / "lists/personal_frequency.parquet", folder / "lists/joint.parquet")
        config = config_of([word for word in words if not word.startswith("--")], verb, "")
        (folder / "run.json").write_text(json.dumps(read_record(folder) | {"config": config}))
        return subprocess.Popen([sys.executable, "-c", ""])


@pytest.fixture
def pretended(monkeypatch, two_seeds) -> Pretended:
    monkeypatch.setattr(processes, "started", Pretended(two_seeds))
    return processes.started


@pytest.fixture(scope="module")
def ablate(command, words, tmp_path_factory):
    """Calls the verb on the small list of variants; the folder of the ablation."""
    conf = tmp_path_factory.mktemp("conf")
    (conf / "ablation").mkdir()
    (conf / "ablation/mine.yaml").write_text(MINE)

    def call(folder, *more):
        command("ablate", "--config-dir", str(conf), "ablation=mine", *words, f"ablation.folder={folder}", *more)
        return folder

    return call


@pytest.fixture(scope="module")
def done(ablate, two_seeds, tmp_path_factory):
    """The folder of an ablation that is complete."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "started", Pretended(two_seeds))
        return ablate(tmp_path_factory.mktemp("done"))


def test_every_variant_is_trained_with_every_seed_and_one_that_changes_nothing_is_left_out(ablate, pretended, capsys, tmp_path):
    ablate(tmp_path)
    assert pretended.calls == ["whole/seed0", "without_content/seed0", "whole/seed1", "without_content/seed1"]
    assert "left out: gated is the whole model itself" in capsys.readouterr().err


def test_a_variant_is_left_out_with_what_is_claimed_of_it(ablate, pretended, tmp_path):
    ablate(tmp_path, "~ablation.variants.without_content", "ablation.variants.gated=['head/content=none']")
    assert pretended.calls == ["whole/seed0", "gated/seed0", "whole/seed1", "gated/seed1"]
    assert pl.read_csv(tmp_path / "claims.csv").is_empty()


def test_the_table_has_means_over_seeds_and_paired_differences_to_the_whole_model(done, dataset, two_seeds):
    table = pl.read_csv(done / "ablation.csv").filter(slice="all", metric="ndcg@10")
    labels = season_labels(dataset)

    def values(method, seed):
        each = evaluate(read_lists(two_seeds / f"{seed}/lists/{method}.parquet", dataset), dataset.timeline, labels)
        return each.select([("all", "ndcg@10")]), each.user

    ours = np.mean([values("joint", seed)[0] for seed in (0, 1)], 0)
    theirs, user = values("personal_frequency", 0)
    whole, variant = table.iter_rows(named=True)
    assert (whole["value"], whole["n_seeds"], whole["difference"]) == (pytest.approx(ours.mean()), 2, None)
    assert variant["value"] == pytest.approx(theirs.mean())
    assert variant["difference"] == pytest.approx((theirs - ours).mean())
    low, high = np.quantile(bootstrap_means(theirs - ours, user, 300), [0.025, 0.975])
    assert (variant["difference_low"], variant["difference_high"]) == pytest.approx((low, high))


def test_every_form_shows_difference_p_and_what_can_be_detected(done):
    row = pl.read_csv(done / "ablation.csv").filter(variant="without_content", slice="all", metric="ndcg@10").row(0, named=True)
    shown = f"{round(row['difference'], 4) + 0.0:+.4f}"  # as it has it: 0 without a minus
    texts = [(done / name).read_text() for name in ("report.md", "report.tex", "report.html")]
    assert all(shown in text for text in texts)
    assert all("detectable after Holm" in text for text in texts)
    assert (done / "plots/ablation.png").stat().st_size > 5_000
    assert pl.read_csv(done / "runs.csv")["method"].to_list() == ["whole"] * 2 + ["without_content"] * 2


def test_no_difference_is_shown_without_a_minus():
    column = Column("all", "ndcg@10", 10)
    user = np.arange(30)
    same = Evaluation(user, np.zeros(30), (column,), np.full((30, 1), 0.5), {})
    tests = compare(same, {"variant": same}, pairs=[column[:2]], n_resamples=9)
    tests = tests.with_columns(low=-0.00004)  # as the variant's upper limit it is shown with a plus, as its lower one without a minus
    table = table_of({"whole": [same], "variant": [same]}, tests, "test")
    assert [cell.text for _, _, cell, *_ in changes(table, "whole").rows[:2]] == ["0.5000", "0.5000 (+0.0000, +0.0000 to +0.0000, p 1.000)"]


def test_claims_are_checked_and_said_in_words(done):
    claims, said = pl.read_csv(done / "claims.csv"), (done / "report.md").read_text()
    ratio = claims["ratio"].to_list()
    assert ratio[0] == pytest.approx(1 / ratio[1])
    assert claims["holds"].to_list() == [ratio[0] >= 1, True, True]
    assert f"whole over without_content, all ndcg@10: {ratio[1]:.3f} times" in said
    assert "wanted at least 0.001: reached" in said


@pytest.mark.parametrize(("ours", "theirs", "name"), [(0.4, 0.0, "cold_item"), (np.nan, np.nan, "cold_item"), (0.4, 0.4, "month=6")])
def test_a_claim_about_no_ratio_is_neither_reached_nor_missed(ours, theirs, name):
    """The other's mean is 0, no query is there, or the weeks do not hold the slice."""
    user, column = np.arange(40), Column(name, "ndcg@10", 10)
    of = lambda value: Seeded([Evaluation(user, np.zeros(40), (column,), np.full((40, 1), value), {})], [0])
    claim = {"variant": "whole", "over": "w", "slice": "cold_item", "metric": "ndcg@10", "at_least": 1.5}
    claims = claims_of(OmegaConf.create({"claims": [claim], "n_resamples": 9}), {"whole": of(ours), "w": of(theirs)})
    assert claims["holds"].to_list() == [None]
    assert sentences(claims) == ["whole over w, cold_item ndcg@10: cannot be said: no query there, or w has a mean of 0"]


def test_the_notes_name_the_weeks(done):
    assert "queries of the test weeks that all variants have" in (done / "report.md").read_text()


def test_finished_runs_are_found_again_and_a_failed_one_is_named_and_run_once_more(ablate, pretended, capsys, tmp_path):
    pretended.fails = ("without_content/seed1",)
    with pytest.raises(SystemExit) as end:
        ablate(tmp_path)
    assert end.value.code == 2
    assert "1 runs failed, e.g. without_content, seed 1: it said nothing" in capsys.readouterr().err
    pretended.fails, pretended.calls = (), []
    ablate(tmp_path)
    assert pretended.calls == ["without_content/seed1"]
    assert (tmp_path / "report.html").exists()


def test_where_the_whole_model_fails_no_variant_begins(ablate, pretended, capsys, tmp_path):
    pretended.fails = ("whole/seed0",)
    with pytest.raises(SystemExit):
        ablate(tmp_path)
    assert pretended.calls == ["whole/seed0"]
    assert "no run of the whole model has finished; look into" in capsys.readouterr().err


def test_a_variant_that_failed_with_one_seed_is_compared_over_the_other(ablate, pretended, capsys, tmp_path):
    pretended.fails = ("without_content/seed1",)
    with pytest.raises(SystemExit):
        ablate(tmp_path)
    said = "without_content ran with seed 0, whole with 0, 1: the difference is that of seed 0."
    assert said in " ".join(capsys.readouterr().out.split())
    assert said in (tmp_path / "report.md").read_text()
    of = {"slice": "all", "metric": "ndcg@10"}
    of_seed_0 = read_table(tmp_path / "whole/seed0", "metrics").filter(split="test", **of)
    found = dict(of_seed_0.select("method", "value").iter_rows())
    row = pl.read_csv(tmp_path / "ablation.csv").filter(variant="without_content", **of).row(0, named=True)
    assert row["difference"] == pytest.approx(found["personal_frequency"] - found["joint"])


def test_fewer_seeds_than_have_run_take_nothing_from_the_table(ablate, pretended, capsys, tmp_path):
    ablate(tmp_path, "seed=0,1")
    before, pretended.calls = (tmp_path / "ablation.csv").read_text(), []
    capsys.readouterr()
    ablate(tmp_path, "seed=0")
    assert pretended.calls == []
    assert (tmp_path / "ablation.csv").read_text() == before
    assert "whole: what has finished with seed 1 is in the table too" in capsys.readouterr().err


def test_a_further_seed_of_other_settings_is_left_out_of_the_table(ablate, pretended, capsys, tmp_path):
    ablate(tmp_path, "seed=0,1")
    record = read_record(run := tmp_path / "whole/seed1")
    (run / "run.json").write_text(json.dumps(record | {"config": record["config"] | {"optim": {"lr": 1.0}}}))
    capsys.readouterr()
    ablate(tmp_path, "seed=0")
    assert f"left out: {run}: the run there has other settings (optim." in capsys.readouterr().err
    assert pl.read_csv(tmp_path / "runs.csv").filter(method="whole")["seed"].to_list() == [0]


def test_variants_without_a_seed_in_common_are_shown_and_not_compared(ablate, pretended, tmp_path):
    pretended.fails = ("whole/seed1", "without_content/seed0")
    with pytest.raises(SystemExit):
        ablate(tmp_path)
    rows = pl.read_csv(tmp_path / "ablation.csv")
    assert rows["variant"].unique(maintain_order=True).to_list() == ["whole", "without_content"]
    assert "difference" not in rows.columns
    said = (tmp_path / "report.md").read_text()
    assert "without_content ran with seed 1, whole with 0: no difference is shown." in said
    assert "without_content over whole, all ndcg@10: not compared, for they ran with different seeds" in said


def test_a_finished_run_of_other_own_code_is_named(ablate, pretended, capsys, tmp_path):
    ablate(tmp_path, "seed=0")
    record = read_record(run := tmp_path / "whole/seed0")
    (run / "run.json").write_text(json.dumps(record | {"code": record["code"] | {"own": {"my_heads": "1f"}}}))
    capsys.readouterr()
    ablate(tmp_path, "seed=0")
    said = [line for line in capsys.readouterr().err.splitlines() if "changed" in line]
    assert said == [f"{run}: since this run my_heads changed; move it away to run it again"]


def test_an_ablation_at_which_another_process_works_is_left_alone(ablate, pretended, capsys, tmp_path):
    with FileLock(tmp_path / LOCK):
        with pytest.raises(SystemExit):
            ablate(tmp_path)
        assert "another process works on this ablation; wait for it, or give ablation.name=..." in capsys.readouterr().err
        assert pretended.calls == []
    ablate(tmp_path)
    assert len(pretended.calls) == 4


def test_a_folder_with_runs_of_other_settings_is_refused(ablate, done, pretended, capsys):
    with pytest.raises(SystemExit):
        ablate(done, "optim.lr=0.5")
    assert "the run there has other settings (optim.lr)" in capsys.readouterr().err
    assert pretended.calls == []


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("ablation.claims=[{variant:hole,over:whole,slice:all,metric:mrr,at_least:1}]", "hole is no variant; did you mean 'whole'"),
        ("ablation.claims=[{variant:gated,over:whole,slice:al,metric:mrr,at_least:1}]", "there is no slice 'al'; did you mean 'all'"),
        ("ablation.claims=[{variant:gated,over:whole,slice:all,metric:mr,at_least:1}]", "there is no metric 'mr' of slice 'all'"),
        ("+ablation.variants.whole=[]", "ablation.variants.whole: that is the model as it is"),
        ("+ablation.variants.typo=['optim.lrr=1']", "typo, "),
        ("stage=ratings", "whole: stage is 'ratings', but an ablation compares lists; give stage=whole or stage=selection"),
        ("+ablation.variants.rates=['stage=ratings']", "rates: stage is 'ratings'"),
        ("+ablation.variants.typo=['~model.heads.cf.parts.nobody']", "typo, "),
    ],
)
def test_a_variant_that_cannot_be_made_is_an_error_before_anything_runs(ablate, pretended, capsys, tmp_path, word, message):
    with pytest.raises(SystemExit):
        ablate(tmp_path, word)
    assert message in capsys.readouterr().err
    assert pretended.calls == []


@pytest.mark.parametrize("choice", ["default", "encoder"])
def test_every_shipped_variant_can_be_made_and_is_one(command, words, tmp_path, pretended, capsys, choice):
    pretended.fails = _AllVariants()
    with pytest.raises(SystemExit):
        command("ablate", *words, f"ablation={choice}", "seed=0", f"ablation.folder={tmp_path}")
    assert len(pretended.calls) > 4
    left_out = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert left_out == (["left out: frozen is the whole model itself"] if choice == "encoder" else [])


class _AllVariants:
    def __contains__(self, name):
        return name != "whole/seed0"
