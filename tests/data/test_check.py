"""What check-data says about a file, against counting by hand."""

import io
import json
import re

import polars as pl
import pytest
from rich.console import Console

from seasonrec.data import check
from seasonrec.data.dataset import Dataset, Shop, Split
from seasonrec.schema import DAY, WEEK, as_events

START = 1_514_764_800  # Monday 2018-01-01 UTC


def dataset(n_weeks=64, **options):
    """Ann buys bread every Monday, Bob a lamp [red] every other week from week 1 on, Cid a tent once."""
    rows = [("ann", "bread", START + week * WEEK) for week in range(n_weeks)]
    rows += [("bob", "lamp", START + week * WEEK + DAY) for week in range(1, n_weeks, 2)]
    rows += [("cid", "tent", START + (n_weeks - 1) * WEEK + 6 * DAY)]
    events = as_events(pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row"), "here")
    fields = {
        "name": "corner",
        "events": events,
        "items": pl.DataFrame({"item_id": ["bread", "lamp", "tent"]}),
        "users": pl.DataFrame({"user_id": ["ann", "bob", "cid"], "text": ["baker", None, None]}),
        "split": Split((n_weeks - 4, n_weeks - 3), (n_weeks - 2, n_weeks - 1)),
        "week_zero": START,
        "text_rule": lambda events, items, cutoff: ["loaf", "lamp [red]", ""],
        "cleaning": (("no_user", 2), ("item_never_sold", 900)),
    }
    return Dataset(**(fields | options))


def said(shop, width=160):
    """The report of a shop as a terminal shows it."""
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(check.report(shop))
    return console.export_text()


def test_facts_are_those_counted_by_hand_and_plain_json():
    found = check.facts(dataset())
    assert json.loads(json.dumps(found)) == found
    assert (found["users"], found["items"], found["events"]) == (3, 3, 64 + 32 + 1)
    assert (found["first"], found["last"]) == ("2018-01-01T00:00:00+00:00", "2019-03-24T00:00:00+00:00")
    assert found["weeks"] == {"first": 0, "last": 63, "span": 64, "with_events": 64}
    assert found["columns"]["users"] == {"user_id": 1.0, "text": pytest.approx(1 / 3)}
    assert found["columns"]["events"]["rating"] == 0
    assert found["events_per_user"] == {"min": 1, "25%": 16.5, "median": 32, "75%": 48, "95%": pytest.approx(60.8), "max": 64}
    assert found["items_with_text"] == pytest.approx(2 / 3)
    assert found["texts"] == {"bread": "loaf", "lamp": "lamp [red]"}
    assert found["rejected"] == {"no_user": 2, "item_never_sold": 900}
    assert found["warnings"] == []


def test_products_within_items_are_counted_where_purchases_say_something_and_shown_where_there_are_several():
    shop = dataset()
    words = pl.Series([None, "", *(f"loaf {n % 5}" for n in range(len(shop.events) - 2))])
    told = dataset(events=shop.events.with_columns(description=words))
    assert [check.facts(each)["products"] for each in (shop, told)] == [0, 5]
    assert "products" not in said(shop)
    assert re.search(r"products +5, 1\.7 an item: model\.purchase_texts=50 reads what purchases of each say", said(told))


def test_the_split_is_told_with_its_queries_pairs_and_cold_pairs():
    test = check.facts(dataset())["split"]["test"]
    # Weeks 62 and 63: Ann in both, Bob in 63; Cid has no earlier event. Nothing they buy is new to the shop.
    assert (test["weeks"], test["queries"], test["pairs"], test["cold_pairs"]) == ([62, 63], 3, 3, 0)
    assert (test["from"], test["until"]) == ("2019-03-11T00:00:00+00:00", "2019-03-25T00:00:00+00:00")


def test_an_item_nobody_had_bought_is_a_cold_pair():
    lamp = as_events(pl.DataFrame({"user_id": ["ann"], "item_id": ["tent"], "time": [START + 63 * WEEK + DAY]}), "here")
    shop = dataset()
    shop = dataset(events=pl.concat([shop.events, lamp]))
    assert check.facts(shop)["split"]["test"]["cold_pairs"] == 1


def test_months_are_those_of_the_shops_clock_and_seasons_those_of_its_hemisphere():
    short = dataset(9, split=Split((5, 6), (7, 8)))
    assert check.facts(short)["months"] == {"Jan": 5 + 2, "Feb": 4 + 2, "Mar": 1}
    assert check.facts(short)["seasons"] == ["winter", "spring"]
    south = dataset(9, split=Split((5, 6), (7, 8)), shop=Shop("AU", "Australia/Sydney", "south"))
    assert check.facts(south)["seasons"] == ["summer", "autumn"]
    west = dataset(9, split=Split((5, 6), (7, 8)), shop=Shop("US", "America/New_York"))
    assert "Dec" in check.facts(west)["months"]  # midnight UTC of 1 January is still the old year there


def warned(shop):
    return " / ".join(check.facts(shop)["warnings"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_weeks": 59}, "59 weeks, under 60"),
        ({"n_weeks": 40}, "no events in Nov, Dec"),
        ({"text_rule": lambda *_: ["", "", "tent"]}, "33% of items have a text"),
        ({"cleaning": (("duplicate", 10),)}, "cleaning dropped 10 rows beside 97 events"),
        ({"split": Split((80, 81), (82, 83))}, "no user buys in the test weeks"),
        ({"shop": Shop("AU", "Australia/Sydney", "north")}, "AU lies in the south, but data.hemisphere is north"),
    ],
)
def test_what_may_surprise_is_said(options, message):
    assert message in warned(dataset(**options))


def test_ids_that_look_like_none_are_said():
    shop = dataset()
    odd = {name: getattr(shop, name).with_columns(user_id=pl.col("user_id").replace("bob", "NA")) for name in ("events", "users")}
    assert "ids such as NA are taken as they are: where none is known, leave the field empty" in warned(dataset(**odd))
    assert "ids such as" not in warned(shop)


def test_ratings_that_are_not_all_there_are_said():
    shop = dataset()
    rated = shop.events.with_columns(rating=pl.when(pl.int_range(pl.len()) > 0).then(4.0))
    assert f"{1 / len(rated):.2%} of events have no rating" in warned(dataset(events=rated))
    assert "rating" not in warned(shop)


def test_stray_times_and_single_events_are_said():
    stray = as_events(pl.DataFrame({"user_id": list("abcd"), "item_id": ["tent"] * 4, "time": [0] * 4}), "here")
    shop = dataset(users=pl.DataFrame({"user_id": [*"abcd", "ann", "bob", "cid"]}))
    shop = dataset(events=pl.concat([shop.events, stray]), users=shop.users)
    assert "look for stray times" in warned(shop)
    assert "most users have a single event" in warned(shop)


def test_promotions_are_told_where_there_are_any():
    assert check.facts(dataset())["promotions"] is None
    rows = [("lamp", START, START + WEEK, "flyer", 1.0), ("tent", START + WEEK, START + 2 * WEEK, "[red] display", 0.5)]
    plan = pl.DataFrame(rows, schema=["item_id", "start", "end", "kind", "share"], orient="row")
    shop = dataset(promotions=plan)
    assert check.facts(shop)["promotions"] == {
        "rows": 2,
        "items": 2,
        "kinds": {"[red] display": 1, "flyer": 1},
        "first": "2018-01-01T00:00:00+00:00",
        "last": "2018-01-15T00:00:00+00:00",
        "weeks_without": list(range(2, 64)),
    }
    assert "nothing is promoted in 62 weeks up to the last test week, e.g. week 2" in warned(shop)
    useless = dataset(cleaning=(("promotion_share_beyond_0_1", 3), ("promotion_of_unknown_item", 5)))
    assert "3 promotions cannot be used" in warned(useless)
    assert "2 of 2 items, 2018-01-01 .. 2018-01-15: [red] display, flyer" in said(shop)


def test_the_report_shows_every_part_and_takes_no_text_for_markup():
    shown = said(dataset(59), width=120)
    for part in (
        "corner: 89 events of 3 users and 3 items",
        "lamp [red]",
        "item_never_sold",
        "validation",
        "cold pairs",
        "! 59 weeks",
        "winter",
    ):
        assert part in shown
