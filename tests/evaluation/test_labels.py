"""The in-season label against a plain reading of the protocol."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from seasonrec.data.dataset import Dataset, Split
from seasonrec.evaluation.labels import season_labels
from seasonrec.schema import DAY, as_events


def plain_labels(dataset, group_of_item):
    """{group: [True in season | False off season | None unlabelled for each week]} by sets and loops."""

    def week_of_year(time):
        return min((datetime.fromtimestamp(time, UTC).timetuple().tm_yday - 1) // 7, 51)

    rows = dataset.events.select("user_id", "item_id", "time").rows()
    triples = {(user, group_of_item[item], week_of_year(time)) for user, item, time in rows}
    count, all_of_week = Counter((group, week) for _, group, week in triples), Counter(week for _, _, week in triples)
    labels = {}
    for group in {group for _, group, _ in triples}:
        year = sum(count[group, week] for week in range(52))
        labels[group] = [None] * 52
        for week in range(52) if year >= dataset.season_min_triples and group else ():
            window = [(week + shift) % 52 for shift in (-2, -1, 0, 1, 2)]
            share = sum(count[group, w] for w in window) / max(sum(all_of_week[w] for w in window), 1)
            labels[group][week] = share / (year / len(triples)) >= 2
    return labels


@pytest.mark.parametrize(("level", "min_triples"), [("item_id", 30), ("type", 50)])
def test_labels_are_those_of_a_plain_reading(shop, level, min_triples):
    dataset = replace(shop, season_level=level, season_min_triples=min_triples)
    labels = season_labels(dataset)
    group_of_item = dict(dataset.items.select("item_id", pl.col(level).fill_null("").alias("level")).rows())
    expected = plain_labels(dataset, group_of_item)
    for item, item_id in enumerate(dataset.items["item_id"]):
        wanted = expected.get(group_of_item[item_id], [None] * 52)
        np.testing.assert_array_equal(labels.in_season[labels.group[item]], [label is True for label in wanted])
        np.testing.assert_array_equal(labels.off_season[labels.group[item]], [label is False for label in wanted])
    assert labels.in_season.any()
    assert labels.off_season.any()
    assert not (labels.in_season | labels.off_season).all()


def test_items_of_unknown_type_are_unlabelled_however_often_they_are_bought(shop):
    labels = season_labels(replace(shop, season_level="type", season_min_triples=1))
    unknown = labels.group[shop.items["type"].is_null().to_numpy()]
    assert not labels.in_season[unknown].any()
    assert not labels.off_season[unknown].any()


def test_the_same_week_of_two_years_counts_a_user_once():
    start = 1_451_606_400  # 2016-01-01
    events = pl.DataFrame({"user_id": ["a"] * 3, "item_id": ["x", "x", "y"], "time": [start, start + 366 * DAY, start]})
    dataset = Dataset(
        name="two years",
        events=as_events(events, "two years"),
        items=pl.DataFrame({"item_id": ["x", "y"]}),
        users=pl.DataFrame({"user_id": ["a"]}),
        split=Split((1, 2), (3, 4)),
        week_zero=start,
        text_rule=lambda events, items, cutoff: ["", ""],
        season_min_triples=2,
    )
    labels = season_labels(dataset)
    assert not labels.off_season.any(), "one triple of x is fewer than two"
    assert season_labels(replace(dataset, season_min_triples=1)).off_season.any()
