"""What reads nearly like single things which the user bought."""

import numpy as np
from numpy.typing import NDArray

from seasonrec.baselines.popular import recent_popularity
from seasonrec.baselines.text_profile import TextProfile
from seasonrec.bounds import bounded
from seasonrec.data.timeline import AsOf
from seasonrec.encoders.neighbours import Neighbours


class TextKnn(TextProfile):
    """Each of the user's decayed purchases counts for the items whose texts are among the nearest to its own, by how near they are.

    Zero-shot, as `TextProfile`; but a mean of texts says what kind of things somebody buys, a neighbour what one of them is like.

    Memory: 12 bytes x distinct texts x k; time: distinct texts squared, once.

    Args:
        vectors, decay: as of `TextProfile`.
        k: neighbours of a text, itself included.
        sharpness: a neighbour counts `exp(sharpness * (cosine - 1))`.
        mix: weight of recent popularity, of which the most bought item has 1.
    """

    name = "text_knn"

    def __init__(self, vectors: NDArray[np.float32], decay: float = 0.97, k: int = 50, sharpness: float = 10.0, mix: float = 0.02):
        super().__init__(vectors, decay)
        self._mix = bounded("text_knn.mix", mix, 0)
        texts, self._text_of = np.unique(self._vectors, axis=0, return_inverse=True)
        near = Neighbours.of(self._text_of, texts, int(bounded("text_knn.k", k, 1)))
        like = near.matrix(near.weights(bounded("text_knn.sharpness", sharpness, 0)))
        self._like = like[self._text_of]  # of each item: where its purchase counts

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """Decayed purchases of near texts plus popularity, [n_users_in_batch, n_items]."""
        of_texts = (now.interactions(self._decay)[users] @ self._like).toarray()
        return of_texts[:, self._text_of] + self._mix * recent_popularity(now)
