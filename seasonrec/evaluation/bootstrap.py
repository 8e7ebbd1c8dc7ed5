"""Resampled means: what a metric might have been with other users of the same kind."""

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
MIN_USERS = 10  # of fewer, resampling finds a difference in one of seven cases or more where there is none
AT_ONCE = 2_500_000  # users drawn at a time, of several resamples: 60 MB


def bootstrap_means(values: Float, users: NDArray, n_resamples: int = 1_000, seed: int = 0) -> Float:
    """The mean of each column over resampled users, [n_resamples, n_columns].

    Users are drawn with replacement and bring all their queries: weeks of one user are alike, so drawing queries
    would give intervals that are too narrow. NaN cells count in no mean; a resample without any is NaN.

    Args:
        values: one row per query, one column per metric.
        users: the user of each query.

    Reference: Field and Welsh (2007), Bootstrapping clustered data, "randomised cluster bootstrap".
    """
    row = np.unique(users, return_inverse=True)[1]
    n_users = int(row.max(initial=-1)) + 1
    by_user = np.zeros((n_users, 2, values.shape[1]))
    np.add.at(by_user[:, 0], row, np.nan_to_num(values))
    np.add.at(by_user[:, 1], row, ~np.isnan(values))
    rng = np.random.default_rng(seed)
    chunk = max(1, AT_ONCE // max(1, n_users))
    sizes = (min(chunk, n_resamples - done) for done in range(0, n_resamples, chunk))
    total, n = np.moveaxis(np.concatenate([np.tensordot(_weights(rng, size, n_users), by_user, 1) for size in sizes]), 1, 0)
    return np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0)


def of_enough_users(resampled: Float, values: Float, users: NDArray) -> Float:
    """Resampled means without the columns in which fewer than `MIN_USERS` users have a value, which are NaN: they tell nothing of others.

    Args:
        resampled: from `bootstrap_means` of the same values and users.
    """
    n_users = np.array([len(np.unique(users[~np.isnan(column)])) for column in values.T])
    return np.where(n_users >= MIN_USERS, resampled, np.nan)


def _weights(rng: np.random.Generator, n_resamples: int, n_users: int) -> Float:
    """How often each user is drawn in each resample, [n_resamples, n_users]."""
    drawn = rng.integers(n_users, size=(n_resamples, n_users)) + np.arange(n_resamples)[:, None] * n_users
    return np.bincount(drawn.ravel(), minlength=n_resamples * n_users).reshape(n_resamples, n_users).astype(np.float64)


def interval(means: Float, level: float = 0.95) -> tuple[Float, Float]:
    """The central percentile interval of each column, two arrays [n_columns]; NaN where no resample has a value."""
    bounds = np.full((2, means.shape[1]), np.nan)
    known = ~np.isnan(means).all(0)
    bounds[:, known] = np.nanquantile(means[:, known], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return bounds[0], bounds[1]
