"""Slices: the parts of the truth that a method is judged on."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seasonrec.data.timeline import Queries, Timeline
from seasonrec.seasons.in_season import SeasonLabels
from seasonrec.seasons.phase import week_of_year

FEW_SHOTS: Final = {"0": (0, 0), "1": (1, 1), "2-5": (2, 5)}  # purchases of an item that there are to learn from, from and to

SLICES: Final = ("all", "repeat", "in_season", "off_season", "new_to_user", "cold_item", *(f"purchases={each}" for each in FEW_SHOTS))


class Slice(NamedTuple):
    """A part of the truth and the list that it is looked for in.

    Args:
        name: as in metric names, e.g. "in_season" or "month=12".
        list: one of `seasonrec.evaluation.lists.LISTS`.
        truth: which truth items belong to it, [n_truth].
    """

    name: str
    list: str
    truth: NDArray[np.bool_]


def slices(
    timeline: Timeline,
    queries: Queries,
    labels: SeasonLabels,
    holidays: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Iterator[Slice]:
    """Every slice of the benchmark, what is new to the user by how often anybody had bought it, then the months and holiday windows that
    hold any query.

    Args:
        holidays: for each holiday, which queries lie in its window [n].
    """
    query, item = queries.truth_query, queries.truth_item
    group, week = labels.group[item], week_of_year(queries.fourth_day)[query]
    own = bought_before(timeline, queries)
    yield Slice("all", "all", np.ones(len(item), bool))
    yield Slice("repeat", "all", own)
    yield Slice("in_season", "all", labels.in_season[group, week])
    yield Slice("off_season", "all", labels.off_season[group, week])
    yield Slice("new_to_user", "new", ~own)
    yield Slice("cold_item", "cold", timeline.first_seen[1][item] >= queries.time[query])
    n_purchases = purchases_before(timeline, queries)
    for name, (least, most) in FEW_SHOTS.items():
        yield Slice(f"purchases={name}", "new", ~own & (n_purchases >= least) & (n_purchases <= most))
    month = queries.fourth_day.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64) % 12 + 1
    for number in np.unique(month):
        yield Slice(f"month={number}", "all", (month == number)[query])
    for name, inside in (holidays or {}).items():
        if inside.any():
            yield Slice(f"holiday={name}", "all", inside[query])


def bought_before(timeline: Timeline, queries: Queries) -> NDArray[np.bool_]:
    """Which truth items their user had bought before the query's week, [n_truth]."""
    p, query = timeline.by_pair, queries.truth_query
    first = np.append(True, (p.user[1:] != p.user[:-1]) | (p.item[1:] != p.item[:-1]))[: len(p.user)]
    pair = p.user[first].astype(np.int64) * timeline.n_items + p.item[first]
    wanted = queries.user[query].astype(np.int64) * timeline.n_items + queries.truth_item
    # Truth was bought at some time, so its pair is always found; the first purchase tells whether before.
    return p.time[first][np.searchsorted(pair, wanted)] < queries.time[query]


def purchases_before(timeline: Timeline, queries: Queries) -> NDArray[np.int64]:
    """How often each truth item had been bought before the query's week, by whomever, [n_truth]."""
    found, week = np.zeros(len(queries.truth_item), np.int64), queries.week[queries.truth_query]
    for each in np.unique(week):
        found[week == each] = timeline.at_week(int(each)).n_bought[queries.truth_item[week == each]]
    return found
