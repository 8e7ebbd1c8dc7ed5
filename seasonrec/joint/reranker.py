"""A last word by boosted trees: they begin at the joint model's scores and learn what is left to say about the best of them.

Networks are smooth and few of their numbers are spent on any one case; trees split where a fact begins to matter. What trees say of an item
is added to its score, so a recommendation still splits exactly, into what each head contributed and what the reranker did.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seasonrec.data.batches import N_PAIR_FEATURES, N_USER_FEATURES, Batch, TrainingBatches
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


def rows_of(batch: Batch, scores: Scores, n_best: int) -> Rows:
    """What each user has had, and the best of all other items, with what is known of them.

    Features: what each head contributes and the score, its distance from the query's best, from the best of what is new to the user and
    from the log of the sum of all, the log purchases of similar users and their lift, what the user's own purchases of the item say (NaN
    where there are none), what is known of the user, and the item's demand.

    Memory: some 20 bytes x queries x items, and 4 bytes x rows x features.

    Args:
        batch: over the whole catalogue.
        n_best: how many of the items that are new to a user.
    """
    total, h = scores.total, batch.history
    place = torch.full(total.shape, -1, dtype=torch.int32, device=total.device)
    place[h.query, h.item] = torch.arange(len(h.item), dtype=torch.int32, device=total.device)
    new = total.masked_fill(place >= 0, -torch.inf)
    best = new.topk(min(n_best, new.shape[1]))
    among = (place >= 0).scatter(1, best.indices, True)
    query, item = among.nonzero(as_tuple=True)
    pair, score = place[query, item].long(), total[query, item]
    similar, usual = batch.similar[query, item], batch.usual[item]
    never = h.features.new_full((1, N_OWN), torch.nan)  # the last row, so that of pair -1
    best_new = best.values[:, 0].nan_to_num(neginf=0.0)  # of a user who has had everything
    of_query = torch.stack([total.max(1).values, best_new, total.logsumexp(1)], 1)
    columns = [
        *(part.expand_as(total)[query, item] for part in scores.mixed.values()),
        score,
        *(score[:, None] - of_query[query]).unbind(1),
        (MANY * similar).log1p(),
        lift(similar, usual),
    ]
    known = torch.cat([h.features[:, :N_OWN], never])[pair], h.user[query], batch.demand[item]
    return Rows(query, item, torch.cat([torch.stack(columns, 1), *known], 1), score, pair >= 0)


class LambdaMART:
    """Boosted trees that learn the order of lists, from the joint model's scores on.

    Before it has learnt, it changes nothing. It learns from weeks that the model has learnt from: one that knows them by heart says more
    there than it will know later, and the trees trust it too much.

    Memory while it learns: five times 4 bytes x queries x (`n_negatives` + purchases a query) x features at most, and some 50 bytes for
    every score of a batch of queries and the whole catalogue.

    Args:
        n_queries: that it learns from, drawn from the weeks that the model learns from; None for all.
        n_best: of the items that are new to a user, how many are reranked; the user's own all are.
        n_negatives: of a query's candidates that were not bought, how many it learns from on average.
        n_rounds: trees.
        new: weight of the same lists without own items, beside 1 for the whole ones.
        options: LightGBM's own parameters, by its own names of them.

    Raises:
        ConfigError: a number below what it can be, or an option that LightGBM does not know or take.

    Reference: Burges (2010), From RankNet to LambdaRank to LambdaMART: an overview; Ke et al. (2017), LightGBM.
    """

    def __init__(
        self,
        *,
        n_queries: int | None = 12_000,
        n_best: int = 200,
        n_negatives: int = 100,
        n_rounds: int = 100,
        new: float = 0.0,
        options: Mapping[str, Any] | None = None,
    ):
        for name, value in {"n_queries": n_queries, "n_best": n_best, "n_negatives": n_negatives, "n_rounds": n_rounds}.items():
            if value is not None and value < 1:
                raise ConfigError(f"reranker.{name} is {value}, wanted at least 1")
        if new < 0:
            raise ConfigError(f"reranker.new is {new}, wanted a weight of 0 or more")
        self._n_queries, self._n_best, self._n_negatives, self._n_rounds, self._new = n_queries, n_best, n_negatives, n_rounds, new
        self._options = {"objective": "lambdarank", **(options or {}), **REPEATABLE}
        self._refuse_unknown_options()
        self._trees: lightgbm.Booster | None = None

    def __call__(self, batch: Batch, scores: Scores) -> Scores:
        """The scores with what the trees add to them, as the part `reranker`: 0 for items that are no candidates, and for each query's
        candidate that the trees say least of, so that no candidate falls behind what the trees have not seen.

        Args:
            batch: over the whole catalogue.
        """
        if self._trees is None:
            return scores
        rows = rows_of(batch, scores, self._n_best)
        told = np.asarray(self._trees.predict(rows.features.cpu().numpy(), num_threads=torch.get_num_threads()), np.float32)
        said, added = torch.from_numpy(told).to(scores.total.device), torch.zeros_like(scores.total)
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
            DataError: none of the candidates was bought.
        """
        batches = TrainingBatches(
            past,
            sampling.weeks(past),
            scorer.batcher,
            batch_size=sampling.batch_size,
            sampler=CandidateSampler(n=None),
            seed=seed,
            n_queries=self._n_queries,
            users=sampling.users,
            shared=False,
        )
        rng = np.random.default_rng(seed)
        parts = [self._drawn(batch, scorer.of_batch(batch), rng) for batch in (each.to(scorer.model.device) for each in batches)]
        features, score, bought, own, size = (np.concatenate(each) for each in zip(*parts, strict=True))
        del parts
        if not len(size):
            raise DataError(f"reranker: nothing that was bought in weeks {sampling.weeks(past)} is among the candidates")
        weight = np.ones(len(bought), np.float32)
        if self._new:
            # The same queries once more, as lists in which nothing is the user's own.
            query = np.repeat(np.arange(len(size)), size)
            has = np.bincount(query[bought & ~own], minlength=len(size)) > 0
            again = np.flatnonzero(~own & has[query])
            weight = np.append(weight, np.full(len(again), self._new, np.float32))
            size = np.append(size, np.bincount(query[again], minlength=len(size))[has])
            features, score, bought = (np.concatenate([each, each[again]]) for each in (features, score, bought))
        log.info("reranker: %d trees learn from %d lists of %d candidates in all", self._n_rounds, len(size), len(bought))
        options = self._options | {"seed": seed, "num_threads": torch.get_num_threads()}
        try:
            self._trees = lightgbm.train(
                options, lightgbm.Dataset(features, bought, weight=weight, group=size, init_score=score), self._n_rounds
            )
        except lightgbm.basic.LightGBMError as error:
            raise ConfigError(f"reranker: LightGBM cannot learn from these lists: {error}") from error

    def save(self, path: Path) -> None:
        """Writes what was learnt as text."""
        assert self._trees is not None, "it has learnt"
        self._trees.save_model(path)

    def load(self, path: Path) -> None:
        """Reads what was learnt.

        Raises:
            DataError: there is no such file, or it holds no trees.
        """
        try:
            self._trees = lightgbm.Booster(model_file=path)
        except lightgbm.basic.LightGBMError as error:
            raise DataError(f"{path}: cannot be read as the trees of a reranker: {error}") from error

    def _refuse_unknown_options(self) -> None:
        """LightGBM itself passes over names that it does not know: what it has understood stands in a model of one list."""
        try:
            tried = lightgbm.train(self._options, lightgbm.Dataset(np.zeros((2, 1)), np.array([0, 1]), group=[2]), 1)
        except (lightgbm.basic.LightGBMError, TypeError) as error:
            raise ConfigError(f"reranker.options: LightGBM does not take them: {error}") from error
        known = set(re.findall(r"^\[(\w+): ", tried.model_to_string(), re.MULTILINE)) - {"num_iterations"}
        if unknown := sorted(set(self._options) - known):
            raise ConfigError(
                f"reranker.options.{unknown[0]}: not the name of a parameter of LightGBM's, or one that has its own key here (n_rounds)"
            )

    def _drawn(self, batch: Batch, scores: Scores, rng: np.random.Generator) -> tuple[NDArray, ...]:
        """Features, score, whether it was bought and whether the user had had it of the candidates that are learnt from, [n] each, and how
        many each query has; only of queries with a bought one.
        """
        rows, n = rows_of(batch, scores, self._n_best), len(batch.user)
        truth = torch.zeros(scores.total.shape, dtype=torch.bool)
        truth[batch.truth_query.cpu(), batch.truth_column.cpu()] = True
        bought, query = truth[rows.query.cpu(), rows.item.cpu()].numpy(), rows.query.cpu().numpy()
        found = np.bincount(query[bought], minlength=n) > 0
        share = self._n_negatives / np.maximum(np.bincount(query, minlength=n), 1)
        kept = np.flatnonzero(found[query] & (bought | (rng.random(len(query)) < share[query])))
        size = np.bincount(query[kept], minlength=n)
        features, score, own = rows.features.cpu().numpy(), rows.score.cpu().numpy(), rows.own.cpu().numpy()
        return features[kept], score[kept], bought[kept], own[kept], size[found]
