"""Runs in processes of their own: which folder is whose, and how all end together."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from seasonrec.errors import ConfigError, DataError
from seasonrec.experiments import processes
from seasonrec.experiments.processes import Job, jobs_of, plain_config, run_all


def test_a_run_that_ends_before_its_test_weeks_is_not_one_that_goes_on_to_them(composed, tmp_path):
    selection, whole = (plain_config(composed(f"stage={stage}")) for stage in ("selection", "whole"))
    (tmp_path / "run.json").write_text(json.dumps({"status": "finished", "config": selection}))
    Job("whole, seed 0", tmp_path, [], selection).check()
    with pytest.raises(ConfigError, match=r"the run there has other settings \(stage\)"):
        Job("whole, seed 0", tmp_path, [], whole).check()


@pytest.mark.parametrize(("seeds", "message"), [([0, 1, 0], "^seeds: 0 stands there more than once"), ([], "^seeds: there is none")])
def test_seeds_are_some_and_each_is_one_run(tmp_path, seeds, message):
    with pytest.raises(ConfigError, match=message):
        jobs_of("whole", tmp_path, [], seeds)


def test_a_finished_run_of_data_that_have_changed_since_is_not_taken(composed, tmp_path, dataset):
    config = plain_config(composed())
    record = {"status": "finished", "config": config, "data": {"digest": dataset.digest}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    Job("whole, seed 0", tmp_path, [], config).check()
    (tmp_path / "run.json").write_text(json.dumps(record | {"data": {"digest": "f" * 32}}))
    with pytest.raises(DataError, match="the data have changed since this run was trained"):
        Job("whole, seed 0", tmp_path, [], config).check()


class Endless:
    """A process that runs until it is killed, and whose thread then has time to end."""

    def __init__(self):
        self.runs, self.killed = threading.Event(), threading.Event()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def wait(self):
        self.runs.set()
        self.killed.wait(10)
        return -9

    def kill(self):
        self.killed.set()
        time.sleep(0.2)


def test_ctrl_c_ends_all_processes_and_is_what_the_caller_sees(monkeypatch, tmp_path):
    endless = Endless()

    def started(verb, words, folder, environment):
        if folder.name == "endless":
            return endless
        endless.runs.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "started", started)
    monkeypatch.setattr(processes, "flags", lambda: [])
    monkeypatch.setattr(processes, "devices", lambda n_workers, gpus: [{}] * n_workers)
    jobs = [Job(name, Path(tmp_path / name), [], {}) for name in ("interrupted", "endless")]
    with pytest.raises(KeyboardInterrupt):
        run_all(jobs, n_workers=2)
    assert endless.killed.is_set()


INTERRUPTED = """
import os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
from concurrent.futures import ThreadPoolExecutor
from seasonrec.experiments.sweep.run import wait_for  # with Polars, which has the system resume waits

end = threading.Event()
with ThreadPoolExecutor(1) as pool:
    future = pool.submit(end.wait, 30)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        wait_for([future])
    except KeyboardInterrupt:
        print("at work" if future.running() else "done")
    end.set()
"""


def test_ctrl_c_is_heard_while_runs_are_at_work():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=True)
    assert done.stdout == "at work\n"


def test_a_process_that_was_starting_at_ctrl_c_is_ended_too(monkeypatch, tmp_path):
    endless, failed = Endless(), threading.Event()

    def started(verb, words, folder, environment):
        if folder.name == "endless":
            failed.wait(10)
            time.sleep(0.2)  # in which what runs is killed
            return endless
        failed.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "started", started)
    monkeypatch.setattr(processes, "flags", lambda: [])
    monkeypatch.setattr(processes, "devices", lambda n_workers, gpus: [{}] * n_workers)
    jobs = [Job(name, Path(tmp_path / name), [], {}) for name in ("endless", "interrupted", "never")]
    with pytest.raises(KeyboardInterrupt):
        run_all(jobs, n_workers=2)
    assert endless.killed.is_set()
    assert not (tmp_path / "never").exists()
