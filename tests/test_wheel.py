"""The wheel carries the configs, and its command works in a folder that is not the repository."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command, **options) -> str:
    """What a program prints, which must succeed."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, env=clean, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def seasonrec(wheel) -> Path:
    """The command in a new environment that has the wheel, and this environment's packages behind it."""
    environment = wheel.parent / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    # After the installation: pip would see this environment's own seasonrec and want to remove it.
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin" / "seasonrec"


def test_the_wheel_has_every_config_and_the_typing_mark(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"seasonrec/conf/{path.relative_to(ROOT / 'conf').as_posix()}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert len(configs) > 20
    assert configs | {"seasonrec/py.typed"} <= names


def test_the_installed_command_composes_the_installed_configs_elsewhere(seasonrec, tmp_path):
    shown = run(seasonrec, "train", "--cfg", "job", "seed=7", cwd=tmp_path)
    assert "\nseed: 7\n" in shown
    sources = run(seasonrec, "train", "--info", "searchpath", cwd=tmp_path)
    assert "environment" in sources
    assert str(ROOT / "conf") not in sources
    assert list(tmp_path.iterdir()) == []


def test_the_installed_command_answers_for_help(seasonrec, tmp_path):
    assert "check-data" in run(seasonrec, "--help", cwd=tmp_path)


def test_help_of_the_command_loads_nothing_heavy(seasonrec):
    heavy = "import sys, seasonrec.experiments.cli as c; c.main(['--help']); print({'torch', 'hydra', 'polars'} & set(sys.modules))"
    assert run(seasonrec.parent / "python", "-c", heavy).endswith("set()\n")
