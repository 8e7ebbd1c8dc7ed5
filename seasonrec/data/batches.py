"""Batches: queries of one moment with all that their scores may depend on, as tensors.

A batch shares one moment, so that counters of all items are computed once per moment; only histories are per query.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from seasonrec.data.candidates import Candidates, CandidateSampler
from seasonrec.data.counters import N_FEATURES, demand_features, demand_rates, overdue
from seasonrec.data.kept import KEPT_GB, Kept
from seasonrec.data.promotions import Promotions
from seasonrec.data.purchase_texts import PurchaseTexts
from seasonrec.data.similar_users import SimilarUsers
from seasonrec.data.timeline import AsOf, Histories, Queries
from seasonrec.data.user_words import UserWords
from seasonrec.errors import ConfigError, DataError
from seasonrec.schema import FOURTH_DAY, WEEK
from seasonrec.seasons.context import SeasonContext
from seasonrec.seasons.in_season import SeasonLabels
from seasonrec.seasons.phase import week_of_year
from seasonrec.shares import Share, n_processes

# Weekly keep rates of a user's own purchases: none fades, half-lives of 34, 10 and 3 weeks.
DECAYS: Final = (1.0, 0.98, 0.93, 0.8)
N_USER_FEATURES: Final = 4
N_PAIR_FEATURES: Final = len(DECAYS) + 8 + N_USER_FEATURES
WHOLE_HISTORY: Final = 78  # weeks: with so many, last year's season can be compared with the year around it
POPULARITY_WEEKS: Final = 12
N_FACTS: Final = 5
MAX_SCORES: Final = 1 << 25  # of a batch over the whole catalogue: 134 MB, of which a model has several at a time
FEW_REPEATS: Final = (1.0, 3.0)  # repeats and purchases added to those of each item, so that rare ones have a usual share


def queries_at_once(n_items: int, at_most: int) -> int:
    """How many queries of a whole catalogue one batch may have: no more than have `MAX_SCORES`, so memory does not grow with it."""
    return max(1, min(at_most, MAX_SCORES // n_items))


@dataclass(frozen=True)
class Moment:
    """What is known at one time about the season and about every item; shared by all queries of that time.

    Args:
        time: int64 seconds UTC, the start of the week that is asked about; usually the moment itself.
        season: features of the week's fourth day, which midnight UTC begins: west of Greenwich that is still the third [d_season].
        context: the same season in words.
        demand: of each item [n_items, d_demand]: its own as-of demand, that of items with similar texts (where texts are given),
            the share of its purchases in the last year that were repeats, the log number of the others, its log age in weeks, whether it
            was ever sold, how much of a year and a half of history there is, and where the shop tells, how it is promoted in the week
            and was in the week before.
        item_gap: the mean weeks between two purchases of the item by the same user, 0 where nobody came back [n_items].
    """

    time: int
    season: Tensor
    context: str
    demand: Tensor
    item_gap: NDArray[np.float32]


@dataclass(frozen=True)
class History:
    """What the users of a batch had bought: one row per distinct (query, item), queries ascending.

    Args:
        query, item: of each pair [n_pairs].
        column: of the item among the candidates [n_pairs]; -1 where it is none.
        starts: where each query's pairs begin [B].
        age: weeks since the last purchase [n_pairs].
        weight: purchases, each fading by `DECAYS` a week [n_pairs, n_decays].
        features: see `pair_features` [n_pairs, N_PAIR_FEATURES].
        user: what is known of each user, see `user_features` [B, N_USER_FEATURES].
        known: whether the user has bought anything [B].
    """

    query: Tensor
    item: Tensor
    column: Tensor
    starts: Tensor
    age: Tensor
    weight: Tensor
    features: Tensor
    user: Tensor
    known: Tensor

    @cached_property
    def listed_pairs(self) -> Tensor:
        """Which pairs have an item that is among the candidates, [n]."""
        return (self.column >= 0).nonzero().squeeze(1)

    @cached_property
    def listed(self) -> tuple[Tensor, Tensor]:
        """Query and column of these, [n] each."""
        return self.query[self.listed_pairs], self.column[self.listed_pairs]


@dataclass(frozen=True)
class Whole:
    """The queries of all processes that learn together, of which a batch is one share: what a loss over them all has to know.

    Args:
        share: which of the queries the batch has.
        truth_query, truth_column, truth_rating, truth_weight: each bought item [n_truth].
        own_query, own_column: the candidates that each query's user had bought before [n_own].
    """

    share: Share
    truth_query: Tensor
    truth_column: Tensor
    truth_rating: Tensor | None
    truth_weight: Tensor | None
    own_query: Tensor
    own_column: Tensor


@dataclass(frozen=True)
class Batch:
    """Queries of one moment over one set of candidates.

    Args:
        user: rows [B]; -1 is a user of whom nothing is known.
        candidate: catalogue rows [C], ascending; None for the whole catalogue.
        log_inclusion: of each candidate [C]; None for the whole catalogue.
        similar: the mean decayed purchases of each candidate by the users who are most like each one [B, C]; see `SimilarUsers`.
        usual: the same of all users [C].
        truth_query, truth_column, truth_rating: each bought item [n_truth]; empty where it is not known, e.g. when serving.
        truth_weight: how much each of them counts where it is learnt from [n_truth]; None: all alike.
        user_words: what is known of each user in words [B]; None where no head reads it.
        purchase_words: says what the words of their purchases say of the users at some places [n] and catalogue rows [n], see
            `PurchaseTexts.told`; None where they are not read.
        whole: the queries of all processes, where several learn together; None: the batch is the whole.
    """

    user: Tensor
    moment: Moment
    history: History
    similar: Tensor
    usual: Tensor
    candidate: Tensor | None
    log_inclusion: Tensor | None
    truth_query: Tensor
    truth_column: Tensor
    truth_rating: Tensor | None
    truth_weight: Tensor | None = None
    user_words: Sequence[str] | None = None
    purchase_words: Callable[[NDArray, NDArray], NDArray[np.float32]] | None = None
    whole: Whole | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on a device."""
        return _on(self, device) if device != self.user.device else self

    def of_candidates(self, values: Tensor) -> Tensor:
        """The rows of the candidates from one row per catalogue item, [C, ...]."""
        return values if self.candidate is None else values.index_select(0, self.candidate)

    @cached_property
    def demand(self) -> Tensor:
        """The moment's demand of the candidates, [C, d_demand]."""
        return self.of_candidates(self.moment.demand)

    @property
    def n_candidates(self) -> int:
        """C."""
        return len(self.moment.demand) if self.candidate is None else len(self.candidate)

    @property
    def truth_alone(self) -> bool:
        """Whether only the scores of the truth are asked for: no candidate stands for any other item."""
        return self.log_inclusion is not None and bool(self.log_inclusion.isinf().all())

    def truth_items(self) -> Tensor:
        """The catalogue rows of the truth of all processes' queries, [n_truth]."""
        column = (self.whole or self).truth_column
        return column if self.candidate is None else self.candidate[column]


def _on(part: Any, device: torch.device) -> Any:
    """A dataclass of tensors, and of such dataclasses, with all its tensors on a device."""
    if isinstance(part, Tensor):
        return part.to(device)
    if isinstance(part, Batch | Moment | History | Whole):
        return replace(part, **{field.name: _on(getattr(part, field.name), device) for field in fields(part)})
    return part


def user_features(h: Histories) -> NDArray[np.float32]:
    """What is known of each user: log weeks with purchases, log distinct items, log items a week, and the share of repeats, [B, 4]."""
    event_query = h.pair_query[h.event_pair]
    first = int(h.event_week.min(initial=0))
    bought = np.zeros((h.n_queries, int(h.event_week.max(initial=0)) - first + 1), bool)
    bought[event_query, h.event_week - first] = True
    n_weeks = bought.sum(1)
    n_items, n_events = (np.bincount(query, minlength=h.n_queries) for query in (h.pair_query, event_query))
    repeats = 1 - n_items / np.maximum(n_events, 1)
    basket = n_events / np.maximum(n_weeks, 1)
    return np.stack([np.log1p(n_weeks), np.log1p(n_items), np.log1p(basket), repeats * (n_events > 0)], axis=1).astype(np.float32)


def pair_features(
    h: Histories, item_gap: NDArray, user: NDArray, last_year: bool = True, weeks_ahead: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What a user's own purchases of an item say about the next one: fading counts and features, [n_pairs, n_decays] and [n_pairs, d].

    Features: log fading counts, log weeks since the last one, how many there were for each week in which the user bought anything, log of
    the user's usual gap (weeks between purchases, however these are counted; 0 also where all lie in one week) and of all users' (counted
    by the week), how far the wait has come against each (0 where a gap is 0 or not known), purchases in the same weeks last year, whether
    it was bought once only, and what is known of the user.

    Args:
        h: histories of the batch.
        item_gap: usual weeks between purchases of each item, 0 where unknown [n_items].
        user: from `user_features` [B, N_USER_FEATURES].
        last_year: whether purchases in the same weeks last year are counted; 0 without it.
        weeks_ahead: how many weeks after the coming one are asked about.
    """
    weight = np.stack([h.pair_sum(np.power(np.float32(decay), h.event_age)) for decay in DECAYS], axis=1)
    wait, gap = h.pair_last + 1, item_gap[h.pair_item]
    own_gap = np.where(h.pair_count > 1, (h.pair_first - h.pair_last) / np.maximum(h.pair_count - 1, 1), 0)
    # 51 is the age of the same week a year before the coming one; neighbours count less. What lies beyond a year ahead is asked of the last
    # season that is known.
    same_weeks = 51 - weeks_ahead % 52
    year_ago = h.pair_sum(last_year * np.maximum(1 - np.abs(h.event_age - same_weeks) / 3, 0).astype(np.float32))
    of_user = user[h.pair_query]
    features = [
        *np.log1p(weight).T,
        np.log(wait),
        h.pair_count / np.maximum(np.expm1(of_user[:, 0]), 1),
        np.log1p(own_gap),
        np.log1p(gap),
        overdue(wait, own_gap),
        overdue(wait, gap),
        year_ago,
        h.pair_count == 1,
        *of_user.T,
    ]
    return weight, np.stack(features, axis=1).astype(np.float32)


class Moments:
    """What is known at each time, made once per time; training goes through its weeks once an epoch, so those that fit are kept.

    Memory: 4 bytes x n_items x (d_demand + 5), with what its view keeps, a moment, up to `max_gb` in all; the newest is kept in any case.

    Args:
        season: dates as features and words.
        pool: rates [n_items, n_windows] -> rates of all items with similar texts, of the same shape; None without texts.
        max_gb: of all moments kept.
        told: whether the season is; without it its features are 0 and its words none.
        last_year: whether last year's counters are known; without it they are 0, as in a shop's first year.
        plan: what the shop promotes when; None where it does not tell.
    """

    def __init__(
        self,
        season: SeasonContext,
        pool: Callable[[NDArray], NDArray] | None = None,
        max_gb: float = KEPT_GB,
        *,
        told: bool = True,
        last_year: bool = True,
        plan: Promotions | None = None,
    ):
        self._season, self._pool, self._told, self.last_year, self._plan = season, pool, told, last_year, plan
        # Views of one time are equal.
        self._at = Kept(self._make, lambda moment: moment.demand.nbytes + 5 * moment.item_gap.nbytes, max_gb * 1e9)

    @property
    def d_season(self) -> int:
        """Season features of a moment."""
        return self._season.width

    @property
    def d_demand(self) -> int:
        """Demand features of an item."""
        return N_FEATURES * (1 if self._pool is None else 2) + N_FACTS + (0 if self._plan is None else 2 * len(self._plan.kinds))

    def __call__(self, now: AsOf, about: int | None = None) -> Moment:
        """What is known as of a view about the week that begins then, or at a later time `about` (int64 seconds UTC).

        Raises:
            DataError: a time that the view's own past holds.
        """
        if about is not None and about < now.time:
            raise DataError(f"moments: asked about {about} as of {now.time}; take the view of the earlier time")
        return self._at(now, now.time if about is None else about)

    def season_text(self, about: int) -> str:
        """The season of the week that begins then, in words."""
        return self._season.text(about + FOURTH_DAY)

    def _make(self, now: AsOf, about: int) -> Moment:
        season = self._season.features(np.array([about + FOURTH_DAY]))[0]
        rates = demand_rates(now, (about - now.time) / WEEK, self.last_year)
        own = [demand_features(rates)]
        if self._pool is not None:
            own.append(demand_features(self._pool(rates)))
        # Last year's counters mean nothing before there is a last year: the same for all items, so that heads can tell.
        known = min((now.time - now.start) / WEEK / WHOLE_HISTORY, 1.0)
        facts = np.stack([*_loyalty(now), np.log1p(now.item_age), now.sold, np.full(now.n_items, known)], axis=1)
        promoted = [] if self._plan is None else [self._plan.of_week(about)]
        return Moment(
            time=about,
            season=torch.from_numpy(season if self._told else np.zeros_like(season)),
            context=self.season_text(about) if self._told else "",
            demand=torch.from_numpy(np.concatenate([*own, facts, *promoted], axis=1).astype(np.float32)),
            item_gap=now.repeats[1],
        )


def _loyalty(now: AsOf) -> tuple[NDArray, NDArray]:
    """The share of each item's purchases in the last 52 weeks that were repeats, and the log number of its other ones, [n_items] each."""
    n_repeats, n = now.repeats[0], now.demand(52)
    return (n_repeats + FEW_REPEATS[0]) / (n + FEW_REPEATS[1]), np.log1p(n - n_repeats)


class Batcher:
    """Makes batches of any users at any time.

    Args:
        similar: finds the users whose purchases are most like a user's.
        words: says what is known of a user; None where no head reads it.
        in_season: (user, item, time) of events -> which items are in season when; None where nobody asks, `Dataset.labels` else.
        daily: a user's own purchases of an item are counted by the day; otherwise by the week.
        purchases: reads the words of single purchases; None where nobody asks.
    """

    def __init__(
        self,
        moments: Moments,
        similar: SimilarUsers | None = None,
        words: UserWords | None = None,
        in_season: Callable[[NDArray, NDArray, NDArray], SeasonLabels] | None = None,
        *,
        daily: bool = True,
        purchases: PurchaseTexts | None = None,
    ):
        self.moments, self._similar, self._words, self.in_season = moments, similar or SimilarUsers(), words, in_season
        self._purchases, self._daily = purchases, daily

    def histories(self, users: NDArray, now: AsOf) -> Histories:
        """What each of `users` had bought then, as the model counts it."""
        return now.histories(users, self._daily)

    def batch(
        self,
        users: NDArray,
        now: AsOf,
        candidates: Candidates | None = None,
        about: int | None = None,
        histories: Histories | None = None,
    ) -> Batch:
        """A batch without truth, e.g. to recommend from.

        Args:
            users: rows [B]; -1 is a user of whom nothing is known.
            candidates: None for the whole catalogue.
            about: the start of the week to recommend for, int64 seconds UTC; None for the one that begins now.
            histories: of the users then, where they are at hand.
        """
        own = self.histories(users, now) if histories is None else histories
        none = torch.zeros(0, dtype=torch.int64)
        column = _columns(candidates, now.n_items)
        items = None if candidates is None else candidates.item
        return Batch(
            user=torch.from_numpy(np.array(users, np.int64)),  # a copy: tensors cannot be read-only
            moment=(moment := self.moments(now, about)),
            history=_history(own, moment.item_gap, column, self.moments.last_year, (moment.time - now.time) // WEEK),
            similar=torch.from_numpy(self._similar.bought(users, now, items)),
            usual=torch.from_numpy(self._similar.usual(now)[slice(None) if items is None else items]),
            candidate=None if items is None else torch.from_numpy(items),
            log_inclusion=None if candidates is None else torch.from_numpy(candidates.log_inclusion),
            truth_query=none,
            truth_column=none,
            truth_rating=None,
            user_words=None if self._words is None else self._words(users, now.time),
            purchase_words=None if self._purchases is None else partial(self._purchases.told, users, now, own),
        )

    def of_pairs(self, users: NDArray, items: NDArray, now: AsOf) -> Batch:
        """A batch that asks for the score of one item for each user and for no other: the pairs stand as its truth.

        Args:
            users, items: rows [B].
        """
        candidates = Candidates.of_truth(items)
        column = torch.from_numpy(_columns(candidates, now.n_items)[items])
        return replace(self.batch(users, now, candidates), truth_query=torch.arange(len(users)), truth_column=column)

    def with_truth(self, queries: Queries, now: AsOf, candidates: Candidates | None = None, histories: Histories | None = None) -> Batch:
        """A batch of queries of one week together with what was bought in it.

        Args:
            candidates: contain all truth; None for the whole catalogue.
            histories: of the queries' users then, where they are at hand.
        """
        batch = self.batch(queries.user, now, candidates, histories=histories)
        return replace(
            batch,
            truth_query=torch.from_numpy(queries.truth_query),
            truth_column=torch.from_numpy(_columns(candidates, now.n_items)[queries.truth_item]),
            truth_rating=_tensor(queries.truth_rating),
            truth_weight=_tensor(queries.truth_weight),
        )

    def share_of(self, queries: Queries, now: AsOf, candidates: Candidates | None = None, histories: Histories | None = None) -> Batch:
        """This process's share of such a batch, which knows of the others' what a loss has to know.

        A query that is here only so that the process has one counts as a user of whom nothing is known.
        """
        share, column = Share.of(len(queries)), _columns(candidates, now.n_items)
        pairs = self.histories(queries.user, now) if histories is None else histories
        batch, listed = self.with_truth(queries.take(share.row), now, candidates), column[pairs.pair_item] >= 0
        whole = Whole(
            share=share,
            truth_query=torch.from_numpy(queries.truth_query),
            truth_column=torch.from_numpy(column[queries.truth_item]),
            truth_rating=_tensor(queries.truth_rating),
            truth_weight=_tensor(queries.truth_weight),
            own_query=torch.from_numpy(pairs.pair_query[listed]),
            own_column=torch.from_numpy(column[pairs.pair_item[listed]]),
        )
        return replace(batch, whole=whole, history=replace(batch.history, known=batch.history.known & share.counts))


def _tensor(values: NDArray | None) -> Tensor | None:
    return None if values is None else torch.from_numpy(values)


def _columns(candidates: Candidates | None, n_items: int) -> NDArray[np.int64]:
    """The column of each catalogue row, -1 where it is no candidate, [n_items]."""
    if candidates is None:
        return np.arange(n_items)
    column = np.full(n_items, -1)
    column[candidates.item] = np.arange(len(candidates.item))
    return column


def _history(h: Histories, item_gap: NDArray, column: NDArray, last_year: bool, weeks_ahead: int) -> History:
    user = user_features(h)
    weight, features = pair_features(h, item_gap, user, last_year, weeks_ahead)
    return History(
        query=torch.from_numpy(h.pair_query),
        item=torch.from_numpy(h.pair_item),
        column=torch.from_numpy(column[h.pair_item]),
        starts=torch.from_numpy(np.searchsorted(h.pair_query, np.arange(h.n_queries))),
        age=torch.from_numpy(h.pair_last),
        weight=torch.from_numpy(weight),
        features=torch.from_numpy(features),
        user=torch.from_numpy(user),
        known=torch.from_numpy(np.bincount(h.pair_query, minlength=h.n_queries) > 0),
    )


def _of_some_users(queries: Queries, n_users: int, share: float, seed: int) -> Queries:
    """The queries of a share of all users, rounded up and drawn by the seed."""
    if share >= 1:
        return queries
    drawn = np.random.default_rng(seed).permutation(n_users)[: math.ceil(share * n_users)]
    return queries.take(np.flatnonzero(np.isin(queries.user, drawn)))


class TrainingBatches(IterableDataset):
    """Batches of the queries of past weeks, drawn and ordered anew each epoch; both depend on seed and epoch only.

    Args:
        past: all that was known at the cut-off; what is learnt from.
        weeks: consecutive weeks before it.
        batch_size: queries a batch, of one week each; a week's last batch is smaller, by at most one between a week's batches.
        sampler: of candidates; its popularity is that of the last `POPULARITY_WEEKS` as of the batch's week. None: the truth alone.
        n_queries: an epoch's, the same share of each week's, rounded up; None for all of them.
        users: the share of users that is learnt from, rounded up, drawn by the seed.
        shared: whether processes that learn together take a share of each batch; otherwise this one has the whole of it.
        in_season: how much more than others a purchase counts whose item is in season then, by what was known at the cut-off.

    Raises:
        DataError: nobody bought anything in these weeks.
        ConfigError: purchases in season are to count more, and the batcher does not know which ones these are.
    """

    def __init__(
        self,
        past: AsOf,
        weeks: range,
        batcher: Batcher,
        *,
        batch_size: int,
        sampler: CandidateSampler | None,
        seed: int,
        n_queries: int | None = None,
        users: float = 1.0,
        shared: bool = True,
        in_season: float = 0.0,
    ):
        self._past, self._batcher, self._sampler, self._seed, self._shared = past, batcher, sampler, seed, shared
        self._queries = _of_some_users(past.queries(weeks), past.n_users, users, seed)
        self._inclusion = Kept(self._probabilities, lambda each: each.nbytes, KEPT_GB * 1e9)
        self.epoch = 0
        if not len(self._queries):
            raise DataError(
                f"training: no queries in weeks {weeks.start}..{weeks.stop - 1}: nobody who had bought before bought anything in them;"
                " if these are the data's first weeks, begin the validation weeks later (data.split or eval.split)"
            )
        if in_season:
            self._queries = replace(self._queries, truth_weight=1 + np.float32(in_season) * self._in_season())
        week = self._queries.week
        self._starts = np.flatnonzero(np.append(True, week[1:] != week[:-1]))
        share = min(1, (n_queries or len(week)) / len(week))
        self._n_taken = np.ceil(np.diff(np.append(self._starts, len(week))) * share).astype(np.int64)
        self._n_parts = np.ceil(self._n_taken / batch_size).astype(np.int64)

    def __len__(self) -> int:
        return int(self._n_parts.sum())

    def _in_season(self) -> NDArray[np.bool_]:
        """Which of what was bought was in season, [n_truth]."""
        if self._batcher.in_season is None:
            raise ConfigError("sampling.in_season: this batcher was not told which items are in season; give Batcher(in_season=...)")
        user, item, time, _ = self._past.events()
        labels, queries = self._batcher.in_season(user, item, time), self._queries
        return labels.in_season[labels.group[queries.truth_item], week_of_year(queries.fourth_day)[queries.truth_query]]

    def __iter__(self) -> Iterator[Batch]:
        rng = np.random.default_rng([self._seed, self.epoch])
        for rows in self._shuffled(rng):
            yield self._make(rows, rng)

    def _shuffled(self, rng: np.random.Generator) -> list[NDArray]:
        of_weeks = np.split(np.arange(len(self._queries)), self._starts[1:])
        drawn = [rng.permutation(rows)[:n] for rows, n in zip(of_weeks, self._n_taken, strict=True)]
        batches = [part for rows, n in zip(drawn, self._n_parts, strict=True) for part in np.array_split(rows, n)]
        return [batches[n] for n in rng.permutation(len(batches))]

    def _make(self, rows: NDArray, rng: np.random.Generator) -> Batch:
        queries = self._queries.take(rows)
        now = self._past.earlier(int(queries.time[0]))
        make = self._batcher.share_of if self._shared and n_processes() > 1 else self._batcher.with_truth
        own = self._batcher.histories(queries.user, now)
        return make(queries, now, self._candidates(queries.truth_item, own.pair_item, now, rng), own)

    def _candidates(self, truth: NDArray, own: NDArray, now: AsOf, rng: np.random.Generator) -> Candidates | None:
        """What the softmax of all the queries runs over; None for the whole catalogue."""
        if self._sampler is None:
            return Candidates.of_truth(truth)
        if self._sampler.n is None or self._sampler.n >= now.n_items:
            return None
        return self._sampler.draw(self._inclusion(now, self._sampler), truth, rng, own)

    @staticmethod
    def _probabilities(now: AsOf, sampler: CandidateSampler) -> NDArray[np.float64]:
        return sampler.inclusion(now.demand(POPULARITY_WEEKS))
