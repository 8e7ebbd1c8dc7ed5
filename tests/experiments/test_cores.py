"""Cores that may be used, where some are not there or not ours."""

import os

import pytest
import torch

from seasonrec.experiments import cores
from seasonrec.experiments.cores import n_cores
from seasonrec.experiments.train import begin


@pytest.mark.parametrize(
    ("bound_to", "quota", "n"),
    [
        (16, None, 16),
        (16, "max 100000", 16),
        (16, "400000 100000", 4),
        (16, "250000 100000", 3),
        (16, "10000 100000", 1),
        (2, "400000 100000", 2),
        (2, "", 2),
    ],
)
def test_a_process_keeps_the_cores_busy_that_it_is_bound_to_within_its_quota(monkeypatch, tmp_path, bound_to, quota, n):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(bound_to)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert n_cores() == n


def test_where_processes_are_bound_to_nothing_all_cores_are_there(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "none")
    assert n_cores() == 12


@pytest.mark.parametrize(("n_threads", "n"), [(None, 3), (2, 2)])
def test_a_run_has_a_thread_a_core_unless_it_is_told_how_many(composed, monkeypatch, n_threads, n):
    told, cfg = [], composed()
    cfg.n_threads = n_threads
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setattr("seasonrec.experiments.train.n_cores", lambda: 3)
    begin(cfg)
    assert told == [n]
