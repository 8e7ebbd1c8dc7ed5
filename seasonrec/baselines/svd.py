"""Biased matrix factorisation by stochastic gradient descent, as recommender libraries call it: SVD."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seasonrec.baselines.ratings import rated
from seasonrec.bounds import bounded
from seasonrec.data.timeline import AsOf

CONSTANTS: Final = 2  # columns of a row before its factors: bias and one


class Svd:
    """Mean + user bias + item bias + user . item, each step of which follows the gradient of a few ratings drawn without replacement.

    A step adds up what each of its ratings asks for, so that one of a single rating is the original's, and one of 64 differs from 64 of
    those by terms of the order of lr squared. Learned at the cut-off and frozen. Memory: 4 (factors + 2) bytes a user and an item.

    Args:
        factors: dimensions; 0 leaves the biases alone.
        epochs: passes over the ratings.
        lr: share of the gradient in a step.
        l2: pull of biases and factors towards 0, at each of their ratings.
        start: standard deviation of the factors' random start.
        batch_size: ratings a step; fewer are slower, many more are another method.
        seed: of the start and of the order of ratings.

    Reference: Koren, Bell and Volinsky (2009), Matrix factorization techniques for recommender systems, equations 4 and 5, in the
    settings of Hug (2020), Surprise: a Python library for recommender systems, class SVD.
    """

    def __init__(
        self,
        factors: int = 100,
        epochs: int = 20,
        lr: float = 0.005,
        l2: float = 0.02,
        start: float = 0.1,
        batch_size: int = 64,
        seed: int = 0,
    ):
        self._factors, self._epochs = int(bounded("svd.factors", factors, 0)), int(bounded("svd.epochs", epochs, 1))
        self._lr, self._l2, self._start = bounded("svd.lr", lr, 0), bounded("svd.l2", l2, 0), bounded("svd.start", start, 0)
        self._batch_size, self._seed = int(bounded("svd.batch_size", batch_size, 1)), seed

    def fit(self, past: AsOf) -> None:
        """Learns biases and factors."""
        user, item, rating = rated(past)
        self.mean, self.scale = float(rating.mean()), (rating.min(), rating.max())
        draw = torch.Generator().manual_seed(self._seed)
        # Row of a user: bias, 1, factors; of an item: 1, bias, factors. So their product is all but the mean.
        self.users, self.items = self._rows(past.n_users, user, 1, draw), self._rows(past.n_items, item, 0, draw)
        users, items = torch.from_numpy(user.astype(np.int64)), torch.from_numpy(item.astype(np.int64))
        above = torch.from_numpy(rating - self.mean).float()
        for _ in range(self._epochs):
            for batch in torch.randperm(len(above), generator=draw).split(self._batch_size):
                self._step(users[batch], items[batch], above[batch])

    def ratings(self, users: NDArray[np.int64], items: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """What the factors say, within the scale of the ratings learned from, [n]; of what is not known, the mean and the other's bias."""
        product = (self.users[torch.from_numpy(users)] * self.items[torch.from_numpy(items)]).sum(1)
        return np.clip(self.mean + product.numpy(), *self.scale).astype(np.float32)

    def _rows(self, n: int, seen: NDArray, one: int, draw: torch.Generator) -> Tensor:
        """The start, [n, factors + 2]; who has no ratings has no factors."""
        rows = torch.zeros(n, CONSTANTS + self._factors)
        rows[:, CONSTANTS:] = self._start * torch.randn(n, self._factors, generator=draw)
        rows[np.bincount(seen, minlength=n) == 0] = 0
        rows[:, one] = 1
        return rows

    def _step(self, users: Tensor, items: Tensor, above: Tensor) -> None:
        """Moves the rows of a batch down the gradient of half the squared errors and of the penalty."""
        user, item = self.users[users], self.items[items]
        error = (above - (user * item).sum(1))[:, None]
        user_step, item_step = error * item - self._l2 * user, error * user - self._l2 * item
        user_step[:, 1], item_step[:, 0] = 0, 0  # the ones stay
        self.users.index_add_(0, users, user_step, alpha=self._lr)
        self.items.index_add_(0, items, item_step, alpha=self._lr)
