"""A last word by boosted trees: they begin at the joint model's scores and go on learning by its own loss.

Networks are smooth; trees split where a fact begins to matter. What trees say of an item is added to its score, so a recommendation still
splits exactly, into what each head contributed and what the reranker did.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import Tensor

from seasonrec.bounds import bounded
from seasonrec.data.batches import N_PAIR_FEATURES, N_USER_FEATURES, Batch, TrainingBatches, queries_at_once
from seasonrec.data.candidates import CandidateSampler
from seasonrec.data.timeline import AsOf
from seasonrec.errors import ConfigError, DataError
from seasonrec.heads.cf import MANY, lift
from seasonrec.joint.datamodule import Sampling
from seasonrec.joint.model import Scores
from seasonrec.joint.scorer import RERANKER, JointScorer

log = logging.getLogger(__name__)

# Whatever lists it learns from, the same numbers come out for one seed and number of threads.
REPEATABLE: Final = {"deterministic": True, "force_row_wise": True, "verbosity": -1}
OWN_KEYS: Final = {"objective", "num_iterations"}  # parameters of LightGBM's that are not among the options
N_OWN: Final = N_PAIR_FEATURES - N_USER_FEATURES


@dataclass(frozen=True)
class Rows:
    """The candidates of a batch, queries ascending.

    Args:
        query, item: of each row [n].
        features: what the trees see, see `rows_of` [n, d].
        score: the joint model's [n].
        own: whether the user has had the item [n].
    """

    query: Tensor
    item: Tensor
    features: Tensor
    score: Tensor
    own: Tensor


def rows_of(batch: Batch, scores: Scores, n_best: int, demand: bool = False) -> Rows:
    """What each user has had, and the best of all other items, with what is known of them.

    Features: what each head contributes and the score, its distance from the query's best, from the best of what is new to the user and
    from the log of the sum of all, the log purchases of similar users and their lift, what the user's own purchases of the item say (NaN
    where there are none), what is known of the user, where asked for the item's demand, and where they are read what the
    words of purchases say.

    Memory: some 12 bytes x queries x items, and 4 bytes x rows x features.

    Args:
        batch: over the whole catalogue.
        n_best: how many of the items that are new to a user.
    """
    total, h = scores.total, batch.history
    n_items, own = total.shape[1], h.query * total.shape[1] + h.item
    best = total.flatten().index_fill(0, own, -torch.inf).view_as(total).topk(min(n_best, n_items))
    of_new = (best.indices + torch.arange(len(total), device=own.device)[:, None] * n_items)[best.values > -torch.inf]
    cell, order = torch.cat([own, of_new]).sort()
    pair = torch.where(order < len(own), order, -1)
    query, item, score = cell // n_items, cell % n_items, total.take(cell)
    best_new = best.values[:, 0].nan_to_num(neginf=0.0)  # of a user who has had everything
    of_query = torch.stack([total.max(1).values, best_new, total.logsumexp(1)], 1)
    similar, usual = batch.similar.take(cell), batch.usual[item]
    columns = [
        *(part.expand_as(total)[query, item] for part in scores.mixed.values()),
        score,
        *(score[:, None] - of_query[query]).unbind(1),
        (MANY * similar).log1p(),
        lift(similar, usual),
    ]
    never = h.features.new_full((1, N_OWN), torch.nan)  # the last row, so that of pair -1
    known = [torch.cat([h.features[:, :N_OWN], never])[pair], h.user[query], *([batch.demand[item]] if demand else [])]
    if batch.purchase_words is not None:
        known.append(torch.from_numpy(batch.purchase_words(query.cpu().numpy(), item.cpu().numpy())).to(own.device))
    return Rows(query, item, torch.cat([torch.stack(columns, 1), *known], 1), score, pair >= 0)


@dataclass(frozen=True)
class Lists:
    """What the trees learn from: the candidates of some queries, list by list.

    Args:
        features: [n, d].
        score: the joint model's [n].
        counts: how much each bought item counts in its list, 0 of what was not bought [n].
        own: whether the user had had the item [n].
        stands_for: how many candidates of its list each row stands for, 1 of what was bought [n].
        size: rows of each list [n_lists].
        weight: of each list in the loss [n_lists].
    """

    features: NDArray[np.float32]
    score: NDArray[np.float32]
    counts: NDArray[np.float32]
    own: NDArray[np.bool_]
    stands_for: NDArray[np.float32]
    size: NDArray[np.int64]
    weight: NDArray[np.float32]

    @cached_property
    def bought(self) -> NDArray[np.bool_]:
        """Which rows are what was bought, [n]."""
        return self.counts > 0

    @staticmethod
    def of(parts: Sequence["Lists"]) -> "Lists":
        """All lists of several."""
        return Lists(**{each.name: np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Lists)})

    def and_without_own(self, weight: float) -> "Lists":
        """These lists, and each once more as one in which nothing is the user's own, where something else was bought."""
        query = np.repeat(np.arange(len(self.size)), self.size)
        has = np.bincount(query[self.bought & ~self.own], minlength=len(self.size)) > 0
        again = np.flatnonzero(~self.own & has[query])
        without = Lists(
            self.features[again],
            self.score[again],
            self.counts[again],
            self.own[again],
            self.stands_for[again],
            size=np.bincount(query[again], minlength=len(self.size))[has],
            weight=weight * self.weight[has],
        )
        return Lists.of([self, without])

    def gradients(self, score: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """First and second derivatives of the cross-entropy of softmax over each list, by the score of each row, [n] each.

        A bought item's term weighs what it counts / sqrt(n bought in the list), as in `losses.cross_entropy`. To the second a quarter
        of the terms' weight is added: where the model was sure and wrong it is 0, and a leaf's step, their quotient, would have no end.
        """
        first = np.cumsum(self.size) - self.size
        of_list = lambda values: np.repeat(values, self.size)
        term = self.counts * of_list(self.weight / np.sqrt(np.add.reduceat(self.bought.astype(float), first)))
        share = self.stands_for * np.exp(score - of_list(np.maximum.reduceat(score, first)))
        share /= of_list(np.add.reduceat(share, first))
        expected = of_list(np.add.reduceat(term, first)) * share
        return expected - term, expected * (1 - share) + term / 4

    def best_share(self, told: NDArray[np.float64]) -> float:
        """The share of what is added to each row's score, from 0 to 1, with which the cross-entropy is least; it is convex in it.

        Args:
            told: what is added [n].
        """
        slope = lambda share: float(self.gradients(self.score + share * told)[0] @ told)
        if slope(0.0) >= 0:
            return 0.0
        return 1.0 if slope(1.0) <= 0 else float(brentq(slope, 0.0, 1.0, xtol=1e-4))


class BoostedTrees:
    """Gradient-boosted trees that learn the order of lists by cross-entropy, from the joint model's scores on.

    Before it has learnt, it changes nothing. It learns from weeks that the model has learnt from. One that knows them by heart says more
    there than it will know later, and the trees believe it too much: how much of what they say counts, `trust`, is found on weeks that
    were held out, or taken over from another reranker of the same run, which was asked there.

    Memory while it learns: five times 4 bytes x queries x (`n_negatives` + purchases a query) x features at most, and some 50 bytes for
    every score of a batch of queries and the whole catalogue.

    Args:
        n_queries: that it learns from, drawn from the weeks that the model learns from; None for all.
        n_best: of the items that are new to a user, how many are reranked; the user's own all are.
        n_negatives: of a query's candidates that were not bought, how many it learns from, on average; they stand for the others.
        n_rounds: trees.
        n_judged: about so many queries its trust is found by; None for all.
        new: weight of the same lists without own items, beside 1 for the whole ones.
        demand: whether it sees the items' demand. Where each season was seen once or twice, trees learn by heart what it sold.
        options: LightGBM's own parameters, by its own names of them.

    Attributes:
        trust: what share of the trees' word counts, from 0 to 1.

    Raises:
        ConfigError: a number below what it can be, or an option that LightGBM does not know or take.

    Reference: Friedman (2001), Greedy function approximation: a gradient boosting machine; Ke et al. (2017), LightGBM; the trust is a line
    search of Friedman's on weeks that were held out, as in Wolpert (1992), Stacked generalization.
    """

    def __init__(
        self,
        *,
        n_queries: int | None = 10_000,
        n_best: int = 200,
        n_negatives: int = 100,
        n_rounds: int = 60,
        n_judged: int | None = 1_000,
        new: float = 0.2,
        demand: bool = False,
        options: Mapping[str, Any] | None = None,
    ):
        counts = {"n_queries": n_queries, "n_best": n_best, "n_negatives": n_negatives, "n_rounds": n_rounds, "n_judged": n_judged}
        for name, value in counts.items():
            if value is not None:
                bounded(f"reranker.{name}", value, 1)
        self._n_queries, self._n_best, self._n_negatives = n_queries, n_best, n_negatives
        self._n_rounds, self._n_judged = n_rounds, n_judged
        self._new, self._demand, self._options = bounded("reranker.new", new, 0), demand, {**(options or {}), **REPEATABLE}
        self._refuse_unknown_options()
        self._trees: lightgbm.Booster | None = None
        self.trust = 1.0

    def __call__(self, batch: Batch, scores: Scores) -> Scores:
        """The scores with what the trees add to them, as the part `reranker`: 0 for items that are no candidates, and for each query's
        candidate that the trees say least of, so that no candidate falls behind what the trees have not seen.

        Args:
            batch: over the whole catalogue.
        """
        if self._trees is None:
            return scores
        rows = rows_of(batch, scores, self._n_best, self._demand)
        told = torch.from_numpy((self.trust * self._told(rows.features.cpu().numpy())).astype(np.float32))
        said, added = told.to(scores.total.device), torch.zeros_like(scores.total)
        least = said.new_full((len(added),), torch.inf).scatter_reduce(0, rows.query, said, "amin")
        added[rows.query, rows.item] = said - least[rows.query]
        return replace(scores, total=scores.total + added, mixed={**scores.mixed, RERANKER: added})

    def learn(self, scorer: JointScorer, past: AsOf, sampling: Sampling, seed: int) -> None:
        """Fits the trees to what was bought in past weeks.

        Args:
            scorer: of the trained model.
            past: all that was known at the cut-off.
            sampling: from which weeks and users, and how many queries at a time.

        Raises:
            DataError: none of the candidates was bought, or too little is known of them to tell them apart.
        """
        lists = self.lists(scorer, past, weeks := sampling.weeks(past), self._n_queries, sampling, seed)
        if not len(lists.size):
            raise DataError(f"reranker: nothing that was bought in weeks {weeks[0]} to {weeks[-1]} is among the candidates")
        log.info("reranker: %d trees learn from %d lists of %d candidates in all", self._n_rounds, len(lists.size), len(lists.score))
        derivatives: Callable = lambda score, table: lists.gradients(score)
        options = self._options | {"objective": derivatives, "seed": seed, "num_threads": torch.get_num_threads()}
        table = lightgbm.Dataset(lists.features, lists.bought, init_score=lists.score)
        try:
            self._trees = lightgbm.train(options, table, self._n_rounds)
        except lightgbm.basic.LightGBMError as error:  # e.g. no fact has two values
            said = str(error).strip()
            raise DataError(f"reranker: nothing to learn from {len(lists.score)} candidates ({said}); give reranker=none") from error

    def find_trust(self, scorer: JointScorer, now: AsOf, weeks: range, sampling: Sampling, seed: int) -> None:
        """Finds the trust with which the loss of weeks that neither model nor trees have learnt from is least.

        Whichever users were learnt from, it is that of all. Where none of the candidates was bought, it is 0, with a warning.

        Args:
            now: all that was known after these weeks.
            weeks: from the cut-off on.
        """
        lists = self.lists(scorer, now, weeks, self._n_judged, replace(sampling, users=1.0), seed)
        if len(lists.size):
            self.trust = lists.best_share(self._told(lists.features))
            log.info("reranker: %.0f%% of what the trees say counts, by weeks %d to %d", 100 * self.trust, weeks[0], weeks[-1])
        else:
            self.trust = 0.0
            log.warning(
                "reranker: nothing bought in weeks %d to %d is a candidate, so nothing that the trees say counts", weeks[0], weeks[-1]
            )

    def lists(self, scorer: JointScorer, now: AsOf, weeks: range, n_queries: int | None, sampling: Sampling, seed: int) -> Lists:
        """The candidates of queries of some weeks, drawn; of those queries alone that have a bought one."""
        batches = TrainingBatches(
            now,
            weeks,
            scorer.batcher,
            batch_size=queries_at_once(now.n_items, sampling.batch_size),
            sampler=CandidateSampler(n=None),
            seed=seed,
            n_queries=n_queries,
            users=sampling.users,
            in_season=sampling.in_season,
            shared=False,
        )
        rng = np.random.default_rng(seed)
        parts = [self._drawn(batch, scorer.of_batch(batch), rng) for batch in (each.to(scorer.model.device) for each in batches)]
        lists = Lists.of(parts)
        del parts
        return lists.and_without_own(self._new) if self._new else lists

    def save(self, path: Path) -> None:
        """Writes what was learnt, as JSON: the trust, and the trees as LightGBM writes them."""
        assert self._trees is not None, "it has learnt"
        path.write_text(json.dumps({"trust": self.trust, "trees": self._trees.model_to_string()}))

    def load(self, path: Path) -> None:
        """Reads what was learnt.

        Raises:
            DataError: there is no such file, or it holds no trees.
        """
        try:
            learnt = json.loads(path.read_text())
            self._trees, self.trust = lightgbm.Booster(model_str=learnt["trees"]), bounded("trust", learnt["trust"], 0, 1)
        except (OSError, ValueError, KeyError, TypeError, ConfigError, lightgbm.basic.LightGBMError) as error:
            raise DataError(f"{path}: cannot be read as the trees of a reranker: {error}") from error

    def _told(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        assert self._trees is not None, "it has learnt"
        return np.asarray(self._trees.predict(features, num_threads=torch.get_num_threads()))

    def _refuse_unknown_options(self) -> None:
        """LightGBM itself passes over names that it does not know: what it has understood stands in any model of its own."""
        try:
            tried = lightgbm.train(self._options, lightgbm.Dataset(np.zeros((2, 1)), np.zeros(2)), 1)
        except (lightgbm.basic.LightGBMError, TypeError) as error:
            raise ConfigError(f"reranker.options: LightGBM does not take them: {error}") from error
        known = set(re.findall(r"^\[(\w+): ", tried.model_to_string(), re.MULTILINE)) - OWN_KEYS
        if unknown := sorted(set(self._options) - known):
            raise ConfigError(
                f"reranker.options.{unknown[0]}: not the name of a parameter of LightGBM's, or one that is set here in another way"
            )

    def _drawn(self, batch: Batch, scores: Scores, rng: np.random.Generator) -> Lists:
        """The candidates of a batch that are learnt from; only of queries with a bought one."""
        rows, n = rows_of(batch, scores, self._n_best, self._demand), len(batch.user)
        truth = torch.zeros(scores.total.shape)
        truth[batch.truth_query.cpu(), batch.truth_column.cpu()] = 1.0 if batch.truth_weight is None else batch.truth_weight.cpu()
        counts, query = truth[rows.query.cpu(), rows.item.cpu()].numpy(), rows.query.cpu().numpy()
        bought = counts > 0
        n_bought, n_rows = np.bincount(query[bought], minlength=n), np.bincount(query, minlength=n)
        share = np.minimum(self._n_negatives / np.maximum(n_rows - n_bought, 1), 1)[query]
        kept = np.flatnonzero((n_bought > 0)[query] & (bought | (rng.random(len(query)) < share)))
        size = np.bincount(query[kept], minlength=n)[n_bought > 0]
        return Lists(
            rows.features.cpu().numpy()[kept],
            rows.score.cpu().numpy()[kept],
            counts[kept],
            rows.own.cpu().numpy()[kept],
            np.where(bought, 1, 1 / share).astype(np.float32)[kept],
            size,
            weight=np.ones(len(size), np.float32),
        )
