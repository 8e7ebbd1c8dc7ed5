"""Which truth belongs to which slice, by sets over the events."""

from collections import defaultdict
from datetime import UTC, datetime

import numpy as np

from seasonrec.evaluation.labels import season_labels
from seasonrec.evaluation.slices import bought_before, slices
from seasonrec.schema import DAY


def truth_rows(queries):
    """(user, item, start of the week) of every truth item."""
    query = queries.truth_query
    return list(zip(queries.user[query], queries.truth_item, queries.time[query], strict=True))


def events_of(timeline):
    return list(zip(timeline.user, timeline.item, timeline.time, strict=True))


def by_name(shop, queries, holidays=None):
    return {part.name: part for part in slices(shop.timeline, queries, season_labels(shop), holidays)}


def test_repeat_and_new_to_user_split_the_truth_by_what_the_user_had_bought(shop):
    queries = shop.timeline.queries(range(20, 70, 7))
    first = {}
    for user, item, time in events_of(shop.timeline):
        first[user, item] = min(time, first.get((user, item), time))
    expected = [first[user, item] < start for user, item, start in truth_rows(queries)]
    parts = by_name(shop, queries)
    np.testing.assert_array_equal(parts["repeat"].truth, expected)
    np.testing.assert_array_equal(parts["new_to_user"].truth, np.logical_not(expected))
    assert 0 < sum(expected) < len(expected)


def test_an_item_is_cold_while_nobody_had_bought_it_before_the_week(shop):
    queries = shop.timeline.queries(range(55, 65))
    expected = [not any(i == item and time < start for _, i, time in events_of(shop.timeline)) for _, item, start in truth_rows(queries)]
    np.testing.assert_array_equal(by_name(shop, queries)["cold_item"].truth, expected)
    assert any(expected)


def test_few_shots_are_what_is_new_to_the_user_by_how_often_anybody_had_bought_it_in_a_week(shop):
    queries = shop.timeline.queries(range(3, 65))
    parts = by_name(shop, queries)
    weeks = defaultdict(list)
    for _, item, week in {(user, item, int(shop.timeline.week_of(time))) for user, item, time in events_of(shop.timeline)}:
        weeks[item].append(week)
    of_truth = [(item, int(shop.timeline.week_of(start))) for _, item, start in truth_rows(queries)]
    n_before = np.array([sum(week < now for week in weeks[item]) for item, now in of_truth])
    new = parts["new_to_user"].truth
    np.testing.assert_array_equal(parts["purchases=0"].truth, new & (n_before == 0))
    np.testing.assert_array_equal(parts["purchases=1"].truth, new & (n_before == 1))
    np.testing.assert_array_equal(parts["purchases=2-5"].truth, new & np.isin(n_before, (2, 3, 4, 5)))
    assert all(parts[f"purchases={n}"].truth.any() for n in ("0", "1", "2-5"))


def test_season_slices_look_up_the_week_of_year_of_the_fourth_day(shop):
    queries, labels = shop.timeline.queries(range(38, 56)), season_labels(shop)
    parts, expected = by_name(shop, queries), []
    for _, item, start in truth_rows(queries):
        day = datetime.fromtimestamp(int(start) + 3 * DAY, UTC).timetuple().tm_yday
        expected.append((labels.group[item], min((day - 1) // 7, 51)))
    np.testing.assert_array_equal(parts["in_season"].truth, [labels.in_season[where] for where in expected])
    np.testing.assert_array_equal(parts["off_season"].truth, [labels.off_season[where] for where in expected])
    assert parts["in_season"].truth.any()
    assert not (parts["in_season"].truth & parts["off_season"].truth).any()


def test_months_are_those_of_the_fourth_day_and_split_the_truth(shop):
    queries = shop.timeline.queries(range(40, 60))
    parts = by_name(shop, queries)
    months = {name: part for name, part in parts.items() if name.startswith("month=")}
    expected = np.array([datetime.fromtimestamp(int(start) + 3 * DAY, UTC).month for _, _, start in truth_rows(queries)])
    assert set(months) == {f"month={number}" for number in set(expected)}
    for number in set(expected):
        np.testing.assert_array_equal(months[f"month={number}"].truth, expected == number)


def test_a_holiday_slice_holds_the_queries_of_its_window(shop):
    queries = shop.timeline.queries(range(50, 56))
    parts = by_name(shop, queries, {"christmas": queries.week == 51, "easter": np.zeros(len(queries), bool)})
    np.testing.assert_array_equal(parts["holiday=christmas"].truth, queries.week[queries.truth_query] == 51)
    assert "holiday=easter" not in parts, "a window without queries is no slice"


def test_each_slice_is_looked_for_in_its_own_list(shop):
    queries = shop.timeline.queries(range(60, 62))
    other = {part.name: part.list for part in by_name(shop, queries).values() if part.list != "all"}
    few_shots = dict.fromkeys(("purchases=0", "purchases=1", "purchases=2-5"), "new")
    assert other == {"new_to_user": "new", "cold_item": "cold", **few_shots}


def test_a_purchase_of_the_same_week_is_not_before_it(shop):
    queries = shop.timeline.queries(range(60, 62))
    once = [
        sum(u == user and i == item and time < start for u, i, time in events_of(shop.timeline)) == 0
        for user, item, start in truth_rows(queries)
    ]
    np.testing.assert_array_equal(~bought_before(shop.timeline, queries), once)
