"""Cleaning counts every row that it drops, once, and keeps it aside."""

import polars as pl
import pytest

from seasonrec.data.cleaning import AFTER_LAST, EARLIEST, EVENT_STEPS, Step, clean, first_of, given, together
from seasonrec.errors import DataError

SOURCE = pl.DataFrame({"who": ["a", "a", None, "", "b", "c"], "n": [1, 1, 2, 3, None, 4]})


def test_steps_see_what_earlier_ones_left_and_each_row_is_counted_once():
    steps = [Step("nobody", given("who")), Step("no_number", pl.col("n").is_not_null()), Step("duplicate", first_of(["who", "n"]))]
    cleaned = clean(SOURCE, {}, steps, "file")
    assert cleaned.dropped == (("nobody", 2), ("no_number", 1), ("duplicate", 1))
    assert cleaned.kept.rows() == [("a", 1), ("c", 4)]
    assert cleaned.rejected.select("source_row", "reason").rows() == [(3, "nobody"), (4, "nobody"), (5, "no_number"), (2, "duplicate")]
    assert len(cleaned.kept) + len(cleaned.rejected) == len(SOURCE)


def test_a_rule_that_cannot_tell_drops():
    assert clean(SOURCE, {}, [Step("small", pl.col("n") < 10)], "file").dropped == (("small", 1),)


def test_rejected_rows_stand_as_in_the_source():
    cleaned = clean(SOURCE, {"n": pl.col("n") * 100}, [Step("many", pl.col("n") < 400)], "file")
    assert cleaned.kept["n"].to_list() == [100, 100, 200, 300]
    assert cleaned.rejected["n"].to_list() == [None, 4]


def test_a_source_s_own_reason_is_kept_beside_why_its_row_was_dropped():
    returns = pl.DataFrame({"who": ["a", None], "reason": ["too small", "broken"]})
    rejected = clean(returns, {}, [Step("nobody", given("who"))], "file").rejected
    assert rejected.select("reason", "reason of the source").rows() == [("nobody", "broken")]


def test_nulls_are_equal_when_duplicates_are_looked_for():
    frame = pl.DataFrame({"a": [None, None, 1], "b": ["x", "x", "x"]})
    assert clean(frame, {}, [Step("duplicate", first_of(["a", "b"]))], "file").dropped == (("duplicate", 1),)


def test_nothing_left_is_an_error_that_counts_the_reasons():
    with pytest.raises(DataError, match=r"file: cleaning dropped all 6 rows: {'nobody': 2, 'never': 4}"):
        clean(SOURCE, {}, [Step("nobody", given("who")), Step("never", pl.lit(False) & given("who"))], "file")


def test_nothing_left_shows_what_most_rows_are_as_the_source_has_it_and_what_to_do():
    columns = {"user": pl.col("who"), "twice": (SOURCE["n"] * 2).alias("n")}
    steps = [Step("nobody", given("user"), "name them"), Step("odd", pl.col("twice") > 9, "look at n"), Step("rest", pl.lit(True))]
    with pytest.raises(DataError, match=r"{'nobody': 2, 'odd': 4}; most are odd, e\.g\. {'n': 1}; look at n; check the columns"):
        clean(SOURCE, columns, steps, "file")
    with pytest.raises(DataError, match=r"{'nobody': 2}; check the columns"):  # of what is not there is no example
        clean(pl.DataFrame({"who": [None, None]}, {"who": pl.String}), {}, [Step("nobody", given("who"))], "file")


def test_times_are_possible_from_1951_to_2099():
    times = [EARLIEST - 1, EARLIEST, AFTER_LAST - 1, AFTER_LAST, None]
    events = pl.DataFrame({"user_id": "u", "item_id": "i", "time": times}, schema_overrides={"time": pl.Int64})
    cleaned = clean(events, {}, EVENT_STEPS, "file")
    assert cleaned.kept["time"].to_list() == [EARLIEST, AFTER_LAST - 1]
    assert dict(cleaned.dropped) == {"no_user": 0, "no_item": 0, "unparsable_time": 1, "impossible_time": 2}
    assert [pl.from_epoch(pl.Series([edge])).dt.year().item() for edge in (EARLIEST - 1, AFTER_LAST)] == [1950, 2100]


def test_rejects_of_files_with_other_columns_stand_in_one_table():
    one = clean(SOURCE, {}, [Step("nobody", given("who"))], "one").rejected
    two = clean(pl.DataFrame({"x": [1.5, 2.5]}), {}, [Step("big", pl.col("x") < 2)], "two").rejected
    both = together([one, two])
    assert both.select("source", "reason", "who", "x").rows()[-1] == ("two", "big", None, 2.5)
    assert len(both) == 3
    assert together([]).columns == ["source", "source_row", "reason"]
