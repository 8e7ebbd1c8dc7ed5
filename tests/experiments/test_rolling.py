"""`eval=rolling`: which weeks are tested, that a cut-off knows nothing of later ones, and that the whole is the sum of its cut-offs."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from omegaconf import OmegaConf
from polars.testing import assert_frame_equal

from seasonrec.data.dataset import Split
from seasonrec.errors import ConfigError, DataError
from seasonrec.evaluation.evaluate import Column, Evaluation
from seasonrec.evaluation.tables import HEADLINES
from seasonrec.experiments import rolling
from seasonrec.experiments.record import plain_config, read_record, read_table
from seasonrec.experiments.rolling import cut_offs

# The shop's 70 weeks end with the test weeks 62 to 69: two cut-offs of ten weeks are 50 and 60.
TWO = ["eval=rolling", "eval.rolling.n_weeks=20", "eval.rolling.every=10", "eval.rolling.n_validation=4"]
FIRST, SECOND = "2022-08-15", "2022-10-24"  # 50 and 60 weeks after Monday 2021-08-30
NDCG = {"slice": "all", "metric": "ndcg@10"}


@pytest.fixture(scope="module")
def rolled(command, words, tmp_path_factory):
    """The baselines at two cut-offs."""
    folder = tmp_path_factory.mktemp("rolled")
    command("evaluate", *_of_evaluate(words), *TWO, f"hydra.run.dir={folder}")
    return folder


def _of_evaluate(words):
    return [word for word in words if not word.startswith(("trainer", "epochs", "sampling", "reranker", "seasons"))]


def test_cut_offs_test_one_week_after_another_up_to_the_last_test_week(dataset):
    assert dataset.split.test[1] == 69
    found = cut_offs(dataset, n_weeks=20, every=10, n_validation=4, min_weeks=16)
    assert found == [Split((46, 49), (50, 59)), Split((56, 59), (60, 69))]
    uneven = cut_offs(dataset, n_weeks=25, every=10, n_validation=8, min_weeks=16)
    assert [split.test for split in uneven] == [(45, 54), (55, 64), (65, 69)]


def test_cut_offs_with_too_little_to_learn_from_are_left_out(dataset, caplog):
    # 52 weeks before week 70 is week 18, and its validation weeks begin at 10; the next ones begin at 23, 36 and 49.
    found = cut_offs(dataset, n_weeks=52, every=13, n_validation=8, min_weeks=16)
    assert [split.test[0] for split in found] == [31, 44, 57]
    assert "1 of 4 cut-offs have fewer than 16 weeks" in caplog.text
    with pytest.raises(DataError, match="week 57, leaves 49 weeks to learn from, wanted 60"):
        cut_offs(dataset, n_weeks=52, every=13, n_validation=8, min_weeks=60)


def test_validation_weeks_of_two_cut_offs_may_not_overlap(dataset):
    with pytest.raises(ConfigError, match="1 <= n_validation <= every, got n_weeks=8, n_validation=5, every=4"):
        cut_offs(dataset, n_weeks=8, every=4, n_validation=5, min_weeks=4)


def test_each_cut_off_is_a_run_of_its_own_with_its_split(rolled):
    splits = {place.name: read_record(place)["data"]["split"] for place in sorted((rolled / "cut_offs").iterdir())}
    assert splits == {FIRST: {"validation": [46, 49], "test": [50, 59]}, SECOND: {"validation": [56, 59], "test": [60, 69]}}


def test_the_whole_has_the_lists_of_all_cut_offs_and_their_mean_by_query(rolled):
    parts = [rolled / "cut_offs" / name for name in (FIRST, SECOND)]
    whole = pl.read_parquet(rolled / "lists/popular_4_weeks.parquet")
    assert_frame_equal(whole, pl.concat([pl.read_parquet(part / "lists/popular_4_weeks.parquet") for part in parts]))
    of = lambda folder: read_table(folder, "metrics").filter(method="popular_4_weeks", split="test", **NDCG).row(0, named=True)
    first, second = map(of, parts)
    n = first["n_queries"] + second["n_queries"]
    assert of(rolled)["n_queries"] == n
    assert of(rolled)["value"] == pytest.approx((first["value"] * first["n_queries"] + second["value"] * second["n_queries"]) / n)


def test_the_table_has_each_cut_off_each_quarter_and_the_mean_of_cut_offs(rolled):
    table = read_table(rolled, "rolling").filter(method="personal_frequency", **NDCG)
    assert table["split"].to_list() == [f"cut-off {FIRST}", f"cut-off {SECOND}", "2022 Q3", "2022 Q4", "mean of cut-offs"]
    first, second, q3, q4, mean = table.iter_rows(named=True)
    assert mean["value"] == pytest.approx((first["value"] + second["value"]) / 2)
    # Week 56 begins on 26 September, so that its fourth day is in the third quarter still; of the first cut-off 57 to 59 are in the fourth.
    weeks = read_table(rolled, "weeks").filter(method="personal_frequency", split="test", **NDCG)
    assert q3["n_queries"] == weeks.filter(pl.col("week") <= 56)["n_queries"].sum()
    assert q4["n_queries"] == weeks.filter(pl.col("week") > 56)["n_queries"].sum()
    text = (rolled / "rolling.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [f"## {split}" for split in table["split"]]
    assert "By cut-off and quarter" in (rolled / "report.html").read_text()


def test_purchases_after_a_cut_offs_test_weeks_change_nothing_in_its_run(command, words, dataset, purchases, tmp_path):
    table, rng = pl.read_csv(purchases), np.random.default_rng(0)
    is_later = (table["when"] >= dataset.start_of(60)).to_numpy()
    customers = table["customer"].to_numpy().copy()
    customers[is_later] = rng.permutation(customers[is_later])
    table.with_columns(customer=pl.Series(customers)).write_csv(tmp_path / "other.csv")
    quick = ["trainer.max_epochs=1", "sampling.n_weeks=6", "baseline=none", "epochs=whole", "logger=none"]
    split = "eval.split={validation:[46,49],test:[50,59]}"
    command("train", *words, *quick, split, f"hydra.run.dir={tmp_path / 'own'}")
    command("train", *words, *quick, split, f"data.path={tmp_path / 'other.csv'}", f"hydra.run.dir={tmp_path / 'other'}")
    assert read_record(tmp_path / "own")["data"]["digest"] != read_record(tmp_path / "other")["data"]["digest"]
    for method in ("joint", "personal_frequency"):
        own, other = (pl.read_parquet(tmp_path / name / f"lists/{method}.parquet") for name in ("own", "other"))
        assert own["week"].is_between(50, 59).all()
        assert_frame_equal(own, other)


def test_weeks_of_the_whole_are_tested_ones_alone_for_its_validation_weeks_are_tested_too(rolled):
    assert read_table(rolled, "weeks")["split"].unique().to_list() == ["test"]


def test_the_whole_is_not_calibrated_for_its_validation_weeks_are_later_than_some_tested_ones(rolled):
    of = lambda folder: read_table(folder, "metrics").filter(metric="ece", split="test")["value"]
    assert len(of(rolled)) == 0
    assert len(of(rolled / "cut_offs" / FIRST)) == 2


def test_its_lists_give_its_metrics_once_more_on_its_own_weeks_and_data(rolled, command, cache_folder, tmp_path):
    command("evaluate", f"run={rolled}", "eval.n_resamples=50", "n_threads=1", f"paths.cache={cache_folder}", f"hydra.run.dir={tmp_path}")
    by = ["method", "split"]
    again, whole = (read_table(folder, "metrics").sort(by, maintain_order=True) for folder in (tmp_path, rolled))
    distance = pl.col("metric").str.starts_with("distance")  # the whole has none
    assert_frame_equal(again.filter(~distance), whole.filter(~distance))
    record, of_rolled = read_record(tmp_path), read_record(rolled)
    assert record["data"] == of_rolled["data"]
    assert [record["config"][key] for key in ("data", "encoder")] == [of_rolled["config"][key] for key in ("data", "encoder")]


def test_a_report_on_several_wholes_has_their_cut_offs_and_quarters_too(rolled, command, tmp_path):
    """Two of one method each, as peers of other libraries leave them."""
    for name in ("popular_4_weeks", "personal_frequency"):
        copy = shutil.copytree(rolled, tmp_path / name, ignore=shutil.ignore_patterns("cut_offs", "plots"))
        for table in ("metrics", "rolling"):
            read_table(copy, table).filter(method=name).write_csv(copy / f"{table}.csv")
    out = tmp_path / "report"
    runs = [str(tmp_path / name) for name in ("popular_4_weeks", "personal_frequency")]
    command("report", *runs, "reference=personal_frequency", f"output={out}", "n_resamples=50")
    columns = ["method", "split", "slice", "metric", "value", "n_queries"]
    by = columns[:4]
    found, own = (pl.read_csv(folder / "rolling.csv").select(columns).sort(by) for folder in (out, rolled))
    assert_frame_equal(found, own, rel_tol=1e-9)
    assert [line for line in (out / "rolling.md").read_text().splitlines() if line.startswith("## ")][2:4] == ["## 2022 Q3", "## 2022 Q4"]
    tests = pl.read_csv(out / "rolling_significance.csv").filter(**NDCG)
    values = {each["method"]: each["value"] for each in own.filter(split="2022 Q4", **NDCG).iter_rows(named=True)}
    assert tests["quarter"].to_list() == ["2022 Q3", "2022 Q4"]
    assert tests["difference"][1] == pytest.approx(values["personal_frequency"] - values["popular_4_weeks"])
    assert "By cut-off and quarter" in (out / "report.html").read_text()


@pytest.fixture
def first_cut_off(rolled, dataset):
    """The config of the first cut-off's run, in the folder of another whole."""

    def make(folder, *changes):
        cfg = OmegaConf.create(read_record(rolled)["config"])
        cfg.paths.run = str(folder)
        cfg.merge_with_dotlist(list(changes))
        return rolling.config_at(cfg, dataset, Split((46, 49), (50, 59)))

    return make


def test_cut_offs_that_had_finished_are_not_run_again(rolled, first_cut_off, tmp_path):
    ran = []
    rolling.run_once(first_cut_off(rolled, "eval.batch_size=7"), ran.append)
    rolling.run_once(first_cut_off(tmp_path), ran.append)
    (own,) = ran
    assert own.paths.run == str(tmp_path / "cut_offs" / FIRST)
    assert (own.eval.rolling, own.eval.split) == (None, {"validation": [46, 49], "test": [50, 59]})


def test_what_a_run_that_goes_on_says_in_full_of_its_folder_is_said_of_each_cut_off_s(rolled, first_cut_off, tmp_path):
    own = first_cut_off(tmp_path, "resume=there", f"logger.csv.save_dir={tmp_path}", f"logger.csv.name={tmp_path}2")
    folder = str(tmp_path / "cut_offs" / FIRST)
    assert (own.resume, own.paths.run, own.logger.csv.save_dir) == (None, folder, folder)
    assert own.logger.csv.name == f"{tmp_path}2", "another folder, though its name begins alike"


def test_cut_offs_of_which_own_code_has_changed_are_named(rolled, first_cut_off, monkeypatch, caplog):
    monkeypatch.setattr("seasonrec.experiments.record.changed_code", lambda record: ["my_base"])
    rolling.run_once(own := first_cut_off(rolled), pytest.fail)
    assert f"{own.paths.run}: since this run my_base changed; move it away to run it again" in caplog.text


def test_cut_offs_of_other_settings_are_not_taken_for_those_asked_for(rolled, first_cut_off):
    with pytest.raises(ConfigError, match=rf"{FIRST}: the run there has other settings \(encoder.max_length, seed\); name another folder"):
        rolling.run_once(first_cut_off(rolled, "encoder.max_length=8", "seed=1"), pytest.fail)


def test_the_folder_of_a_whole_of_other_settings_is_refused_before_its_record_changes(rolled, command, words, capsys):
    before = (rolled / "run.json").read_bytes()
    with pytest.raises(SystemExit):
        command("evaluate", *_of_evaluate(words), *TWO, "seed=1", f"hydra.run.dir={rolled}")
    assert f"{rolled}: the run there has other settings (seed); name another folder" in capsys.readouterr().err
    assert (rolled / "run.json").read_bytes() == before


def test_cut_offs_of_data_that_have_changed_since_are_refused(rolled, composed, tmp_path):
    cfg = composed(*TWO)
    cfg.paths.run = str(tmp_path)
    record = read_record(rolled) | {"config": plain_config(cfg)}
    record["data"]["digest"] = "f" * 32
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="the data have changed"):
        rolling.roll(cfg, pytest.fail, pytest.fail)


def test_a_process_of_another_rank_goes_along_to_every_cut_off_and_writes_nothing(rolled, composed, monkeypatch, tmp_path):
    monkeypatch.setattr(rolling, "follows", lambda trainer: trainer.devices == 1)
    cfg, ran, before = composed(*TWO), [], (rolled / "run.json").read_bytes()
    cfg.paths.run = str(rolled)  # where all cut-offs have finished
    assert math.isnan(rolling.roll(cfg, ran.append, pytest.fail))
    assert [own.eval.split.test for own in ran] == [[50, 59], [60, 69]]
    assert (rolled / "run.json").read_bytes() == before


def test_the_joint_model_is_tested_quarter_by_quarter(dataset):
    """A query a week by each of five users; joint is .1 ahead in the third quarter and .2 behind in the fourth."""
    week, user = (each.ravel() for each in np.meshgrid(np.arange(50, 70), np.arange(5), indexing="ij"))
    columns = tuple(Column(*pair, 10) for pair in HEADLINES)
    lead = np.where(week <= 56, 0.1, -0.2)[:, None]
    popular = Evaluation(user, week, columns, np.full((100, len(HEADLINES)), 0.5), {})
    joint = replace(popular, values=popular.values + lead)
    tests = rolling.by_quarter({"popular": (joint, popular)}, dataset, 50).filter(**NDCG)
    assert tests.select("quarter", "other", "n_queries").rows() == [("2022 Q3", "popular", 35), ("2022 Q4", "popular", 65)]
    assert tests["difference"].to_list() == pytest.approx([0.1, -0.2])


def test_a_run_that_ends_before_its_test_weeks_does_not_roll(command, words, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command("train", *words, "eval=rolling", "stage=selection", f"hydra.run.dir={tmp_path}")
    assert "eval.rolling tests, but stage=selection ends before that" in capsys.readouterr().err
