"""What the user buys again and again, and what users like this one do."""

import numpy as np
from numpy.typing import NDArray

from seasonrec.baselines.popular import recent_popularity
from seasonrec.bounds import bounded
from seasonrec.data.similar_users import SimilarUsers
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
        self._decay = bounded("tifu_knn.decay", decay, 0, 1)
        self._alpha, self._mix = bounded("tifu_knn.alpha", alpha, 0, 1), bounded("tifu_knn.mix", mix, 0)
        self._similar = SimilarUsers(int(bounded("tifu_knn.k", k, 1)), decay, n_users=None, max_gb=0)

    def fit(self, past: AsOf) -> None:
        """Nothing is learned."""

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """Own and neighbours' decayed frequency plus popularity, [n_users_in_batch, n_items]."""
        scores = (1 - self._alpha) * self._similar.bought(users, now) + self._mix * recent_popularity(now)
        own = self._alpha * now.interactions(self._decay)[users].tocoo()
        scores[own.row, own.col] += own.data
        return scores
