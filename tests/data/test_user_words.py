"""Users in words: what they bought and wrote before a moment, and nothing later."""

import numpy as np
import polars as pl
import pytest

from seasonrec.data.dataset import Dataset, Split
from seasonrec.data.user_words import UserWords
from seasonrec.errors import ConfigError
from seasonrec.schema import DAY, as_events

ITEMS = ["red mug", "", "green card"]
EVENTS = [  # user, item, day, what was written
    ("a", "i0", 3, "so very nice and red"),
    ("a", "i2", 9, None),
    ("b", "i1", 1, "fine"),
    ("a", "i1", 5, "broke at once"),
    ("b", "i1", 2, ""),
]


def shop_of(events):
    """A shop of three users and three items; user a says something of himself, user c has never bought."""
    frame = pl.DataFrame(events, schema=["user_id", "item_id", "day", "review"], orient="row")
    frame = frame.with_columns(time=pl.col("day") * DAY)
    return Dataset(
        name="words",
        events=as_events(frame, "words"),
        items=pl.DataFrame({"item_id": ["i0", "i1", "i2"]}),
        users=pl.DataFrame({"user_id": ["a", "b", "c"], "text": ["likes tea", None, None]}),
        split=Split((1, 1), (2, 2)),
        week_zero=0,
        text_rule=lambda events, items, cutoff: ITEMS,
    )


def said(day, users=(0, 1, 2, -1), events=EVENTS, **options):
    return UserWords(shop_of(events), ITEMS, **options)(np.array(users), day * DAY)


def test_a_user_s_text_is_the_own_one_then_what_was_bought_and_written_newest_first():
    assert said(10) == ["likes tea; green card; broke at once; red mug: so very nice and red", "fine", "", ""]


def test_only_what_came_strictly_before_the_moment_is_said():
    assert said(9)[0] == "likes tea; broke at once; red mug: so very nice and red"
    assert said(5)[0] == "likes tea; red mug: so very nice and red"
    assert said(3) == ["likes tea", "fine", "", ""]
    assert said(0) == said(-4) == ["likes tea", "", "", ""]
    assert said(500) == said(10)


@pytest.mark.parametrize("day", [3, 5, 9])
def test_a_later_review_changes_nothing_before_it(day):
    later = [(user, item, at, "rewritten" if at >= day else text) for user, item, at, text in EVENTS]
    assert said(day, events=[*later, ("c", "i0", day, "new")]) == said(day)
    assert said(day + 1, events=later) != said(day + 1)


def test_so_many_purchases_and_so_many_words_are_kept():
    assert said(10, n_purchases=2)[0] == "likes tea; green card; broke at once"
    assert said(10, n_words=2)[0] == "likes tea; green card; broke at; red mug: so very"
    assert said(10, n_words=0) == ["likes tea; green card; red mug", "", "", ""]
    assert said(10, n_purchases=0)[0] == "likes tea"


def test_any_order_of_users_gives_each_the_same_text():
    assert said(6, users=(1, 0, 1)) == [said(6)[1], said(6)[0], said(6)[1]]


def test_a_number_below_0_is_refused():
    with pytest.raises(ConfigError, match=r"model\.user_words: n_purchases is -1"):
        said(1, n_purchases=-1)
