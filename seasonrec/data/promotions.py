"""What the shop promotes when: its own plan of flyers, displays and offers."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seasonrec.schema import DAY, END, KIND, SHARE, START, WEEK

Float = NDArray[np.float32]


class Promotions:
    """A shop's plan: no purchase is in it, and what is promoted in a week is settled, and printed, before the week begins.

    So it is known for the week that is asked about, as the calendar is, while purchases are known up to that week alone.

    Memory: 28 bytes a row.

    Args:
        plan: item rows, start, end, kind and share of each promotion, as `Dataset.promotions` has them.
        item: row of the item of each, in [0, n_items).

    Warning:
        A table of promotions that was written down afterwards, e.g. of what sold well on display, is no plan: figures made with it are too
        good.
    """

    def __init__(self, plan: pl.DataFrame, item: NDArray[np.int64], n_items: int):
        order = plan[START].arg_sort()
        self._start, self._end = (plan[name].gather(order).to_numpy() for name in (START, END))
        self._longest = int((self._end - self._start).max()) if len(plan) else 0
        self.kinds: Sequence[str] = plan[KIND].unique().sort().to_list()
        kind = plan[KIND].gather(order).cast(pl.Enum(self.kinds)).to_physical().to_numpy().astype(np.int64)
        self._cell = item[order.to_numpy()] * len(self.kinds) + kind
        self._share = plan[SHARE].gather(order).to_numpy()
        self.n_items = n_items

    def on(self, time: int) -> Float:
        """The share of the shop's places that promote each item at a time in each way, [n_items, n_kinds]; 0 where nothing is planned."""
        lo, hi = np.searchsorted(self._start, [time - self._longest, time], side="right")
        now = np.flatnonzero(self._end[lo:hi] > time) + lo
        share = np.bincount(self._cell[now], weights=self._share[now], minlength=self.n_items * len(self.kinds))
        return np.minimum(share, 1).astype(np.float32).reshape(self.n_items, len(self.kinds))

    def of_week(self, start: int) -> Float:
        """What is promoted on the fourth day of a week, and what was seven days before, [n_items, 2 x n_kinds].

        The week before tells what a promotion has made of last week's sales.
        """
        return np.concatenate([self.on(start + 3 * DAY), self.on(start + 3 * DAY - WEEK)], axis=1)
