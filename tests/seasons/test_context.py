"""The season of a moment as numbers and as words."""

from datetime import UTC, datetime

import numpy as np
import pytest

from seasonrec.errors import ConfigError, DataError
from seasonrec.seasons.calendar import Calendar
from seasonrec.seasons.context import SeasonContext
from seasonrec.seasons.phase import harmonics, of_year

DAY = 86_400


def utc(text):
    """Seconds since 1970 of a UTC time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("day", "text"),
    [
        ("2017-12-13", "week 50 of the year, mid December, winter, 12 days before Christmas, Advent"),
        ("2017-01-01", "week 1 of the year, early January, winter, on New Year"),
        ("2017-03-05", "week 10 of the year, early March, spring"),
        ("2017-07-09", "week 28 of the year, early July, summer, Summer Sale"),
        ("2017-07-03", "week 27 of the year, early July, summer, 1 day before Independence Day, Summer Sale"),
        ("2017-10-31", "week 44 of the year, late October, autumn, on Halloween"),
        ("2017-11-25", "week 47 of the year, late November, autumn, 1 day after Black Friday"),
        ("2017-11-22", "week 47 of the year, late November, autumn, 1 day before Thanksgiving Day, 2 days before Black Friday"),
        ("2017-12-31", "week 52 of the year, late December, winter, 1 day before New Year"),
        ("2016-12-31", "week 52 of the year, late December, winter, 1 day before New Year"),
    ],
)
def test_the_text_names_week_month_season_and_holidays(day, text):
    assert SeasonContext(Calendar()).text(utc(day)) == text


def test_without_holidays_neither_words_nor_numbers_know_them():
    christmas = SeasonContext(Calendar(), holidays=False)
    assert christmas.text(utc("2017-12-13")) == "week 50 of the year, mid December, winter"
    assert christmas.width == 8  # sine and cosine of four harmonics
    np.testing.assert_array_equal(christmas.features([utc("2017-12-13")]), SeasonContext(Calendar()).features([utc("2017-12-13")])[:, :8])


@pytest.mark.parametrize(
    ("day", "part"), [("02-01", "early"), ("02-10", "early"), ("02-11", "mid"), ("02-20", "mid"), ("02-21", "late"), ("02-29", "late")]
)
def test_a_month_has_three_parts(day, part):
    assert f", {part} February, " in SeasonContext(Calendar()).text(utc(f"2020-{day}"))


@pytest.mark.parametrize(
    ("hemisphere", "seasons"),
    [
        ("north", ["winter"] * 2 + ["spring"] * 3 + ["summer"] * 3 + ["autumn"] * 3 + ["winter"]),
        ("south", ["summer"] * 2 + ["autumn"] * 3 + ["winter"] * 3 + ["spring"] * 3 + ["summer"]),
    ],
)
def test_seasons_are_those_of_the_hemisphere(hemisphere, seasons):
    context = SeasonContext(Calendar("AU", hemisphere=hemisphere))
    texts = context.texts([utc(f"2019-{month:02d}-17") for month in range(1, 13)])
    assert [text.split(", ")[2] for text in texts] == seasons


def test_of_more_than_three_holidays_the_nearest_are_named_and_periods_last():
    # In Germany on 23 December: Christmas is 2 days off, its second day 3, New Year 9; Advent is on.
    text = SeasonContext(Calendar("DE")).text(utc("2017-12-23"))
    assert text.endswith("winter, 2 days before Christmas, 3 days before Second Day of Christmas, Advent")
    # On 25 December Advent is over.
    assert (
        SeasonContext(Calendar("DE"))
        .text(utc("2017-12-25"))
        .endswith("on Christmas, 1 day before Second Day of Christmas, 7 days before New Year")
    )


def test_the_day_is_the_shops_local_one():
    tokyo = SeasonContext(Calendar("JP", "Asia/Tokyo"))
    assert "late December" in tokyo.text(utc("2017-12-31T14:59:59"))
    assert tokyo.text(utc("2017-12-31T15:00")).startswith("week 1 of the year, early January, winter, on New Year")


def test_texts_are_those_of_each_time_alone():
    context = SeasonContext(Calendar("GB", "Europe/London"))
    times = np.arange(utc("2019-01-01"), utc("2020-01-01"), 11 * DAY)
    assert context.texts(times) == [context.text(int(time)) for time in times]
    assert context.texts([]) == []


def test_holidays_are_named_exactly_within_their_windows():
    context = SeasonContext(Calendar())
    times = np.arange(utc("2018-01-01"), utc("2019-01-01"), DAY)
    inside = np.stack(list(context.calendar.windows(times).values()), axis=1)
    for text, near in zip(context.texts(times), inside, strict=True):
        titles = [holiday.title for holiday, within in zip(context.calendar.holidays, near, strict=True) if within]
        named = text.split(", ")[3:]
        assert len(named) == min(len(titles), 3)
        assert all(any(each.endswith(title) for title in titles) for each in named)


def test_features_are_harmonics_of_the_local_phase_and_the_calendars_features():
    context = SeasonContext(Calendar("US", "America/New_York"), n_harmonics=3)
    times = np.arange(utc("2017-01-01"), utc("2018-01-01"), 5 * DAY + 3_600)
    features = context.features(times)
    assert features.shape == (len(times), context.width)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features[:, :6], harmonics(of_year(times, "America/New_York"), 3))
    np.testing.assert_array_equal(features[:, 6:], context.calendar.features(times))


def test_the_width_counts_sines_cosines_and_both_sides_of_each_holiday():
    assert SeasonContext(Calendar(), n_harmonics=5).width == 10 + 2 * len(Calendar().names)


@pytest.mark.parametrize(("option", "least"), [({"n_harmonics": 0}, 1), ({"min_weeks": -1}, 0)])
def test_no_harmonics_and_fewer_than_no_weeks_are_an_error(option, least):
    with pytest.raises(ConfigError, match=rf"seasons\.\w+ is {least - 1}, wanted at least {least}"):
        SeasonContext(Calendar(), **option)


@pytest.mark.parametrize("ask", [SeasonContext.text, lambda context, time: context.features([time])])
def test_times_in_milliseconds_are_refused(ask):
    with pytest.raises(DataError, match="divide milliseconds by 1,000"):
        ask(SeasonContext(Calendar(timezone="America/New_York")), 1_500_000_000_000)
