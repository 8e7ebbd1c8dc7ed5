"""What users and items in a space of few dimensions say that the user takes."""

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from seasonrec.baselines.popular import recent_popularity
from seasonrec.bounds import bounded
from seasonrec.data.timeline import AsOf


class Als:
    """Products of user and item factors that fit purchases by weighted least squares, plus the user's own purchases.

    A decayed purchase of weight r is trusted `1 + confidence * r` times as much as the lack of one. Item factors are
    learned at the cut-off and frozen; a user's are solved from the history as of each week, so new users have some too.

    Reference: Hu, Koren and Volinsky (2008), Collaborative filtering for implicit feedback datasets; package `implicit`.

    Args:
        factors: dimensions of the space.
        l2: ridge penalty of the factors.
        confidence: what one purchase of the last week adds to the trust of 1.
        iterations: passes over users and items.
        decay: what is left of a purchase after a week, 0 to 1.
        own: weight of the user's own purchases.
        mix: weight of recent popularity, of which the most bought item has 1.
        seed: of the factors' random start.
    """

    def __init__(
        self,
        factors: int = 64,
        l2: float = 10.0,
        confidence: float = 2.0,
        iterations: int = 15,
        decay: float = 0.97,
        own: float = 1.0,
        mix: float = 0.02,
        seed: int = 0,
    ):
        self._factors, self._iterations = int(bounded("als.factors", factors, 1)), int(bounded("als.iterations", iterations, 1))
        self._l2, self._confidence = bounded("als.l2", l2, 0), bounded("als.confidence", confidence, 0)
        self._decay, self._own, self._mix = bounded("als.decay", decay, 0, 1), bounded("als.own", own, 0), bounded("als.mix", mix, 0)
        self._seed = seed

    def fit(self, past: AsOf) -> None:
        """Learns the item factors."""
        # The package runs threads of its own, and asks that BLAS, called from within them, does not.
        with threadpool_limits(1, "blas"):
            self.model = AlternatingLeastSquares(
                factors=self._factors, regularization=self._l2, iterations=self._iterations, random_state=self._seed
            )
            self.model.fit(self.trust(past.interactions(self._decay)), show_progress=False)

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """Products of factors, own purchases and popularity, [n_users_in_batch, n_items]."""
        bought = now.interactions(self._decay)[users]
        with threadpool_limits(1, "blas"):
            factors = self.model.recalculate_user(users, self.trust(bought))
        scores = (self._own * bought).toarray()
        scores += factors @ self.model.item_factors.T
        scores += self._mix * recent_popularity(now)
        return scores

    def trust(self, bought: sp.csr_matrix) -> sp.csr_matrix:
        """How much each decayed purchase is trusted, the lack of one being trusted once, [n_users, n_items]."""
        return sp.csr_matrix((1 + self._confidence * bought.data, bought.indices, bought.indptr), shape=bought.shape)
