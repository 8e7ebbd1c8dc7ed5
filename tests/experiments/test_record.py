"""A run's record: what stands in it, what a stage costs, and what is left of a run that fails, is killed or goes on."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from seasonrec.data.dataset import Dataset, Split
from seasonrec.errors import ConfigError, DataError
from seasonrec.experiments import memory, provenance
from seasonrec.experiments import record as record_module
from seasonrec.experiments.record import LOCK, TABLES, RunRecord, hidden, plain, read_record, read_table
from seasonrec.schema import as_events

MB = 2**20


def stages(folder):
    return {stage["name"]: stage for stage in read_record(folder)["stages"]}


def test_a_finished_run_says_what_ran_on_what_and_where(tmp_path):
    config = {"seed": np.int64(7), "loss": {"weights": {"seasonal": np.float32(0.5)}}, "path": Path("a/b.csv")}
    with RunRecord(tmp_path / "new" / "run", config, command=["seasonrec", "train", "data=my shop"]) as record:
        record.facts(selection={"score": np.float64(1.25), "epoch": 3})
    content = read_record(tmp_path / "new" / "run")
    assert (content["status"], content["error"], content["seed"]) == ("finished", None, 7)
    assert content["config"] == {"seed": 7, "loss": {"weights": {"seasonal": 0.5}}, "path": "a/b.csv"}
    assert content["command"] == "seasonrec train 'data=my shop'"
    assert content["facts"] == {"selection": {"score": 1.25, "epoch": 3}}
    assert content["started"] <= content["finished"]
    assert content["versions"]["polars"] == pl.__version__
    assert content["machine"]["cores"] >= 1
    assert content["machine"]["memory_gb"] > 0
    assert [path.name for path in (tmp_path / "new" / "run").iterdir() if path.name != LOCK] == ["run.json"], "no draft is left"


def test_the_data_are_named_counted_and_their_cleaning_told(tmp_path, caplog):
    caplog.set_level("INFO")
    day = 86_400
    events = pl.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "y", "x"], "time": [0, 3 * day, 9 * day]})
    dataset = Dataset(
        name="shop",
        events=as_events(events, "shop"),
        items=pl.DataFrame({"item_id": ["x", "y"]}),
        users=pl.DataFrame({"user_id": ["a", "b"]}),
        split=Split((4, 5), (6, 9)),
        week_zero=0,
        text_rule=lambda events, items, cutoff: ["", ""],
        digest="abc",
        cleaning=(("exact duplicates", np.int64(2)), ("quantity > 0", 1)),
    )
    RunRecord(tmp_path, {}).data(dataset)
    data = read_record(tmp_path)["data"]
    assert (data["name"], data["digest"], data["users"], data["items"], data["events"]) == ("shop", "abc", 2, 2, 3)
    assert (data["first_event"], data["last_event"]) == ("1970-01-01T00:00:00+00:00", "1970-01-10T00:00:00+00:00")
    assert data["split"] == {"validation": [4, 5], "test": [6, 9]}
    assert data["cleaning"] == [{"step": "exact duplicates", "dropped": 2}, {"step": "quantity > 0", "dropped": 1}]
    said = "data: 3 events are kept; cleaning dropped 2 exact duplicates, 1 quantity > 0: `seasonrec check-data` says more"
    assert said in caplog.messages


def test_a_stage_records_its_seconds(tmp_path):
    record = RunRecord(tmp_path, {})
    start = time.perf_counter()
    with record.stage("sleep"):
        time.sleep(0.05)
    assert 0.05 <= stages(tmp_path)["sleep"]["seconds"] <= time.perf_counter() - start + 0.001


def peaks_of(folder, body):
    """The peak of each stage of `body`, run by a process of its own: in this one, what other tests left free would be filled first."""
    begin = "import sys, numpy as np\nfrom seasonrec.experiments.record import RunRecord\nrecord = RunRecord(sys.argv[1], {})\n"
    fill = "fill = lambda: np.ones(80 * 2**20, np.uint8)\n"
    subprocess.run([sys.executable, "-c", begin + fill + textwrap.dedent(body), str(folder)], check=True)
    if any(stage["memory"] != "peak within the stage" for stage in stages(folder).values()):
        pytest.skip("this system does not let a process forget its peak")
    return {name: stage["peak_memory_mb"] for name, stage in stages(folder).items()}


def test_memory_is_the_peak_within_the_stage(tmp_path):
    peak = peaks_of(
        tmp_path,
        """
        with record.stage("before"):
            pass
        with record.stage("fills 80 MB"):
            fill()
        with record.stage("after"):
            pass
        """,
    )
    assert 75 <= peak["fills 80 MB"] - peak["before"] <= 100
    assert peak["after"] < peak["fills 80 MB"] - 60, "a stage does not inherit the peak of an earlier one"


def test_an_outer_stage_has_the_peak_of_all_that_runs_in_it(tmp_path):
    peak = peaks_of(
        tmp_path,
        """
        with record.stage("first outer"):
            fill()
            with record.stage("small inner"):
                pass
        with record.stage("second outer"), record.stage("large inner"):
            fill()
        """,
    )
    assert peak["first outer"] > peak["small inner"] + 60
    assert peak["second outer"] >= peak["large inner"] > peak["small inner"] + 60


def test_a_system_that_takes_the_word_but_forgets_nothing_is_seen_through(tmp_path, monkeypatch):
    status = tmp_path / "status"
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "clear_refs")
    monkeypatch.setattr(memory, "_STATUS", status)
    status.write_text("VmHWM:\t  900000 kB\nVmRSS:\t  899000 kB\n")
    assert memory.reset_peak(), "the peak is what is resident now"
    status.write_text("VmHWM:\t  900000 kB\nVmRSS:\t  800000 kB\n")
    assert not memory.reset_peak()
    assert memory.peak() == pytest.approx(900_000 / 1024)
    status.write_text("Threads:\t1\n")
    assert not memory.reset_peak(), "nothing is told"


def test_where_the_peak_cannot_be_forgotten_the_record_says_that_it_is_the_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "no" / "clear_refs")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "no" / "status")
    record = RunRecord(tmp_path, {})
    with record.stage("any"):
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MB if sys.platform == "darwin" else 1024)
    assert stages(tmp_path)["any"]["memory"] == "peak of the process so far"
    assert 0 < stages(tmp_path)["any"]["peak_memory_mb"] <= peak + 0.1


def test_a_gpu_in_use_is_measured_and_named(tmp_path, monkeypatch):
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        reset_peak_memory_stats=lambda: None,
        max_memory_allocated=lambda: 300 * MB,
        get_device_name=lambda: "a GPU",
    )
    record = RunRecord(tmp_path, {})
    assert read_record(tmp_path)["machine"]["gpu"] is None
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    with record.stage("fit"):
        pass
    assert stages(tmp_path)["fit"]["gpu_peak_memory_mb"] == 300
    assert read_record(tmp_path)["machine"]["gpu"] == "a GPU"


def test_a_failed_run_keeps_its_stages_and_says_where_and_why(tmp_path):
    record = RunRecord(tmp_path, {})
    with record.stage("data"):
        pass
    with pytest.raises(ValueError, match="no such week"), record, record.stage("outer"), record.stage("train"):
        raise ValueError("no such week")
    content = read_record(tmp_path)
    assert content["status"] == "failed"
    assert content["finished"] is not None
    assert [(stage["name"], stage.get("failed")) for stage in content["stages"]] == [("data", None), ("train", True), ("outer", True)]
    error = content["error"]
    assert (error["type"], error["message"], error["stage"]) == ("ValueError", "no such week", "train")
    assert 'raise ValueError("no such week")' in error["traceback"]


def test_an_error_between_stages_fails_the_run_too(tmp_path):
    with pytest.raises(KeyboardInterrupt), RunRecord(tmp_path, {}):
        raise KeyboardInterrupt
    content = read_record(tmp_path)
    assert (content["status"], content["error"]["type"], content["error"]["stage"]) == ("failed", "KeyboardInterrupt", None)


KILLED = """
import sys, time
from seasonrec.experiments.record import RunRecord
record = RunRecord(sys.argv[1], {"seed": 1})
with record.stage("data"):
    pass
with record.stage("train"):
    print("training", flush=True)
    time.sleep(60)
"""


def test_a_killed_run_leaves_its_record_and_goes_on_from_there(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "training\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    killed = read_record(tmp_path)
    assert (killed["status"], killed["stage"]) == ("running", "train")
    assert [stage["name"] for stage in killed["stages"]] == ["data"]

    with RunRecord(tmp_path, {"seed": 1}) as record, record.stage("train"):
        pass
    resumed = read_record(tmp_path)
    assert [stage["name"] for stage in resumed["stages"]] == ["data", "train"]
    assert resumed["stages"][0] == killed["stages"][0]
    assert (resumed["status"], resumed["started"], len(resumed["resumed"])) == ("finished", killed["started"], 1)


def test_a_run_that_goes_on_keeps_earlier_facts_and_data(tmp_path):
    with RunRecord(tmp_path, {"seed": 1}) as first:
        first.facts(parameters={"total": 10}, epoch=2)
    again = RunRecord(tmp_path, {"seed": 1})
    again.facts(epoch=5)
    assert read_record(tmp_path)["facts"] == {"parameters": {"total": 10}, "epoch": 5}


def test_a_run_that_goes_on_keeps_what_it_began_with_and_says_with_what_it_went_on(tmp_path, monkeypatch):
    current = {"code_version": {"commit": "a"}, "machine": {"cores": 2}, "package_versions": {"torch": "2.13"}}
    for name in current:
        monkeypatch.setattr(provenance, name, lambda name=name: dict(current[name]))
    RunRecord(tmp_path, {"seed": 1})
    current |= {"code_version": {"commit": "b"}, "machine": {"cores": 4}}
    RunRecord(tmp_path, {"seed": 1})
    record = read_record(tmp_path)
    assert (record["code"], record["machine"], record["versions"]) == (
        {"commit": "a", "own": {}, "baselines": {}, "data": {}},
        {"cores": 2},
        {"torch": "2.13"},
    )
    (again,) = record["resumed"]
    assert (again["code"], again["machine"], again["versions"]) == (
        {"commit": "b", "own": {}, "baselines": {}, "data": {}},
        {"cores": 4},
        {"torch": "2.13"},
    )


def test_secrets_and_the_environment_stay_out_of_the_record(tmp_path, monkeypatch):
    monkeypatch.setenv("SEASONREC_TEST_VARIABLE", "from-the-environment")
    config = {"logger": {"wandb": {"api_key": "s3cret-1", "project": "shop"}, "hf_token": "s3cret-2"}, "tokenizer": {"pad_token": "[PAD]"}}
    RunRecord(tmp_path, config, command=["train", "logger.wandb.api_key=s3cret 3", "seed=1"])
    text = (tmp_path / "run.json").read_text()
    assert "s3cret" not in text
    assert "from-the-environment" not in text
    content = json.loads(text)
    assert content["config"]["logger"]["wandb"] == {"api_key": "***", "project": "shop"}
    assert content["config"]["tokenizer"]["pad_token"] == "[PAD]"
    assert content["command"] == "train 'logger.wandb.api_key=***' seed=1"


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("+api_key=s3cret", "+api_key=***"),
        ("++token=s3cret", "++token=***"),
        ("+logger.wandb={project: shop, api_key: s3cret}", "+logger.wandb=***"),
        ("+logger.wandb= {'api-key':s3cret}", "+logger.wandb=***"),
        ("sweep.storage=postgresql://me:s3/cr@et@host/db", "sweep.storage=postgresql://me:***@host/db"),
        ("data.path=s3://host:9000/shop@home.csv", "data.path=s3://host:9000/shop@home.csv"),
        ("model.heads={cf: null}", "model.heads={cf: null}"),
    ],
)
def test_a_word_that_holds_a_secret_is_recorded_without_it(tmp_path, word, kept):
    RunRecord(tmp_path, {}, command=[word])
    assert shlex.split(read_record(tmp_path)["command"]) == [kept]


def test_a_run_with_a_secret_goes_on_with_the_same_settings_alone(tmp_path):
    config = {"data": {"_target_": "my.Shop", "password": "s3cret", "path": "a"}}
    for _ in range(2):
        with RunRecord(tmp_path, config):
            pass
    with pytest.raises(ConfigError, match=r"other settings \(data\)"):
        RunRecord(tmp_path, {"data": config["data"] | {"path": "b"}})


def test_the_secrets_that_a_record_lacks_are_named():
    config = {
        "seed": 0,
        "logger": {"wandb": {"api_key": "***"}},
        "sweep": {"storage": "postgresql://me:***@host/db"},
        "words": ["*** a ***"],
    }
    assert hidden(config | {"more": [{"token": "***"}]}) == ["logger.wandb.api_key", "sweep.storage", "more[0].token"]


def test_values_become_what_json_has():
    values = {
        "array": np.arange(3),
        "scalar": np.float32(0.5),
        "flag": np.True_,
        "nothing": None,
        "nan": float("nan"),
        "inf": -np.inf,
        "set": {"b", "a"},
        "range": range(2),
        "day": date(2017, 12, 3),
        3: (1, [2.0]),
        "split": Split((1, 2), (3, 4)),
    }
    assert json.loads(json.dumps(plain(values, "facts"), allow_nan=False)) == {
        "array": [0, 1, 2],
        "scalar": 0.5,
        "flag": True,
        "nothing": None,
        "nan": "nan",
        "inf": "-inf",
        "set": ["a", "b"],
        "range": [0, 1],
        "day": "2017-12-03",
        "3": [1, [2.0]],
        "split": {"validation": [1, 2], "test": [3, 4]},
    }


def test_two_processes_are_not_at_work_on_one_run(tmp_path, monkeypatch):
    monkeypatch.setattr(record_module, "PATIENCE", 0.0)
    with RunRecord(tmp_path, {"seed": 1}) as record, record.stage("train"):
        with pytest.raises(ConfigError, match=r"another process is at work on the run there; wait for it, or give this one a folder of"):
            RunRecord(tmp_path, {"seed": 1})
        assert read_record(tmp_path)["stage"] == "train"
    with RunRecord(tmp_path, {"seed": 1}):
        assert len(read_record(tmp_path)["resumed"]) == 1


def test_a_value_that_json_lacks_is_refused_by_its_place(tmp_path):
    with pytest.raises(DataError, match=r"config\.model\[1\]\.head is a function, wanted text, numbers"):
        RunRecord(tmp_path / "run", {"model": [1, {"head": stages}]})
    assert not (tmp_path / "run").exists()


def test_names_that_are_no_utf_8_do_not_stop_the_record(tmp_path):
    RunRecord(tmp_path, {"path": os.fsdecode(b"caf\xe9.csv")})
    assert read_record(tmp_path)["config"]["path"] == os.fsdecode(b"caf\xe9.csv")


def test_a_folder_without_a_record_and_a_broken_one_are_errors(tmp_path):
    with pytest.raises(DataError, match=r"no run\.json there; give the folder of a run"):
        read_record(tmp_path)
    (tmp_path / "run.json").write_text('{"status": "runn')
    with pytest.raises(DataError, match="not JSON"):
        RunRecord(tmp_path, {})
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(DataError, match="holds a list"):
        read_record(tmp_path)


def test_the_code_is_that_of_the_checkout_and_none_is_claimed_elsewhere(monkeypatch, tmp_path):
    found = provenance.code_version()
    if found["commit"] is not None:
        assert re.fullmatch(r"[0-9a-f]{40,64}", found["commit"])
        assert isinstance(found["dirty"], bool)
    # A package installed inside somebody else's checkout is not tracked there.
    package = tmp_path / "checkout" / "site" / "seasonrec" / "experiments"
    package.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(tmp_path / "checkout")], check=True)
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    assert provenance.code_version() == {"commit": None, "dirty": None}


def test_a_changed_checkout_is_dirty(monkeypatch, tmp_path):
    package = tmp_path / "seasonrec"
    (package / "experiments").mkdir(parents=True)
    (package / "errors.py").write_text("1\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(provenance, "__file__", str(package / "experiments" / "provenance.py"))
    clean = provenance.code_version()
    (package / "errors.py").write_text("2\n")
    assert (clean["dirty"], provenance.code_version()) == (False, {"commit": clean["commit"], "dirty": True})


def test_tables_come_back_with_ids_and_texts_as_they_were(tmp_path):
    record = RunRecord(tmp_path, {})
    examples = pl.DataFrame(
        {
            "user_id": ["0012", "7"],
            "date": [date(2017, 7, 5), date(2017, 12, 6)],
            "season": ["summer", "Christmas"],
            "rank": [1, 1],
            "item_id": ["007", "8"],
            "text": ['a "quoted", text', "line\nbreak"],
            "score": [1.5, -2.0],
            "seasonal": [1.0, 0.5],
            "weather": [0.5, -2.5],
        }
    )
    record.table("examples", examples)
    assert read_table(tmp_path, "examples").equals(examples.cast({"date": pl.String, "rank": pl.Int64}))
    assert read_table(tmp_path, "losses") is None


def test_metrics_are_written_as_parquet_too(tmp_path):
    row = {"method": "joint", "split": "test", "slice": "all", "metric": "ndcg@10", "k": 10, "value": None, "low": None, "high": None}
    metrics = pl.DataFrame([row | {"n_queries": 0}, row | {"value": 0.1, "low": 0.05, "high": 0.15, "n_queries": 4}])
    RunRecord(tmp_path, {}).table("metrics", metrics)
    assert read_table(tmp_path, "metrics").equals(pl.read_parquet(tmp_path / "metrics.parquet"))


def test_an_unknown_table_and_a_missing_column_are_refused(tmp_path):
    record = RunRecord(tmp_path, {})
    with pytest.raises(DataError, match="no table is called 'metric'; there are metrics, rolling, significance"):
        record.table("metric", pl.DataFrame())
    with pytest.raises(DataError, match=r"lacks \['name', 'value'\]"):
        record.table("losses", pl.DataFrame({"fit": ["final"], "epoch": [0], "step": [0]}))
    assert not list(tmp_path.glob("*.csv"))


def test_a_table_with_words_for_numbers_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "losses.csv").write_text(f"{','.join(TABLES['losses'])}\nfinal,0,0,seasonal,high\n")
    with pytest.raises(DataError, match=r"losses\.csv: .*wanted the columns fit, epoch"):
        read_table(tmp_path, "losses")
