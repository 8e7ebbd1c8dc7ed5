"""Distances, windows and features of holidays against a search through all days."""

from datetime import UTC, datetime

import numpy as np
import pytest

from seasonrec.errors import DataError
from seasonrec.seasons.calendar import FARTHEST, Calendar
from seasonrec.seasons.dates import COUNTRIES, Holiday, public_holidays, retail_holidays

DAY = 86_400


def utc(text):
    """Seconds since 1970 of a UTC time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def plain_distance(holiday: Holiday, day: np.datetime64):
    """The signed days to the nearest occurrence, by trying them all; ahead if there are as many behind."""
    year = day.astype("datetime64[Y]").astype(int) + 1970
    best = FARTHEST
    for first, last in zip(*holiday.rule(np.arange(year - 2, year + 3)), strict=True):
        if first <= day <= last:
            return 0
        signed = int((first - day).astype(int)) if day < first else int((last - day).astype(int))
        if (abs(signed), -signed) < (abs(best), -best) and abs(signed) < FARTHEST:
            best = signed
    return best


@pytest.mark.parametrize(("country", "hemisphere"), [("US", "north"), ("AU", "south"), ("CN", "north")])
def test_distances_are_those_of_a_search_through_all_days(country, hemisphere):
    calendar = Calendar(country, hemisphere=hemisphere)
    time = np.sort(np.random.default_rng(0).integers(utc("2005-01-01"), utc("2022-01-01"), 250))
    found = calendar.distance(time)
    assert found.dtype == np.float32
    for row, day in zip(found, time.astype("datetime64[s]").astype("datetime64[D]"), strict=True):
        assert row.tolist() == [plain_distance(holiday, day) for holiday in calendar.holidays]


def distance(calendar, name, time):
    return calendar.distance([utc(time)])[0, calendar.names.index(name)]


def test_distances_are_positive_before_and_negative_after():
    us = Calendar()
    assert distance(us, "christmas", "2017-12-13T12:00") == 12
    assert distance(us, "christmas", "2017-12-25") == 0
    assert distance(us, "christmas", "2017-12-31") == -6
    assert distance(us, "christmas", "2018-01-04") == -10
    assert distance(us, "halloween", "2017-11-01") == -1
    assert distance(us, "black_friday", "2019-11-28") == 1
    assert distance(us, "advent", "2017-12-10") == 0
    assert distance(us, "new_year", "2017-12-31T23:59:59") == 1


def test_distances_do_not_depend_on_the_company_of_other_times():
    calendar = Calendar()
    time = np.array([utc("2020-07-01"), utc("2011-12-24"), utc("2020-07-01"), utc("1999-03-03")])
    together = calendar.distance(time)
    for row, each in zip(together, time, strict=True):
        np.testing.assert_array_equal(calendar.distance([each])[0], row)
    assert calendar.distance(np.array([], int)).shape == (0, len(calendar.names))


def test_a_holiday_begins_at_local_midnight():
    tokyo, new_york = Calendar("JP", "Asia/Tokyo"), Calendar("US", "America/New_York")
    assert distance(tokyo, "christmas", "2017-12-24T14:59:59") == 1
    assert distance(tokyo, "christmas", "2017-12-24T15:00") == 0
    assert distance(new_york, "christmas", "2017-12-25T04:59:59") == 1
    assert distance(new_york, "christmas", "2017-12-25T05:00") == 0
    assert distance(new_york, "christmas", "2017-12-26T04:59:59") == 0


def test_summer_time_moves_local_midnight():
    london = Calendar("GB", "Europe/London")
    assert distance(london, "halloween", "2017-10-30T23:59:59") == 1, "winter time since the 29th"
    assert distance(london, "summer_sale", "2017-06-30T23:00") == 0, "midnight of summer time"
    assert distance(london, "summer_sale", "2017-06-30T22:59:59") == 1


def test_windows_reach_from_days_before_to_days_after():
    calendar = Calendar()
    days = np.arange(utc("2017-10-01"), utc("2018-02-01"), DAY)
    windows = calendar.windows(days + 7 * 3_600)

    def span(name):
        inside = days[windows[name]].astype("datetime64[s]").astype("datetime64[D]")
        assert len(inside) == (inside[-1] - inside[0]).astype(int) + 1, "one run of days"
        return str(inside[0]), str(inside[-1])

    assert tuple(windows) == calendar.names
    assert span("halloween") == ("2017-10-03", "2017-10-31")
    assert span("black_friday") == ("2017-11-17", "2017-11-27")
    assert span("advent") == ("2017-12-03", "2017-12-24")
    assert span("christmas") == ("2017-11-27", "2017-12-25")
    assert span("new_year") == ("2017-12-25", "2018-01-02")
    assert span("lunar_new_year")[0] == "2018-01-26"


def test_features_are_how_near_a_holiday_is_ahead_and_behind():
    calendar = Calendar()
    n, at = len(calendar.names), calendar.names.index("black_friday")
    # Black Friday 2017 is 24 November; its window is 7 days before and 3 after.
    time = [utc(f"2017-11-{day}") for day in (17, 23, 24, 25, 27)]
    features = calendar.features(time)
    assert features.shape == (5, 2 * n)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[:, at], np.exp([-1, -1 / 7, 0, -np.inf, -np.inf]), rtol=1e-6)
    np.testing.assert_allclose(features[:, n + at], np.exp([-np.inf, -np.inf, 0, -1 / 3, -1]), rtol=1e-6)


def test_short_windows_fade_within_three_days():
    calendar = Calendar()
    n, at = len(calendar.names), calendar.names.index("christmas")  # no days after
    assert calendar.features([utc("2017-12-28")])[0, n + at] == pytest.approx(np.exp(-1))


def test_features_of_every_day_are_finite_and_between_0_and_1():
    features = Calendar("CN").features(np.arange(utc("2010-01-01"), utc("2016-01-01"), DAY))
    assert ((features >= 0) & (features <= 1)).all()


def test_holidays_and_their_order_do_not_change():
    assert Calendar("GB", "Europe/London").names == (
        *("new_year", "lunar_new_year", "valentines_day", "mothers_day", "easter", "summer_sale", "back_to_school"),
        *("halloween", "singles_day", "black_friday", "advent", "christmas"),
        *("good_friday", "may_day", "spring_bank_holiday", "boxing_day"),
    )


@pytest.mark.parametrize("country", sorted(names[1] for names in COUNTRIES.values()))
def test_names_are_distinct_and_no_public_holiday_is_lost(country):
    names, retail = Calendar(country).names, retail_holidays(country, "north")
    public = public_holidays(country, retail)
    assert len(set(names)) == len(names)
    assert set(names) == {each.name for each in (*retail, *public)}
    assert len({each.name for each in public}) == len(public)


def test_a_country_s_own_day_of_a_retail_holiday_takes_its_place():
    """Lithuania keeps Mother's Day on the first Sunday of May, Romania the Orthodox Easter."""
    assert distance(Calendar("LT"), "mothers_day", "2024-05-05") == 0
    romania, days = Calendar("RO"), ("2024-04-14", "2024-03-31", "2024-05-05", "2024-05-06", "2024-05-08")
    assert distance(romania, "easter", "2024-05-05") == 0
    assert romania.windows([utc(day) for day in days])["easter"].tolist() == [True, False, True, True, False], (
        "21 days before to Easter Monday"
    )


def test_calendars_of_one_shop_are_equal():
    assert Calendar("US") == Calendar("US")
    assert len({Calendar("US"), Calendar("US"), Calendar("GB")}) == 2


@pytest.mark.parametrize("timezone", ["UTC", "America/New_York"])
@pytest.mark.parametrize("time", [1_500_000_000_000, utc("2100-06-01"), utc("1950-06-01")])
def test_times_outside_1951_to_2099_are_refused_and_milliseconds_suspected(time, timezone):
    with pytest.raises(DataError, match="divide milliseconds by 1,000"):
        Calendar(timezone=timezone).distance([time])


def test_the_first_and_the_last_year_that_are_known_are_answered():
    assert np.isfinite(Calendar().distance([utc("1951-01-01"), utc("2099-12-31T23:59:59")])).all()


def test_times_that_are_not_integers_are_refused():
    with pytest.raises(DataError, match="times are float64"):
        Calendar().features([1.5e9])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"country": "Germny"}, "country 'Germny'.*near matches:.*DE"),
        ({"timezone": "Mars/Olympus"}, "'Mars/Olympus' is not in the IANA database"),
        ({"hemisphere": "east"}, "hemisphere must be 'north' or 'south', got 'east'"),
    ],
)
def test_a_place_that_does_not_exist_is_an_error(options, words):
    with pytest.raises(DataError, match=words):
        Calendar(**options)
