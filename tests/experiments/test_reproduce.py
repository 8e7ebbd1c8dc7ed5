"""`seasonrec reproduce`: what it runs, what it puts beside each other, and when it fails."""

import json
import shutil

import polars as pl
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from seasonrec.evaluation.cross_validation import ERRORS
from seasonrec.experiments import cli, reproduce
from seasonrec.experiments.aggregate import finished_runs
from seasonrec.experiments.record import plain_config, read_record, read_table
from seasonrec.experiments.reproduce import metrics_of, orders_of, table_of
from seasonrec.metrics import METRICS


@pytest.fixture
def published(run, tmp_path):
    """Writes a config that says what was published of the run's two baselines: its own values, some of them changed; the command."""
    found = {method: _value(run, method) for method in ("personal_frequency", "popular_4_weeks")}

    def write(*runs, order=("personal_frequency", "popular_4_weeks"), **changed):
        values = {method: {"all": {"ndcg@10": value}} for method, value in (found | changed).items()}
        mine = {"name": "mine", "source": "a paper", "verb": "evaluate", "words": [], "seeds": [0], "absolute": 0.001, "relative": 0.0}
        orders = [{"slice": "all", "metric": "ndcg@10", "methods": list(order)}]
        (tmp_path / "conf/reproduce").mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf/reproduce/mine.yaml").write_text(yaml.safe_dump(mine | {"published": values, "orders": orders}))
        given = f"runs=[{','.join(map(str, runs or [run]))}]"
        return ["reproduce", "mine", f"folder={tmp_path / 'out'}", given, "--config-dir", str(tmp_path / "conf")]

    return write


def _value(run, method):
    return read_table(run, "metrics").filter(method=method, split="test", slice="all", metric="ndcg@10")["value"][0]


def test_values_within_their_tolerance_are_reproduced(published, command, run, tmp_path, capsys):
    command(*published(popular_4_weeks=_value(run, "popular_4_weeks") + 0.0009))
    said = (tmp_path / "out/report.md").read_text()
    assert said.count("| reproduced |") == 2
    assert "| +0.0000 |" in said
    assert "| -0.0009 |" in said
    assert "- all ndcg@10: personal_frequency > popular_4_weeks: reproduced" in said
    assert "Published: a paper." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"popular_4_weeks": 0.9}, "1 of 2 values and 0 of 1 orders do not agree"),
        ({"nobody": 0.1}, "1 of 3 values and 0 of 1 orders do not agree"),
        ({"order": ("popular_4_weeks", "personal_frequency")}, "0 of 2 values and 1 of 1 orders do not agree"),
    ],
)
def test_anything_else_is_an_error_after_the_table(published, command, tmp_path, capsys, changed, message):
    with pytest.raises(SystemExit) as end:
        command(*published(**changed))
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "out/reproduced.csv").exists()


def test_the_larger_of_both_tolerances_counts():
    wanted = OmegaConf.create({"absolute": 0.01, "relative": 0.05, "published": {"m": {"all": {"ndcg@10": 0.1}, "new": {"ndcg@10": 0.4}}}})
    metrics = _metrics({("m", "all"): 0.111, ("m", "new"): 0.419})
    table = table_of(wanted, metrics)
    assert table["tolerance"].to_list() == pytest.approx([0.01, 0.02])
    assert table["verdict"].to_list() == ["outside", "reproduced"]


def test_equal_values_or_a_missing_method_are_no_order():
    order = lambda *methods: OmegaConf.create({"orders": [{"slice": "all", "metric": "ndcg@10", "methods": list(methods)}]})
    metrics = _metrics({("a", "all"): 0.3, ("b", "all"): 0.2, ("c", "all"): 0.2})
    holds = [next(orders_of(order(*methods), metrics))[1] for methods in ("ab", "abc", "ba", "ax")]
    assert holds == [True, False, False, False]


def _metrics(values):
    return pl.DataFrame([(*key, "ndcg@10", value) for key, value in values.items()], ("method", "slice", "metric", "value"), orient="row")


@pytest.mark.parametrize(
    ("given", "rewritten"),
    [
        (["beauty", "data.path=a.txt", "folder=b"], ["words=['data.path=a.txt']", "reproduce=beauty", "folder=b"]),
        (["reproduce=beauty", "+trainer.x=1", "runs=a"], ["words=['+trainer.x=1']", "reproduce=beauty", "runs=a"]),
        (["beauty", "--cfg", "job"], ["reproduce=beauty", "--cfg", "job"]),
        (["folder=b", "beauty", "data.path=a.txt"], ["words=['data.path=a.txt']", "reproduce=beauty", "folder=b"]),
        (["reproduce=beauty", "~callbacks.progress"], ["reproduce=beauty", "~callbacks.progress"]),
        (["--help"], ["--help"]),
    ],
)
def test_a_name_may_stand_bare_and_other_keys_are_for_the_runs(given, rewritten):
    assert cli.rewrite("reproduce", given) == rewritten


def test_values_are_means_over_the_runs(two_seeds):
    runs = finished_runs([two_seeds / "0", two_seeds / "1"])
    found = metrics_of(runs).filter(split="test", method="joint", slice="all", metric="ndcg@10")["value"][0]
    assert found == pytest.approx((_value(two_seeds / "0", "joint") + _value(two_seeds / "1", "joint")) / 2)


@pytest.fixture
def copied(run, tmp_path):
    """Copies what is read of the run, its record changed; the folder."""

    def copy(**changed):
        (tmp_path / "copy").mkdir()
        shutil.copy(run / "metrics.csv", tmp_path / "copy")
        (tmp_path / "copy/run.json").write_text(json.dumps(read_record(run) | changed))
        return tmp_path / "copy"

    return copy


@pytest.mark.parametrize(
    ("part", "changed", "message"),
    [
        ("data", {"digest": "another shop", "purchases_digest": "another shop"}, "these runs saw 2 data sets"),
        ("config", {"baseline": {}}, "the 2 runs are of several experiments (baseline); give runs that differ by their seed only"),
    ],
)
def test_runs_that_differ_by_more_than_their_seed_are_refused(published, copied, command, run, capsys, part, changed, message):
    other = copied(seed=1, **{part: read_record(run)[part] | changed})
    with pytest.raises(SystemExit):
        command(*published(run, other))
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_same_seed_counts_once_and_a_run_that_has_not_finished_not_at_all(published, copied, command, run, capsys):
    again = copied()
    read_table(run, "metrics").with_columns(value=pl.lit(0.0)).write_csv(again / "metrics.csv")
    command(*published(again, run))
    (again / "run.json").write_text(json.dumps(read_record(run) | {"status": "failed"}))
    with pytest.raises(SystemExit):
        command(*published(again))
    assert "none of 1 runs has finished" in capsys.readouterr().err


def test_a_run_of_other_code_is_named(published, copied, command, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "code_version", lambda: read_record(run)["code"])
    command(*published())
    assert "other code" not in (tmp_path / "out/report.md").read_text()
    old = copied(code={"commit": "abc", "dirty": True})
    command(*published(old))
    note = "was made by other code (commit abc, changed since)."
    assert f"- {old} {note}" in (tmp_path / "out/report.md").read_text()
    assert note in " ".join(capsys.readouterr().out.split())


def test_runs_of_other_settings_are_named_and_what_they_have(published, copied, command, run, tmp_path, capsys):
    """The published ones are those of `evaluate` as it is, on The Complete Journey."""
    with initialize_config_dir(str(cli.conf_dir()), version_base="1.3"):
        config = plain_config(compose("evaluate", ["seed=3", "n_threads=1", "paths.cache=mine", "data.path=elsewhere"]))
    same = copied(config=config)
    command(*published(same))
    said = (tmp_path / "out/report.md").read_text()
    assert "other settings" not in said
    assert "runs given" not in said
    (same / "run.json").write_text(json.dumps(read_record(same) | {"config": config | {"data": {"_target_": "Shop"}, "rank_seen": False}}))
    command(*published(same))
    note = f"{same} has other settings than what was published: data, rank_seen."
    assert note in (tmp_path / "out/report.md").read_text()
    assert "has other settings than what was published" in " ".join(capsys.readouterr().out.split())


def test_given_runs_of_other_seeds_are_told_so(published, copied, command, tmp_path):
    command(*published(copied(seed=1)))
    assert "- The runs given are of seed 1; this result is found with seed 0." in (tmp_path / "out/report.md").read_text()


def test_its_runs_get_its_words_those_of_the_command_line_and_its_seeds(command, tmp_path, monkeypatch, capsys):
    jobs = []
    monkeypatch.setattr(reproduce, "run_all", lambda given: jobs.extend(given) or {given[0].name: "no time"})
    with pytest.raises(SystemExit):
        command("reproduce", "complete_journey", "eval.n_resamples=7", f"folder={tmp_path}", "data.path='some where'")
    (job,) = jobs
    assert (job.verb, job.folder) == ("evaluate", tmp_path / "seed0")
    assert {"data=complete_journey", "data.path='some where'", "eval.n_resamples=7", "seed=0"} <= set(job.words)
    assert "1 runs failed, e.g. complete_journey, seed 0: no time" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((cli.conf_dir() / "reproduce").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_was_published_names_known_metrics_and_its_own_file(path):
    content = yaml.safe_load(path.read_text())
    assert content["name"] == path.stem
    assert content["verb"] in cli.VERBS
    assert {metric for of in content["published"].values() for by_metric in of.values() for metric in by_metric} <= {*METRICS, *ERRORS}


@pytest.mark.parametrize("method", ["sasrec", "esasrec"])
def test_a_published_sequential_result_runs_from_end_to_end(method, command, tmp_path, tiny_bert, cache_folder, capsys):
    """A version that takes seconds: walks whose next item is certain, so what was published of real sequences is far away."""
    lines = [f"{user} {' '.join(str((user + 3 * step) % 40) for step in range(7))}" for user in range(80)]
    (tmp_path / "walks.txt").write_text("\n".join(lines) + "\n")
    quick = [*(f"baseline.{method}.{word}" for word in ("d=16", "lr=0.02", "max_epochs=20")), "eval.n_resamples=5"]
    words = ["data=sequences", f"data.path={tmp_path / 'walks.txt'}", "encoder=huggingface", f"encoder.model={tiny_bert}"]
    paths = [f"paths.cache={cache_folder}", f"hydra.run.dir={tmp_path}/run"]
    command("evaluate", "protocol=leave_one_out", f"baseline={method}", *words, *quick, *paths)
    with pytest.raises(SystemExit):
        command("reproduce", f"{method}_beauty", f"runs={tmp_path}/run", f"folder={tmp_path}/out")
    said = capsys.readouterr()
    assert "2 of 2 values" in said.err
    assert read_table(tmp_path / "run", "metrics").filter(split="test", metric="ndcg@10")["value"][0] > 0.5
