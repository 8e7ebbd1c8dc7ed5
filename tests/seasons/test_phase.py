"""Local time, phase, harmonics and week of the year against the standard library's clocks."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seasonrec.errors import DataError
from seasonrec.seasons.phase import harmonics, local_time, of_year, week_of_year, window, zone


def utc(text):
    """Seconds since 1970 of a UTC time such as "2017-03-12T07:00"."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


# Half and quarter hours, southern summers, half-hour daylight saving, and changes at a minute past midnight.
ZONES = ["America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns", "Asia/Gaza", "Pacific/Apia", "UTC"]


@pytest.mark.parametrize("timezone", ZONES)
def test_local_time_is_what_the_standard_library_shows(timezone):
    time = np.random.default_rng(0).integers(utc("1973-01-01"), utc("2037-01-01"), 3_000)
    shown = [datetime.fromtimestamp(each, ZoneInfo(timezone)).replace(tzinfo=None) for each in time.tolist()]
    np.testing.assert_array_equal(local_time(time, timezone), np.array(shown, "datetime64[s]"))


@pytest.mark.parametrize(
    ("timezone", "change"),
    [
        ("America/New_York", "2017-03-12T07:00"),
        ("America/New_York", "2017-11-05T06:00"),
        ("Australia/Lord_Howe", "2019-04-06T15:00"),
        ("America/St_Johns", "2010-03-14T03:31"),  # not on a quarter of an hour
    ],
)
def test_clocks_change_at_the_very_second(timezone, change):
    time = utc(change) + np.arange(-20 * 60, 20 * 60, 7)
    shown = [datetime.fromtimestamp(each, ZoneInfo(timezone)).replace(tzinfo=None) for each in time.tolist()]
    np.testing.assert_array_equal(local_time(time, timezone), np.array(shown, "datetime64[s]"))
    assert len(set(np.diff(local_time(time, timezone)).tolist())) == 2, "the clock changed"


def test_local_time_keeps_the_shape_and_an_empty_one():
    time = np.array([[0, 1], [2, 3]])
    assert local_time(time, "Asia/Tokyo").shape == (2, 2)
    assert local_time(0, "Asia/Tokyo") == np.datetime64("1970-01-01T09:00:00")
    assert local_time(np.array([], int), "Asia/Tokyo").shape == (0,)


@pytest.mark.parametrize("timezone", ["Mars/Olympus", "Europe", "", "../etc/passwd", "EST5EDT7"])
def test_an_unknown_time_zone_is_an_error_that_shows_a_known_one(timezone):
    with pytest.raises(DataError, match="is not in the IANA database; give a name such as 'Europe/London' or 'UTC'"):
        zone(timezone)


@pytest.mark.parametrize("ask", [local_time, of_year, week_of_year])
@pytest.mark.parametrize("timezone", ["UTC", "America/New_York"])
def test_times_in_milliseconds_or_floats_are_refused(ask, timezone):
    with pytest.raises(DataError, match=r"wanted the years 1\.\.9999; divide milliseconds by 1,000"):
        ask(np.array([1_500_000_000_000]), timezone)
    with pytest.raises(DataError, match="times are float64, wanted int64 seconds UTC"):
        ask(np.array([1.5e9]), timezone)


@pytest.mark.parametrize(
    ("time", "phase"),
    [
        ("2017-01-01", 0),
        ("2017-07-02T12:00", 0.5),
        ("2016-07-02", 0.5),  # 183 of 366 days
        ("2017-12-31T23:59:59", 1 - 1 / (365 * 86_400)),
        ("2016-12-31", 365 / 366),
        ("2000-02-29", 59 / 366),
        ("1900-03-01", 59 / 365),  # no leap year
    ],
)
def test_phase_is_the_fraction_of_the_year_gone_by(time, phase):
    assert of_year([utc(time)])[0] == pytest.approx(phase, abs=1e-15)


def test_the_phase_is_that_of_the_local_year():
    new_year = utc("2017-01-01")
    assert of_year([new_year], "Asia/Tokyo")[0] == pytest.approx(9 / (365 * 24))
    assert of_year([new_year], "America/New_York")[0] == pytest.approx(1 - 5 / (366 * 24))


def test_phases_rise_through_a_year_and_stay_below_1():
    phase = of_year(np.arange(utc("2020-01-01"), utc("2021-01-01"), 3_601))
    assert (np.diff(phase) > 0).all()
    assert phase[0] == 0
    assert 0.9999 < of_year([utc("2021-01-01") - 1])[0] < 1


def test_harmonics_are_sines_then_cosines_of_multiples_of_the_angle():
    np.testing.assert_allclose(harmonics([0, 0.25], 2), [[0, 0, 1, 1], [1, 0, 0, -1]], atol=1e-7)
    assert harmonics([0.1], 3).dtype == np.float32


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5), st.integers(1, 6))
def test_harmonics_are_those_of_a_complex_exponential(phase, n):
    wave = np.exp(2j * np.pi * np.outer(phase, np.arange(1, n + 1)))
    np.testing.assert_allclose(harmonics(phase, n), np.hstack([wave.imag, wave.real]), atol=1e-6)


def test_harmonics_have_no_jump_at_new_year():
    before, after = harmonics(of_year([utc("2018-01-01") - 1, utc("2018-01-01")]), 4)
    np.testing.assert_allclose(before, after, atol=1e-5)


@pytest.mark.parametrize("phase", [1.37, -0.1, 1.0, float("nan")])
def test_a_phase_outside_the_year_is_an_error_that_names_it(phase):
    with pytest.raises(DataError, match=rf"phase must lie in \[0, 1\), got {phase:g} at event 1; seasons.phase.of_year"):
        harmonics([0.5, phase], 2)


def test_no_harmonics_are_an_error():
    with pytest.raises(DataError, match="asked for 0, wanted at least 1"):
        harmonics([0.5], 0)


@pytest.mark.parametrize("year", [2015, 2016, 2017, 2100])
def test_week_of_year_is_counted_from_1_january_and_the_last_days_join_week_51(year):
    days = [date(year, 1, 1) + timedelta(n) for n in range(366) if (date(year, 1, 1) + timedelta(n)).year == year]
    expected = [min((day.timetuple().tm_yday - 1) // 7, 51) for day in days]
    assert week_of_year([utc(day.isoformat()) for day in days]).tolist() == expected
    assert week_of_year([utc(day.isoformat()) + 86_399 for day in days]).tolist() == expected
    assert expected[-1] == expected[-8] == 51


def test_the_week_of_year_is_the_local_one():
    assert week_of_year([utc("2017-01-01")]).tolist() == [0]
    assert week_of_year([utc("2017-01-01")], "America/New_York").tolist() == [51]


@pytest.mark.parametrize(("values", "dtype"), [(np.arange(104).reshape(2, 52), None), (np.linspace(0, 1, 52)[None], np.float32)])
def test_a_window_goes_around_new_year_and_leaves_what_it_sums(values, dtype):
    before = values.copy()
    found = window(values, 2, dtype)
    expected = [[sum(row[(week + shift) % 52] for shift in (-2, -1, 0, 1, 2)) for week in range(52)] for row in values.tolist()]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == (dtype or values.dtype)
    np.testing.assert_array_equal(values, before)
