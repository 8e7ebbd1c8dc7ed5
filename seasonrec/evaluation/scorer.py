"""What evaluation asks of a method, whoever wrote it."""

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from seasonrec.data.timeline import AsOf


@runtime_checkable
class Scorer(Protocol):
    """Anything that can rank the catalogue for a user at a moment.

    Structural: a scorer imports nothing from here. `AsOf` shows only what was known, so a scorer cannot look ahead.
    """

    def fit(self, past: AsOf) -> None:
        """Learns parameters from all that was known at the cut-off; called once before any scoring."""

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """One score per catalogue item for each user, [n_users_in_batch, n_items]; greater is better.

        All users share the one moment `now`; consecutive calls come with the same `now`. Users without history get a
        finite score too.
        """
