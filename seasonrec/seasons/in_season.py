"""Which groups of items are in season in which week of the year, by what was bought."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seasonrec.seasons.phase import N_WEEKS, week_of_year, window

MIN_LIFT: Final = 2.0


@dataclass(frozen=True)
class SeasonLabels:
    """In season, off season, or neither (too rarely bought to tell), for each group of items and week of the year.

    Args:
        group: the group of each item [n_items], e.g. the item itself or its product type.
        in_season, off_season: [n_groups, 52]; never both.
    """

    group: NDArray[np.int64]
    in_season: NDArray[np.bool_]
    off_season: NDArray[np.bool_]

    @classmethod
    def by(
        cls, user: NDArray, item: NDArray, time: NDArray, *, group: NDArray[np.int64], unlabelled: NDArray[np.bool_], min_triples: int
    ) -> "SeasonLabels":
        """The benchmark's labels, by some events.

        Distinct (user, group, week of year), years pooled, are summed over a circular window of five weeks. A group's lift is its
        share of all triples in that window over its share of the year; in season means a lift of 2 or more. Groups with fewer than
        `min_triples` of them, and those that have no label, still count in the share's denominator.

        Args:
            user, item, time: of each event [n]; times are int64 seconds UTC.
            group: of each item [n_items], numbered from 0.
            unlabelled: which items belong to a group that has no label in any case [n_items].
            min_triples: of a group, to have a label.
        """
        n_groups = int(group.max(initial=-1)) + 1
        triples = np.unique((user * np.int64(n_groups) + group[item]) * N_WEEKS + week_of_year(time))
        counts = np.bincount(triples % (n_groups * N_WEEKS), minlength=n_groups * N_WEEKS).reshape(n_groups, N_WEEKS)
        labelled = counts.sum(1) >= min_triples
        labelled[group[unlabelled]] = False
        in_season = (lift(counts) >= MIN_LIFT) & labelled[:, None]
        return cls(group, in_season, labelled[:, None] & ~in_season)


def lift(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """How many times its yearly share each group takes around each week of the year, [n_groups, 52]; 0 where nothing is sold."""
    around = window(counts)
    share = around / np.maximum(around.sum(0), 1)
    yearly = counts.sum(1, keepdims=True) / max(counts.sum(), 1)
    return share / np.where(yearly > 0, yearly, 1)
