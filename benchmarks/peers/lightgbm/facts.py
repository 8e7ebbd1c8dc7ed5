"""What is known of a user and an item together when a week begins: the rows that the trees see.

Everything comes from `timeline.as_of(t)`. What is learned (item-item weights) is learned block by block, from before each block's first
week: weights that had seen a row's own purchases would tell the trees to trust them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from seasonrec.baselines.ease import closed_form
from seasonrec.baselines.item_knn import nearest_items
from seasonrec.baselines.tifu_knn import TifuKnn
from seasonrec.data.batches import pair_features, user_features
from seasonrec.data.counters import N_FEATURES, RECENT, demand_features, demand_rates
from seasonrec.data.promotions import Promotions
from seasonrec.data.purchase_texts import PurchaseTexts, directions
from seasonrec.data.timeline import AsOf, Histories, Timeline
from seasonrec.encoders.catalogue import CatalogueTexts
from seasonrec.encoders.neighbours import TextPool

Float = NDArray[np.float32]

LONG, SHORT = 0.98, 0.8  # what is left of a purchase after a week, in a user's lasting and present taste
BLOCK = 8  # training weeks that share item-item weights
# Of the demand windows: the last four and twelve weeks; the same week last year and two to each side.
LAST_MONTH, LAST_QUARTER, LAST_YEAR = 2, 3, len(RECENT) + 1


@dataclass(frozen=True)
class Sizes:
    """How many candidates each source gives a query, and how many items have item-item weights."""

    own: int = 300  # of the user's own purchases, the most frequent
    popular: int = 100  # of the last four weeks, and of the same weeks last year
    neighbours: int = 50  # by demand of items with similar texts in the same weeks last year
    promoted: int = 100  # of what the shop promotes in the week, where it tells
    near: int = 60  # by each of the item-item, user-user and text scores, of what the user has not bought
    unsold: int = 30  # by text, of what nobody has bought
    max_items: int = 5_000


@dataclass(frozen=True)
class Rows:
    """Candidates of a batch of queries, queries ascending.

    Args:
        query, item: of each row [n].
        features: [n, d]; NaN where there is nothing to know.
        rest: order of the items that are no candidates, below 0 and above -2 [n_queries, n_items].
    """

    query: NDArray[np.int64]
    item: NDArray[np.int64]
    features: Float
    rest: Float


@dataclass(frozen=True)
class Learned:
    """Item-item weights from before a week, and the texts known then; where they are read, those of single purchases too."""

    kept: NDArray[np.int64]
    ease: Float
    near: sp.csr_matrix
    vectors: Float
    pool: TextPool
    purchases: PurchaseTexts | None


class Facts:
    """Makes the rows of any users at the beginning of any week.

    Args:
        weeks: of each split.
        texts: split -> the shop's texts as known when its first week began.
        l2: ridge penalty of the item-item weights, in users.
        k: neighbours of an item, and of a text.
        n_users: neighbours of a user.
        plan: what the shop promotes when; None where it does not tell.
    """

    def __init__(
        self,
        timeline: Timeline,
        weeks: Mapping[str, range],
        texts: Mapping[str, CatalogueTexts],
        sizes: Sizes,
        *,
        l2: float = 200.0,
        k: int = 20,
        n_users: int = 100,
        plan: Promotions | None = None,
    ):
        self._timeline, self._weeks, self._texts, self._sizes = timeline, weeks, texts, sizes
        self._l2, self._k, self._plan = l2, k, plan
        self._users = TifuKnn(decay=LONG, k=n_users, alpha=0.0, mix=0.0)
        self._learned = lru_cache(maxsize=2)(self._learn)
        self._of_items = lru_cache(maxsize=2)(self._item_facts)
        self._pool_of = lru_cache(maxsize=2)(lambda split: TextPool(texts[split].of_item.numpy(), texts[split].find_neighbours(k)))

    def rows(self, users: NDArray[np.int64], now: AsOf) -> Rows:
        """Candidates and features of a batch of users, who all ask at the same moment."""
        learned, h = self._learned(self.learned_week(now.week)), now.histories(users, daily=True)
        items, scores = self._of_items(now), self._scores(users, now, learned)
        bought = np.full((len(users), now.n_items), -1, np.int32)
        bought[h.pair_query, h.pair_item] = np.arange(len(h.pair_item))
        mask = self._candidates(users, bought >= 0, items, scores, now)
        query, item = np.nonzero(mask)
        own, user = self._own(h, now)
        never = np.full((1, own.shape[1]), np.nan, np.float32)  # its row is -1: what the user has not bought
        of_pair = np.stack([score[query, item] for score in scores.values()], 1)
        parts = np.append(own, never, 0)[bought[query, item]], user[query], items[item], of_pair
        told = [] if learned.purchases is None else [learned.purchases.told(users, now, h, query, item)]
        features = np.concatenate([*parts, *told], axis=1, dtype=np.float32)
        popular = items[:, LAST_MONTH] / max(items[:, LAST_MONTH].max(), 1)
        return Rows(query, item, features, popular / 2 + scores["text"] / 2 - 1.5)

    def learned_week(self, week: int) -> int:
        """The week before which the item-item weights of a week were learned: the first of its block of training weeks, or of its split."""
        validation, test = self._weeks["validation"].start, self._weeks["test"].start
        if week >= validation:
            return test if week >= test else validation
        return max(validation - -(-(validation - week) // BLOCK) * BLOCK, 0)

    def _learn(self, week: int) -> Learned:
        past = self._timeline.at_week(week)
        bought = past.n_bought
        most = np.argsort(-bought, kind="stable")[: self._sizes.max_items]
        kept = np.sort(most[bought[most] > 0])
        split = "test" if week >= self._weeks["test"].start else "validation"
        return Learned(
            kept,
            closed_form(past.interactions()[:, kept], self._l2),
            nearest_items(past.interactions(), self._k, 10.0),
            self._texts[split].item_vectors(),
            self._pool_of(split),
            self._texts[split].purchases,
        )

    def _item_facts(self, now: AsOf) -> Float:
        """Demand now and last year, of the item and of those with similar texts, age, how often it is bought again, and how the shop
        promotes it, [n_items, d].
        """
        rates = demand_rates(now)
        # Each window's purchases are made as many as the last year's: trees cannot read rates that a busy season lifts out of their range.
        total = rates.sum(0)
        rates *= total[len(RECENT) - 1] / np.maximum(total, 1)
        n_again, gap = now.repeats
        share = n_again / np.maximum(now.demand(52), 1)
        pool = self._learned(self.learned_week(now.week)).pool
        facts = np.stack([np.log1p(now.item_age), now.sold, share, np.log1p(gap)], 1)
        promoted = [] if self._plan is None else [self._plan.of_week(now.time)]
        return np.concatenate([demand_features(rates), demand_features(pool(rates)), facts, *promoted], 1, dtype=np.float32)

    def _scores(self, users: NDArray, now: AsOf, learned: Learned) -> dict[str, Float]:
        """Scores of the whole catalogue for each user, [n_users_in_batch, n_items] each."""
        lasting, present = (now.decayed(users, keep) for keep in (LONG, SHORT))
        ease = np.zeros((len(users), now.n_items), np.float32)
        ease[:, learned.kept] = lasting[:, learned.kept] @ learned.ease
        vectors = learned.vectors
        return {
            "ease": ease,
            "items": (lasting @ learned.near).toarray(),
            "users": self._users.scores(users, now),
            "text": directions(lasting @ vectors) @ vectors.T,
            "text_now": directions(present @ vectors) @ vectors.T,
        }

    def _candidates(self, users: NDArray, bought: NDArray, items: Float, scores: Mapping[str, Float], now: AsOf) -> NDArray[np.bool_]:
        """Which items the trees order, [n_users_in_batch, n_items]."""
        sizes = self._sizes
        mask = np.zeros(bought.shape, bool)
        for column, size in ((LAST_MONTH, sizes.popular), (LAST_YEAR, sizes.popular), (N_FEATURES + LAST_YEAR, sizes.neighbours)):
            mask[:, _top(items[:, column][None], size)[0]] = True
        if self._plan is not None:
            n_kinds = len(self._plan.kinds)
            promoted = np.flatnonzero(items[:, -2 * n_kinds : -n_kinds].any(1))  # this week; the last columns are the week before's
            mask[:, promoted[_top(items[promoted, LAST_QUARTER][None], sizes.promoted)[0]]] = True
        for name in ("ease", "items", "users", "text"):
            np.put_along_axis(mask, _top(np.where(bought, -np.inf, scores[name]), sizes.near), True, 1)
        if len(unsold := np.flatnonzero(~now.sold)):
            mask[np.arange(len(mask))[:, None], unsold[_top(scores["text"][:, unsold], sizes.unsold)]] = True
        frequent = now.decayed(users, LONG).toarray()
        own = np.zeros_like(mask)
        np.put_along_axis(own, _top(frequent, sizes.own), True, 1)
        return np.where(bought, own, mask)

    @staticmethod
    def _own(h: Histories, now: AsOf) -> tuple[Float, Float]:
        """Features of each (user, item) bought before, [n_pairs, d], and of each user, [n_users_in_batch, d]."""
        user = user_features(h)
        own = pair_features(h, now.repeats[1], user)[1][:, : -user.shape[1]]
        last_visit = np.full(h.n_queries, np.inf, np.float32)
        np.minimum.at(last_visit, h.pair_query, h.pair_last)
        return own, np.column_stack([user, np.where(np.isfinite(last_visit), np.log1p(last_visit), np.nan)]).astype(np.float32)


def _top(values: NDArray, k: int) -> NDArray[np.int64]:
    """The columns of the k greatest values of each row, in any order, [n, k]."""
    k = min(k, values.shape[1])
    return np.argpartition(-values, k - 1, axis=1)[:, :k]
