"""The joint model as a scorer: what evaluation and serving ask."""

import numpy as np
import torch
from numpy.typing import NDArray

from seasonrec.data.batches import Batch, Batcher
from seasonrec.data.timeline import AsOf
from seasonrec.joint.model import JointModel, Scores


class JointScorer:
    """Scores the whole catalogue with a trained model.

    Args:
        model: put into evaluation mode for every call, and back.
        batcher: of the timeline whose users and items the model knows.
    """

    def __init__(self, model: JointModel, batcher: Batcher):
        self.model, self._batcher = model, batcher

    def fit(self, past: AsOf) -> None:
        """Nothing: training has learnt the parameters."""

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """The mixed score of every item, [n, n_items]."""
        return self.explained(users, now).total.float().cpu().numpy()

    def ratings(self, users: NDArray[np.int64], items: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """The mixed score of one item for each user, [n]; the rating, where that is what the scores have learnt."""
        batch = self._batcher.of_pairs(users, items, now).to(self.model.device)
        return self._scores(batch).total[batch.truth_query, batch.truth_column].float().cpu().numpy()

    def explained(self, users: NDArray[np.int64], now: AsOf, about: int | None = None) -> Scores:
        """The same with what each head contributes.

        Args:
            users: rows; -1 is a user of whom nothing is known.
            about: the start of a later week to score for, int64 seconds UTC; None for the one that begins now.
        """
        return self._scores(self._batcher.batch(users, now, about=about).to(self.model.device))

    @torch.no_grad()  # not inference_mode: moments and season texts made here are kept, and training may need the same ones
    def _scores(self, batch: Batch) -> Scores:
        was_training = self.model.training
        self.model.eval()
        try:
            return self.model(batch)
        finally:
            self.model.train(was_training)
