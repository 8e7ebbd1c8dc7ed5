"""What a linear model of all purchases expects of the user's."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import get_lapack_funcs

from seasonrec.baselines.popular import recent_popularity
from seasonrec.bounds import bounded
from seasonrec.data.timeline import AsOf
from seasonrec.errors import ConfigError
from seasonrec.schema import WEEK

# Items whose products with all others are made at a time: with 8,000 items, a sparse block stays below 100 MB.
BLOCK = 1_024


class Ease:
    """The user's decayed purchases times item-item weights that predict each item from all others, plus the purchases.

    The weights solve a ridge regression per item, with a zero diagonal, in closed form. They are learned at the cut-off
    and frozen.

    Reference: Steck (2019), Embarrassingly shallow autoencoders for sparse data, equation 8.

    Args:
        decay: what is left of a purchase after a week, 0 to 1; the weights are learned without it.
        l2: ridge penalty, in users; greater than 0.
        own: weight of the user's own purchases.
        mix: weight of recent popularity, of which the most bought item has 1.
        max_items: only so many most bought items have weights, the others their own purchases and popularity alone.
            8,000 need 1 GB and seconds at the cut-off; both grow with its square and cube.
        refit_weeks: learns the weights anew whenever so many weeks have begun, counted from week 0. The benchmark's
            protocol wants None: never.
    """

    def __init__(
        self,
        decay: float = 0.97,
        l2: float = 1_000.0,
        own: float = 1.0,
        mix: float = 0.02,
        max_items: int = 8_000,
        refit_weeks: int | None = None,
    ):
        self._decay, self._l2 = bounded("ease.decay", decay, 0, 1), bounded("ease.l2", l2, 0)
        self._own, self._mix = bounded("ease.own", own, 0), bounded("ease.mix", mix, 0)
        self._max_items = int(bounded("ease.max_items", max_items, 1))
        self._refit_weeks = None if refit_weeks is None else int(bounded("ease.refit_weeks", refit_weeks, 1))
        self._learned_week: int | None = None
        self.kept = np.zeros(0, np.int64)
        self.weights = np.zeros((0, 0), np.float32)

    def fit(self, past: AsOf) -> None:
        """Learns the weights between the most bought items.

        Raises:
            ConfigError: `l2` is too small for a stable solution.
        """
        bought = past.n_bought
        most = np.argsort(-bought, kind="stable")[: self._max_items]
        self.kept = np.sort(most[bought[most] > 0])
        self.weights = closed_form(past.interactions()[:, self.kept], self._l2)
        self._learned_week = past.week

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """Expected purchases, own ones and popularity, [n_users_in_batch, n_items]."""
        self._refit(now)
        bought = now.interactions(self._decay)[users]
        scores = (self._own * bought).toarray()
        scores += self._mix * recent_popularity(now)
        scores[:, self.kept] += bought[:, self.kept] @ self.weights
        return scores

    def _refit(self, now: AsOf) -> None:
        if self._refit_weeks is None:
            return
        week = now.week // self._refit_weeks * self._refit_weeks
        if self._learned_week is None or not week <= self._learned_week <= now.week:  # those of the cut-off stay until the next refit
            self.fit(now.earlier(now.week_zero + week * WEEK))


def closed_form(purchases: sp.csr_matrix, l2: float) -> NDArray[np.float32]:
    """What each item (row) adds to the expected purchases of each other one (column), zero on the diagonal, [n, n].

    Args:
        purchases: [n_users, n]; only which are stored counts, not how much.
        l2: ridge penalty, in users.

    Raises:
        ConfigError: the penalty is too small for a stable solution.
    """
    n = purchases.shape[1]
    users = sp.csr_matrix((np.ones_like(purchases.data), purchases.indices, purchases.indptr), shape=purchases.shape)
    items, gram = users.T.tocsr(), np.empty((n, n), np.float32)
    for first in range(0, n, BLOCK):
        gram[first : first + BLOCK] = (items[first : first + BLOCK] @ users).toarray()
    gram.flat[:: n + 1] += l2
    inverse = _inverse(gram, l2)
    inverse /= -inverse.diagonal()
    inverse.flat[:: n + 1] = 0
    return inverse


def _inverse(gram: NDArray[np.float32], l2: float) -> NDArray[np.float32]:
    """The inverse of a symmetric matrix, which is overwritten; by Cholesky in half the work of a general inverse."""
    if not len(gram):
        return gram
    potrf, potri = get_lapack_funcs(("potrf", "potri"), (gram,))
    # The transpose is the same matrix, in the memory order that LAPACK can overwrite; `clean` zeroes its other half.
    factor, failed = potrf(gram.T, lower=True, clean=True, overwrite_a=True)
    if failed:
        raise ConfigError(f"ease.l2 is {l2}, too small for the products of {len(gram)} items to be inverted; raise it")
    half, _ = potri(factor, lower=True, overwrite_c=True)
    inverse = half + half.T
    inverse.flat[:: len(gram) + 1] /= 2
    return inverse
