"""Lists on disk, and where the truth stands in them."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from seasonrec.errors import DataError
from seasonrec.evaluation.lists import LISTS, Lists, read_lists, write_lists
from seasonrec.evaluation.ranking import rank
from seasonrec.schema import as_events


@pytest.fixture
def lists(shop, tied_scores):
    return rank(tied_scores, shop.timeline, shop.timeline.queries(range(60, 64)), k=20)


def test_lists_come_back_from_the_file_as_they_were(shop, lists, tmp_path):
    write_lists(lists, shop, tmp_path / "lists" / "tied.parquet")
    back = read_lists(tmp_path / "lists" / "tied.parquet", shop)
    np.testing.assert_array_equal(back.items, lists.items)
    np.testing.assert_array_equal(back.scores, lists.scores)
    for name in ("user", "week", "truth_starts", "truth_item", "time"):
        np.testing.assert_array_equal(getattr(back.queries, name), getattr(lists.queries, name))


def test_the_file_holds_ids_as_in_the_source_and_ranks_from_one(shop, lists, tmp_path):
    write_lists(lists, shop, tmp_path / "tied.parquet")
    frame = pl.read_parquet(tmp_path / "tied.parquet")
    assert frame.columns == ["user_id", "week", "list", "rank", "item_id", "score"]
    first = frame.row(0, named=True)
    assert first["user_id"] == f"u{lists.queries.user[0]:02d}"
    assert first["item_id"] == f"i{lists.items[0, 0, 0]:03d}"
    assert (first["week"], first["list"], first["rank"], first["score"]) == (60, "all", 1, 4.0)
    assert len(frame) == (lists.items >= 0).sum()


def test_the_order_of_rows_in_the_file_does_not_matter(shop, lists, tmp_path):
    write_lists(lists, shop, tmp_path / "tied.parquet")
    pl.read_parquet(tmp_path / "tied.parquet").sample(fraction=1, shuffle=True, seed=0).write_parquet(tmp_path / "mixed.parquet")
    np.testing.assert_array_equal(read_lists(tmp_path / "mixed.parquet", shop).items, lists.items)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda frame: frame.drop("score"), r"lack the columns \['score'\]"),
        (lambda frame: frame.head(0), "holds no lists"),
        (lambda frame: pl.concat([frame, frame.head(1)]), "stand once in each list"),
        (lambda frame: frame.with_columns(pl.col("rank") - 1), "ranks must begin at 1"),
        (lambda frame: frame.filter(pl.col("rank") != 2), r"^.*: \d+ lists leave a rank out; each begins at 1 and goes on to its end$"),
        (lambda frame: _without_first(frame, "all"), r"^.*: 1 of \d+ queries have no list 'all'; rank for all of them$"),
        (lambda frame: _without_first(frame, "new"), r"^.*: 1 of \d+ queries have no list 'new'; rank for all of them$"),
        (lambda frame: frame.with_columns(item_id=pl.lit("i999")), "not among the 130"),
        (lambda frame: frame.with_columns(list=pl.lit("best")), "not among the 3"),
    ],
)
def test_a_spoilt_file_is_refused(shop, lists, tmp_path, spoil, message):
    write_lists(lists, shop, tmp_path / "tied.parquet")
    spoil(pl.read_parquet(tmp_path / "tied.parquet")).write_parquet(tmp_path / "spoilt.parquet")
    with pytest.raises(DataError, match=message):
        read_lists(tmp_path / "spoilt.parquet", shop)


def _without_first(frame, name):
    """Without a list of the first query."""
    first = frame.select("user_id", "week").head(1).with_columns(list=pl.lit(name))
    return frame.join(first, on=["user_id", "week", "list"], how="anti")


def test_who_has_bought_the_whole_catalogue_needs_no_list_of_what_is_new(shop, lists, tmp_path):
    write_lists(lists, shop, tmp_path / "tied.parquet")
    frame = pl.read_parquet(tmp_path / "tied.parquet")
    _without_first(frame, "new").write_parquet(tmp_path / "had_all.parquet")
    bought = shop.items.select("item_id", user_id=pl.lit(frame["user_id"][0]), time=pl.lit(shop.start_of(frame["week"].min()) - 1))
    had_all = replace(shop, events=as_events(pl.concat([shop.events, bought], how="diagonal_relaxed").sort("time"), "shop"))
    assert (read_lists(tmp_path / "had_all.parquet", had_all).items[:, 1] < 0).all(-1).sum() == 1


def test_a_user_and_week_that_are_no_query_are_refused(shop, lists, tmp_path):
    write_lists(lists, shop, tmp_path / "tied.parquet")
    frame = pl.read_parquet(tmp_path / "tied.parquet")
    absent = next(user for user in shop.users["user_id"] if frame.filter(user_id=user, week=60).is_empty())
    moved = frame.head(1).with_columns(user_id=pl.lit(absent))
    pl.concat([frame, moved]).write_parquet(tmp_path / "moved.parquet")
    with pytest.raises(DataError, match=f"are no queries of shop, e.g. user '{absent}' in week 60"):
        read_lists(tmp_path / "moved.parquet", shop)


def test_hits_are_the_listed_items_that_are_true(lists):
    mask = np.random.default_rng(1).random(len(lists.queries.truth_item)) < 0.5
    q = lists.queries
    for name in LISTS:
        for truth in (None, mask):
            kept = np.ones(len(mask), bool) if truth is None else truth
            expected = [
                [item in q.truth_item[lo:hi][kept[lo:hi]] for item in row]
                for row, lo, hi in zip(lists.of(name), q.truth_starts[:-1], q.truth_starts[1:], strict=True)
            ]
            np.testing.assert_array_equal(lists.hits(name, truth), expected)
    assert lists.hits("all").any()


def test_truth_need_not_be_sorted(lists):
    q = lists.queries
    backwards = np.concatenate([np.arange(lo, hi)[::-1] for lo, hi in zip(q.truth_starts[:-1], q.truth_starts[1:], strict=True)])
    turned = type(q)(q.user, q.week, q.truth_starts, q.truth_item[backwards], q.time)
    np.testing.assert_array_equal(Lists(turned, lists.items, lists.scores).hits("all"), lists.hits("all"))
