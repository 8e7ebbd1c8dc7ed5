"""What the shop promotes when: its own plan of flyers, displays and offers."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seasonrec.schema import END, KIND, SHARE, START, WEEK

Float = NDArray[np.float32]


class Promotions:
    """A shop's plan: no purchase is in it, and what is promoted in a week is settled, and printed, before the week begins.

    So it is known for the week that is asked about, as the calendar is, while purchases are known up to that week alone.

    Memory: 28 bytes a row.

    Args:
        plan: start, end, kind and share of each promotion, as `Dataset.promotions` has them.
        item: row of the item of each, in [0, n_items).
        kinds: those that are told apart, others count nothing; None: those of the plan.

    Warning:
        A table that was written down afterwards, e.g. of what sold well on display, is no plan: figures made with it are too good.
    """

    def __init__(self, plan: pl.DataFrame, item: NDArray[np.int64], n_items: int, kinds: Sequence[str] | None = None):
        self.kinds = tuple(plan[KIND].unique().sort() if kinds is None else kinds)
        plan = plan.select(START, END, KIND, SHARE, item=pl.Series(item)).filter(pl.col(KIND).is_in(self.kinds)).sort(START)
        kind = plan[KIND].cast(pl.Enum(self.kinds)).to_physical().to_numpy().astype(np.int64)
        cell = plan["item"].to_numpy() * len(self.kinds) + kind
        share = plan[SHARE].cast(pl.Float32).to_numpy()
        self._cell, self._start, self._end, self._share = one_at_a_time(cell, plan[START].to_numpy(), plan[END].to_numpy(), share)
        self._longest = int((self._end - self._start).max(initial=0))
        self.n_items = n_items

    def during(self, start: int, end: int) -> Float:
        """The share of the shop's places and of a span's time in which each item is promoted, by kind, [n_items, n_kinds].

        Promotions of the same item and kind at the same time add up, to all places at most.
        """
        rows, seconds = self._within(start, end)
        weight = self._share[rows] * (seconds / (end - start))
        share = np.bincount(self._cell[rows], weights=weight, minlength=self.n_items * len(self.kinds))
        return share.astype(np.float32).reshape(self.n_items, len(self.kinds))

    def of_week(self, start: int) -> Float:
        """What is promoted in the week that begins then, and what was in the week before, [n_items, 2 x n_kinds].

        The week before tells what a promotion has made of last week's sales.
        """
        return np.concatenate([self.during(start, start + WEEK), self.during(start - WEEK, start)], axis=1)

    def knows(self, start: int) -> bool:
        """Whether anything is planned in the week that begins then."""
        return len(self._within(start, start + WEEK)[0]) > 0

    def _within(self, start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which promotions fall into a span of time, and for how many of its seconds."""
        lo, hi = np.searchsorted(self._start, [start - self._longest, end])
        seconds = np.minimum(self._end[lo:hi], end) - np.maximum(self._start[lo:hi], start)
        now = np.flatnonzero(seconds > 0)
        return now + lo, seconds[now]


def one_at_a_time(cell: NDArray, start: NDArray, end: NDArray, share: Float) -> tuple[NDArray, NDArray, NDArray, Float]:
    """The same promotions, each in order of its start, without two of the same cell at a time [n, each].

    Those that overlap become pieces from one of their bounds to the next, of the sum of their shares, of 1 at most.
    """
    order = np.lexsort((start, cell))
    of, begins, ends = cell[order], start[order], end[order]
    rank = np.cumsum(np.append(True, of[1:] != of[:-1])[: len(of)])
    # What is furthest reached within a cell: later cells lie further ahead than any of its times.
    beyond = rank * (1 + int(end.max(initial=0)) - int(start.min(initial=0)))
    reached = np.maximum.accumulate(ends + beyond)
    crowded = np.isin(cell, of[1:][begins[1:] + beyond[1:] < reached[:-1]])
    if not crowded.any():
        return cell, start, end, share
    time, of = np.concatenate([start[crowded], end[crowded]]), np.tile(cell[crowded], 2)
    order = np.lexsort((time, of))
    level = np.cumsum(np.concatenate([share[crowded], -share[crowded]]).astype(np.float64)[order])[:-1]
    time, of = time[order], of[order]
    piece = np.flatnonzero((time[1:] > time[:-1]) & (level > 1e-6))  # between two cells nothing goes on
    parts = (of[piece], time[piece], time[piece + 1], np.minimum(level[piece], 1).astype(np.float32))
    cell, start, end, share = (
        np.concatenate([whole[~crowded], part]) for whole, part in zip((cell, start, end, share), parts, strict=True)
    )
    order = np.argsort(start, kind="stable")
    return cell[order], start[order], end[order], share[order]
