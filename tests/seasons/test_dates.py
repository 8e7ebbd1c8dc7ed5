"""When holidays fall, against almanacs, dateutil and the holidays package."""

from datetime import date
from functools import partial

import holidays as almanac
import numpy as np
import pytest
from dateutil.easter import easter as dateutil_easter

from seasonrec.errors import DataError
from seasonrec.seasons.dates import (
    MONDAY,
    THURSDAY,
    country_code,
    easter,
    lunar_new_year,
    nth_weekday,
    public_holidays,
    retail_holidays,
    weekday,
)
from seasonrec.seasons.dates import date as date_of

YEARS = np.arange(1951, 2100)


def days(country, title, years, hemisphere="north"):
    """(first day, last day) of a retail holiday in each year, as ISO texts."""
    (holiday,) = (each for each in retail_holidays(country, hemisphere) if each.title == title)
    first, last = holiday.rule(np.asarray(years))
    return list(zip(first.astype(str).tolist(), last.astype(str).tolist(), strict=True))


def ones(country, title, years):
    """The day of a retail holiday of one day in each year."""
    return [first for first, last in days(country, title, years) if first == last]


def test_days_of_the_month_and_of_the_week_are_those_of_the_standard_library():
    for year, month, day in [(1970, 1, 1), (1999, 12, 31), (2000, 2, 29), (2024, 2, 29), (2099, 7, 4)]:
        found = date_of(np.array([year]), month, day)
        assert found[0].item() == date(year, month, day)
        assert weekday(found)[0] == date(year, month, day).weekday()


def test_the_nth_weekday_may_be_the_first_day_of_the_month():
    assert nth_weekday(np.array([2018, 2024]), 1, MONDAY, 1).astype(str).tolist() == ["2018-01-01", "2024-01-01"]
    assert nth_weekday(np.array([2018]), 1, THURSDAY, 4).astype(str).tolist() == ["2018-01-25"]


def test_easter_is_that_of_dateutil():
    years = np.arange(1900, 2200)
    assert [day.item() for day in easter(years)] == [dateutil_easter(int(year)) for year in years]


def test_the_lunar_new_year_is_that_of_the_almanac_and_lies_in_january_or_february():
    known = {
        2011: "2011-02-03",
        2014: "2014-01-31",
        2017: "2017-01-28",
        2018: "2018-02-16",
        2019: "2019-02-05",
        2020: "2020-01-25",
        2021: "2021-02-12",
        2022: "2022-02-01",
        2023: "2023-01-22",
        2024: "2024-02-10",
        2025: "2025-01-29",
    }
    assert lunar_new_year(np.array(list(known))).astype(str).tolist() == list(known.values())
    day_of_year = (lunar_new_year(YEARS) - date_of(YEARS, 1, 1)).astype(int)
    assert ((day_of_year >= 20) & (day_of_year <= 51)).all(), "21 January to 21 February"


def test_the_lunar_new_year_is_that_of_korea_but_for_a_day_at_most():
    years = np.arange(2000, 2030)
    korea = almanac.country_holidays("KR", years=years.tolist(), observed=False, language="en_US")
    seollal = np.array(sorted(korea.get_named("Korean New Year", lookup="exact")), "datetime64[D]")
    apart = (seollal - lunar_new_year(years)).astype(int)
    assert (np.abs(apart) <= 1).all()
    assert (apart == 0).mean() > 0.9


@pytest.mark.parametrize(
    ("title", "name"), [("Valentine's Day",) * 2, ("Mother's Day",) * 2, ("Halloween",) * 2, ("Easter", "Easter Sunday")]
)
def test_retail_days_of_the_united_states_are_those_of_the_holidays_package(title, name):
    years = range(2000, 2030)
    found = almanac.country_holidays("US", categories=("unofficial",), years=years, observed=False)
    assert ones("US", title, years) == [str(day) for day in sorted(found.get_named(name, lookup="exact"))]


def test_days_of_fixed_date_are_on_it():
    years = [2016, 2017]
    for title, month_day in {"New Year": "01-01", "Singles' Day": "11-11", "Christmas": "12-25", "Halloween": "10-31"}.items():
        assert ones("US", title, years) == [f"{year}-{month_day}" for year in years]


def test_black_friday_follows_the_fourth_thursday_even_if_it_is_the_fifth_friday():
    known = ["2011-11-25", "2013-11-29", "2017-11-24", "2018-11-23", "2019-11-29", "2021-11-26", "2024-11-29"]
    assert ones("US", "Black Friday", [2011, 2013, 2017, 2018, 2019, 2021, 2024]) == known
    thanksgiving = almanac.country_holidays("US", years=YEARS.tolist()).get_named("Thanksgiving Day")
    assert ones("US", "Black Friday", YEARS) == [str(np.datetime64(day) + 1) for day in sorted(thanksgiving)]


@pytest.mark.parametrize(
    ("country", "known"),
    [
        ("US", ["2017-05-14", "2019-05-12", "2021-05-09", "2022-05-08"]),
        ("DE", ["2017-05-14", "2019-05-12", "2021-05-09", "2022-05-08"]),
        ("GB", ["2017-03-26", "2019-03-31", "2021-03-14", "2022-03-27"]),
        ("IE", ["2017-03-26", "2019-03-31", "2021-03-14", "2022-03-27"]),
        ("ES", ["2017-05-07", "2019-05-05", "2021-05-02", "2022-05-01"]),
        ("PT", ["2017-05-07", "2019-05-05", "2021-05-02", "2022-05-01"]),
    ],
)
def test_mothers_day_depends_on_the_country(country, known):
    assert ones(country, "Mother's Day", [2017, 2019, 2021, 2022]) == known


def test_advent_begins_on_the_fourth_sunday_before_christmas():
    known = {2016: "2016-11-27", 2017: "2017-12-03", 2018: "2018-12-02", 2022: "2022-11-27", 2023: "2023-12-03"}
    assert days("DE", "Advent", list(known)) == [(first, f"{year}-12-24") for year, first in known.items()]


def test_summer_sale_and_school_begin_half_a_year_apart_on_the_two_hemispheres():
    assert days("US", "Summer Sale", [2019]) == [("2019-07-01", "2019-07-31")]
    assert days("AU", "Summer Sale", [2019], "south") == [("2019-01-01", "2019-01-31")]
    assert days("US", "Back to School", [2019]) == [("2019-08-15", "2019-09-07")]
    assert days("AU", "Back to School", [2019], "south") == [("2019-01-20", "2019-02-03")]


def test_every_retail_holiday_of_the_year_is_there_once_a_year_and_in_order():
    for hemisphere in ("north", "south"):
        for holiday in retail_holidays("US", hemisphere):
            first, last = holiday.rule(YEARS)
            assert len(first) == len(YEARS)
            assert (first <= last).all()
            assert (first[1:] > last[:-1]).all()
    assert {each.title for each in retail_holidays("US", "north")} == {
        *("New Year", "Lunar New Year", "Valentine's Day", "Mother's Day", "Easter", "Summer Sale", "Back to School"),
        *("Halloween", "Singles' Day", "Black Friday", "Advent", "Christmas"),
    }


def test_names_are_plain_words():
    names = [each.name for each in retail_holidays("US", "north")]
    assert names[2:6] == ["valentines_day", "mothers_day", "easter", "summer_sale"]
    assert "singles_day" in names


def test_only_what_lasts_longer_than_a_day_is_a_period():
    periods = {each.title for each in retail_holidays("US", "north") if each.is_period}
    assert periods == {"Summer Sale", "Back to School", "Advent"}


@pytest.mark.parametrize(
    ("spelling", "code"), [("US", "US"), ("us", "US"), ("USA", "US"), ("GB", "GB"), ("united kingdom", "GB"), ("de", "DE")]
)
def test_countries_may_be_spelt_in_several_ways(spelling, code):
    assert country_code(spelling) == code


@pytest.mark.parametrize(("spelling", "near"), [("Germny", "DE"), ("Untied Kingdom", "GB"), ("Austrlia", "AU")])
def test_an_unknown_country_is_an_error_with_near_matches(spelling, near):
    with pytest.raises(DataError, match=f"country '{spelling}' has no calendar.*near matches:.*{near}.*ISO 3166"):
        country_code(spelling)


def test_a_country_that_resembles_none_has_no_near_matches():
    with pytest.raises(DataError, match="near matches: none"):
        country_code("§§§§")


def test_public_holidays_are_those_of_the_almanac_that_retail_does_not_have():
    retail = retail_holidays("US", "north")
    found = {each.title: each for each in public_holidays("US", retail)}
    assert "Christmas Day" not in found
    assert "New Year's Day" not in found
    for title, year, day in [
        ("Thanksgiving Day", 2019, "2019-11-28"),
        ("Independence Day", 2020, "2020-07-04"),
        ("Memorial Day", 2021, "2021-05-31"),
        ("Labor Day", 2017, "2017-09-04"),
    ]:
        assert found[title].rule(np.array([year]))[0].astype(str).tolist() == [day]


def test_public_holidays_that_a_country_kept_once_are_no_seasons():
    titles = [each.title for each in public_holidays("GB", retail_holidays("GB", "north"))]
    assert titles == ["Good Friday", "May Day", "Spring Bank Holiday", "Boxing Day"], "no royal weddings, funerals or jubilees"


def test_public_days_in_a_row_under_one_title_are_one_holiday():
    (national,) = (each for each in public_holidays("CN", ()) if each.title == "National Day")
    first, last = national.rule(np.array([2018, 2019]))
    assert first.astype(str).tolist() == ["2018-10-01", "2019-10-01"]
    assert ((last - first).astype(int) >= 2).all()


def test_a_rule_gives_no_day_for_years_in_which_the_holiday_was_not_kept():
    (day,) = (each for each in public_holidays("DE", ()) if each.title == "German Unity Day")
    assert day.rule(np.array([1980]))[0].tolist() == []
    assert day.rule(np.array([1995]))[0].astype(str).tolist() == ["1995-10-03"]


def test_the_summer_sale_of_a_period_is_the_same_rule_every_year():
    (sale,) = (each for each in retail_holidays("US", "north") if each.title == "Summer Sale")
    first, last = sale.rule(YEARS)
    np.testing.assert_array_equal(first, partial(date_of, month=7, day=1)(YEARS))
    np.testing.assert_array_equal(last, date_of(YEARS, 7, 31))
