"""The leave-one-out protocol of published sequential recommenders: each user's last item, ranked in the full catalogue."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seasonrec.data.sequences import Sequences, by_user
from seasonrec.data.timeline import Timeline
from seasonrec.errors import DataError
from seasonrec.evaluation.evaluate import Column, Evaluation
from seasonrec.evaluation.scorer import Scorer
from seasonrec.metrics import METRICS

# How many of a user's events, counted from the end, are the target and what follows it.
FROM_END = {"test": 1, "validation": 2}
LENGTH = max(metric.k for metric in METRICS.values())


@dataclass(frozen=True)
class Targets:
    """One held-out event per user, and how much of the sequence comes before it.

    Args:
        user: rows [n], ascending.
        item: the item to find [n].
        n_before: events of the user before the target [n], at least 1; at test time the validation item is one of them.
    """

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    n_before: NDArray[np.int64]


def targets(timeline: Timeline, which: str) -> Targets:
    """The last item of each user ("test") or the one before it ("validation"), of users with an item before that.

    Raises:
        DataError: `which` is neither.
    """
    if which not in FROM_END:
        raise DataError(f"leave_one_out: targets of {which!r}, wanted one of {sorted(FROM_END)}")
    order, starts = by_user(timeline.user, timeline.n_users)
    n_before = np.diff(starts) - FROM_END[which]
    user = np.flatnonzero(n_before >= 1)
    item = timeline.item[order[starts[user] + n_before[user]]]
    return Targets(user, item.astype(np.int64), n_before[user])


def without_last(timeline: Timeline, n: int) -> Timeline:
    """The timeline without each user's last n events."""
    order, starts = by_user(timeline.user, timeline.n_users)
    from_end = np.repeat(starts[1:], np.diff(starts)) - np.arange(len(timeline))
    return timeline.take(np.sort(order[from_end > n]))


def rank_leave_one_out(
    scorer: Scorer,
    timeline: Timeline,
    which: str,
    *,
    batch_size: int = 256,
    progress: Callable[[int], None] | None = None,
    fit: bool = True,
    rank_seen: bool = True,
) -> Evaluation:
    """A method under leave-one-out: it learns from all but each user's last two items, and sees all before the target.

    Args:
        which: "test" or "validation".
        progress: called with the number of users ranked since the last call.
        fit: false for a scorer that has been fitted here before, to the other targets' past, which is the same.
        rank_seen: false where what a user took before the target is no candidate, the target excepted. Published tables do either: it
            matters most where nobody takes an item twice, as in Amazon reviews, since what was taken last stands first in many lists.

    Raises:
        DataError: `which` is neither, no user has three events, or a score is not finite.
    """
    wanted = targets(timeline, which)
    if not len(wanted.user):
        raise DataError("leave_one_out: no user has enough events for a target and a history; give sequences of three or more")
    end = int(timeline.time[-1]) + 1
    if fit:
        scorer.fit(without_last(timeline, max(FROM_END.values())).as_of(end))
    now, place = without_last(timeline, FROM_END[which]).as_of(end), []
    sequences = None if rank_seen else Sequences.of(now)
    for rows in np.array_split(np.arange(len(wanted.user)), range(batch_size, len(wanted.user), batch_size)):
        seen = None if sequences is None else sequences.seen(wanted.user[rows])
        place.append(rank_targets(scorer.scores(wanted.user[rows], now), wanted.item[rows], seen))
        if progress:
            progress(len(rows))
    return leave_one_out(wanted, np.concatenate(place))


def rank_targets(scores: NDArray, item: NDArray, seen: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """The place of each target in the full catalogue, 0 the best, [n]; equal scores go by row, as everywhere.

    Args:
        scores: finite [n, n_items].
        item: the target of each row [n].
        seen: items that are not candidates [n, n_items], the target excepted; None ranks all.

    Raises:
        DataError: scores that are not finite.
    """
    if not np.isfinite(scores).all():
        row, column = np.argwhere(~np.isfinite(scores))[0]
        raise DataError(f"leave_one_out: score {scores[row, column]} of item row {column} in batch row {row}; every score must be finite")
    target = np.take_along_axis(scores, item[:, None], 1)
    ahead = (scores > target) | ((scores == target) & (np.arange(scores.shape[1]) < item[:, None]))
    return (ahead if seen is None else ahead & ~seen).sum(1)


def leave_one_out(targets: Targets, place: NDArray[np.int64]) -> Evaluation:
    """The metrics of ranked targets, as slice `leave_one_out`.

    Args:
        place: of each target, from `rank_targets` [n].
    """
    hits = place[:, None] == np.arange(LENGTH)
    one = np.ones(len(place), np.int64)
    values = np.stack([of(hits, one, k) for of, k in METRICS.values()], 1)
    columns = tuple(Column("leave_one_out", metric, k) for metric, (_, k) in METRICS.items())
    return Evaluation(targets.user, np.zeros_like(targets.user), columns, values, {})  # one query a user: weeks tell nothing apart
