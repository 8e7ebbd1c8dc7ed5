"""What the user buys again and again, and what users like this one do."""

from functools import lru_cache

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from seasonrec.baselines.bounds import bounded
from seasonrec.baselines.popular import recent_popularity
from seasonrec.data.timeline import AsOf


class TifuKnn:
    """The user's decayed purchases mixed with the mean of those of the k nearest users.

    Near is a large cosine between decayed purchases. A neighbour who shares nothing with the user counts as one who
    bought nothing. Nothing is learned: purchases and neighbours go on with the timeline.

    Reference: Hu, He, Gao and Zhang (2020), Modeling personalized item frequency information for next-basket
    recommendation; here with one decay a week instead of one within and one across groups of baskets.

    Args:
        decay: what is left of a purchase after a week, 0 to 1.
        k: how many neighbours.
        alpha: weight of the user's own purchases, 0 to 1; the neighbours have the rest.
        mix: weight of recent popularity, of which the most bought item has 1.
    """

    def __init__(self, decay: float = 0.97, k: int = 300, alpha: float = 0.7, mix: float = 0.02):
        self._decay, self._k = bounded("tifu_knn.decay", decay, 0, 1), int(bounded("tifu_knn.k", k, 1))
        self._alpha, self._mix = bounded("tifu_knn.alpha", alpha, 0, 1), bounded("tifu_knn.mix", mix, 0)
        self._directions = lru_cache(maxsize=1)(self._directions_at)

    def fit(self, past: AsOf) -> None:
        """Nothing is learned."""

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """Own and neighbours' decayed frequency plus popularity, [n_users_in_batch, n_items]."""
        scores = (self._weights(users, now) @ now.interactions(self._decay)).toarray()
        scores += self._mix * recent_popularity(now)
        return scores

    def _directions_at(self, now: AsOf) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """Every user's purchases divided by their norm, and the same transposed."""
        purchases = now.interactions(self._decay)
        norm = np.sqrt(np.asarray(purchases.multiply(purchases).sum(1)).ravel())
        directions = sp.diags_array(1 / np.maximum(norm, 1e-9), dtype=np.float32).tocsr() @ purchases
        return directions, directions.T.tocsr()

    def _weights(self, users: NDArray[np.int64], now: AsOf) -> sp.csr_matrix:
        """What the purchases of each user count for each of `users`, [n_users_in_batch, n_users]."""
        directions, transposed = self._directions(now)
        near = (directions[users] @ transposed).toarray()
        near[np.arange(len(users)), users] = -1  # nobody is a neighbour of their own
        k = min(self._k, now.n_users - 1)
        neighbour = np.argpartition(-near, k, 1)[:, :k]
        weight = np.where(np.take_along_axis(near, neighbour, 1) > 0, (1 - self._alpha) / max(k, 1), 0)
        column = np.column_stack([users, neighbour]).ravel()
        value = np.column_stack([np.full(len(users), self._alpha), weight]).ravel().astype(np.float32)
        return sp.csr_matrix((value, column, np.arange(len(users) + 1) * (k + 1)), shape=near.shape)
