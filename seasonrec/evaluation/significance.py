"""Is one method better than another, or were the users lucky?"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import norm

from seasonrec.errors import DataError
from seasonrec.evaluation.bootstrap import bootstrap_means, interval, of_enough_users
from seasonrec.evaluation.evaluate import Evaluation, means
from seasonrec.evaluation.tables import HEADLINES

Float = NDArray[np.float64]
ALPHA: Final = 0.05
POWER: Final = 0.8


def compare(
    method: Evaluation,
    others: Mapping[str, Evaluation],
    *,
    pairs: Sequence[tuple[str, str]] = HEADLINES,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> pl.DataFrame:
    """How much better a method is than each other one, by `compare_pairs`.

    Args:
        others: evaluated on the same queries.
    """
    return compare_pairs({name: (method, other) for name, other in others.items()}, pairs=pairs, n_resamples=n_resamples, seed=seed)


def compare_pairs(
    methods: Mapping[str, tuple[Evaluation, Evaluation]],
    *,
    pairs: Sequence[tuple[str, str]] = HEADLINES,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> pl.DataFrame:
    """How much better a method is than each other one, per (slice, metric), by a paired bootstrap over users.

    Columns: other, slice, metric, difference (method - other), low and high (95%), p (two-sided), p_holm (corrected over
    all rows of this table), p_primary (of the best other method of each pair alone, corrected over the pairs: the benchmark's
    primary test, which further methods do not weaken; null elsewhere), detectable (the smallest true difference that these
    queries would show with 80% power at alpha .05), detectable_holm (the same after Holm's strictest step over all rows of this
    table), n_queries. Of fewer than `MIN_USERS` users there is a difference, and null for all that resampling would say.

    Args:
        methods: by the name of the other, at least one: the method, e.g. its mean over the seeds that both ran with, and the other, all
            evaluated on the same queries.
        pairs: the (slice, metric) to compare; with `methods`, they are the family that Holm corrects for.
        n_resamples: p cannot be less than 1 / (n_resamples + 1), and Holm multiplies it by up to the number of rows.

    Reference: Efron and Tibshirani (1993), An introduction to the bootstrap, chapter 16.

    Raises:
        DataError: nothing to compare with, a pair not evaluated, or other queries.
    """
    if not methods or not pairs:
        raise DataError("compare: give at least one other method and one (slice, metric)")
    (first, _), *_ = methods.values()
    for name, both in methods.items():
        for each in both:
            if not (np.array_equal(first.user, each.user) and np.array_equal(first.week, each.week)):
                n = len(each.user), len(first.user)
                raise DataError(f"compare: the {n[0]} queries of {name!r} are not the method's {n[1]}; rank both on the same weeks")
    gaps = np.concatenate([method.select(pairs) - other.select(pairs) for method, other in methods.values()], 1)
    difference = means(gaps)
    resampled = of_enough_users(bootstrap_means(gaps, first.user, n_resamples, seed), gaps, first.user)
    low, high = interval(resampled)
    p = two_sided_p(difference, resampled)
    best = _best_others(np.stack([means(other.select(pairs)) for _, other in methods.values()]))
    error = np.sqrt(means((resampled - means(resampled)) ** 2))
    return pl.DataFrame(
        {
            "other": [name for name in methods for _ in pairs],
            "slice": [name for name, _ in pairs] * len(methods),
            "metric": [metric for _, metric in pairs] * len(methods),
            "difference": difference,
            "low": low,
            "high": high,
            "p": p,
            "p_holm": holm(p),
            "p_primary": holm(np.where(best.ravel(), p, np.nan)),
            "detectable": standard_errors() * error,
            "detectable_holm": standard_errors(int((~np.isnan(p)).sum())) * error,
            "n_queries": (~np.isnan(gaps)).sum(0),
        }
    ).with_columns(pl.col(pl.Float64).fill_nan(None))


def _best_others(values: Float) -> NDArray[np.bool_]:
    """Which of several methods has the largest value of each column, the first of equal ones, [n_methods, n_columns]."""
    best = np.argmax(np.nan_to_num(values, nan=-np.inf), axis=0)
    return (np.arange(len(values))[:, None] == best) & ~np.isnan(values)


def standard_errors(n_tests: int = 1) -> float:
    """How many standard errors a true difference must measure to be found 4 times out of 5 at alpha .05.

    2.8 (1.96 + .84) in one test. Of several, corrected after Holm, it is the number for the smallest p, which is held to alpha / n_tests;
    the further ones need less.

    Reference: Cohen (1988), Statistical power analysis for the behavioral sciences, chapter 2, in its normal approximation.
    """
    return float(norm.isf(ALPHA / 2 / max(n_tests, 1)) + norm.isf(1 - POWER))


def two_sided_p(difference: Float, resampled: Float) -> Float:
    """How often resampling alone moves the mean by as much as the difference seen, [n_columns]; NaN where there is none.

    The resamples are shifted to mean 0, which is the null hypothesis. One is added above and below, so p is never 0; without resamples
    it is NaN.

    Args:
        difference: seen [n_columns].
        resampled: the same difference in each resample [n_resamples, n_columns].
    """
    as_far = np.abs(resampled - difference) >= np.abs(difference)
    n = (~np.isnan(resampled)).sum(0)
    return np.where(np.isnan(difference) | (n == 0), np.nan, (1 + as_far.sum(0)) / (1 + n))


def ratio(
    method: Evaluation, other: Evaluation, pair: tuple[str, str], *, n_resamples: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """How many times another method's mean a method's is in a (slice, metric), with its 95% interval by a paired bootstrap over users.

    NaN where the other's mean is 0; the interval also where fewer than `MIN_USERS` users have a value.

    Args:
        method, other: evaluated on the same queries.
    """
    values = np.concatenate([method.select([pair]), other.select([pair])], 1)
    resampled = of_enough_users(bootstrap_means(values, method.user, n_resamples, seed), values, method.user)
    every = np.vstack([means(values), resampled])
    times = np.divide(every[:, :1], every[:, 1:], out=np.full((len(every), 1), np.nan), where=every[:, 1:] > 0)
    (low,), (high,) = interval(times[1:])
    return float(times[0, 0]), float(low), float(high)


def holm(p: Float) -> Float:
    """Holm's corrected p values of a family, [n]; NaN belongs to no family and stays.

    Reference: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return corrected
