"""What reads like that which the user bought."""

import numpy as np
from numpy.typing import NDArray

from seasonrec.baselines.popular import recent_popularity
from seasonrec.bounds import bounded
from seasonrec.data.purchase_texts import directions
from seasonrec.data.timeline import AsOf
from seasonrec.errors import DataError


class TextProfile:
    """The cosine between each item's text vector and the decayed mean of those that the user bought.

    Zero-shot: it shows what the encoder knows before any training. It needs no purchase of an item to rank it. A user
    without history gets what is popular now.

    Args:
        vectors: of the items' texts [n_items, d]; their length does not count. An item without text has zeros.
        decay: what is left of a purchase after a week, 0 to 1.
    """

    name = "text_profile"

    def __init__(self, vectors: NDArray[np.float32], decay: float = 0.97):
        self._vectors, self._decay = directions(np.asarray(vectors, np.float32)), bounded(f"{self.name}.decay", decay, 0, 1)

    def fit(self, past: AsOf) -> None:
        """Nothing is learned.

        Raises:
            DataError: there is not one vector an item.
        """
        if len(self._vectors) != past.n_items:
            raise DataError(f"{self.name}: {len(self._vectors)} vectors for {past.n_items} items; encode one text an item, in their order")

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """Cosines between -1 and 1, or popularity up to 1, [n_users_in_batch, n_items]."""
        bought = now.interactions(self._decay)[users]
        scores = directions(bought @ self._vectors) @ self._vectors.T
        scores[np.diff(bought.indptr) == 0] = recent_popularity(now)
        return scores
