"""`seasonrec report`: which runs become one row, what stands in it, what is tested against what, and what is refused."""

import csv
import json
import logging
import re
import shutil

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats

from seasonrec.errors import DataError
from seasonrec.evaluation.evaluate import evaluate
from seasonrec.evaluation.labels import season_labels
from seasonrec.evaluation.lists import read_lists
from seasonrec.evaluation.seeds import mean_evaluation
from seasonrec.evaluation.significance import compare
from seasonrec.experiments import aggregate, cli
from seasonrec.experiments.aggregate import finished_runs, folders_of, rows_of
from seasonrec.experiments.record import RunRecord, read_record, read_table

ONE = ("all", "ndcg@10")


def changed(run, folder, *words, **config):
    """A copy of a run that says it had other settings and words."""
    copy = shutil.copytree(run, folder, ignore=shutil.ignore_patterns("wandb", "logs", "fits", "plots", "*.ckpt"))
    record = read_record(copy)
    record["config"] |= config
    record["overrides"] = [word for word in record["overrides"] if not word.startswith("seed=")] + list(words)
    (copy / "run.json").write_text(json.dumps(record))
    return copy


def scaled(run, method, by):
    """The run, with all values of a method multiplied."""
    metrics = read_table(run, "metrics").with_columns(value=pl.when(method=method).then(pl.col("value") * by).otherwise("value"))
    metrics.write_csv(run / "metrics.csv")
    return run


@pytest.fixture(scope="module")
def experiments(two_seeds, tmp_path_factory):
    """Two experiments of two seeds each: the multirun's, and one that says it had another learning rate, whose lists are seed 1's."""
    folder = tmp_path_factory.mktemp("experiments")
    optim = read_record(two_seeds / "0")["config"]["optim"] | {"lr": 0.5}
    for seed in (0, 1):
        changed(two_seeds / str(seed), folder / f"base{seed}", f"seed={seed}")
        changed(two_seeds / "1", folder / f"fast{seed}", f"seed={seed}", "optim.lr=0.5", optim=optim, seed=seed)
        record = read_record(folder / f"fast{seed}") | {"seed": seed}
        (folder / f"fast{seed}/run.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def reported(experiments, command, tmp_path_factory):
    """The folder of a report on them."""
    folder = tmp_path_factory.mktemp("report")
    command("report", str(experiments), f"output={folder}", "n_resamples=500")
    return folder


def value(table, **of):
    (found,) = table.filter(slice=ONE[0], metric=ONE[1], **of).iter_rows(named=True)
    return found


def test_runs_that_differ_by_their_seed_are_one_row_and_baselines_stand_once(experiments, reported):
    summary = pl.read_csv(reported / "summary.csv")
    names = summary["method"].unique(maintain_order=True).to_list()
    assert names == ["joint lr=0.004", "joint lr=0.5", "personal_frequency", "popular_4_weeks"]
    seeds = [value(read_table(experiments / f"base{seed}", "metrics"), method="joint", split="test")["value"] for seed in (0, 1)]
    row = value(summary, method="joint lr=0.004", split="test")
    low, high = stats.t.interval(0.95, 1, loc=np.mean(seeds), scale=stats.sem(seeds))
    assert (row["value"], row["low"], row["high"]) == pytest.approx((np.mean(seeds), low, high))
    assert row["n_seeds"] == 2
    assert value(summary, method="popular_4_weeks", split="test")["n_seeds"] == 1


def test_the_reference_is_tested_against_every_other_row_by_users(experiments, reported, dataset):
    labels = season_labels(dataset)

    def judged(method, *names):
        lists = [read_lists(experiments / name / f"lists/{method}.parquet", dataset) for name in names]
        return mean_evaluation([evaluate(each, dataset.timeline, labels) for each in lists])

    runs = {"joint lr=0.004": ("joint", "base0", "base1"), "joint lr=0.5": ("joint", "fast0", "fast1")}
    runs |= {name: (name, "base0") for name in ("personal_frequency", "popular_4_weeks")}
    text = (reported / "report.md").read_text()
    best = re.search(r"## (.*) minus each other", text)[1]
    assert best in list(runs)[:2]
    evaluations = {name: judged(*of) for name, of in runs.items()}
    wanted = compare(evaluations.pop(best), evaluations, n_resamples=500)
    assert_frame_equal(pl.read_csv(reported / "significance.csv"), wanted, check_dtypes=False)


def test_experiments_of_other_seeds_are_compared_over_those_that_both_have(experiments, command, tmp_path, capsys):
    runs = [str(experiments / name) for name in ("base0", "base1", "fast0")]
    command("report", *runs, f"output={tmp_path}", "n_resamples=20", "reference='joint lr=0.004'")
    mine = {name: value(read_table(experiments / name, "metrics"), method="joint", split="test")["value"] for name in ("base0", "fast0")}
    found = value(pl.read_csv(tmp_path / "significance.csv"), other="joint lr=0.5")["difference"]
    assert found == pytest.approx(mine["base0"] - mine["fast0"])
    said = "joint lr=0.5 ran with seed 0, joint lr=0.004 with 0, 1: the difference is that of seed 0."
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "report.md").read_text()
    of_popular = value(pl.read_csv(tmp_path / "significance.csv"), other="popular_4_weeks")["difference"]
    summary = pl.read_csv(tmp_path / "summary.csv")  # of which there is one list whatever the seed: compared with the mean over both
    ours, theirs = (value(summary, method=name, split="test")["value"] for name in ("joint lr=0.004", "popular_4_weeks"))
    assert of_popular == pytest.approx(ours - theirs)


def test_the_reference_is_the_experiment_that_is_best_on_validation_weeks(experiments, tmp_path):
    better = scaled(changed(experiments / "fast0", tmp_path / "better", optim={"lr": 0.7}), "joint", 1.5)
    rows = rows_of(finished_runs([experiments / "base0", better]))
    summary = pl.concat([row.summary for row in rows])
    assert aggregate.reference_of(None, rows, summary).name == rows[1].name
    assert aggregate.reference_of("personal_frequency", rows, summary).method == "personal_frequency"


def test_every_form_has_every_row_with_its_spread(reported):
    summary = pl.read_csv(reported / "summary.csv")
    row = value(summary, method="joint lr=0.004", split="test")
    shown = f"{row['value']:.4f}", f"{(row['high'] - row['low']) / 2:.4f}"
    markdown, latex, page = ((reported / name).read_text() for name in ("report.md", "report.tex", "report.html"))
    assert f"{shown[0]} ±{shown[1]}" in markdown
    assert rf"{shown[0]} $\pm${shown[1]}" in latex
    assert f"{row['low']:.4f}–{row['high']:.4f}" in page
    for text in (markdown, page):
        assert all(name in text for name in summary["method"].unique())
        assert "of one seed there is no interval" in text
    assert r"personal\_frequency & 1 &" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2
    assert page.count("class=ours") == 2
    assert (reported / "plots/leaderboard.png").stat().st_size > 10_000


def test_the_best_of_a_column_is_bold_once_or_where_equal(reported):
    lines = (reported / "report.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    heads, body = rows[0], rows[2:6]
    column = heads.index("all NDCG@10")
    summary = pl.read_csv(reported / "summary.csv").filter(slice="all", metric="ndcg@10", split="test")
    values = dict(summary.select("method", "value").iter_rows())  # those of the report are rounded
    assert values.keys() == {row[0] for row in body}
    bold = {row[0] for row in body if row[column].startswith("**")}
    assert bold == {name for name, v in values.items() if v == max(values.values())}


def test_the_runs_behind_each_row_are_listed(experiments, reported):
    with (reported / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    assert [(run["method"], run["seed"]) for run in runs] == [
        ("joint lr=0.004", "0"),
        ("joint lr=0.004", "1"),
        ("joint lr=0.5", "0"),
        ("joint lr=0.5", "1"),
    ]
    assert runs[0]["folder"] == str(experiments / "base0")
    assert float(runs[0]["selection"]) == read_record(experiments / "base0")["facts"]["selection"]


def test_the_table_is_printed(experiments, command, tmp_path, capsys):
    command("report", f"runs=[{experiments}/base*]", f"output={tmp_path}", "n_resamples=0", "split=validation")
    printed = capsys.readouterr()
    assert "validation weeks" in printed.out
    assert "joint lr" not in printed.out
    assert "│ joint " in printed.out
    assert "minus each other" not in printed.out
    assert f"2 runs: {tmp_path}" in printed.err
    assert not (tmp_path / "significance.csv").exists()


def test_a_baseline_whose_values_differ_has_a_row_for_each(experiments, tmp_path):
    other = scaled(changed(experiments / "fast0", tmp_path / "other"), "popular_4_weeks", 2.0)
    rows = rows_of(finished_runs([experiments / "base0", other]))
    assert [row.name for row in rows] == [
        "joint lr=0.004",
        "joint lr=0.5",
        "personal_frequency",
        "popular_4_weeks lr=0.004",
        "popular_4_weeks lr=0.5",
    ]


def test_runs_without_a_joint_model_give_their_baselines(experiments, tmp_path):
    alone = changed(experiments / "base0", tmp_path / "alone", mixer=None)
    read_table(alone, "metrics").filter(pl.col("method") != "joint").write_csv(alone / "metrics.csv")
    assert [row.name for row in rows_of(finished_runs([alone]))] == ["personal_frequency", "popular_4_weeks"]


def test_the_same_experiment_with_the_same_seed_counts_once(experiments, tmp_path, caplog):
    again = changed(experiments / "base0", tmp_path / "again")
    assert [run.folder for run in finished_runs([experiments / "base0", again])] == [again]
    assert f"left out: {experiments / 'base0'} is the same experiment with the same seed as {again}" in caplog.text


def test_a_run_that_ended_before_its_test_weeks_does_not_take_the_place_of_a_whole_one(experiments, tmp_path, caplog):
    early = changed(experiments / "base0", tmp_path / "early", stage="selection")
    read_table(early, "metrics").filter(split="validation").write_csv(early / "metrics.csv")
    for folders in ([experiments / "base0", early], [early, experiments / "base0"]):
        assert [run.folder for run in finished_runs(folders)] == [experiments / "base0"]
    assert caplog.text.count(f"left out: {early} is the same experiment") == 2


def test_runs_beside_other_baselines_are_one_joint_model_and_keep_their_baselines(experiments, tmp_path):
    other = changed(experiments / "base0", tmp_path / "other", baseline={"ease": {}})
    metrics = read_table(other, "metrics").with_columns(pl.col("method").replace("popular_4_weeks", "ease"))
    metrics.write_csv(other / "metrics.csv")
    rows = rows_of(finished_runs([experiments / "base0", other, experiments / "base1"]))
    assert [row.name for row in rows] == ["joint", "personal_frequency", "popular_4_weeks", "ease"]
    assert [run.seed for run in rows[0].runs] == [0, 1]


def alone(run, folder, method, **config):
    """The run as one that has a single method, not the joint model."""
    copy = changed(run, folder, **config)
    metrics = read_table(copy, "metrics").filter(method="popular_4_weeks").with_columns(method=pl.lit(method))
    metrics.write_csv(copy / "metrics.csv")
    return copy


def test_peers_that_no_config_tells_apart_are_all_kept(experiments, tmp_path):
    peers = [alone(experiments / "base0", tmp_path / name, name, baseline={}) for name in ("sasrec", "lightgbm")]
    rows = rows_of(finished_runs([experiments / "base0", *peers]))
    assert [row.name for row in rows] == ["joint", "personal_frequency", "popular_4_weeks", "sasrec", "lightgbm"]


def test_a_baseline_of_two_settings_is_two_rows_and_no_mean_of_them(experiments, tmp_path):
    settings = {name: {"tifu_knn": {"k": 5, "decay": decay}} for name, decay in (("fast", 0.9), ("slow", 0.99))}
    fast, slow = (alone(experiments / "base0", tmp_path / name, "tifu_knn", baseline=of) for name, of in settings.items())
    rows = rows_of(finished_runs([fast, scaled(slow, "tifu_knn", 0.5)]))
    assert [(row.name, len(row.runs)) for row in rows] == [("tifu_knn decay=0.9 alone", 1), ("tifu_knn decay=0.99 alone", 1)]
    first, second = (value(row.summary, split="test")["value"] for row in rows)
    assert second == pytest.approx(first / 2)


def test_baselines_of_two_encoders_have_names_of_their_own(experiments, tmp_path):
    encoder = read_record(experiments / "base0")["config"]["encoder"]
    runs = [
        scaled(alone(experiments / "base0", tmp_path / model, "text_knn", encoder=encoder | {"model": model}), "text_knn", by)
        for model, by in (("minilm", 1.0), ("bge", 0.5))
    ]
    assert [row.name for row in rows_of(finished_runs(runs))] == ["text_knn alone model=minilm", "text_knn alone model=bge"]


def test_how_far_texts_are_apart_does_not_make_a_baseline_two_and_the_best_is_still_found(experiments, tmp_path):
    other = scaled(changed(experiments / "fast0", tmp_path / "other"), "joint", 1.5)
    apart = pl.col("metric").str.starts_with("distance@")
    metrics = read_table(other, "metrics").with_columns(value=pl.when(apart).then(pl.col("value") / 2).otherwise("value"))
    assert metrics.filter(apart).height
    metrics.write_csv(other / "metrics.csv")
    rows = rows_of(finished_runs([experiments / "base0", other]))
    assert [row.method for row in rows] == ["joint", "joint", "personal_frequency", "popular_4_weeks"]
    summary = pl.concat([row.summary for row in rows])
    assert aggregate.reference_of(None, rows, summary) is rows[1]


def test_the_reference_is_found_also_where_the_scale_has_two_rows(experiments, tmp_path):
    other = scaled(scaled(changed(experiments / "fast0", tmp_path / "other"), "joint", 1.5), "personal_frequency", 1.1)
    rows = rows_of(finished_runs([experiments / "base0", other]))
    assert [row.method for row in rows].count("personal_frequency") == 2
    assert aggregate.reference_of(None, rows, pl.concat([row.summary for row in rows])) is rows[1]


def test_runs_that_roll_otherwise_are_other_experiments(experiments, tmp_path):
    evaluation = read_record(experiments / "base0")["config"]["eval"]
    runs = [changed(experiments / "base0", tmp_path / str(every), eval=evaluation | {"rolling": {"every": every}}) for every in (13, 4)]
    assert [row.name for row in rows_of(finished_runs(runs))][:2] == ["joint every=13", "joint every=4"]


def test_runs_of_other_data_are_refused_also_where_all_else_is_equal(experiments, tmp_path):
    other = changed(experiments / "base0", tmp_path / "other")
    record = read_record(other)
    record["data"] |= {"name": "another shop", "digest": "f" * 32, "purchases_digest": "f" * 32}
    (other / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="these runs saw 2 data sets or splits"):
        finished_runs([experiments / "base0", other])


def of_weeks(run, **split):
    """The run, which says that it had other weeks."""
    record = read_record(run)
    record["data"]["split"] = split
    (run / "run.json").write_text(json.dumps(record))
    return run


def test_a_run_of_several_cut_offs_is_the_whole_and_not_the_last_of_them(experiments, tmp_path):
    whole = changed(experiments / "base0", tmp_path / "whole")
    of_weeks(changed(experiments / "base0", whole / "cut_offs/2022-10-24"), validation=[56, 59], test=[60, 69])
    assert folders_of(str(tmp_path)) == [whole]


def test_the_same_experiment_on_other_weeks_is_not_the_same_run(experiments, tmp_path):
    cut_off = of_weeks(changed(experiments / "base0", tmp_path / "cut_off"), validation=[56, 59], test=[60, 69])
    with pytest.raises(DataError, match="these runs saw 2 data sets or splits"):
        finished_runs([experiments / "base0", cut_off])


def test_a_run_that_has_not_finished_is_left_out_by_name(experiments, tmp_path, caplog):
    failed = changed(experiments / "base1", tmp_path / "failed")
    (failed / "run.json").write_text(json.dumps(read_record(failed) | {"status": "failed"}))
    with caplog.at_level(logging.WARNING):
        assert len(finished_runs([experiments / "base0", failed])) == 1
    assert f"left out: {failed} has status 'failed'" in caplog.text
    with pytest.raises(DataError, match="none of 1 runs has finished"):
        finished_runs([failed])


def test_runs_of_other_data_are_refused(experiments, command, tmp_path, capsys):
    other = changed(experiments / "base1", tmp_path / "other")
    record = read_record(other)
    record["data"] |= {"digest": "f" * 32, "purchases_digest": "f" * 32}
    (other / "run.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit):
        command("report", str(experiments), str(other), f"output={tmp_path / 'out'}")
    assert "these runs saw 2 data sets or splits" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_the_data_there_are_no_tests_but_a_table(experiments, command, tmp_path, capsys):
    lost = changed(
        experiments / "base0", tmp_path / "lost", data=read_record(experiments / "base0")["config"]["data"] | {"path": "gone.csv"}
    )
    command("report", str(lost), f"output={tmp_path / 'out'}")
    assert "no tests, for the truth of the lists cannot be read" in capsys.readouterr().err
    assert "There were no tests." in (tmp_path / "out/report.html").read_text()


def test_data_that_have_moved_are_named(experiments, reported, purchases, command, tmp_path):
    for name in ("base0", "base1", "fast0", "fast1"):
        gone = read_record(experiments / name)["config"]["data"] | {"path": "gone.csv"}
        changed(experiments / name, tmp_path / "lost" / name, data=gone)
    command("report", str(tmp_path / "lost"), f"output={tmp_path / 'out'}", "n_resamples=500", f"data.path={purchases}")
    assert (tmp_path / "out/significance.csv").read_text() == (reported / "significance.csv").read_text()


def test_folders_are_runs_folders_of_runs_and_patterns_each_once(tmp_path):
    for name in ("a/run", "multirun/0", "multirun/10", "multirun/2"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text("{}")
    found = folders_of([f"{tmp_path}/multirun", f"{tmp_path}/a/*", f"{tmp_path}/multirun/2"])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["multirun/0", "multirun/2", "multirun/10", "a/run"]
    assert folders_of(f"{tmp_path}/a,{tmp_path}/multirun/0") == [tmp_path / "a/run", tmp_path / "multirun/0"]
    with pytest.raises(DataError, match=r"no run\.json in or under .*nowhere"):
        folders_of([f"{tmp_path}/a", f"{tmp_path}/nowhere"])


def test_a_folder_without_a_run_among_others_is_left_out_by_name(tmp_path, caplog):
    for name in ("train/typo", "train/whole"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "train/whole/run.json").write_text("{}")
    whole, typo = tmp_path / "train/whole", tmp_path / "train/typo"
    for given in ([f"{typo}", f"{whole}"], [f"{tmp_path}/train/*"]):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert folders_of(given) == [whole]
        assert caplog.messages == [f"left out: no run.json in or under {typo}"]
    with pytest.raises(DataError, match=r"no run\.json in or under .*typo.*give folders of runs"):
        folders_of([str(typo)])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("split=train", "split is 'train', but all runs have test, validation"),
        ("reference=jiont", "no row is called 'jiont'; did you mean 'joint'"),
    ],
)
def test_an_unknown_split_or_row_is_an_error(experiments, command, tmp_path, capsys, word, message):
    with pytest.raises(SystemExit):
        command("report", f"{experiments}/base0", word, f"output={tmp_path}")
    assert message in capsys.readouterr().err


def test_many_tests_say_that_they_need_more_resamples(experiments):
    rows = rows_of(finished_runs([experiments / "base0"]))
    tests = pl.DataFrame({"p_holm": [0.1] * 100})
    (note,) = [note for note in aggregate.notes_of(rows, tests, rows[0], 999) if "resamples" in note]
    assert note == "With 999 resamples no corrected p can be below 0.100; raise n_resamples to see smaller ones."
    assert not [note for note in aggregate.notes_of(rows, tests, rows[0], 99_999) if "resamples" in note]


def test_versions_are_told_of_what_differs_between_runs(experiments, tmp_path):
    runs = [experiments / "fast0"]
    for seed in (0, 1):
        runs.append(changed(experiments / f"base{seed}", tmp_path / str(seed)))
        code = {"commit": "f" * 40, "own": {"mine": f"v{seed}"}}
        (runs[-1] / "run.json").write_text(json.dumps(read_record(runs[-1]) | {"code": code}))
    rows = rows_of(finished_runs(runs))
    said = [note for note in aggregate.notes_of(rows, None, rows[0], 99) if "versions" in note]
    commits = sorted(["f" * 10, str(read_record(experiments / "fast0")["code"]["commit"])[:10]])
    assert said == [f"The runs are of 2 versions of the code: {', '.join(commits)}.", "The runs are of 2 versions of mine: v0, v1."]


@pytest.mark.parametrize(
    ("given", "rewritten"),
    [
        (["a", "b*", "split=test"], ["runs=['a','b*']", "split=test"]),
        (["split=test", "a", "b*"], ["runs=['a','b*']", "split=test"]),
        (["lr=1,seed=2", "output=o"], ["runs=['lr=1,seed=2']", "output=o"]),
        (["runs=a,b"], ["runs='a,b'"]),
        (["runs=[a,b]"], ["runs=[a,b]"]),
        (["--cfg", "job"], ["--cfg", "job"]),
    ],
)
def test_folders_may_stand_bare_on_the_command_line(tmp_path, monkeypatch, given, rewritten):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=1,seed=2").mkdir()  # as a multirun with a sub-folder per setting names it
    assert cli.rewrite("report", given) == rewritten


def test_a_record_says_what_was_asked_for(two_seeds):
    record = read_record(two_seeds / "1")
    assert {"seed=1", "sampling.n_weeks=6"} <= set(record["overrides"])
    assert "seed=0,1" not in record["overrides"]
    assert (record["choices"]["baseline"], record["choices"]["head/seasonal"]) == ("quick", "default")
    assert not any(group.startswith("hydra") for group in record["choices"])


def test_a_record_can_be_made_after_a_command_that_only_printed(command, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command("train", "--help")
    RunRecord(tmp_path, {})
    record = read_record(tmp_path)
    assert (record["overrides"], record["choices"]) == ([], {})
