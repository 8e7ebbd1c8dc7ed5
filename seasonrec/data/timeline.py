"""The timeline: the one place that answers "what was known at time t?".

Training examples, evaluation, baselines and serving all ask `timeline.as_of(t)`, whose answer is made of
events strictly before t. Nothing else gives access to events, so nothing can learn from the future.

Memory: about 75 bytes an event, plus 16 bytes a user and 8 an item; 24 and 8 a user more where histories by the day are asked for. Building
costs O(n): events in order of time are sorted by user and item by counting.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import count
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from seasonrec.errors import DataError
from seasonrec.schema import DAY, FOURTH_DAY, WEEK

Int = NDArray[np.int64]
Rows = NDArray[np.int32]
Float = NDArray[np.float32]
NUMBERS: Final = count()  # of the timelines of this process


@dataclass(frozen=True)
class Purchases:
    """The first event of each distinct (user, item, week), or of each distinct (user, item, day), in one given order.

    A basket line bought twice in a week counts once: quantities and split lines say little about taste. By the day, which midnight UTC
    begins, several trips of a week count, and lines of one trip still do not.
    Because it is the *first* event that stands for the week, the triple is known from that moment on.
    """

    user: Rows
    item: Rows
    time: Int
    week: Rows
    gap: Rows  # weeks, or days, since the same user's previous purchase of the same item; 0 where there was none

    def __post_init__(self) -> None:
        for values in vars(self).values():
            _read_only(values)


@dataclass(frozen=True)
class Histories:
    """What each of a batch of users had bought, as flat arrays: one row per distinct (query, item).

    `pair_*` arrays have one row per (query, item), queries ascending, items ascending within a query.
    `event_*` arrays have one row per purchase, grouped by pair and by time within it.
    """

    n_queries: int
    pair_query: Int  # position of the user in the batch
    pair_item: Int
    pair_count: Int  # weeks in which, or days on which, the item was bought
    pair_first: Float  # age in weeks of the first purchase
    pair_last: Float  # age in weeks of the last purchase
    event_pair: Int  # row of the pair that the purchase belongs to
    event_age: Float  # weeks; 0 for the last full week before t
    event_week: Int

    def pair_sum(self, weight: Float) -> Float:
        """The sum of an event weight over each pair, [n_pairs]."""
        return np.bincount(self.event_pair, weights=weight, minlength=len(self.pair_item)).astype(np.float32)

    def row_of(self, query: NDArray, item: NDArray, n_items: int) -> Int:
        """The pair of each query and item, -1 where the user has not had the item, [n]."""
        return rows_among(self.pair_query * n_items + self.pair_item, query.astype(np.int64) * n_items + item)


class Timeline:
    """Append-only, time-sorted purchase events over a fixed set of user and item rows.

    Args:
        user: row of the user of each event, in [0, n_users).
        item: row of the item of each event, in [0, n_items).
        time: int64 seconds UTC. Events of the same second keep their given order (stable sort).
        n_users, n_items: sizes of the row spaces; rows without events are allowed (items not sold yet).
        week_zero: start of week 0 in seconds UTC; weeks are floor((t - week_zero) / 7 days).
        rating: optional rating of each event.

    Raises:
        DataError: arrays of different length, rows out of range, or rows or times that are not integers.
    """

    def __init__(
        self,
        user: NDArray,
        item: NDArray,
        time: NDArray,
        *,
        n_users: int,
        n_items: int,
        week_zero: int,
        rating: NDArray | None = None,
    ):
        user, item, time = np.asarray(user), np.asarray(item), np.asarray(time)
        n_ratings = len(time) if rating is None else len(rating)
        if not len(user) == len(item) == len(time) == n_ratings:
            raise DataError(
                f"timeline: {len(user)} users, {len(item)} items, {len(time)} times and {n_ratings} ratings; give one of each an event"
            )
        if len(time) and not np.issubdtype(time.dtype, np.integer):
            raise DataError(f"timeline: times are {time.dtype}, wanted int64 seconds UTC; floats reorder events")
        _check_rows("user", user, n_users)
        _check_rows("item", item, n_items)
        time = time.astype(np.int64)
        order = slice(None) if (time[1:] >= time[:-1]).all() else np.argsort(time, kind="stable")
        self.user: Rows = _read_only(user[order].astype(np.int32))
        self.item: Rows = _read_only(item[order].astype(np.int32))
        self.time: Int = _read_only(time[order])
        self.rating = None if rating is None else _read_only(np.array(rating, np.float32)[order])
        self.n_users, self.n_items, self.week_zero = n_users, n_items, week_zero
        self._number = next(NUMBERS)

    def __len__(self) -> int:
        return len(self.time)

    def append(self, user: NDArray, item: NDArray, time: NDArray, rating: NDArray | None = None) -> "Timeline":
        """This timeline followed by new events.

        Raises:
            DataError: an event lies before the last one known (the past does not change), ratings for a part only, or as for a new one.
        """
        new = self._of_same_size(user, item, time, rating)
        if len(new) and len(self) and new.time[0] < self.time[-1]:
            raise DataError(
                f"timeline: an appended event has time {new.time[0]}, before the last known {self.time[-1]};"
                " the past cannot change: build a new timeline from all events"
            )
        if (new.rating is None) != (self.rating is None):
            have, given = ("has no" if t.rating is None else "has" for t in (self, new))
            raise DataError(f"timeline: it {have} ratings, the appended part {given}; give ratings for all events or for none")
        rating = None if self.rating is None or new.rating is None else np.concatenate([self.rating, new.rating])
        user, item, time = (np.concatenate([getattr(t, name) for t in (self, new)]) for name in ("user", "item", "time"))
        return self._of_same_size(user, item, time, rating)

    def take(self, rows: NDArray) -> "Timeline":
        """The timeline of the events at `rows` alone, with the same users and items."""
        return self._of_same_size(self.user[rows], self.item[rows], self.time[rows], None if self.rating is None else self.rating[rows])

    def _of_same_size(self, user: NDArray, item: NDArray, time: NDArray, rating: NDArray | None) -> "Timeline":
        return Timeline(user, item, time, n_users=self.n_users, n_items=self.n_items, week_zero=self.week_zero, rating=rating)

    def week_of(self, time: NDArray | int) -> NDArray:
        """The week of each time, counted from week 0."""
        return (np.asarray(time) - self.week_zero) // WEEK

    def start_of(self, week: NDArray | int) -> Int:
        """The first second of each week."""
        return self.week_zero + np.asarray(week, np.int64) * WEEK

    @property
    def by_pair(self) -> Purchases:
        """Purchases sorted by (user, item, time): a user's history is one slice of it."""
        return self._purchases[0]

    @property
    def by_time(self) -> Purchases:
        """The same purchases in the order of events: a window of all users is one slice of it."""
        return self._purchases[1]

    @cached_property
    def by_day(self) -> Purchases:
        """Each day's purchases sorted by (user, item, time), made when first asked for; gaps are in days."""
        event, user, item, day, gap = self._first_events((self.time - self.week_zero) // DAY)
        return Purchases(user, item, self.time[event], day // 7, gap)

    @cached_property
    def _purchases(self) -> tuple[Purchases, Purchases]:
        week_of_event = self.week_of(self.time).astype(np.int32)
        event, user, item, week, gap = self._first_events(week_of_event)
        by_pair = Purchases(user, item, self.time[event], week, gap)
        # Scattered back to the places of their events, purchases are in order of time without another sort.
        gap_of_event = np.full(len(self), -1, np.int32)
        gap_of_event[event] = gap
        is_purchase = gap_of_event >= 0
        by_time = Purchases(
            self.user[is_purchase], self.item[is_purchase], self.time[is_purchase], week_of_event[is_purchase], gap_of_event[is_purchase]
        )
        return by_pair, by_time

    def _first_events(self, period: NDArray) -> tuple[Int, Rows, Rows, Rows, Rows]:
        """The first event of each distinct (user, item, period), sorted by them: its row, user, item, period and the periods since the one
        before, 0 where there was none, [n] each.

        Args:
            period: of each event, in order of time.
        """
        user_starts, item, event = self._events_by_pair()
        period = period[event].astype(np.int32)
        new = np.append(True, item[1:] != item[:-1])[: len(item)]
        new[user_starts[user_starts < len(item)]] = True
        gap = np.zeros_like(period)
        np.subtract(period[1:], period[:-1], out=gap[1:])
        gap[new] = 0
        first = new | (gap > 0)
        user = np.repeat(np.arange(self.n_users, dtype=np.int32), np.diff(user_starts))
        return event[first], user[first], item[first], period[first], gap[first]

    def _events_by_pair(self) -> tuple[Rows, Rows, Int]:
        """The events sorted by (user, item, time): where each user's begin [n_users + 1], the item and the row of each [n]."""
        rows = sp.coo_array((np.arange(len(self)), (self.item, self.user)), shape=(self.n_items, self.n_users))
        rows.has_canonical_format = True  # or those of the same pair would be added up
        # A change of format is a stable sort by counting: to rows sorts by item, then to columns by user.
        by_user = rows.tocsr().tocsc()
        return by_user.indptr, by_user.indices, by_user.data

    @cached_property
    def repeats(self) -> Purchases:
        """The purchases in order of time of what their user had bought in an earlier week."""
        p = self.by_time
        again = np.flatnonzero(p.gap)
        return Purchases(p.user[again], p.item[again], p.time[again], p.week[again], p.gap[again])

    @cached_property
    def user_starts(self) -> Int:
        """Where each user's slice of `by_pair` begins, [n_users + 1]."""
        return _starts(self.by_pair.user, self.n_users)

    @cached_property
    def day_starts(self) -> Int:
        """Where each user's slice of `by_day` begins, [n_users + 1]."""
        return _starts(self.by_day.user, self.n_users)

    @cached_property
    def first_seen(self) -> tuple[Int, Int]:
        """The time of the first event of each user and of each item; the largest int64 where there is none."""
        never = np.iinfo(np.int64).max
        users, items = np.full(self.n_users, never), np.full(self.n_items, never)
        # Assigned from the last event to the first, the first one stays.
        users[self.user[::-1]] = self.time[::-1]
        items[self.item[::-1]] = self.time[::-1]
        return users, items

    def as_of(self, time: int) -> "AsOf":
        """All that was known strictly before `time` (int64 seconds UTC); the last few are kept."""
        return self._as_of(int(time))

    @cached_property
    def _as_of(self):
        return lru_cache(maxsize=4)(lambda time: AsOf(self, time))

    @cached_property
    def _interactions(self):
        # Kept here, not with the views: however many of those somebody keeps, only the last few matrices stay in memory.
        return lru_cache(maxsize=4)(lambda now, decay: now.decayed(np.arange(now.n_users), decay))

    def at_week(self, week: int) -> "AsOf":
        """All that was known when `week` began."""
        return self.as_of(int(self.start_of(week)))

    def queries(self, weeks: range | NDArray) -> "Queries":
        """Every (user, week) with a purchase in one of the consecutive `weeks` and an event before that week began."""
        weeks = np.asarray(weeks)
        if not len(weeks):
            raise DataError("queries: no weeks given; an evaluation needs at least one week")
        lo, hi = np.searchsorted(self.by_time.time, [self.start_of(weeks.min()), self.start_of(weeks.max() + 1)])
        user, item, week = (x[lo:hi] for x in (self.by_time.user, self.by_time.item, self.by_time.week))
        keep = np.isin(week, weeks) & (self.first_seen[0][user] < self.start_of(week))
        user, item, week = user[keep], item[keep], week[keep]
        order = np.lexsort((item, user, week))
        user, item, week = user[order], item[order], week[order]
        new = np.ones(len(user), bool)
        new[1:] = (user[1:] != user[:-1]) | (week[1:] != week[:-1])
        starts = np.append(np.flatnonzero(new), len(user))
        rating = None if self.rating is None else self._mean_rating(self.rating, user, item, week)
        return Queries(user[new], week[new], starts, item, self.start_of(week[new]), rating)

    def _mean_rating(self, rating: Float, user: NDArray, item: NDArray, week: NDArray) -> Float:
        """The mean rating of each (user, item, week), which all have events, [n]."""

        def key(user: NDArray, item: NDArray, week: NDArray) -> Int:
            return (week.astype(np.int64) * self.n_users + user) * self.n_items + item

        if not len(week):
            return np.zeros(0, np.float32)
        of_weeks = slice(*np.searchsorted(self.time, [self.start_of(week.min()), self.start_of(week.max() + 1)]))
        of_event, row = np.unique(key(self.user[of_weeks], self.item[of_weeks], self.week_of(self.time[of_weeks])), return_inverse=True)
        mean = np.bincount(row, weights=rating[of_weeks]) / np.bincount(row)
        return mean[np.searchsorted(of_event, key(user, item, week))].astype(np.float32)


@dataclass(frozen=True)
class Queries:
    """(user, week) queries sorted by week and user, with the distinct items bought: the truth, as CSR."""

    user: Rows
    week: Rows
    truth_starts: Int  # [n + 1]
    truth_item: Rows
    time: Int  # the week's first second
    truth_rating: Float | None = None  # the mean rating that the user gave in the week; None where the timeline has no ratings
    truth_weight: Float | None = None  # how much each counts where it is learnt from; None: all alike

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: NDArray) -> "Queries":
        """The queries at `rows`, in that order."""
        sizes = np.diff(self.truth_starts)[rows]
        starts = np.append(0, np.cumsum(sizes))
        source = np.repeat(self.truth_starts[:-1][rows] - starts[:-1], sizes) + np.arange(starts[-1])
        rating, weight = (None if each is None else each[source] for each in (self.truth_rating, self.truth_weight))
        return Queries(self.user[rows], self.week[rows], starts, self.truth_item[source], self.time[rows], rating, weight)

    def keys(self, n_users: int) -> Int:
        """One number for each (week, user), ascending, [n]."""
        return self.week.astype(np.int64) * n_users + self.user

    @property
    def fourth_day(self) -> Int:
        """The first second of the fourth day of each query's week, which gives the query its month and week of the year, [n]."""
        return self.time + FOURTH_DAY

    @property
    def truth_query(self) -> Int:
        """The query of each truth item, [n_truth]."""
        return np.repeat(np.arange(len(self)), np.diff(self.truth_starts))


class AsOf:
    """All that was known strictly before one moment. Made by `Timeline.as_of`."""

    def __init__(self, timeline: Timeline, time: int):
        self._timeline, self.time = timeline, time
        self.n_users, self.n_items = timeline.n_users, timeline.n_items
        self.week_zero = timeline.week_zero
        self._n_events = int(np.searchsorted(timeline.time, time))
        self._n_purchases = int(np.searchsorted(timeline.by_time.time, time))

    def __eq__(self, other: object) -> bool:
        """Views of the same timeline at the same time are the same knowledge."""
        return isinstance(other, AsOf) and self._timeline is other._timeline and self.time == other.time

    def __hash__(self) -> int:
        return hash((id(self._timeline), self.time))

    @property
    def identity(self) -> tuple[int, int]:
        """No other timeline of this process, and no other time, has it; unlike the view itself it keeps no timeline in memory."""
        return self._timeline._number, self.time

    @property
    def week(self) -> int:
        """The week that `time` lies in."""
        return int(self._timeline.week_of(self.time))

    @property
    def start(self) -> int:
        """The time of the first event known, or `time` where nothing is."""
        return int(self._timeline.time[0]) if self._n_events else self.time

    def events(self) -> tuple[Rows, Rows, Int, Float | None]:
        """User, item, time and rating (None where there are none) of every event, in order of time."""
        t, n = self._timeline, self._n_events
        return t.user[:n], t.item[:n], t.time[:n], None if t.rating is None else t.rating[:n]

    def purchases(self) -> Purchases:
        """Every distinct (user, item, week), in order of time."""
        p, n = self._timeline.by_time, self._n_purchases
        return Purchases(p.user[:n], p.item[:n], p.time[:n], p.week[:n], p.gap[:n])

    def queries(self, weeks: range | NDArray) -> Queries:
        """Queries and truth of past weeks, to learn from.

        Raises:
            DataError: a week that is not over at this time.
        """
        if len(weeks) and self._timeline.start_of(np.max(np.asarray(weeks)) + 1) > self.time:
            raise DataError(f"queries: week {np.max(np.asarray(weeks))} is not over as of week {self.week}; learn from earlier weeks")
        return self._timeline.queries(weeks)

    def earlier(self, time: int) -> "AsOf":
        """All that was known at an earlier moment.

        Raises:
            DataError: `time` lies in this view's future.
        """
        if time > self.time:
            raise DataError(f"as of {self.time}: asked for {time}, which lies in its future")
        return self._timeline.as_of(time)

    @cached_property
    def known_users(self) -> NDArray[np.bool_]:
        """Which users have a history, [n_users]."""
        return self._timeline.first_seen[0] < self.time

    @cached_property
    def sold(self) -> NDArray[np.bool_]:
        """Which items anyone has bought, [n_items]."""
        return self._timeline.first_seen[1] < self.time

    @cached_property
    def item_age(self) -> Float:
        """Weeks since each item was first sold, [n_items]; 0 where it never was."""
        return np.where(self.sold, (self.time - self._timeline.first_seen[1]) / WEEK, 0).astype(np.float32)

    def _window(self, purchases: Purchases, start_weeks: float, end_weeks: float) -> slice:
        bounds = self.time - (np.array([start_weeks, end_weeks]) * WEEK).astype(np.int64)
        # A window that ends in the future ends now.
        lo, hi = np.searchsorted(purchases.time, np.minimum(bounds, self.time))
        return slice(int(lo), int(max(lo, hi)))

    def demand(self, start_weeks: float, end_weeks: float = 0) -> Float:
        """How many purchases each item had from `start_weeks` to `end_weeks` ago, [n_items]."""
        p = self._timeline.by_time
        return np.bincount(p.item[self._window(p, start_weeks, end_weeks)], minlength=self.n_items).astype(np.float32)

    @cached_property
    def n_bought(self) -> NDArray[np.int64]:
        """How often each item had been bought, [n_items]."""
        return np.bincount(self._timeline.by_time.item[: self._n_purchases], minlength=self.n_items)

    @cached_property
    def repeats(self) -> tuple[Float, Float]:
        """How many purchases of each item in the last 52 weeks were repeats, and their mean gap in weeks; each [n_items]."""
        p = self._timeline.repeats
        window = self._window(p, 52, 0)
        n = np.bincount(p.item[window], minlength=self.n_items)
        total = np.bincount(p.item[window], weights=p.gap[window], minlength=self.n_items)
        return n.astype(np.float32), (total / np.maximum(n, 1)).astype(np.float32)

    def histories(self, users: NDArray, daily: bool = False) -> Histories:
        """What each of `users` had bought; users without history, and -1, a user that nobody knows, have no pairs.

        Args:
            daily: each day counts on which an item was bought; otherwise each week does.
        """
        query, item, week, new = self._bought_by(users, daily)
        age, first = self._of_age(week, lambda age: age), np.flatnonzero(new)
        last = np.append(first[1:], len(week))[: len(first)] - 1
        return Histories(
            n_queries=len(users),
            pair_query=query[first],
            pair_item=item[first].astype(np.int64),
            pair_count=last - first + 1,
            pair_first=age[first],
            pair_last=age[last],
            event_pair=np.cumsum(new) - 1,
            event_age=age,
            event_week=week.astype(np.int64),
        )

    def _bought_by(self, users: NDArray, daily: bool = False) -> tuple[Int, Rows, Rows, NDArray[np.bool_]]:
        """What each of `users` had bought, grouped by user and item and by time within them: the user's place, the item, the week, and
        whether the user's purchases of the item begin here, each [n]."""
        users = np.asarray(users, np.int64)
        t = self._timeline
        p, starts = (t.by_day, t.day_starts) if daily else (t.by_pair, t.user_starts)
        lengths = np.where(users < 0, 0, starts[users + 1] - starts[users])
        ends = np.cumsum(lengths)
        rows = np.repeat(starts[users] - ends + lengths, lengths)
        rows += np.arange(len(rows))
        past = p.time[rows] < self.time
        n_until = np.zeros(len(rows) + 1, np.int32)  # new memory is what costs here, and it is half as much as of int64
        np.cumsum(past, dtype=np.int32, out=n_until[1:])
        n_past = np.diff(n_until[np.append(0, ends)])
        rows = rows[past]
        item, new = p.item[rows], np.ones(len(rows), bool)
        np.not_equal(item[1:], item[:-1], out=new[1:])
        # A user begins anew, also with the item that the user before ended with.
        new[(np.cumsum(n_past) - n_past)[n_past > 0]] = True
        return np.repeat(np.arange(len(users)), n_past), item, p.week[rows], new

    def _of_age(self, week: Rows, value: Callable[[Float], Float]) -> Float:
        """A function of how many weeks ago something was bought, of each `week`; computed once a week."""
        first = int(week.min(initial=self.week))
        weeks = np.arange(first, int(week.max(initial=first)) + 1)
        # Age counts from the start of the purchase's week, so that it is a whole number on the weekly grid.
        age = np.maximum((self.time - self._timeline.start_of(weeks)) / WEEK - 1, 0).astype(np.float32)
        return value(age)[week - first]

    def interactions(self, decay: float = 1.0) -> sp.csr_matrix:
        """Purchases of all users as a sparse matrix [n_users, n_items]; one of `a` weeks ago counts `decay ** a`.

        The last matrices asked for are kept, since every baseline of a week asks for the same ones: read, do not write.
        """
        return self._timeline._interactions(self, decay)

    def decayed(self, users: NDArray, decay: float) -> sp.csr_matrix:
        """The same for some users, made anew, [len(users), n_items]; -1, a user that nobody knows, has no purchases."""
        query, item, week, new = self._bought_by(users)
        weight = self._of_age(week, lambda age: np.power(np.float32(decay), age))
        first = np.flatnonzero(new)
        value = np.add.reduceat(weight, first, dtype=np.float64).astype(np.float32)
        starts = np.searchsorted(query[first], np.arange(len(users) + 1))
        return sp.csr_matrix((value, item[first], starts), shape=(len(users), self.n_items))


def rows_among(ascending: Int, asked: Int) -> Int:
    """The place of each number among distinct ascending ones, -1 where it is none of them, [n]."""
    if not len(ascending):
        return np.full(len(asked), -1)
    row = np.minimum(np.searchsorted(ascending, asked), len(ascending) - 1)
    return np.where(ascending[row] == asked, row, -1)


def _starts(user: Rows, n_users: int) -> Int:
    """Where each user's slice of sorted rows begins, [n_users + 1]."""
    return np.searchsorted(user, np.arange(n_users + 1)).astype(np.int64)


def _check_rows(name: str, rows: NDArray, n: int) -> None:
    if len(rows) and not np.issubdtype(rows.dtype, np.integer):
        raise DataError(f"timeline: {name} rows are {rows.dtype}, wanted integers; data.dataset.rows_of turns ids into rows")
    if len(rows) and not (rows.min() >= 0 and rows.max() < n):
        raise DataError(f"timeline: {name} rows span {rows.min()}..{rows.max()}, wanted 0..{n - 1}")


def _read_only(values: NDArray) -> NDArray:
    # Views of the timeline are handed out, so a caller who sorts one in place must not rewrite the past.
    values.flags.writeable = False
    return values
