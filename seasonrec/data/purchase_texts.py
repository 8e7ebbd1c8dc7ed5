"""What single purchases say in words, where an item is more than one product: a category, a style, a series.

Of who bought pet food it is known then whether that was a sack of kibble, which is bought again, or a bowl. Nothing is learnt here. What is
counted goes on with the timeline, as of each moment; which texts are whose neighbours is found once, among those of before a cut-off.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from seasonrec.data.counters import overdue
from seasonrec.data.kept import KEPT_GB, Kept
from seasonrec.data.sequences import by_user
from seasonrec.data.timeline import AsOf, Histories, rows_among
from seasonrec.schema import DAY, WEEK

Float = NDArray[np.float32]
KEEP_RATES: Final = (0.98, 0.8)  # of a user's own purchases, a week
N_OWN_WORDS: Final = 5
N_WORDS: Final = N_OWN_WORDS + 2 * len(KEEP_RATES) + 1
FEW: Final = 0.01  # users who bought a text or its like, added to those of each, so that rare ones come back as often as all do
CENTRE_WEEKS: Final = 52
SHARES: Final = 100.0  # the log of a share bends at one hundredth


@dataclass(frozen=True)
class Known:
    """What the words of all purchases say at one time.

    Args:
        event, starts: the events by user, in order of time, and where each user's begin [n_events], [n_users + 1].
        comes_back: how much more often than others products of a text, with its like, are bought again by the same user, as a log ratio
            [n_texts].
        gap: weeks until they are, 0 where that is not known [n_texts].
        item_of: as which items each text had been sold, 1 each [n_texts, n_items].
        weight: 1 / how much of what had been sold reads like a text [n_texts].
        centre: the direction of the texts that each item was bought as in the last year [n_items, d].
    """

    event: NDArray[np.int32]
    starts: NDArray[np.int64]
    comes_back: Float
    gap: Float
    item_of: sp.csr_matrix
    weight: Float
    centre: Float

    @property
    def nbytes(self) -> int:
        """Of its arrays."""
        of = self.item_of
        arrays = (self.event, self.starts, self.comes_back, self.gap, of.data, of.indices, of.indptr, self.weight, self.centre)
        return sum(array.nbytes for array in arrays)

    def events_of(self, users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Every event of each of `users` (-1 has none), in order of time: the user's place, and the event's row, [n] each."""
        size = np.where(users < 0, 0, self.starts[users + 1] - self.starts[users])
        before = self.starts[users] - np.cumsum(size) + size
        return np.repeat(np.arange(len(users)), size), self.event[np.repeat(before, size) + np.arange(size.sum())]


class PurchaseTexts:
    """The words of each purchase beside those of all others.

    Memory: 12 bytes an event, 8 a user, 4 a number of the vectors and 12 a neighbour of a text. A moment takes 4 bytes an event, 24 a text
    and 4 x d an item, up to `max_gb` in all; the newest is kept in any case.

    Args:
        text: of each event of the timeline, in order of time [n_events].
        product: of each event, what it is that comes back [n_events].
        vectors: of each text, of length 1, or 0 where it says nothing [n_texts, d].
        likeness: how much purchases of each other text tell of a text, 1 of itself [n_texts, n_texts].
        max_gb: of all moments kept.
    """

    def __init__(self, text: NDArray, product: NDArray, vectors: Float, likeness: sp.csr_matrix, max_gb: float = KEPT_GB):
        self._text, self._product = np.asarray(text, np.int32), np.asarray(product, np.int64)
        self._vectors, self._likeness = vectors, likeness
        self._at = Kept(self._known, lambda known: known.nbytes, max_gb * 1e9)

    def told(self, users: NDArray, now: AsOf, histories: Histories, query: NDArray, item: NDArray) -> Float:
        """What their own purchases say in words of some users and items, [n, N_WORDS].

        Of an item that the user has had (NaN of others): how often products of the text of its last purchase come back, of that text
        which does most, and of all of them on average; weeks until the last one does (log), and how far the wait has come against that
        (log ratio; both 0 where it is not known). Of any item: how much of what was sold as it reads like what the user bought (log,
        and log of its share among all items), for each of `KEEP_RATES`, and the cosine of what the user bought lately with what the item
        was bought as.

        Args:
            users: rows [B]; -1 is a user of whom nothing is known.
            histories: of the users then.
            query, item: the place of the user in the batch, and the catalogue row, of each pair that is asked about [n].
        """
        known = self._at(now)
        of_event, event = known.events_of(np.asarray(users, np.int64))
        _, bought, time, _ = now.events()
        text, key = self._text[event], of_event * now.n_items + bought[event]
        age = (now.time - time[event]) / WEEK
        own = np.vstack([self._of_own(known, text, key, histories, now.n_items), np.full(N_OWN_WORDS, np.nan, np.float32)])
        pair = histories.row_of(query, item, now.n_items)  # -1, the last row, where the user has not had the item
        return np.hstack([own[pair], self._of_any(known, of_event, text, age, len(users), query, item)])

    def _of_own(self, known: Known, text: NDArray, key: NDArray, h: Histories, n_items: int) -> Float:
        """What is said of the items that the users have had, [n_pairs, N_OWN_WORDS].

        Args:
            text, key: of each of their events, and a number for each user and item, ascending by user and in order of time [n].
        """
        if not len(h.pair_item):
            return np.zeros((0, N_OWN_WORDS), np.float32)
        order = np.argsort(key, kind="stable")
        text, first = text[order], np.searchsorted(key[order], h.pair_query * n_items + h.pair_item)
        size = np.diff(np.append(first, len(text)))
        back, last = known.comes_back[text], text[first + size - 1]
        most, mean, gap = np.maximum.reduceat(back, first), np.add.reduceat(back, first) / size, known.gap[last]
        return np.stack([known.comes_back[last], most, mean, np.log1p(gap), overdue(h.pair_last + 1, gap)], 1).astype(np.float32)

    def _of_any(self, known: Known, of_event: NDArray, text: NDArray, age: NDArray, n: int, query: NDArray, item: NDArray) -> Float:
        """What is said of any item, [n_asked, N_WORDS - N_OWN_WORDS].

        Purchases fade from the user's last one on, so that nothing is lost of who has not been here for years; only of the first number
        of each rate the time since then is taken off.
        """
        bought, column = np.unique(text, return_inverse=True)  # users share texts: what each reads like is asked once
        sold_as, since = self._likeness[bought] @ known.item_of, np.full(n, np.inf)
        np.minimum.at(since, of_event, age)
        age = age - since[of_event]
        of_users = lambda rate, weight: sp.csr_matrix((np.power(rate, age) * weight, (of_event, column)), (n, len(bought)))
        said: list[NDArray] = []
        for rate in KEEP_RATES:
            like = (of_users(rate, known.weight[text]) @ sold_as).tocsr()
            asked, total = _values(like, query, item), np.asarray(like.sum(1)).ravel()
            share = asked / np.where(total > 0, total, 1)[query]
            said += [np.log1p(asked * np.power(rate, since)[query]), np.log1p(SHARES * share)]
        lately = directions(of_users(KEEP_RATES[-1], 1) @ self._vectors[bought])
        return np.stack([*said, np.einsum("nd,nd->n", lately[query], known.centre[item])], 1).astype(np.float32)

    def _known(self, now: AsOf) -> Known:
        user, item, time, _ = now.events()
        n, n_texts = len(user), len(self._vectors)
        text, product = self._text[:n].astype(np.int64), self._product[:n]
        event, starts = by_user(user, now.n_users)
        item_of = _counts(text, item, (n_texts, now.n_items)).sign()
        like = self._likeness @ np.asarray(item_of.sum(1)).ravel()
        recent = slice(int(np.searchsorted(time, now.time - CENTRE_WEEKS * WEEK)), n)
        bought_as = _counts(item[recent], text[recent], (now.n_items, n_texts))
        comes_back, gap = self._returns(user, text, product, (time - now.week_zero) // DAY)
        return Known(
            event=event.astype(np.int32),
            starts=starts,
            comes_back=comes_back,
            gap=gap,
            item_of=item_of,
            weight=np.divide(1, like, out=np.zeros_like(like), where=like > 0),
            centre=directions(bought_as @ self._vectors),
        )

    def _returns(self, user: NDArray, text: NDArray, product: NDArray, day: NDArray) -> tuple[Float, Float]:
        """How often products of each text and its like are bought again by the same user on a later day, as a log ratio to all, and after
        how many weeks, [n_texts] each.
        """
        order = np.lexsort((day, product, user))
        user, text, product, day = user[order], text[order], product[order], day[order]
        same = np.append(False, (user[1:] == user[:-1]) & (product[1:] == product[:-1]))[: len(user)]
        days = np.append(0, np.diff(day))[: len(user)]
        first, again = np.flatnonzero(~same), np.flatnonzero(same & (days > 0))
        pair = np.cumsum(~same) - 1
        came_back = np.bincount(pair[again], minlength=len(first)) > 0
        of_texts = lambda rows, weight=None: np.bincount(text[rows], weight, len(self._vectors)).astype(np.float32)
        told = np.stack([of_texts(first, came_back), of_texts(first), of_texts(again, days[again]), of_texts(again)], 1)
        backs, users, total, n = (self._likeness @ told).T
        said = came_back[self._vectors[text[first]].any(1)]
        usual = max(float(said.mean()), 1e-6) if len(said) else 1.0
        weeks = np.where(n > FEW**2, total / np.maximum(n, FEW**2) * (DAY / WEEK), 0)
        return np.log((backs / usual + FEW) / (users + FEW)).astype(np.float32), weeks.astype(np.float32)


def _counts(row: NDArray, column: NDArray, shape: tuple[int, int]) -> sp.csr_matrix:
    """How often each row and column stand together."""
    return sp.csr_matrix((np.ones(len(row), np.float32), (row, column)), shape)


def _values(of: sp.csr_matrix, row: NDArray, column: NDArray) -> Float:
    """What stands at some places, [n]."""
    of.sort_indices()
    n_columns = of.shape[1]
    at = rows_among(
        np.repeat(np.arange(of.shape[0]), np.diff(of.indptr)) * n_columns + of.indices, row.astype(np.int64) * n_columns + column
    )
    return np.append(of.data, np.float32(0))[at]


def directions(vectors: NDArray) -> Float:
    """Vectors divided by their length [n, d]; 0 stays."""
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)
