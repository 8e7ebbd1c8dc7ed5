"""Ratings without any text: means, shrunk where little is known, and factors."""

from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from seasonrec.bounds import bounded
from seasonrec.data.timeline import AsOf
from seasonrec.errors import ConfigError, DataError

Of = Literal["all", "user", "item"]
START: Final = 0.1  # standard deviation of the factors' random start


class MeanRating:
    """The mean rating so far: of all, of the user or of the item, the latter two shrunk towards that of all.

    Args:
        of: "all", "user" or "item".
        shrinkage: how many ratings at the mean of all are added to those of each user or item.

    Raises:
        ConfigError: another `of`.
    """

    def __init__(self, of: Of = "all", shrinkage: float = 5.0):
        if of not in get_args(Of):
            raise ConfigError(f"mean_rating.of is {of!r}, wanted one of {', '.join(get_args(Of))}")
        self._of, self._shrinkage = of, bounded("mean_rating.shrinkage", shrinkage, 0)
        self._last: tuple[AsOf, NDArray[np.float32]] | None = None  # a moment is asked batch by batch

    def fit(self, past: AsOf) -> None:
        """Nothing: means go on with the timeline."""

    def ratings(self, users: NDArray[np.int64], items: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """The mean as of now, [n]."""
        if self._last is None or self._last[0] != now:
            self._last = now, self._means(now)
        means = self._last[1]
        return means[{"all": np.zeros(len(users), np.int64), "user": users, "item": items}[self._of]]

    def _means(self, now: AsOf) -> NDArray[np.float32]:
        """Of each user or item, [n]; of all, [1]."""
        user, item, rating = rated(now)
        mean = rating.mean()
        if self._of == "all":
            return np.full(1, mean, np.float32)
        row, n_rows = (user, now.n_users) if self._of == "user" else (item, now.n_items)
        above = np.bincount(row, weights=rating - mean, minlength=n_rows)
        # Nothing is known of a row without ratings, also where nothing is added to it.
        n = np.maximum(np.bincount(row, minlength=n_rows) + self._shrinkage, 1e-9)
        return (mean + above / n).astype(np.float32)


class RatingFactors:
    """Biased matrix factorisation: mean + user bias + item bias + user . item, by alternating ridge regressions.

    Learned at the cut-off and frozen. Memory: 8 (factors + 1)^2 bytes a rating.

    Args:
        factors: dimensions; 0 leaves the biases alone.
        l2: ridge penalty of biases and factors.
        iterations: passes over users and items.
        seed: of the factors' random start.

    Reference: Koren, Bell and Volinsky (2009), Matrix factorization techniques for recommender systems, equation 4.
    """

    def __init__(self, factors: int = 8, l2: float = 5.0, iterations: int = 20, seed: int = 0):
        self._factors = int(bounded("rating_factors.factors", factors, 0))
        self._iterations = int(bounded("rating_factors.iterations", iterations, 1))
        self._l2, self._seed = bounded("rating_factors.l2", l2, 1e-9), seed

    def fit(self, past: AsOf) -> None:
        """Learns biases and factors."""
        user, item, rating = rated(past)
        self.mean = float(rating.mean())
        # Row of a user or item: its bias, then its factors.
        self.users = np.zeros((past.n_users, self._factors + 1))
        self.items = START * np.random.default_rng(self._seed).standard_normal((past.n_items, self._factors + 1))
        for _ in range(self._iterations):
            self.users = self._solved(user, len(self.users), self.items[item], rating)
            self.items = self._solved(item, len(self.items), self.users[user], rating)

    def ratings(self, users: NDArray[np.int64], items: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """What the factors say, [n]; of users and items without ratings at the cut-off, the mean and the other side's bias."""
        of_user, of_item = self.users[users], self.items[items]
        biases = of_user[:, 0] + of_item[:, 0]
        return (self.mean + biases + (of_user[:, 1:] * of_item[:, 1:]).sum(1)).astype(np.float32)

    def _solved(self, row: NDArray, n_rows: int, other: NDArray, rating: NDArray) -> NDArray:
        """The bias and factors of one side, given those of the other side for each rating, [n_rows, factors + 1]."""
        features = other.copy()
        features[:, 0] = 1
        products = np.zeros((n_rows, features.shape[1], features.shape[1]))
        np.add.at(products, row, features[:, :, None] * features[:, None])
        wanted = np.zeros((n_rows, features.shape[1]))
        np.add.at(wanted, row, features * (rating - self.mean - other[:, 0])[:, None])
        return np.linalg.solve(products + self._l2 * np.eye(features.shape[1]), wanted[..., None])[..., 0]


def rated(now: AsOf) -> tuple[NDArray, NDArray, NDArray[np.float64]]:
    """User, item and rating of each event so far.

    Raises:
        DataError: there are no ratings.
    """
    user, item, _, rating = now.events()
    if rating is None or not len(rating):
        raise DataError(f"ratings: none are known as of week {now.week}; take data with ratings and a later first week")
    return user, item, rating.astype(np.float64)
