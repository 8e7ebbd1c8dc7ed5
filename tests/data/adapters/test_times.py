"""Times of all kinds become int64 seconds UTC."""

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from seasonrec.data.adapters.times import seconds
from seasonrec.errors import DataError

NOON = int(datetime(2017, 7, 1, 12, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2017-07-01", NOON - 12 * 3600),
        ("2017-07-01 12:00", NOON),
        ("2017-07-01 12:00:00", NOON),
        (" 2017-07-01T12:00:00.75 ", NOON),
        ("2017-07-01T12:00:00Z", NOON),
        ("2017-07-01T14:00:00+02:00", NOON),
        (str(NOON), NOON),
        ("1969-12-31 23:59:59.5", -1),
    ],
)
def test_text_of_the_iso_form_needs_no_format(written, expected):
    read = seconds(pl.Series([written, None]), "here")
    assert read.dtype == pl.Int64
    assert read.to_list() == [expected, None]


def test_forms_may_be_mixed_and_what_cannot_be_read_is_null():
    read = seconds(pl.Series(["2017-07-01", "2017-07-01 12:00:00", "soon", "2017-02-30", ""]), "here")
    assert read.to_list() == [NOON - 12 * 3600, NOON, None, None, None]


@pytest.mark.parametrize("unit", ["ns", "us", "ms"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_datetimes_of_any_unit_and_zone_mean_the_same_moment(unit, zone):
    times = pl.Series([datetime(2017, 7, 1, 12)]).dt.cast_time_unit(unit).dt.replace_time_zone("UTC")
    times = times.dt.replace_time_zone(None) if zone is None else times.dt.convert_time_zone(zone)
    assert seconds(times, "here").to_list() == [NOON]


def test_days_begin_at_midnight():
    assert seconds(pl.Series([date(2017, 7, 1)]), "here").to_list() == [NOON - 12 * 3600]


@pytest.mark.parametrize(("unit", "factor"), [(None, 1), ("s", 1), ("ms", 1_000), ("us", 1_000_000)])
@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64])
def test_numbers_are_seconds_unless_told_otherwise(unit, factor, dtype):
    numbers = pl.Series([NOON * factor, None], dtype=dtype)
    assert seconds(numbers, "here", time_format=unit).to_list() == [NOON, None]
    assert seconds(numbers.cast(pl.Int64).cast(pl.String), "here", time_format=unit).to_list() == [NOON, None]


def test_numbers_that_are_none_are_null():
    assert seconds(pl.Series([np.nan, np.inf, 5.0]), "here").to_list() == [None, None, 5]


def test_naive_times_are_those_of_the_named_clock():
    local = pl.Series(["2017-07-01 08:00:00", "2017-01-01 08:00:00", "2017-07-01T12:00:00Z"])
    read = seconds(local, "here", timezone="America/New_York").to_list()
    # New York is 4 h behind UTC in summer and 5 h in winter; a time with a zone of its own keeps it.
    assert read == [NOON, int(datetime(2017, 1, 1, 13, tzinfo=UTC).timestamp()), NOON]


def test_an_hour_shown_twice_is_its_first_and_a_skipped_one_is_null():
    read = seconds(pl.Series(["2017-11-05 01:30:00", "2017-03-12 02:30:00"]), "here", timezone="America/New_York").to_list()
    assert read == [int(datetime(2017, 11, 5, 5, 30, tzinfo=UTC).timestamp()), None]


@pytest.mark.parametrize("written", ["01/02/2017", "20170102", "2017 week 3"])
def test_a_form_that_could_mean_two_days_is_not_guessed(written):
    with pytest.raises(DataError, match=r"no time can be read.*e\.g\. data\.time_format='%d/%m/%Y'"):
        seconds(pl.Series([written]), "shop.csv: column 'day'")


def test_a_format_is_obeyed_and_checked():
    assert seconds(pl.Series(["01/07/2017 12:00"]), "here", time_format="%d/%m/%Y %H:%M").to_list() == [NOON]
    with pytest.raises(DataError, match="wanted the format '%Y'"):
        seconds(pl.Series(["01/07/2017"]), "here", time_format="%Y")


def test_other_columns_and_unknown_clocks_are_refused():
    with pytest.raises(DataError, match="holds Boolean"):
        seconds(pl.Series([True]), "here")
    with pytest.raises(DataError, match="'Mars/Base' is not in the IANA database"):
        seconds(pl.Series(["2017-07-01"]), "here", timezone="Mars/Base")
