"""The data set: row numbers, split, shop and the timeline made of its tables."""

import warnings

import numpy as np
import polars as pl
import pytest

from seasonrec.data.dataset import Dataset, Shop, Split, rows_of
from seasonrec.errors import DataError
from seasonrec.schema import DAY, WEEK, as_events

START = 1_483_228_800  # 2017-01-01


def shop(events=None, **changes):
    """Four events of two users; three items, of which "10" sorts before "9"."""
    events = (
        events
        if events is not None
        else pl.DataFrame(
            {"user_id": ["b", "a", "b", "b"], "item_id": ["9", "10", "x", "9"], "time": [START + WEEK, START, START, START + WEEK]}
        )
    )
    options = {
        "name": "shop",
        "events": as_events(events, "shop"),
        "items": pl.DataFrame({"item_id": ["10", "9", "x"], "type": ["tea", None, "tea"]}),
        "users": pl.DataFrame({"user_id": ["a", "b"]}),
        "split": Split((1, 2), (3, 4)),
        "week_zero": START,
        "text_rule": lambda events, items, cutoff: [f"{item} by {cutoff}" for item in items["item_id"]],
    }
    return Dataset(**(options | changes))


def test_the_timeline_holds_rows_of_users_and_items_in_order_of_time():
    timeline = shop().timeline
    assert timeline.user.tolist() == [0, 1, 1, 1]
    assert timeline.item.tolist() == [0, 2, 1, 1]
    assert timeline.time.tolist() == [START, START, START + WEEK, START + WEEK]
    assert (timeline.n_users, timeline.n_items, timeline.week_zero) == (2, 3, START)
    assert timeline.rating is None


def test_the_timeline_is_made_once():
    dataset = shop()
    assert dataset.timeline is dataset.timeline


def test_purchases_in_words_stand_in_order_of_time_and_name_their_product_or_are_it():
    events = pl.DataFrame(
        {
            "user_id": ["a", "a", "b", "b"],
            "item_id": ["x", "9", "9", "9"],
            "time": [START + 2, START + 1, START + 1, START + 3],
            "description": ["red mug", None, "tea", "cup"],
            "product_id": [None, "p1", "p2", ""],
        }
    )
    assert shop(events).purchases_in_words.rows() == [("", "p1"), ("tea", "p2"), ("red mug", "red mug"), ("cup", "cup")]


@pytest.mark.parametrize(("ratings", "kept"), [([3.0, 4.0], [4.0, 3.0]), ([3.0, None], None)])
def test_ratings_are_kept_where_every_event_has_one(ratings, kept):
    events = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "x"], "time": [START + 1, START], "rating": ratings})
    rating = shop(events).timeline.rating
    assert (rating if rating is None else rating.tolist()) == kept


def test_users_and_items_without_events_have_rows():
    dataset = shop(users=pl.DataFrame({"user_id": ["a", "b", "c"]}))
    assert (dataset.n_users, dataset.n_items) == (3, 3)
    assert dataset.timeline.as_of(START + 2 * WEEK).known_users.tolist() == [True, True, False]


def test_an_event_of_an_item_that_the_table_lacks_is_an_error():
    with pytest.raises(DataError, match=r"1 ids are not among the 2 of the table, e.g. \['x'\]; check their type and spelling"):
        _ = shop(items=pl.DataFrame({"item_id": ["10", "9"]})).timeline


def test_rows_are_those_of_a_dictionary():
    table = pl.Series([f"id {n:03d}" for n in range(200)])
    ids = table.sample(1_000, with_replacement=True, seed=1)
    row = {name: n for n, name in enumerate(table)}
    np.testing.assert_array_equal(rows_of(ids, table), [row[name] for name in ids])
    assert rows_of(ids.clear(), table).tolist() == []


def test_unknown_ids_are_counted_and_the_first_three_are_named():
    with pytest.raises(DataError, match=r"5 ids .* e\.g\. \['p', 'q', 'r'\]"):
        rows_of(pl.Series(["p", "a", "p", "q", "r", "s"]), pl.Series(["a"]))


def test_the_plan_has_the_rows_of_the_items():
    rows = [("x", START + 2 * WEEK, START + 3 * WEEK, "flyer", 1.0), ("9", START + 3 * WEEK, START + 4 * WEEK, "flyer", 0.5)]
    plan = pl.DataFrame(rows, schema=["item_id", "start", "end", "kind", "share"], orient="row")
    dataset = shop(promotions=plan)
    np.testing.assert_array_equal(dataset.plan.of_week(START + 2 * WEEK), [[0, 0], [0, 0], [1, 0]])
    np.testing.assert_array_equal(dataset.plan.of_week(START + 3 * WEEK), [[0, 0], [0.5, 0], [0, 1]])
    assert shop().plan is None


def test_before_the_test_no_promotion_of_its_weeks_is_known_but_all_kinds_are_told_apart():
    rows = [("x", START + 2 * WEEK, START + 3 * WEEK, "flyer", 1.0), ("9", START + 3 * WEEK, START + 4 * WEEK, "display", 0.5)]
    before = shop(promotions=pl.DataFrame(rows, schema=["item_id", "start", "end", "kind", "share"], orient="row")).before_test()
    assert before.promotions.rows() == rows[:1]  # test weeks are 3 and 4
    assert before.plan.kinds == ("display", "flyer")
    assert shop().before_test().promotions is None


def test_texts_come_from_the_rule_and_the_cut_off():
    assert shop().item_texts(7) == ["10 by 7", "9 by 7", "x by 7"]


def test_users_without_attributes_have_an_empty_text():
    assert shop().user_texts == ["", ""]
    assert shop(users=pl.DataFrame({"user_id": ["a", "b"], "text": ["age 40", None]})).user_texts == ["age 40", ""]


def test_season_groups_are_items_or_the_values_of_a_column():
    assert shop().season_group.tolist() == [0, 1, 2]
    assert shop(season_level="type").season_group.tolist() == [1, 0, 1], "items of unknown type share the group of no type"


def test_weeks_start_where_the_timeline_says():
    dataset = shop()
    assert dataset.start_of(3) == START + 3 * WEEK == dataset.timeline.start_of(3)


def test_the_weeks_of_a_split_include_both_ends():
    assert Split((44, 47), (48, 51)).weeks == {"validation": range(44, 48), "test": range(48, 52)}


@pytest.mark.parametrize(("validation", "test"), [((5, 4), (6, 7)), ((3, 5), (5, 7)), ((3, 5), (8, 7)), ((8, 9), (3, 4))])
def test_a_split_out_of_order_is_an_error(validation, test):
    with pytest.raises(DataError, match="both included, and the last of validation before the first of test"):
        Split(validation, test)


def auto(n_days, first_day=0):
    """The automatic split of events from the first second of one day to the first second of the last."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Split.auto(START + first_day * DAY, START + (n_days - 1) * DAY, START)


@pytest.mark.parametrize(
    ("n_days", "split"),
    [
        (100 * 7, Split((84, 91), (92, 99))),
        (100 * 7 + 6, Split((84, 91), (92, 99))),  # the week that is not full is left out
        (20 * 7, Split((4, 11), (12, 19))),
        (12 * 7, Split((4, 7), (8, 11))),  # both parts shrink to leave four weeks to learn from
        (15 * 7, Split((5, 9), (10, 14))),
    ],
)
def test_an_automatic_split_tests_on_the_last_full_weeks(n_days, split):
    assert auto(n_days) == split


def test_weeks_before_the_first_event_do_not_count():
    with pytest.raises(DataError, match=r"span 11 full weeks from .* to .*, wanted at least 12"):
        auto(13 * 7, first_day=14)
    with pytest.raises(DataError, match="span 11 full weeks"):
        auto(12 * 7 - 1)


def test_under_60_weeks_last_years_counters_are_off_with_a_notice():
    with pytest.warns(UserWarning, match="span 59 weeks, under 60: counters of last year's season are off"):
        Split.auto(START, START + 59 * WEEK - 1, START)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Split.auto(START, START + 60 * WEEK - 1, START)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"country": "Untied Kingdom"}, "country 'Untied Kingdom'.*near matches:.*GB"),
        ({"timezone": "Mars/Olympus"}, "timezone 'Mars/Olympus' is not in the IANA database"),
        ({"hemisphere": "east"}, "hemisphere must be 'north' or 'south', got 'east'"),
    ],
)
def test_a_shop_that_is_nowhere_is_an_error(options, words):
    with pytest.raises(DataError, match=words):
        Shop(**options)
