"""Seconds to rank 5,354 queries over 68.5 k items into three lists of 100: python benchmarks/ranking.py

Scores are made once outside the clock, so that only ranking is timed. The sizes are those of `complete_journey`'s test weeks.
"""

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from seasonrec.data.timeline import AsOf, Timeline
from seasonrec.evaluation.ranking import rank
from seasonrec.schema import WEEK

N_USERS, N_ITEMS, N_EVENTS, TEST = 2_469, 68_509, 1_469_307, range(48, 52)


class Prepared:
    """Gives the same scores for every batch: real numbers, or whole ones, which tie."""

    def __init__(self, ties: bool, n_rows: int):
        scores = np.random.default_rng(1).standard_normal((n_rows, N_ITEMS), dtype=np.float32)
        self._scores = np.round(scores) if ties else scores

    def fit(self, past: AsOf) -> None:
        """Nothing to learn."""

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """The same rows for any users."""
        return self._scores[: len(users)]


def shop() -> Timeline:
    """Random purchases, items as unequally popular as in a supermarket."""
    rng = np.random.default_rng(0)
    item = (N_ITEMS * rng.random(N_EVENTS) ** 3).astype(np.int64)
    user, when = rng.integers(N_USERS, size=N_EVENTS), rng.integers(52 * WEEK, size=N_EVENTS)
    return Timeline(user, item, when, n_users=N_USERS, n_items=N_ITEMS, week_zero=0)


def main() -> None:
    """Prints seconds for scores without and with ties, and how many queries that was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=256)
    batch_size = parser.parse_args().batch_size
    timeline = shop()
    queries = timeline.queries(TEST)
    queries = queries.take(np.arange(min(5_354, len(queries))))
    for ties in (False, True):
        scorer, start = Prepared(ties, batch_size), time.perf_counter()
        rank(scorer, timeline, queries, batch_size=batch_size)
        kind, seconds = "whole" if ties else "real", time.perf_counter() - start
        print(f"{kind} numbers: {seconds:.1f} s for {len(queries):,} queries x {N_ITEMS:,} items")


if __name__ == "__main__":
    main()
