"""Which weeks are learnt from, and that reading them draws nothing from the model's random numbers."""

import numpy as np
import pytest
import torch

from seasonrec.data.batches import Batcher, Moments
from seasonrec.errors import ConfigError
from seasonrec.joint.datamodule import QueryData, Sampling
from seasonrec.seasons.calendar import Calendar
from seasonrec.seasons.context import SeasonContext


@pytest.fixture
def past(random_timeline):
    return random_timeline.at_week(30)


@pytest.fixture
def batcher():
    return Batcher(Moments(SeasonContext(Calendar("US", "UTC", "north"))))


@pytest.mark.parametrize(
    ("n_weeks", "skip_weeks", "weeks"),
    [
        (10, 4, range(20, 30)),
        (100, 4, range(5, 30)),  # the data begin within week 0, so that week 1 is the first whole one
        (100, 0, range(1, 30)),
        (100, 200, range(15, 30)),  # 14 of 29 whole weeks, half of them, are history
        (1, 4, range(29, 30)),
    ],
)
def test_the_last_weeks_are_learnt_from_but_not_the_very_first(past, n_weeks, skip_weeks, weeks):
    assert Sampling(n_weeks=n_weeks, skip_weeks=skip_weeks).weeks(past) == weeks


@pytest.mark.parametrize(("week", "weeks"), [(9, range(5, 9)), (5, range(3, 5)), (2, range(1, 2)), (1, range(0, 1))])
def test_a_short_past_is_history_by_half(random_timeline, week, weeks):
    """Of 8, 4, 1 and 0 whole weeks."""
    assert Sampling().weeks(random_timeline.at_week(week)) == weeks


@pytest.mark.parametrize("name", ["n_weeks", "n_queries", "batch_size"])
def test_no_weeks_or_no_queries_are_an_error(name):
    with pytest.raises(ConfigError, match=rf"sampling\.{name} is 0, wanted at least 1"):
        Sampling(**{name: 0})


def test_purchases_in_season_cannot_count_less():
    with pytest.raises(ConfigError, match=r"sampling\.in_season is -0\.5, wanted at least 0"):
        Sampling(in_season=-0.5)


@pytest.mark.parametrize("share", [0, 1.5])
def test_no_users_or_more_than_all_are_an_error(share):
    with pytest.raises(ConfigError, match=rf"sampling\.users is {share}, wanted a share of users above 0, at most 1"):
        Sampling(users=share)


def test_a_share_of_users_is_learnt_from_by_the_queries_that_they_have(past, batcher):
    def users_of(seed, share):
        return {int(user) for batch in QueryData(past, batcher, Sampling(users=share), seed).train_dataloader() for user in batch.user}

    every, some = users_of(0, 1.0), users_of(0, 0.3)
    assert some < every
    assert len(some) <= np.ceil(0.3 * past.n_users)
    assert users_of(0, 0.3) == some != users_of(1, 0.3)


def test_an_epoch_may_be_a_part_of_the_queries(past, batcher):
    n_all = len(past.queries(range(24, 30)))
    for n_queries, n_seen in ((None, n_all), (n_all // 2, n_all / 2), (10_000, n_all)):
        loader = QueryData(past, batcher, Sampling(n_weeks=6, n_queries=n_queries), seed=0).train_dataloader()
        assert sum(len(batch.user) for batch in loader) == pytest.approx(n_seen, abs=6)  # each week's part is rounded up


def test_a_pass_gives_every_query_of_the_weeks_once(past, batcher):
    data = QueryData(past, batcher, Sampling(n_weeks=6, batch_size=4), seed=0)
    loader = data.train_dataloader()
    seen = [(batch.moment.time, int(user)) for batch in loader for user in batch.user]
    queries = past.queries(range(24, 30))
    assert sorted(seen) == sorted(zip(queries.time.tolist(), queries.user.tolist(), strict=True))
    assert len(loader) == len(list(loader)) > 6


def test_every_batch_has_one_week_and_at_most_as_many_queries_as_wanted(past, batcher):
    for batch in QueryData(past, batcher, Sampling(n_weeks=6, batch_size=4), seed=0).train_dataloader():
        assert 1 <= len(batch.user) <= 4
        assert batch.moment.time < past.time


def test_the_order_depends_on_seed_and_epoch_only(past, batcher):
    def order(seed, epoch):
        data = QueryData(past, batcher, Sampling(n_weeks=6, batch_size=4), seed)
        data.batches.epoch = epoch
        return [(batch.moment.time, *batch.user.tolist()) for batch in data.train_dataloader()]

    assert order(0, 0) == order(0, 0)
    assert order(0, 1) == order(0, 1)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_a_pass_draws_nothing_from_the_models_random_numbers(past, batcher):
    loader = QueryData(past, batcher, Sampling(n_weeks=2), seed=0).train_dataloader()
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    next(iter(loader))
    np.testing.assert_array_equal(torch.rand(3), wanted)
