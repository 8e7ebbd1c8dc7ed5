"""Personal frequency and TIFU-KNN against loops over the raw events."""

import numpy as np
import pytest

from seasonrec.baselines.personal_frequency import PersonalFrequency
from seasonrec.baselines.tifu_knn import TifuKnn
from seasonrec.errors import ConfigError

USERS = np.array([12, 0, 5, 11])  # 12 never bought


@pytest.mark.parametrize(("decay", "mix"), [(0.9, 0.05), (1.0, 0.0)])
def test_personal_frequency_is_the_decayed_count_of_weeks_plus_popularity(random_timeline, loops, decay, mix):
    now = random_timeline.at_week(30)
    expected = loops.decayed(random_timeline, now.time, decay)[USERS] + mix * loops.popularity(random_timeline, now.time)
    np.testing.assert_allclose(PersonalFrequency(decay, mix).scores(USERS, now), expected, rtol=1e-5)


def plain_tifu(own, popularity, user, k, alpha, mix):
    """TIFU-KNN's scores of one user by loops over the other users."""
    lengths = [np.sqrt((row**2).sum()) for row in own]
    cosines = {}
    for other in range(len(own)):
        if other != user and (shared := own[user] @ own[other]) > 0:
            cosines[other] = shared / lengths[user] / lengths[other]
    nearest = sorted(cosines, key=lambda other: -cosines[other])[:k]
    return alpha * own[user] + (1 - alpha) * sum(own[other] for other in nearest) / k + mix * popularity


@pytest.mark.parametrize(("k", "alpha"), [(1, 0.5), (4, 0.7), (11, 0.0)])
def test_tifu_mixes_the_user_with_the_mean_of_the_nearest(random_timeline, loops, k, alpha):
    now = random_timeline.at_week(30)
    own, popularity = loops.decayed(random_timeline, now.time, 0.9), loops.popularity(random_timeline, now.time)
    expected = [plain_tifu(own, popularity, user, k, alpha, 0.02) for user in USERS]
    np.testing.assert_allclose(TifuKnn(0.9, k, alpha).scores(USERS, now), expected, rtol=1e-5, atol=1e-6)


def test_more_neighbours_than_users_are_all_users(random_timeline):
    now = random_timeline.at_week(30)
    np.testing.assert_array_equal(TifuKnn(k=12).scores(USERS, now), TifuKnn(k=500).scores(USERS, now))


def test_neighbours_go_on_with_the_timeline(random_timeline):
    late, fresh = TifuKnn(k=3), TifuKnn(k=3)
    late.fit(random_timeline.at_week(10))
    late.scores(USERS, random_timeline.at_week(10))
    np.testing.assert_array_equal(late.scores(USERS, random_timeline.at_week(35)), fresh.scores(USERS, random_timeline.at_week(35)))


@pytest.mark.parametrize(
    ("method", "wrong", "message"),
    [
        (PersonalFrequency, {"decay": 1.5}, r"personal_frequency\.decay is 1.5, wanted 0 to 1"),
        (TifuKnn, {"alpha": 7}, r"tifu_knn\.alpha is 7, wanted 0 to 1"),
        (TifuKnn, {"k": 0}, r"tifu_knn\.k is 0, wanted at least 1"),
        (TifuKnn, {"mix": float("nan")}, r"tifu_knn\.mix is nan, wanted at least 0"),
    ],
)
def test_a_hyperparameter_out_of_range_names_itself(method, wrong, message):
    with pytest.raises(ConfigError, match=message):
        method(**wrong)
