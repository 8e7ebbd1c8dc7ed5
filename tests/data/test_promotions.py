"""The shop's plan against a loop over its rows."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from seasonrec.data.promotions import Promotions
from seasonrec.schema import DAY, WEEK

SCHEMA = ["start", "end", "kind", "share"]


def plan_of(rows, n_items=4, kinds=None):
    """A plan of rows (item, start, end, kind, share)."""
    frame = pl.DataFrame([row[1:] for row in rows], schema=SCHEMA, orient="row")
    return Promotions(frame, np.array([row[0] for row in rows], np.int64), n_items, kinds)


def test_a_promotion_counts_with_its_share_of_the_places_and_of_the_time():
    plan = plan_of([(2, 100, 200, "flyer", 0.5)])
    spans = [(100, 200), (0, 100), (200, 300), (150, 250), (0, 400), (120, 140)]
    assert [plan.during(*span)[2, 0] for span in spans] == [0.5, 0, 0, 0.25, 0.125, 0.5]
    assert plan.during(0, 400)[[0, 1, 3]].sum() == 0


def test_kinds_are_columns_in_the_order_of_the_alphabet_and_shares_of_one_kind_add_up_to_all_at_most():
    plan = plan_of([(0, 0, 9, "flyer", 0.5), (0, 0, 9, "display", 0.25), (0, 5, 9, "flyer", 0.75), (3, 0, 4, "flyer", 1.0)])
    assert plan.kinds == ("display", "flyer")
    np.testing.assert_array_equal(plan.during(3, 4), [[0.25, 0.5], [0, 0], [0, 0], [0, 1]])
    np.testing.assert_array_equal(plan.during(5, 9), [[0.25, 1], [0, 0], [0, 0], [0, 0]])


def test_promotions_that_overlap_for_a_part_of_the_week_are_all_places_at_most_in_that_part():
    plan = plan_of(
        [(1, 0, 3 * DAY, "flyer", 1.0), (1, 0, 3 * DAY, "flyer", 1.0), (1, 2 * DAY, 4 * DAY, "flyer", 0.5), (2, DAY, 9 * DAY, "flyer", 0.5)]
    )
    np.testing.assert_allclose(plan.during(0, WEEK)[:, 0], [0, (3 + 0.5) / 7, 0.5 * 6 / 7, 0], rtol=1e-6)
    np.testing.assert_allclose(plan.during(2 * DAY, 4 * DAY)[:, 0], [0, (1 + 0.5) / 2, 0.5, 0], rtol=1e-6)


def test_kinds_may_be_given_and_others_count_nothing():
    rows = [(0, 0, 9, "flyer", 0.5), (1, 0, 9, "display", 0.25)]
    np.testing.assert_array_equal(plan_of(rows, 2, ["poster", "flyer"]).during(0, 9), [[0, 0.5], [0, 0]])
    assert plan_of([], 2, ["poster"]).during(0, 9).tolist() == [[0], [0]]


@pytest.mark.parametrize("seed", range(5))
def test_at_any_time_it_is_what_a_loop_over_all_rows_finds(seed):
    rng = np.random.default_rng(seed)
    item, start, length = rng.integers(6, size=80), rng.integers(60 * DAY, size=80), rng.integers(1, 3 * WEEK, 80)
    kind, share = rng.choice(["a", "b", "c"], 80), rng.uniform(0.01, 0.9, 80)
    rows = list(zip(item.tolist(), start.tolist(), (start + length).tolist(), kind.tolist(), share.tolist(), strict=True))
    plan = plan_of(rows, n_items=6)
    for begin, span in zip(rng.integers(-WEEK, 90 * DAY, 30).tolist(), rng.integers(1, 2 * WEEK, 30).tolist(), strict=True):
        bounds = sorted({begin, begin + span, *(t for row in rows for t in row[1:3] if begin < t < begin + span)})
        by_hand = np.zeros((6, 3))
        for lo, hi in pairwise(bounds):
            at_once = np.zeros((6, 3))
            for item, begins, ends, kind, share in rows:
                at_once[item, "abc".index(kind)] += share * (begins <= lo and hi <= ends)
            by_hand += np.minimum(at_once, 1) * (hi - lo) / span
        np.testing.assert_allclose(plan.during(begin, begin + span), by_hand, rtol=1e-5, atol=1e-6)


def test_a_week_is_told_with_the_week_before():
    plan = plan_of([(0, 0, WEEK, "flyer", 1.0), (1, WEEK, 2 * WEEK, "flyer", 0.5), (2, WEEK - DAY, WEEK + DAY, "flyer", 1.0)])
    np.testing.assert_allclose(plan.of_week(WEEK), [[0, 1], [0.5, 0], [1 / 7, 1 / 7], [0, 0]], rtol=1e-6)
    assert [plan.knows(n * WEEK) for n in (-1, 0, 1, 2)] == [False, True, True, False]
