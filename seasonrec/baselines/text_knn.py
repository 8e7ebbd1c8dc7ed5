"""What reads nearly like single things which the user bought."""

from functools import cached_property

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from seasonrec.baselines.popular import recent_popularity
from seasonrec.baselines.text_profile import TextProfile
from seasonrec.bounds import bounded
from seasonrec.data.timeline import AsOf
from seasonrec.encoders.neighbours import Neighbours


class TextKnn(TextProfile):
    """Each of the user's decayed purchases counts for the items whose texts are among the nearest to its own, by how near they are.

    Zero-shot, as `TextProfile`; but a mean of texts says what kind of things somebody buys, a neighbour what one of them is like.

    Memory: 12 bytes x distinct texts x k; time: distinct texts squared, once, when it is first asked.

    Args:
        vectors, decay: as of `TextProfile`.
        k: neighbours of a text, itself included.
        sharpness: a neighbour counts `exp(sharpness * (cosine - 1))`.
        mix: weight of recent popularity, of which the most bought item has 1.
    """

    name = "text_knn"

    def __init__(self, vectors: NDArray[np.float32], decay: float = 0.97, k: int = 50, sharpness: float = 10.0, mix: float = 0.02):
        super().__init__(vectors, decay)
        self._mix, self._k = bounded("text_knn.mix", mix, 0), int(bounded("text_knn.k", k, 1))
        self._sharpness = bounded("text_knn.sharpness", sharpness, 0)

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """Decayed purchases of near texts plus popularity, [n_users_in_batch, n_items]."""
        text_of, like = self._texts
        of_items = sp.csr_matrix((np.ones(len(text_of), np.float32), text_of, np.arange(len(text_of) + 1)), (len(text_of), like.shape[0]))
        of_texts = (now.interactions(self._decay)[users] @ of_items @ like).toarray()
        return of_texts[:, text_of] + self._mix * recent_popularity(now)

    @cached_property
    def _texts(self) -> tuple[NDArray[np.int64], sp.csr_matrix]:
        """The text of each item [n_items], and how much a purchase of each text counts for each other one [n_texts, n_texts]."""
        texts, text_of = np.unique(self._vectors, axis=0, return_inverse=True)
        near = Neighbours.of(text_of, texts, self._k)
        return text_of, near.matrix(near.weights(self._sharpness))
