"""Near texts of single purchases against loops."""

import numpy as np
import pytest

from seasonrec.baselines.text_knn import TextKnn
from seasonrec.errors import ConfigError, DataError

# Items share texts in pairs; item 3 has none.
OF = np.arange(32) // 2
VECTORS = np.random.default_rng(4).normal(size=(16, 6))[OF]
VECTORS[3] = 0


def likeness(a, b, k):
    """Of item b to a purchase of item a: 0 where its text is not among the k nearest ones."""
    if a == 3 or b == 3:
        return 0
    unit = VECTORS / np.maximum(np.linalg.norm(VECTORS, axis=1, keepdims=True), 1e-9)
    near = sorted(range(16), key=lambda text: -(2 if text == OF[a] else unit[2 * text] @ unit[a]))[:k]
    return np.exp(10 * (unit[a] @ unit[b] - 1)) if OF[b] in near else 0


def test_a_purchase_counts_for_the_items_of_its_nearest_texts(random_timeline, loops):
    now, users = random_timeline.at_week(30), np.array([0, 7])
    baseline = TextKnn(VECTORS * (OF + 1)[:, None], decay=0.9, k=4, mix=0.5)  # the length of a vector does not count
    baseline.fit(now)
    decayed, popularity = loops.decayed(random_timeline, now.time, 0.9), loops.popularity(random_timeline, now.time)
    for user, scores in zip(users, baseline.scores(users, now), strict=True):
        expected = [sum(decayed[user][a] * likeness(a, b, 4) for a in range(32)) + 0.5 * popularity[b] for b in range(32)]
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)


def test_a_user_without_history_gets_what_is_popular_now(random_timeline, loops):
    now = random_timeline.at_week(30)
    scores = TextKnn(VECTORS, mix=1).scores(np.array([12]), now)[0]
    np.testing.assert_allclose(scores, loops.popularity(random_timeline, now.time), rtol=1e-6)


def test_bad_settings_and_vectors_are_refused_by_name(random_timeline):
    with pytest.raises(ConfigError, match=r"text_knn\.decay"):
        TextKnn(VECTORS, decay=2)
    with pytest.raises(ConfigError, match=r"text_knn\.k"):
        TextKnn(VECTORS, k=0)
    with pytest.raises(DataError, match="text_knn: 31 vectors for 32 items"):
        TextKnn(VECTORS[:31]).fit(random_timeline.at_week(30))
