"""What customers wrote, from the file to the cache."""

import gzip
import json
from dataclasses import replace

import polars as pl
import pytest

from seasonrec.data.adapters.amazon_reviews import AmazonReviews
from seasonrec.data.prepare import digest_of, prepare
from seasonrec.schema import EVENTS, REVIEW

DAY_ONE = 1_514_764_800  # 2018-01-01 UTC
WEEK_LONG = 20
TEXTS = [("Five Stars", "Rock &amp; roll \n &#39;n&#39; more"), ("Fine", None), (None, "No headline"), (None, None)]


@pytest.fixture
def reviews(tmp_path):
    """The adapter of four reviews, written in all ways, with twenty weeks between the first and the last one."""
    lines = [
        {"reviewerID": "A", "asin": "B", "overall": 5.0, "unixReviewTime": DAY_ONE + n * WEEK_LONG * 7 * 86_400 // 3}
        | {key: text for key, text in (("summary", summary), ("reviewText", written)) if text}
        for n, (summary, written) in enumerate(TEXTS)
    ]
    path = tmp_path / "reviews.json.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    return AmazonReviews(str(path))


def test_events_keep_headline_and_text_without_entities(reviews):
    assert reviews.read().events[REVIEW].to_list() == ["Five Stars. Rock & roll 'n' more", "Fine", "No headline", ""]


def test_reviews_can_be_left_out_and_then_the_data_are_others(reviews):
    without = replace(reviews, reviews=False)
    assert without.read().events[REVIEW].to_list() == [None] * 4
    assert digest_of(without) != digest_of(reviews)


def test_an_entry_of_the_cache_that_is_older_than_a_column_is_made_anew(reviews, tmp_path):
    first = prepare(reviews, tmp_path / "cache")
    (path,) = (tmp_path / "cache").glob("*/events.parquet")
    pl.read_parquet(path).drop(REVIEW).write_parquet(path)
    again = prepare(reviews, tmp_path / "cache")
    assert dict(again.events.schema) == dict(EVENTS)
    assert again.events.equals(first.events)
    assert again.digest == first.digest
