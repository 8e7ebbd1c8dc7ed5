"""What the user buys again and again."""

import numpy as np
from numpy.typing import NDArray

from seasonrec.baselines.popular import recent_popularity
from seasonrec.bounds import bounded
from seasonrec.data.timeline import AsOf


class PersonalFrequency:
    """The user's own purchases, the older the less, then what is popular now.

    A purchase (a week in which the user bought the item) of `a` weeks ago counts `decay ** a`.

    Args:
        decay: what is left of a purchase after a week, 0 to 1; 1 counts all alike.
        mix: weight of recent popularity, of which the most bought item has 1.
    """

    def __init__(self, decay: float = 0.97, mix: float = 0.05):
        self._decay, self._mix = bounded("personal_frequency.decay", decay, 0, 1), bounded("personal_frequency.mix", mix, 0)

    def fit(self, past: AsOf) -> None:
        """Nothing is learned."""

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """Decayed frequency plus popularity, [n_users_in_batch, n_items]."""
        scores = now.interactions(self._decay)[users].toarray()
        scores += self._mix * recent_popularity(now)
        return scores
