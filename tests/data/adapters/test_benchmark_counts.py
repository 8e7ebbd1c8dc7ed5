"""The counts that the benchmark publishes come out of the real files."""

from collections import Counter, defaultdict

import pytest

from seasonrec.data.adapters.online_retail_ii import OnlineRetailII
from seasonrec.data.adapters.open_ecommerce import OpenEcommerce
from seasonrec.data.check import facts

# users, items, rows; then queries, user-item pairs and cold pairs of validation and of test.
COUNTS = {
    "complete_journey": ((2_469, 68_509, 1_469_307), (5_398, 109_567, 2_895), (5_354, 112_416, 2_873)),
    "online_retail_ii": ((5_853, 4_619, 776_637), (2_132, 53_388, 465), (3_690, 100_591, 492)),
    "category": ((908, 1_623, 121_157), (1_923, 5_438, 7), (2_975, 9_134, 17)),
    "product": ((908, 94_790, 121_157), (1_923, 6_305, 4_765), (2_975, 10_557, 8_096)),
}


def counts(dataset):
    """Sizes, and for each part queries, truth items and those of them that nobody bought before the query."""
    t, parts = dataset.timeline, []
    for weeks in dataset.split.weeks.values():
        queries = t.queries(weeks)
        cold = t.first_seen[1][queries.truth_item] >= queries.time[queries.truth_query]
        parts.append((len(queries), len(queries.truth_item), int(cold.sum())))
    return ((dataset.n_users, dataset.n_items, len(dataset.events)), *parts)


@pytest.fixture(scope="module")
def retail(shared_data):
    return OnlineRetailII(str(shared_data / "online_retail_ii" / "online_retail_II.parquet")).read()


@pytest.fixture(scope="module")
def ecommerce(shared_data):
    path = str(shared_data / "open_ecommerce" / "amazon-purchases.csv.gz")
    return {level: OpenEcommerce(path, level=level).read() for level in ("category", "product")}


def test_complete_journey_has_the_published_counts_and_keeps_its_lines_of_quantity_zero(grocer):
    assert counts(grocer) == COUNTS["complete_journey"]
    assert (grocer.events["quantity"] == 0).sum() == 8_869
    found = facts(grocer)
    assert [found["split"]["test"][name] for name in ("queries", "pairs", "cold_pairs")] == [5_354, 112_416, 2_873]


@pytest.mark.shared
def test_online_retail_ii_has_the_published_counts(retail):
    assert counts(retail) == COUNTS["online_retail_ii"]


@pytest.mark.shared
@pytest.mark.parametrize("level", ["category", "product"])
def test_open_ecommerce_has_the_published_counts(ecommerce, level):
    assert counts(ecommerce[level]) == COUNTS[level]


@pytest.mark.shared
def test_usual_descriptions_are_those_of_counting_one_by_one(retail):
    cutoff = retail.start_of(96)
    said, first, seen = defaultdict(Counter), {}, set()
    for item, time, text in retail.events.sort("time", maintain_order=True).select("item_id", "time", "description").iter_rows():
        if time < cutoff:
            seen.add(item)
            said[item][text] += 1
        elif item not in seen:
            first.setdefault(item, text)
    usual = {item: min(counter, key=lambda text: (-counter[text], text)) for item, counter in said.items()}
    expected = [" ".join({**first, **usual}[item].lower().split()) for item in retail.items["item_id"]]
    assert retail.item_texts(cutoff) == expected
    assert len(first) > 0


@pytest.mark.shared
def test_a_start_leaves_no_earlier_event_and_the_same_weeks(retail, shared_data):
    path = str(shared_data / "online_retail_ii" / "online_retail_II.parquet")
    late = OnlineRetailII(path, start="2010-12-15").read()
    start = 1_292_371_200  # 2010-12-15 UTC
    assert late.events.equals(retail.events.filter(retail.events["time"] >= start))
    assert (late.week_zero, late.split) == (retail.week_zero, retail.split)
    assert dict(late.cleaning)["before_start"] == (retail.events["time"] < start).sum()
