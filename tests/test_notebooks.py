"""The notebooks run from top to bottom, and are committed without what they print."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def named(path):
    return path.stem


@pytest.fixture(params=NOTEBOOKS, ids=named)
def notebook(request):
    """Each notebook, with its name."""
    return request.param.stem, nbformat.read(request.param, 4)


def outputs(notebook, mime):
    """Every output of a kind, in order."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [output.data[mime] for cell in cells for output in cell.outputs if mime in output.get("data", {})]


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["first_experiment", "seasons_in_the_data", "sweep_and_ablation"]


def test_no_outputs_are_committed(notebook):
    for cell in notebook[1].cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_a_notebook_begins_with_its_colab_link_and_an_installation(notebook):
    name, content = notebook
    nbformat.validate(content)
    title, install = content.cells[:2]
    assert title.cell_type == "markdown"
    assert f"/notebooks/{name}.ipynb)" in title.source
    assert "https://colab.research.google.com/" in title.source
    assert "%pip install" in install.source
    assert '"google.colab" in sys.modules' in install.source


def test_a_notebook_runs_and_shows_its_pictures(notebook, tmp_path, monkeypatch):
    name, content = notebook
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SEASONREC_CACHE", str(tmp_path / "cache"))
    NotebookClient(content, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    n_pictures = {"seasons_in_the_data": 2, "first_experiment": 1, "sweep_and_ablation": 1}
    assert len(outputs(content, "image/png")) == n_pictures[name]
    if name == "sweep_and_ablation":
        (table,) = outputs(content, "text/markdown")
        rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| joint")]
        assert rows[:3] == ["joint weights.seasonal=0", "joint weights.seasonal=0.2", "joint weights.seasonal=1"]
