"""The text profile against loops."""

import numpy as np
import pytest

from seasonrec.baselines.text_profile import TextProfile
from seasonrec.errors import DataError


def cosine(a, b):
    return a @ b / np.sqrt(a @ a) / np.sqrt(b @ b)


def test_scores_are_cosines_with_the_decayed_mean_of_the_users_own_texts(random_timeline, loops):
    vectors = np.random.default_rng(4).normal(size=(32, 6))
    now, users = random_timeline.at_week(30), np.array([0, 7])
    baseline = TextProfile(vectors * np.arange(1, 33)[:, None], decay=0.9)  # the length of a vector does not count
    baseline.fit(now)
    for user, scores in zip(users, baseline.scores(users, now), strict=True):
        own = loops.decayed(random_timeline, now.time, 0.9)[user]
        mean = sum(own[item] * vectors[item] / np.sqrt(vectors[item] @ vectors[item]) for item in range(32)) / own.sum()
        np.testing.assert_allclose(scores, [cosine(mean, vector) for vector in vectors], rtol=1e-4, atol=1e-6)


def test_a_user_without_history_gets_what_is_popular_now(random_timeline, loops):
    now = random_timeline.at_week(30)
    scores = TextProfile(np.eye(32)).scores(np.array([12]), now)[0]
    np.testing.assert_allclose(scores, loops.popularity(random_timeline, now.time), rtol=1e-6)


def test_an_item_without_text_is_like_nothing(random_timeline):
    vectors = np.random.default_rng(4).normal(size=(32, 6))
    vectors[3] = 0
    assert (TextProfile(vectors).scores(np.arange(12), random_timeline.at_week(30))[:, 3] == 0).all()


def test_one_vector_an_item_is_wanted(random_timeline):
    with pytest.raises(DataError, match="31 vectors for 32 items; encode one text an item"):
        TextProfile(np.eye(31)).fit(random_timeline.at_week(30))
