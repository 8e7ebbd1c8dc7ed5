"""What a ranked list is worth: pure functions on hits, on lists, on probabilities and on ratings.

`hits` [n, k] says for each query which places of its list hold a relevant item; `n_relevant` [n] how many relevant
items the query has in all. A query without any gives NaN, not 0: there was nothing to find. A list that is shorter than
the k of a metric counts as filled up with misses.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
Int = NDArray[np.integer]
Float = NDArray[np.float64]
HitMetric = Callable[[Bool, Int, int], Float]


def _per_relevant(value: NDArray, n_relevant: Int) -> Float:
    return np.where(n_relevant > 0, value, np.nan)


def discounts(k: int) -> Float:
    """The worth of a hit at each place, 1 / log2(place + 1), [k]."""
    return 1 / np.log2(np.arange(2, k + 2))


def ndcg(hits: Bool, n_relevant: Int, k: int) -> Float:
    """Discounted gain of the first k places as a share of the best possible one, in [0, 1], [n].

    The best possible list begins with min(k, n_relevant) hits.

    Reference: Järvelin and Kekäläinen (2002), Cumulated gain-based evaluation of IR techniques, with binary gains.
    """
    hits = hits[:, :k]
    ideal = np.append(0, np.cumsum(discounts(k)))[np.minimum(n_relevant, k)]
    return _per_relevant(hits @ discounts(hits.shape[1]) / np.maximum(ideal, 1), n_relevant)


def recall(hits: Bool, n_relevant: Int, k: int) -> Float:
    """The share of the relevant items that stand among the first k, in [0, 1], [n]."""
    return _per_relevant(hits[:, :k].sum(1) / np.maximum(n_relevant, 1), n_relevant)


def reciprocal_rank(hits: Bool, n_relevant: Int, k: int) -> Float:
    """1 / place of the first hit among the first k, 0 where there is none, [n]. Its mean is the MRR.

    Reference: Voorhees (1999), The TREC-8 question answering track report.
    """
    hits = hits[:, :k]
    return _per_relevant(np.where(hits.any(1), 1 / (hits.argmax(1) + 1), 0), n_relevant)


def hit_rate(hits: Bool, n_relevant: Int, k: int) -> Float:
    """1 where any of the first k places is a hit, else 0, [n]."""
    return _per_relevant(hits[:, :k].sum(1) > 0, n_relevant)


class Metric(NamedTuple):
    """A metric of hits and its list length."""

    of: HitMetric
    k: int


METRICS: Final[Mapping[str, Metric]] = {
    "ndcg@10": Metric(ndcg, 10),
    "recall@10": Metric(recall, 10),
    "recall@50": Metric(recall, 50),
    "mrr": Metric(reciprocal_rank, 100),
    "hit_rate@10": Metric(hit_rate, 10),
}


def exposure(items: Int, n_items: int) -> NDArray[np.int64]:
    """How often each catalogue item stands in the lists, [n_items]; -1 marks an empty place."""
    return np.bincount(items[items >= 0], minlength=n_items)


def coverage(items: Int, n_items: int) -> float:
    """The share of the catalogue that stands in at least one list, in [0, 1].

    Reference: Ge, Delgado-Battenfeld and Jannach (2010), Beyond accuracy, section 3.1.
    """
    return float(np.mean(exposure(items, n_items) > 0))


def gini(items: Int, n_items: int) -> float:
    """How unequally the lists expose the catalogue: 0 all items alike, towards 1 a single item.

    Reference: Shani and Gunawardana (2011), Evaluating recommendation systems, section 8.3.6; as half the relative mean difference.
    """
    shown = np.sort(exposure(items, n_items))
    if not shown.any():
        return float("nan")
    rank = np.arange(1, n_items + 1)
    return float(((2 * rank - n_items - 1) * shown).sum() / (n_items * shown.sum()))


def self_information(purchases: NDArray) -> Float:
    """How surprising each item is, -log2 of its share of purchases, in bits, [n_items].

    One purchase is added to each item, so that an item nobody has bought is very, not infinitely, surprising.

    Reference: Zhou et al. (2010), Solving the apparent diversity-accuracy dilemma of recommender systems, "surprisal".
    """
    return -np.log2((purchases + 1) / (purchases.sum() + len(purchases)))


def novelty(items: Int, information: NDArray) -> Float:
    """The mean self-information of each list's items, in bits, [n]; NaN for an empty list.

    Args:
        items: lists [n, k], -1 for an empty place.
        information: of each item at the lists' moment [n_items]; see `self_information`.
    """
    filled = items >= 0
    total = np.where(filled, information[items], 0).sum(1)
    return _per_relevant(total / np.maximum(filled.sum(1), 1), filled.sum(1))


def intra_list_distance(items: Int, vectors: NDArray) -> Float:
    """The mean cosine distance between two items of each list, in [0, 2], [n]; NaN for lists of fewer than two.

    Uses that the squared length of a sum of unit vectors is their number plus all pairwise cosines.

    Args:
        items: lists [n, k], -1 for an empty place.
        vectors: one per item [n_items, d], of any length; a zero vector counts as orthogonal to all.

    Reference: Ziegler et al. (2005), Improving recommendation lists through topic diversification, equation 3, as a mean distance.
    """
    shown, rows = np.unique(items, return_inverse=True)  # few of a large catalogue; -1 gives any vector, which does not count
    lengths = np.linalg.norm(vectors[shown], axis=1, keepdims=True)
    unit = (vectors[shown] / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    has_vector = (lengths[:, 0] > 0).astype(np.float64)
    total, own, n = np.zeros((len(items), vectors.shape[1])), np.zeros(len(items)), (items >= 0).sum(1)
    # A place at a time: all at once would hold k vectors a query.
    for place, filled in zip(rows.reshape(items.shape).T, (items >= 0).T, strict=True):
        total += np.where(filled[:, None], unit[place], 0)
        own += np.where(filled, has_vector[place], 0)
    pairs = n * (n - 1)
    cosine = ((total**2).sum(1) - own) / np.maximum(pairs, 1)
    return _per_relevant(1 - cosine, pairs)


def expected_calibration_error(probability: NDArray, outcome: NDArray, n_bins: int = 15) -> float:
    """The mean gap between probability and frequency over equally wide bins, weighted by their sizes; NaN without cases.

    Args:
        probability: of each case, in [0, 1], any shape.
        outcome: whether the case came true, of the same shape.
        n_bins: 15 as in the reference.

    Reference: Naeini, Cooper and Hauskrecht (2015), Obtaining well calibrated probabilities; Guo et al. (2017), equation 3.
    """
    probability, outcome = np.ravel(probability), np.ravel(outcome)
    if not len(probability):
        return float("nan")
    # Bins are open on the left: (0, 1/15], ..; 0 itself joins the first.
    row = np.clip(np.ceil(probability * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
    gap = np.bincount(row, weights=outcome - probability.astype(np.float64), minlength=n_bins)
    return float(np.abs(gap).sum() / len(probability))


def rmse(predicted: NDArray, rating: NDArray) -> float:
    """The root of the mean squared difference between predicted and given ratings; NaN without any.

    Reference: Herlocker et al. (2004), Evaluating collaborative filtering recommender systems, section 4.1.
    """
    return float(np.sqrt(np.mean((predicted - rating) ** 2))) if len(rating) else float("nan")


def mae(predicted: NDArray, rating: NDArray) -> float:
    """The mean absolute difference between predicted and given ratings; NaN without any. Reference: as for `rmse`."""
    return float(np.mean(np.abs(predicted - rating))) if len(rating) else float("nan")
