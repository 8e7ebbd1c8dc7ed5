"""`seasonrec check-data FILE` by the command line."""

import json

import polars as pl
import pytest

from seasonrec.data.check import facts


@pytest.fixture
def call(command, data_words, cache_folder, monkeypatch, tmp_path):
    """`check-data` of the shop, with further words, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    path, *columns = [word for word in data_words if word != "data=table"]
    return lambda *words: command("check-data", path.removeprefix("data.path="), *columns, f"paths.cache={cache_folder}", *words)


def test_what_is_found_is_shown(call, capsys):
    call()
    shown = capsys.readouterr().out
    assert "5,051 events of 60 users and 119 items" in shown
    for text in ("cleaning step", "2022-11-07", "cold pairs", "autumn"):
        assert text in shown


def test_the_findings_are_written_as_json(call, dataset, tmp_path):
    call("output=new/findings.json")
    found, wanted = json.loads((tmp_path / "new/findings.json").read_text()), facts(dataset)
    assert {key for key in found if found[key] != json.loads(json.dumps(wanted[key]))} <= {"digest"}
    assert found["split"]["test"]["weeks"] == [62, 69]


def test_nothing_is_written_without_an_output(call, tmp_path):
    call()
    assert list(tmp_path.iterdir()) == []


def test_another_kind_of_output_is_an_error(call, capsys):
    with pytest.raises(SystemExit):
        call("output=findings.csv")
    assert "output findings.csv: wanted a name that ends in .json" in capsys.readouterr().err


def test_rows_that_cannot_be_used_are_counted_by_reason(command, cache_folder, tmp_path, monkeypatch, capsys, purchases):
    monkeypatch.chdir(tmp_path)
    lines = pl.read_csv(purchases).with_columns(pl.from_epoch("when")).write_csv().splitlines()
    (tmp_path / "dirty.csv").write_text("\n".join([*lines, lines[-1], ",i000,2022-12-31,x", "u00,i000,soon,x"]) + "\n")
    columns = ("user=customer", "item=product", "time=when", "text=words")
    command("check-data", "dirty.csv", *(f"data.columns.{each}" for each in columns), f"paths.cache={cache_folder}", "output=out.json")
    rejected = json.loads((tmp_path / "out.json").read_text())["rejected"]
    assert {step: n for step, n in rejected.items() if n} == {"no_user": 1, "unparsable_time": 1, "duplicate": 1}
