"""Full-catalogue ranking: the best k items of every query, exactly ordered, never sampled."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seasonrec.data.batches import queries_at_once
from seasonrec.data.timeline import AsOf, Queries, Timeline
from seasonrec.errors import DataError
from seasonrec.evaluation.lists import LISTS, Lists
from seasonrec.evaluation.scorer import Scorer

# Queries ordered at a time: the 8-byte keys of 16 rows of 70 k items stay in the processor's cache, thrice as fast as 256.
ROWS = 16
# 17 MB are enough: tables of over 32 MB the C library asks the system for anew. But what is known of items is made again for each batch, so
# one of fewer than `ROWS` users costs more than it saves.
FEW_SCORES = 1 << 22
MASKED = torch.iinfo(torch.int64).min


def rank(
    scorer: Scorer,
    timeline: Timeline,
    queries: Queries,
    *,
    k: int = 100,
    batch_size: int = 256,
    progress: Callable[[int], None] | None = None,
) -> Lists:
    """The three lists of each query, every one ranked with what was known when its week began.

    Order: score descending, then catalogue row ascending, which is item_id as a string ascending. Scores are compared as float32.

    Args:
        scorer: already fitted.
        k: list length; a list with fewer candidates is filled with -1.
        batch_size: users scored at a time, at most: of a large catalogue `ROWS` or as many as have `FEW_SCORES`, and never more than
            `queries_at_once`.
        progress: called with the number of queries ranked since the last call.

    Raises:
        DataError: k or batch_size below 1, or scores of another shape or not finite (it names method, week and user row).
    """
    if k < 1 or batch_size < 1:
        raise DataError(f"rank: k is {k} and batch_size {batch_size}, wanted at least 1 each")
    batch_size = queries_at_once(timeline.n_items, min(batch_size, max(ROWS, FEW_SCORES // timeline.n_items)))
    items = np.full((len(queries), len(LISTS), k), -1, np.int32)
    scores = np.full(items.shape, np.nan, np.float32)
    for week in np.unique(queries.week):
        now = timeline.at_week(int(week))
        of_week = np.flatnonzero(queries.week == week)
        for rows in np.array_split(of_week, range(batch_size, len(of_week), batch_size)):
            users = queries.user[rows].astype(np.int64)
            items[rows], scores[rows] = three_lists(_finite_scores(scorer, users, now), users, now, k)
            if progress:
                progress(len(rows))
    return Lists(queries, items, scores)


def three_lists(scores: Tensor, users: NDArray[np.int64], now: AsOf, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Items and scores of the lists `all`, `new` and `cold` of each user, both [n_users, 3, k].

    Args:
        scores: finite, [n_users, n_items].
    """
    cold = torch.from_numpy(np.flatnonzero(~now.sold))
    items, values = [], []
    for first in range(0, len(users), ROWS):
        part = scores[first : first + ROWS]
        own = now.histories(users[first : first + ROWS])
        keys = order_keys(part)
        best_cold = _best(keys[:, cold], k)
        best_all = _best(keys, k)
        keys[torch.from_numpy(own.pair_query), torch.from_numpy(own.pair_item)] = MASKED
        best = torch.stack([best_all, _best(keys, k), best_cold], 1)
        row = torch.where(best == MASKED, -1, part.shape[1] - 1 - (best & 0xFFFFFFFF))
        value = part.gather(1, row.clamp(min=0).flatten(1)).view(row.shape)
        items.append(row.to(torch.int32))
        values.append(value.masked_fill(row < 0, torch.nan))
    return torch.cat(items).numpy(), torch.cat(values).numpy()


def order_keys(scores: Tensor) -> Tensor:
    """Distinct int64 keys that order as (score descending, column ascending) does when sorted descending, [n, n_items].

    The upper half is the float32 score's bits, turned so that integers compare as the floats do; the lower half counts
    columns down. So equal scores cannot make the order depend on how a top-k is implemented.
    """
    bits = (scores + 0.0).view(torch.int32)  # + 0.0 turns -0.0 into 0.0, which must tie with it
    bits ^= (bits >> 31) & 0x7FFFFFFF
    keys = bits.to(torch.int64)
    keys <<= 32
    keys += torch.arange(scores.shape[1] - 1, -1, -1)
    return keys


def _best(keys: Tensor, k: int) -> Tensor:
    """The k greatest keys of each row, descending; MASKED where there are fewer, [n, k]."""
    best = keys.topk(min(k, keys.shape[1])).values
    return torch.nn.functional.pad(best, (0, k - best.shape[1]), value=MASKED)


def _finite_scores(scorer: Scorer, users: NDArray[np.int64], now: AsOf) -> Tensor:
    name, where = type(scorer).__name__, f"in week {now.week}"
    scores = torch.from_numpy(np.require(scorer.scores(users, now), np.float32, ["C", "W"]))  # torch warns of read-only arrays
    if scores.shape != (len(users), now.n_items):
        wanted = (len(users), now.n_items)
        raise DataError(f"{name}.scores {where}: shape {tuple(scores.shape)}, wanted one score per user and item, {wanted}")
    # aminmax hands on NaN and takes a tenth of the time of isfinite on every score.
    if scores.numel() and not torch.isfinite(torch.stack(torch.aminmax(scores))).all():
        user, item = (int(x[0]) for x in torch.nonzero(~torch.isfinite(scores), as_tuple=True))
        raise DataError(
            f"{name}.scores {where}: {scores[user, item]} for user row {users[user]} and item row {item};"
            " every score must be finite: the evaluation masks items itself, so look for a division by zero or a diverged fit"
        )
    return scores
