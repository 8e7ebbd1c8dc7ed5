"""The ranked lists of an evaluation, and the file from which anyone can recompute its numbers."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seasonrec.data.dataset import Dataset, rows_of
from seasonrec.data.timeline import Queries
from seasonrec.errors import DataError
from seasonrec.schema import ITEM, USER

# all: nothing masked. new: what the user already bought is masked. cold: only items that nobody bought before the week.
LISTS: Final = ("all", "new", "cold")
COLUMNS: Final = (USER, "week", "list", "rank", ITEM, "score")


@dataclass(frozen=True)
class Lists:
    """The best items of each query, three lists each, in the order of `LISTS`.

    Args:
        queries: who asked in which week, and what was then bought.
        items: catalogue rows [n, 3, k], best first; -1 after the end of a list that is shorter than k.
        scores: the method's scores [n, 3, k]; NaN after the end.
    """

    queries: Queries
    items: NDArray[np.int32]
    scores: NDArray[np.float32]

    @property
    def k(self) -> int:
        """The length of the lists."""
        return self.items.shape[2]

    def of(self, name: str) -> NDArray[np.int32]:
        """The items of one of `LISTS`, [n, k]."""
        return self.items[:, LISTS.index(name)]

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """At which place (from 0) of each list each truth item stands, k where it does not, [3, n_truth]."""
        q = self.queries
        n_items = np.int64(max(self.items.max(initial=0), q.truth_item.max(initial=0)) + 1)
        truth = q.truth_query * n_items + q.truth_item
        order = np.argsort(truth, kind="stable")
        query, name, place = np.nonzero(self.items >= 0)
        listed = query * n_items + self.items[query, name, place]
        row = order[np.minimum(np.searchsorted(truth, listed, sorter=order), len(truth) - 1)]
        hit = truth[row] == listed
        places = np.full((len(LISTS), len(truth)), self.k)
        places[name[hit], row[hit]] = place[hit]
        return places

    def hits(self, name: str, truth: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Which places of one of `LISTS` hold a truth item, of those in the mask `truth` [n_truth] if given, [n, k]."""
        place = self.places[LISTS.index(name)]
        found = place < self.k if truth is None else (place < self.k) & truth
        hits = np.zeros((len(self.queries), self.k), bool)
        hits[self.queries.truth_query[found], place[found]] = True
        return hits


def write_lists(lists: Lists, dataset: Dataset, path: Path | str) -> None:
    """Writes `user_id, week, list, rank, item_id, score` as Parquet; ids as in the source, rank from 1, lists in query order."""
    query, name, place = np.nonzero(lists.items >= 0)
    q = lists.queries
    frame = pl.DataFrame(
        {
            USER: dataset.users[USER].gather(q.user[query]),
            "week": q.week[query],
            "list": pl.Series(LISTS).gather(name),
            "rank": (place + 1).astype(np.int32),
            ITEM: dataset.items[ITEM].gather(lists.items[query, name, place]),
            "score": lists.scores[query, name, place],
        }
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path, compression="zstd")


def read_lists(path: Path | str, dataset: Dataset) -> Lists:
    """The lists that `write_lists` wrote, with the truth of their queries from the data set.

    Raises:
        DataError: the file lacks a column or a query's list `all` or `new`, names unknown users, items or lists, gives a place twice or
            leaves one out, or ranks for a (user, week) that is no query.
    """
    frame = pl.read_parquet(path)
    if missing := [name for name in COLUMNS if name not in frame.columns]:
        raise DataError(f"{path}: lists lack the columns {missing}; found {frame.columns}, wanted {list(COLUMNS)}")
    if frame.is_empty():
        raise DataError(f"{path}: the file holds no lists; write them with seasonrec.evaluation.lists.write_lists")
    name = rows_of(frame["list"].cast(pl.String), pl.Series(LISTS))
    queries, row = _queries_of(rows_of(frame[USER], dataset.users[USER]), frame["week"].to_numpy().astype(np.int64), dataset, str(path))
    place = frame["rank"].to_numpy().astype(np.int64) - 1
    k = int(place.max()) + 1
    cell = (row * len(LISTS) + name) * k + place
    taken = np.zeros(len(queries) * len(LISTS) * k, bool)
    if place.min() >= 0:
        taken[cell] = True
    if np.count_nonzero(taken) < len(cell):
        raise DataError(f"{path}: ranks must begin at 1 and stand once in each list; look for rows written twice")
    by_list = taken.reshape(-1, len(LISTS), k)
    if gaps := np.count_nonzero((by_list[..., 1:] & ~by_list[..., :-1]).any(-1)):
        raise DataError(f"{path}: {gaps} lists leave a rank out; each begins at 1 and goes on to its end")
    empty = ~np.any(by_list, axis=-1)
    for of, lacking in (("all", empty[:, 0]), ("new", _with_more_to_buy(queries, empty[:, 1], dataset))):
        if lacking.any():
            raise DataError(f"{path}: {lacking.sum()} of {len(queries)} queries have no list {of!r}; rank for all of them")
    items, scores = np.full(len(taken), -1, np.int32), np.full(len(taken), np.nan, np.float32)
    items[cell] = rows_of(frame[ITEM], dataset.items[ITEM])
    scores[cell] = frame["score"].to_numpy()
    shape = (len(queries), len(LISTS), k)
    return Lists(queries, items.reshape(shape), scores.reshape(shape))


def _with_more_to_buy(queries: Queries, asked: NDArray[np.bool_], dataset: Dataset) -> NDArray[np.bool_]:
    """Those of the queries asked about whose users have not bought the whole catalogue yet, as a mask [n]."""
    more = np.zeros(len(queries), bool)
    for week in np.unique(queries.week[asked]):
        rows = np.flatnonzero(asked & (queries.week == week))
        own = dataset.timeline.at_week(int(week)).histories(queries.user[rows].astype(np.int64))
        more[rows] = np.bincount(own.pair_query, minlength=len(rows)) < dataset.n_items
    return more


def _queries_of(user: NDArray, week: NDArray, dataset: Dataset, where: str) -> tuple[Queries, NDArray[np.int64]]:
    """The distinct queries of the rows, and the query of each row."""
    known = dataset.timeline.queries(np.unique(week))
    known_key = known.keys(dataset.n_users)
    key, row = np.unique(week * dataset.n_users + user, return_inverse=True)
    if len(unknown := np.setdiff1d(key, known_key)):
        week_of, user_of = divmod(int(unknown[0]), dataset.n_users)
        raise DataError(
            f"{where}: {len(unknown)} of {len(key)} (user, week) are no queries of {dataset.name}, e.g. user"
            f" {dataset.users[USER][user_of]!r} in week {week_of}; read the lists with the data set and level that they were made on"
        )
    return known.take(np.searchsorted(known_key, key)), row
