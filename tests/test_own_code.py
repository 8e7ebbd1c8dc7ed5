"""What of a user's own code a run is made of."""

import json
import sys
import zipfile

import pytest

from seasonrec.own_code import changed_code, digests, own_code, own_part, recorded_code

FILES = {
    "my_heads.py": "import numpy as np\nfrom helpers.maths import TWICE\n\n\nclass Head:\n    class Inner:\n        k = TWICE\n",
    "helpers/__init__.py": "",
    "helpers/maths.py": "from . import numbers\nfrom .numbers import ONE\n\nTWICE = 2 * ONE\n",
    "helpers/numbers.py": "import json\n\nONE = 1\n",
    "helpers/unused.py": "",
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The folder of a user's own code, which can be imported."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("helpers", None)  # which was imported to look into it


def test_own_modules_count_with_what_they_import_and_nothing_installed_does(own):
    config = {
        "head": {"_target_": "my_heads.Head", "parts": [{"_target_": "torch.nn.Linear"}]},
        "model": {"_target_": "seasonrec.losses.bpr"},
    }
    assert list(own_code(config)) == ["helpers", "helpers.maths", "helpers.numbers", "my_heads"]
    assert own_code({"call": {"_target_": "seasonrec.losses.bpr"}, "other": {"_target_": "no_such_module.Head"}, "n": [1, None]}) == {}


def test_a_folder_without_init_is_looked_into(own):
    (own / "loose").mkdir()
    (own / "loose/tricks.py").write_text("")
    (own / "my_heads.py").write_text("from loose import tricks\nimport lightning_utilities, os, zlib\n")
    assert list(digests(["my_heads"])) == ["loose.tricks", "my_heads"]


def test_a_class_within_a_class_is_of_its_module(own):
    assert "my_heads" in own_code({"_target_": "my_heads.Head.Inner"})


def test_a_change_of_what_is_imported_is_a_change(own):
    before = digests(["my_heads"])
    (own / "helpers/unused.py").write_text("x = 1")
    assert digests(["my_heads"]) == before
    (own / "helpers/numbers.py").write_text("ONE = 7")
    after = digests(["my_heads"])
    assert [name for name in before if before[name] != after[name]] == ["helpers.numbers"]


def test_a_file_that_cannot_be_parsed_imports_nothing(own):
    (own / "my_heads.py").write_text("import (")
    assert list(digests(["my_heads"])) == ["my_heads"]


def test_what_cannot_be_looked_into_is_left_out(own, monkeypatch):
    """A relative import in a file that is no part of a package, a package that fails, and an archive."""
    (own / "broken").mkdir()
    (own / "broken/__init__.py").write_text("raise RuntimeError('needs a GPU')")
    with zipfile.ZipFile(own / "packed.zip", "w") as archive:
        archive.writestr("packed.py", "")
    monkeypatch.syspath_prepend(own / "packed.zip")
    (own / "my_heads.py").write_text(
        "try:\n    from .helpers import maths\nexcept ImportError:\n    from helpers import maths\n"
        "\n\ndef later():\n    import broken.part, packed\n"
    )
    assert list(digests(["my_heads"])) == ["broken", "helpers", "helpers.maths", "helpers.numbers", "my_heads"]


def test_code_of_baselines_data_and_loggers_is_none_of_the_joint_model_s(own):
    config = {part: {"_target_": "my_heads.Head"} for part in ("baseline", "data", "logger", "callbacks")}
    assert own_code(config) == {}
    assert list(own_part(config, "baseline")) == ["helpers", "helpers.maths", "helpers.numbers", "my_heads"]


def test_a_record_tells_what_has_changed_since(own):
    config = {"head": {"_target_": "my_heads.Head"}}
    recorded = [{"config": each, "code": recorded_code(each)} for each in (config, {"baseline": config}, {"data": config})]
    record, of_baselines, of_data = json.loads(json.dumps(recorded))
    assert changed_code(record) == changed_code(of_baselines) == changed_code(of_data) == []
    (own / "helpers/maths.py").write_text("TWICE = 3")
    assert changed_code(record) == ["helpers.maths", "helpers.numbers"]  # which is not imported any more
    assert changed_code(of_baselines) == changed_code(of_data) == ["helpers.maths", "helpers.numbers"]
    assert changed_code({"config": config, "code": {"commit": "abc"}}) == []  # a record of before there was this
