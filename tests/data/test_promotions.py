"""The shop's plan against a loop over its rows."""

import numpy as np
import polars as pl
import pytest

from seasonrec.data.promotions import Promotions
from seasonrec.schema import DAY, WEEK

SCHEMA = ["start", "end", "kind", "share"]


def plan_of(rows, n_items=4):
    """A plan of rows (item, start, end, kind, share)."""
    frame = pl.DataFrame([row[1:] for row in rows], schema=SCHEMA, orient="row")
    return Promotions(frame, np.array([row[0] for row in rows], np.int64), n_items)


def test_a_promotion_holds_from_its_first_second_to_the_last_before_its_end():
    plan = plan_of([(2, 100, 200, "flyer", 0.5)])
    assert [plan.on(time)[2, 0] for time in (99, 100, 199, 200)] == [0, 0.5, 0.5, 0]


def test_kinds_are_columns_in_the_order_of_the_alphabet_and_shares_of_one_kind_add_up_to_all_places_at_most():
    plan = plan_of([(0, 0, 9, "flyer", 0.5), (0, 0, 9, "display", 0.25), (0, 5, 9, "flyer", 0.75), (3, 0, 4, "flyer", 1.0)])
    assert plan.kinds == ["display", "flyer"]
    np.testing.assert_array_equal(plan.on(3), [[0.25, 0.5], [0, 0], [0, 0], [0, 1]])
    np.testing.assert_array_equal(plan.on(5), [[0.25, 1], [0, 0], [0, 0], [0, 0]])


@pytest.mark.parametrize("seed", range(5))
def test_at_any_time_it_is_what_a_loop_over_all_rows_finds(seed):
    rng = np.random.default_rng(seed)
    item, start, length = rng.integers(6, size=80), rng.integers(60 * DAY, size=80), rng.integers(1, 3 * WEEK, 80)
    kind, share = rng.choice(["a", "b", "c"], 80), rng.uniform(0.01, 0.3, 80)
    rows = list(zip(item.tolist(), start.tolist(), (start + length).tolist(), kind.tolist(), share.tolist(), strict=True))
    plan = plan_of(rows, n_items=6)
    for time in rng.integers(-WEEK, 90 * DAY, 30):
        by_hand = np.zeros((6, 3))
        for item, begins, ends, kind, share in rows:
            if begins <= time < ends:
                by_hand[item, "abc".index(kind)] += share
        np.testing.assert_allclose(plan.on(int(time)), np.minimum(by_hand, 1), rtol=1e-6)


def test_a_week_is_told_by_its_fourth_day_and_the_same_day_of_the_week_before():
    plan = plan_of([(0, 0, WEEK, "flyer", 1.0), (1, WEEK, 2 * WEEK, "flyer", 0.5), (2, WEEK, WEEK + 3 * DAY, "flyer", 1.0)])
    np.testing.assert_array_equal(plan.of_week(WEEK), [[0, 1], [0.5, 0], [0, 0], [0, 0]])
