"""What README and the benchmarks say of a run, done with one."""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

from seasonrec.experiments.record import read_record

ROOT = Path(__file__).parents[2]
FILE = re.compile(r"`([\w./]+)`:\n\n```\w+\n(.*?)```", re.DOTALL)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A folder with the files that README writes, whose modules can be imported; nothing is left of them."""
    files = dict(FILE.findall((ROOT / "README.md").read_text("utf8")))
    assert list(files) == ["my_heads.py", "my_conf/head/seasonal/cheap.yaml"]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_heads", None)


def test_a_head_of_one_s_own_learns_as_readme_writes_it(command, words, written):
    own = ["--config-dir", str(written / "my_conf"), "head/seasonal=cheap", "trainer.max_epochs=1", "stage=selection"]
    command("train", *words, *own, f"hydra.run.dir={written / 'run'}")
    record = read_record(written / "run")
    assert record["config"]["model"]["heads"]["seasonal"]["_target_"] == "my_heads.Cheap"
    assert list(record["code"]["own"]) == ["my_heads"]


def test_lighter_vectors_are_measured_on_a_run(run, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import_module("deployment").measure(str(run), n_queries=20)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert [row[3] for row in rows] == ["float32", "bfloat16", "int8"] * 3
    assert rows[0][5] == "1.00000"
