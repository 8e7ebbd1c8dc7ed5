"""A study that two workers share through a PostgreSQL server, where Debian's packages are installed."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def as_server(*command):
    """Runs a program of the server, which refuses to be root."""
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    done = subprocess.run([*user, *map(str, command)], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def url():
    """The URL of a database on a server of this test's own."""
    pytest.importorskip("psycopg2")
    if not SERVERS:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="seasonrec-postgres-"))  # where the server's own user may go
    if os.getuid() == 0:
        shutil.chown(folder, pwd.getpwnam("postgres").pw_name)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    server = SERVERS[-1] / "pg_ctl"
    as_server(SERVERS[-1] / "initdb", "-D", folder / "data", "-U", "seasonrec", "-A", "trust", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=localhost -c fsync=off"
    as_server(server, "-D", folder / "data", "-o", options, "-l", folder / "log", "-w", "start")
    yield f"postgresql+psycopg2://seasonrec@localhost:{port}/postgres"
    as_server(server, "-D", folder / "data", "-m", "immediate", "stop")
    shutil.rmtree(folder)


def test_two_workers_share_a_study_in_a_database(url, command, stand_in, monkeypatch):
    monkeypatch.setenv("SLOW", "0.1")
    words = ["sweep=loss_weights", "sweep/pruner=none", "sweep.n_trials=4", "sweep.n_workers=2", f"sweep.storage={url}"]
    command("sweep", *words)
    trials = optuna.load_study(storage=url, study_name="loss_weights").trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4
    assert Counter(line.split()[0] for line in stand_in.read_text().splitlines()) == Counter(f"{n:04d}" for n in range(4))
    command("sweep", *words, "sweep.n_trials=5")
    assert len(optuna.load_study(storage=url, study_name="loss_weights").trials) == 5
