"""One whole run on real data by the real text encoder: The Complete Journey and MiniLM, hurried through."""

import numpy as np
import polars as pl
import pytest

import seasonrec
from seasonrec.evaluation.lists import read_lists
from seasonrec.experiments.record import read_record, read_table

WEEKS = {"validation": 47, "test": 48}  # one each, of 1,303 and 1,350 queries
HURRIED = """
    debug=fast trainer=cpu trainer.enable_progress_bar=false logger=none n_threads=1 baseline=none
    encoder.max_length=8 encoder.dtype=bfloat16 eval.split={validation:[47,47],test:[48,48]}
"""


@pytest.fixture(scope="module")
def real_run(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    command("train", *HURRIED.split(), f"hydra.run.dir={folder}", f"paths.cache={tmp_path_factory.mktemp('real cache')}")
    return folder


def test_every_query_of_the_weeks_has_lists_of_the_whole_catalogue(real_run):
    record, dataset = read_record(real_run), seasonrec.load(real_run).dataset
    assert record["status"] == "finished"
    for split, week in WEEKS.items():
        lists = read_lists(real_run / ("lists" if split == "test" else "lists/validation") / "joint.parquet", dataset)
        # Counted from the rows as they are: who bought something in the week, and anything before it.
        bought = dataset.events.select("user_id", week=(pl.col("time") - dataset.start_of(0)) // (7 * 86_400))
        here, before = (bought.filter(rows)["user_id"].unique() for rows in (pl.col("week") == week, pl.col("week") < week))
        assert len(lists.queries) == here.is_in(before.implode()).sum() > 1_000
        assert (lists.items >= 0).all(), "68,509 products fill every list"
        assert (np.diff(lists.scores) <= 0).all()


def test_a_model_that_has_hardly_learnt_still_finds_something(real_run):
    found = read_table(real_run, "metrics").filter(method="joint", split="test", slice="all", metric="ndcg@10")["value"]
    assert 0.1 < found[0] < 0.35


def test_recommendations_are_the_lists_and_split_into_heads_and_last_word(real_run):
    shop = seasonrec.load(real_run)
    lists = read_lists(real_run / "lists/joint.parquet", shop.dataset)
    some = slice(0, len(lists.queries), 100)
    users = shop.dataset.users["user_id"].gather(lists.queries.user[some]).to_list()
    found = shop.recommend(users, "2017-12-03", k=10)
    assert found["item_id"].to_list() == shop.dataset.items["item_id"].gather(lists.of("all")[some, :10].ravel()).to_list()
    parts = found.select("seasonal", "cf", "content", "reranker").sum_horizontal()
    np.testing.assert_allclose(parts, found["score"], atol=1e-4)
    assert (found["reranker"] > 0).any()
