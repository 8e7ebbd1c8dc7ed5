"""A shop several times over: the same shop in each copy, and nothing between them."""

from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from seasonrec.data.dataset import Dataset, Split
from seasonrec.schema import DAY, as_events


@pytest.fixture
def scale(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return import_module("scale")


@pytest.fixture
def shop():
    events = pl.DataFrame({"user_id": ["1", "1", "2", "10"], "item_id": ["7", "8", "7", "9"], "time": [0, 2 * DAY, DAY, 9 * DAY]})
    return Dataset(
        name="shop",
        events=as_events(events, "shop"),
        items=pl.DataFrame({"item_id": ["7", "8", "9"]}),
        users=pl.DataFrame({"user_id": ["1", "10", "2"], "text": ["a", "b", "c"]}),
        split=Split((1, 1), (2, 3)),
        week_zero=0,
        text_rule=lambda events, items, cutoff: ["seven", "eight", "nine"],
    )


def test_each_copy_is_the_shop_again(scale, shop):
    large = scale.copies(shop, 3)
    assert (large.n_users, large.n_items, len(large.events)) == (9, 9, 12)
    assert large.items["item_id"].to_list() == sorted(large.items["item_id"].to_list()), "row numbers break ties by id"
    for copy in range(3):
        own = large.events.filter(pl.col("user_id").str.ends_with(f"-{copy:02d}"))
        assert own["item_id"].str.ends_with(f"-{copy:02d}").all()
        plain = own.with_columns(pl.col("user_id", "item_id").str.head(-3)).sort("time")
        assert plain.equals(shop.events.sort("time"))


def test_copies_of_a_product_share_its_text(scale, shop):
    large = scale.copies(shop, 2)
    assert dict(zip(large.items["item_id"], large.item_texts(0), strict=True)) == {
        f"{item}-{copy:02d}": text for item, text in (("7", "seven"), ("8", "eight"), ("9", "nine")) for copy in (0, 1)
    }


def test_the_timeline_has_every_copys_events(scale, shop):
    timeline = scale.copies(shop, 2).timeline
    np.testing.assert_array_equal(timeline.time, [0, 0, DAY, DAY, 2 * DAY, 2 * DAY, 9 * DAY, 9 * DAY])
    assert len(set(zip(timeline.user.tolist(), timeline.item.tolist(), strict=True))) == 8
