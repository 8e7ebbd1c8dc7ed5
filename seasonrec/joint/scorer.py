"""The joint model as a scorer: what evaluation and serving ask."""

from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from seasonrec.data.batches import Batch, Batcher
from seasonrec.data.timeline import AsOf
from seasonrec.joint.datamodule import Sampling
from seasonrec.joint.model import JointModel, Scores

RERANKER: Final = "reranker"  # its part of a mixed score, beside those of the heads


class Reranker(Protocol):
    """Has the last word on a trained model's rankings; it learns from past weeks once the model has learnt.

    Attributes:
        trust: how much of what it says counts, from 0 to 1.
    """

    trust: float

    def __call__(self, batch: Batch, scores: Scores) -> Scores:
        """Scores of the whole catalogue with one part more; the same ones before it has learnt."""

    def learn(self, scorer: "JointScorer", past: AsOf, sampling: Sampling, seed: int) -> None:
        """Learns from what was bought before a cut-off."""

    def find_trust(self, scorer: "JointScorer", now: AsOf, weeks: range, sampling: Sampling, seed: int) -> None:
        """Finds its trust on weeks that neither the model nor it has learnt from."""

    def save(self, path: Path) -> None:
        """Writes what was learnt."""

    def load(self, path: Path) -> None:
        """Reads what was learnt."""


class JointScorer:
    """Scores the whole catalogue with a trained model.

    Args:
        model: put into evaluation mode for every call, and back, unless it is in it.
        batcher: of the timeline whose users and items the model knows.
        reranker: has the last word; None: the model has.
    """

    def __init__(self, model: JointModel, batcher: Batcher, reranker: Reranker | None = None):
        self.model, self.batcher, self._reranker = model, batcher, reranker

    def fit(self, past: AsOf) -> None:
        """Nothing: training has learnt the parameters."""

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """The mixed score of every item, [n, n_items]."""
        return self.explained(users, now).total.float().cpu().numpy()

    def ratings(self, users: NDArray[np.int64], items: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """The mixed score of one item for each user, [n]; the rating, where that is what the scores have learnt."""
        batch = self.batcher.of_pairs(users, items, now).to(self.model.device)
        return self.of_batch(batch).total[batch.truth_query, batch.truth_column].float().cpu().numpy()

    def explained(self, users: NDArray[np.int64], now: AsOf, about: int | None = None) -> Scores:
        """The same with what each head contributes, and what the reranker adds.

        Args:
            users: rows; -1 is a user of whom nothing is known.
            about: the start of a later week to score for, int64 seconds UTC; None for the one that begins now.
        """
        batch = self.batcher.batch(users, now, about=about).to(self.model.device)
        scores = self.of_batch(batch)
        return scores if self._reranker is None else self._reranker(batch, scores)

    @torch.no_grad()  # not inference_mode: moments and season texts made here are kept, and training may need the same ones
    def of_batch(self, batch: Batch) -> Scores:
        """What the model alone says of a batch on its device."""
        if not self.model.training:  # an encoder has hundreds of modules to be told
            return self.model(batch)
        self.model.eval()
        try:
            return self.model(batch)
        finally:
            self.model.train()
