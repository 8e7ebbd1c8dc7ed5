"""Item-kNN against scikit-learn's cosine."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics.pairwise import cosine_similarity

from seasonrec.baselines.item_knn import ItemKnn, nearest_items


def matrix(rows):
    return sp.csr_matrix(np.array(rows, np.float32))


@pytest.mark.parametrize("k", [1, 5, 200])
def test_without_shrinkage_the_nearest_are_those_of_scikit_learns_cosine(k):
    purchases = sp.random_array((80, 40), density=0.2, rng=np.random.default_rng(2), format="csr", dtype=np.float32)
    cosine = cosine_similarity((purchases.toarray() > 0).T)
    np.fill_diagonal(cosine, 0)
    found = nearest_items(sp.csr_matrix(purchases), k, 0).toarray()
    np.testing.assert_allclose(-np.sort(-found, 1)[:, :k], -np.sort(-cosine, 1)[:, :k], rtol=1e-5)
    np.testing.assert_allclose(found[found > 0], cosine[found > 0], rtol=1e-5)
    assert (found > 0).sum(1).max() <= k


def test_shrinkage_makes_few_buyers_count_less():
    # Items 0 and 1 share 2 buyers of 3 and 2; item 2 has one buyer of its own.
    purchases = matrix([[1, 1, 0], [5, 1, 0], [1, 0, 0], [0, 0, 1]])
    near = 2 / np.sqrt((3 + 4) * (2 + 4))
    np.testing.assert_allclose(nearest_items(purchases, 2, 4).toarray(), [[0, near, 0], [near, 0, 0], [0, 0, 0]], rtol=1e-6)


def test_an_item_as_near_as_itself_to_many_others_still_has_only_k():
    # The same users bought all five items, so that the search may well find k + 1 = 2 others before the item itself.
    assert nearest_items(matrix(np.ones((4, 5))), 1, 3).getnnz(1).tolist() == [1] * 5


def test_scores_spread_decayed_purchases_over_near_items(random_timeline, loops):
    now, users = random_timeline.at_week(30), np.array([0, 7, 12])
    baseline = ItemKnn(decay=0.9, k=3, shrink=5, own=2, mix=0.1)
    baseline.fit(random_timeline.at_week(20))
    past = (loops.decayed(random_timeline, random_timeline.at_week(20).time, 1) > 0).astype(float)
    n = past.sum(0)
    near = past.T @ past / np.sqrt(np.outer(n + 5, n + 5))
    np.testing.assert_allclose(baseline.nearness.toarray(), np.where(baseline.nearness.toarray() > 0, near, 0), rtol=1e-5)
    own = loops.decayed(random_timeline, now.time, 0.9)[users]
    expected = own @ baseline.nearness.toarray() + 2 * own + 0.1 * loops.popularity(random_timeline, now.time)
    np.testing.assert_allclose(baseline.scores(users, now), expected, rtol=1e-5)
