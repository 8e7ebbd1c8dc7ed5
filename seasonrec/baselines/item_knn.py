"""What is bought by those who bought what the user has."""

import numpy as np
import scipy.sparse as sp
from implicit.nearest_neighbours import ItemItemRecommender
from numpy.typing import NDArray

from seasonrec.baselines.popular import recent_popularity
from seasonrec.bounds import bounded
from seasonrec.data.timeline import AsOf


class ItemKnn:
    """The user's decayed purchases spread over the k nearest items of each, plus the purchases themselves.

    Nearness of items i and j is `n_ij / sqrt((n_i + shrink) * (n_j + shrink))`, n the users who bought one or both:
    the cosine, shrunk towards 0 where few users have bought. It is learned at the cut-off and frozen.

    Reference: Sarwar, Karypis, Konstan and Riedl (2001), Item-based collaborative filtering recommendation algorithms.

    Args:
        decay: what is left of a purchase after a week, 0 to 1.
        k: how many neighbours of each bought item get a share.
        shrink: users that an item would need for half of its nearness to itself; 0 is the plain cosine.
        own: weight of the user's own purchases. A popular item is near many of them at once, so it takes more than 1.
        mix: weight of recent popularity, of which the most bought item has 1.
    """

    def __init__(self, decay: float = 0.97, k: int = 20, shrink: float = 10.0, own: float = 20.0, mix: float = 0.02):
        self._decay, self._k = bounded("item_knn.decay", decay, 0, 1), int(bounded("item_knn.k", k, 1))
        self._shrink, self._own = bounded("item_knn.shrink", shrink, 0), bounded("item_knn.own", own, 0)
        self._mix = bounded("item_knn.mix", mix, 0)
        self.nearness = sp.csr_matrix((0, 0), dtype=np.float32)

    def fit(self, past: AsOf) -> None:
        """Learns the nearness of items."""
        self.nearness = nearest_items(past.interactions(), self._k, self._shrink)

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """Nearness to the decayed purchases, those themselves and popularity, [n_users_in_batch, n_items]."""
        bought = now.interactions(self._decay)[users]
        scores = (bought @ self.nearness + self._own * bought).toarray()
        scores += self._mix * recent_popularity(now)
        return scores


def nearest_items(purchases: sp.csr_matrix, k: int, shrink: float) -> sp.csr_matrix:
    """The shrunk cosine of each item with its k nearest ones, itself not among them, float32 [n_items, n_items].

    Args:
        purchases: [n_users, n_items]; only which are stored counts, not how much.
    """
    n = np.bincount(purchases.indices, minlength=purchases.shape[1])
    # Divided before the product, the shrinkage leaves the search for the largest products to one fast native call.
    scaled = sp.csr_matrix((1 / np.sqrt(n + shrink)[purchases.indices], purchases.indices, purchases.indptr), shape=purchases.shape)
    search = ItemItemRecommender(K=k + 1)  # an item may find itself
    search.fit(scaled, show_progress=False)
    found = search.similarity.tocoo()
    other = (found.row != found.col) & (found.data > 0)
    row, column, value = found.row[other], found.col[other], found.data[other].astype(np.float32)
    order = np.lexsort((column, -value, row))
    row, column, value = row[order], column[order], value[order]
    starts = np.searchsorted(row, np.arange(len(n)))
    near = np.arange(len(row)) - starts[row] < k
    return sp.csr_matrix((value[near], (row[near], column[near])), shape=found.shape)
