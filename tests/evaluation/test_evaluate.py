"""Every value of an evaluation against the protocol in plain Python."""

import math

import numpy as np
import polars as pl
import pytest

from seasonrec import metrics
from seasonrec.data.dataset import Dataset, Split
from seasonrec.errors import DataError
from seasonrec.evaluation.bootstrap import bootstrap_means, interval
from seasonrec.evaluation.calibration import fit_platt
from seasonrec.evaluation.evaluate import Column, Evaluation, common, evaluate
from seasonrec.evaluation.labels import season_labels
from seasonrec.evaluation.lists import read_lists, write_lists
from seasonrec.evaluation.ranking import rank
from seasonrec.schema import as_events
from seasonrec.seasons.phase import week_of_year


def plain_metrics(ranked, truth):
    """The benchmark's five metrics of one list, by loops."""
    hit_places = [place for place, item in enumerate(ranked) if item in truth]
    ideal = sum(1 / math.log2(place + 2) for place in range(min(10, len(truth))))
    return {
        "ndcg@10": sum(1 / math.log2(place + 2) for place in hit_places if place < 10) / ideal,
        "recall@10": sum(place < 10 for place in hit_places) / len(truth),
        "recall@50": sum(place < 50 for place in hit_places) / len(truth),
        "mrr": 1 / (hit_places[0] + 1) if hit_places else 0,
        "hit_rate@10": float(any(place < 10 for place in hit_places)),
    }


def plain_query(timeline, labels, scores, user, start, week):
    """{(slice, metric): value} of one query, from the raw events and its scores."""
    events = list(zip(timeline.user, timeline.item, timeline.time, strict=True))
    own = {i for u, i, t in events if u == user and t < start}
    sold = {i for _, i, t in events if t < start}
    truth = {i for u, i, t in events if u == user and start <= t < start + 7 * 86_400}
    order = sorted(range(timeline.n_items), key=lambda row: (-scores[row], row))
    lists = {"all": order[:100], "new": [i for i in order if i not in own][:100], "cold": [i for i in order if i not in sold][:100]}
    parts = {
        "all": (truth, "all"),
        "repeat": (truth & own, "all"),
        "in_season": ({i for i in truth if labels.in_season[labels.group[i], week]}, "all"),
        "off_season": ({i for i in truth if labels.off_season[labels.group[i], week]}, "all"),
        "new_to_user": (truth - own, "new"),
        "cold_item": (truth - sold, "cold"),
    }
    return {
        (name, metric): value
        for name, (relevant, source) in parts.items()
        if relevant
        for metric, value in plain_metrics(lists[source], relevant).items()
    }


@pytest.fixture
def lists(shop, tied_scores):
    return rank(tied_scores, shop.timeline, shop.timeline.queries(range(44, 68, 4)))


def test_every_value_is_that_of_the_plain_protocol(shop, tied_scores, lists):
    labels, q = season_labels(shop), lists.queries
    evaluation = evaluate(lists, shop.timeline, labels)
    checked = [c for c in evaluation.columns if c.metric in metrics.METRICS and "=" not in c.slice]
    values = evaluation.select([(c.slice, c.metric) for c in checked])
    weeks = week_of_year(q.fourth_day)
    for row in range(len(q)):
        scores = tied_scores.scores(q.user[[row]].astype(np.int64), shop.timeline.at_week(int(q.week[row])))[0]
        expected = plain_query(shop.timeline, labels, scores, q.user[row], q.time[row], weeks[row])
        np.testing.assert_allclose(values[row], [expected.get((c.slice, c.metric), np.nan) for c in checked])
    assert (~np.isnan(values)).any(0).all(), "every slice has been put to the test"


def test_a_holiday_and_a_month_are_means_over_their_queries(shop, lists):
    q = lists.queries
    inside = q.week == 48
    evaluation = evaluate(lists, shop.timeline, season_labels(shop), holidays={"christmas": inside})
    everything, holiday = (evaluation.select([(name, "ndcg@10")])[:, 0] for name in ("all", "holiday=christmas"))
    np.testing.assert_array_equal(holiday, np.where(inside, everything, np.nan))
    months = evaluation.select([(name, "ndcg@10") for name in dict.fromkeys(c.slice for c in evaluation.columns) if "month=" in name])
    np.testing.assert_array_equal((~np.isnan(months)).sum(1), 1)


def test_the_numbers_follow_from_the_file_alone(shop, lists, tmp_path):
    labels = season_labels(shop)
    write_lists(lists, shop, tmp_path / "tied.parquet")
    again = evaluate(read_lists(tmp_path / "tied.parquet", shop), shop.timeline, labels)
    np.testing.assert_array_equal(again.values, evaluate(lists, shop.timeline, labels).values)


def test_the_table_has_the_mean_and_interval_of_every_column(shop, lists):
    evaluation = evaluate(lists, shop.timeline, season_labels(shop))
    table = evaluation.table("tied", "test", n_resamples=300, seed=5)
    assert table.columns == ["method", "split", "slice", "metric", "k", "value", "low", "high", "n_queries"]
    assert not table.select("slice", "metric").is_duplicated().any()
    one = table.row(by_predicate=(pl.col("slice") == "repeat") & (pl.col("metric") == "recall@50"), named=True)
    values = evaluation.select([("repeat", "recall@50")])
    low, high = interval(bootstrap_means(values, evaluation.user, 300, 5))
    assert (one["method"], one["split"], one["k"]) == ("tied", "test", 50)
    assert one["value"] == pytest.approx(np.mean([v for v in values[:, 0] if not math.isnan(v)]))
    assert (one["low"], one["high"]) == pytest.approx((low[0], high[0]))
    assert one["n_queries"] == sum(not math.isnan(v) for v in values[:, 0])


def test_a_slice_without_truth_is_null_in_the_table(shop, tied_scores):
    lists = rank(tied_scores, shop.timeline, shop.timeline.queries(range(58, 59)))  # nothing new comes to the shop in this week
    row = evaluate(lists, shop.timeline, season_labels(shop)).table("tied", "test").filter(slice="cold_item", metric="ndcg@10")
    assert row.select("value", "low", "high", "n_queries").row(0) == (None, None, None, 0)


def test_beyond_accuracy_looks_at_the_first_ten_of_list_all(shop, lists):
    vectors = np.random.default_rng(0).normal(size=(shop.n_items, 8))
    evaluation, shown = evaluate(lists, shop.timeline, season_labels(shop), vectors=vectors), lists.of("all")[:, :10]
    assert evaluation.overall[Column("all", "coverage@10", 10)] == len(set(shown.ravel().tolist())) / shop.n_items
    assert evaluation.overall[Column("all", "gini@10", 10)] == metrics.gini(shown, shop.n_items)
    np.testing.assert_array_equal(evaluation.select([("all", "distance@10")])[:, 0], metrics.intra_list_distance(shown, vectors))


def test_novelty_knows_only_purchases_before_the_week(shop, lists):
    row = int(np.flatnonzero(lists.queries.week == 52)[0])
    events, start = shop.timeline, lists.queries.time[row]
    # The first event of a user, item and week stands for the week.
    past = {(u, i, events.week_of(t)) for u, i, t in zip(events.user, events.item, events.time, strict=True) if t < start}
    counts = np.bincount([i for _, i, _ in past], minlength=shop.n_items)
    share = (counts + 1) / (len(past) + shop.n_items)
    expected = np.mean([-math.log2(share[i]) for i in lists.of("all")[row, :10]])
    assert evaluate(lists, events, season_labels(shop)).select([("all", "novelty@10")])[row, 0] == pytest.approx(expected)


def test_the_calibration_error_is_that_of_validation_scaling_on_these_lists(shop, tied_scores, lists):
    platt = fit_platt(rank(tied_scores, shop.timeline, shop.timeline.queries(range(30, 40))))
    ece = evaluate(lists, shop.timeline, season_labels(shop), platt=platt).overall[Column("all", "ece", 100)]
    assert ece == metrics.expected_calibration_error(platt.probability(lists.scores[:, 0]), lists.hits("all"))
    assert 0 <= ece < 0.1


@pytest.fixture(params=[80, 7])
def few(request):
    """A shop of so few items that lists hold all of them."""
    n, rng = request.param, np.random.default_rng(1)
    events = pl.DataFrame(
        {
            "user_id": [f"u{row:02d}" for row in rng.integers(20, size=900)],
            "item_id": [f"i{row:02d}" for row in rng.integers(n - 1, size=900)],  # the last one is never sold
            "time": 1_483_228_800 + rng.integers(70 * 7 * 86_400, size=900),
        }
    )
    return Dataset(
        name="few",
        events=as_events(events, "few"),
        items=pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(n)]}),
        users=pl.DataFrame({"user_id": [f"u{row:02d}" for row in range(20)]}),
        split=Split((56, 59), (60, 69)),
        week_zero=1_483_228_800,
        text_rule=lambda events, items, cutoff: [""] * len(items),
    )


def test_a_catalogue_shorter_than_the_lists_is_evaluated_from_end_to_end(few, tied_scores, tmp_path):
    labels, queries = season_labels(few), few.timeline.queries(range(60, 66))
    lists = rank(tied_scores, few.timeline, queries)
    write_lists(lists, few, tmp_path / "few.parquet")
    read = read_lists(tmp_path / "few.parquet", few)
    assert (lists.k, read.k) == (100, few.n_items)
    platt = fit_platt(rank(tied_scores, few.timeline, few.timeline.queries(range(50, 56))))
    ranked, again = (evaluate(each, few.timeline, labels, platt=platt) for each in (lists, read))
    assert (ranked.columns, ranked.overall) == (again.columns, again.overall)
    np.testing.assert_allclose(ranked.values, again.values, rtol=1e-14)  # sums over ten places, of which three are empty, round otherwise
    assert {c.k for c in ranked.columns if c.metric == "recall@50"} == {50}
    assert {c.k for c in ranked.columns if c.metric == "mrr"} == {100}
    checked = [c for c in again.columns if c.metric in metrics.METRICS and "=" not in c.slice]
    values, weeks = again.select([(c.slice, c.metric) for c in checked]), week_of_year(queries.fourth_day)
    for row, user in enumerate(queries.user):
        scores = tied_scores.scores(queries.user[[row]].astype(np.int64), few.timeline.at_week(int(queries.week[row])))[0]
        expected = plain_query(few.timeline, labels, scores, user, queries.time[row], weeks[row])
        np.testing.assert_allclose(values[row], [expected.get((c.slice, c.metric), np.nan) for c in checked])


def test_lists_shorter_than_a_small_catalogue_are_refused(few, tied_scores):
    k = few.n_items - 1
    short = rank(tied_scores, few.timeline, few.timeline.queries(range(60, 61)), k=k)
    with pytest.raises(DataError, match=f"lists are {k} long, wanted at least {few.n_items}; rank with k=100"):
        evaluate(short, few.timeline, season_labels(few))


def test_lists_too_short_for_a_metric_are_refused(shop, tied_scores):
    short = rank(tied_scores, shop.timeline, shop.timeline.queries(range(60, 61)), k=50)
    with pytest.raises(DataError, match="lists are 50 long, wanted at least 100"):
        evaluate(short, shop.timeline, season_labels(shop))


def test_an_evaluation_without_queries_is_refused(shop, tied_scores):
    none = rank(tied_scores, shop.timeline, shop.timeline.queries(range(90, 91)))
    with pytest.raises(DataError, match="there are no queries"):
        evaluate(none, shop.timeline, season_labels(shop))


# What an independent reading of the protocol, written in loops, measured on these weeks.
ONLINE_RETAIL_TEST = {
    "popular": {
        ("all", "ndcg@10"): 0.1169,
        ("all", "recall@50"): 0.1615,
        ("repeat", "ndcg@10"): 0.0908,
        ("new_to_user", "ndcg@10"): 0.0688,
        ("new_to_user", "recall@50"): 0.1431,
        ("in_season", "ndcg@10"): 0.1189,
        ("in_season", "recall@50"): 0.2545,
        ("cold_item", "recall@50"): 0.9231,
    },
    "personal": {
        ("all", "ndcg@10"): 0.2975,
        ("all", "recall@50"): 0.3788,
        ("repeat", "ndcg@10"): 0.3792,
        ("new_to_user", "ndcg@10"): 0.0688,
        ("new_to_user", "recall@50"): 0.1431,
        ("in_season", "ndcg@10"): 0.0584,
        ("in_season", "recall@50"): 0.2303,
        ("cold_item", "recall@50"): 0.9231,
    },
}


class Popular:
    """Purchases of the last four weeks."""

    def fit(self, past):
        pass

    def scores(self, users, now):
        return np.tile(now.demand(4), (len(users), 1))


class Personal:
    """The user's own purchases, fading by 5% a week, then popular items."""

    def fit(self, past):
        pass

    def scores(self, users, now):
        return now.interactions(0.95)[users].toarray() + 0.05 * now.demand(4) / now.demand(4).max()


def online_retail(folder):
    rows = pl.read_parquet(folder / "online_retail_ii" / "online_retail_II.parquet")
    rows = rows.unique([name for name in rows.columns if name != "sheet"], maintain_order=True)
    rows = rows.filter(pl.col("Quantity") > 0, pl.col("Customer ID").is_not_null(), pl.col("StockCode").str.contains(r"^\d{5}"))
    events = rows.select(
        user_id=pl.col("Customer ID").cast(pl.String),
        item_id=pl.col("StockCode").str.to_uppercase(),
        time=pl.col("InvoiceDate").dt.epoch("s"),
    )
    return Dataset(
        name="online_retail_ii",
        events=as_events(events, "online_retail_ii"),
        items=events.select("item_id").unique().sort("item_id"),
        users=events.select("user_id").unique().sort("user_id"),
        split=Split((88, 95), (96, 104)),
        week_zero=1_259_625_600,  # 2009-12-01
        text_rule=lambda events, items, cutoff: [""] * len(items),
    )


@pytest.mark.shared
def test_two_baselines_score_on_online_retail_what_an_independent_reading_measured(shared_data):
    dataset = online_retail(shared_data)
    labels, queries = season_labels(dataset), dataset.timeline.queries(dataset.split.weeks["test"])
    assert (len(queries), len(queries.truth_item)) == (3_690, 100_591)
    for name, scorer in (("popular", Popular()), ("personal", Personal())):
        expected = ONLINE_RETAIL_TEST[name]
        found = np.nanmean(evaluate(rank(scorer, dataset.timeline, queries), dataset.timeline, labels).select(list(expected)), axis=0)
        np.testing.assert_allclose(found, list(expected.values()), atol=5.1e-5)


def queries(user, week, values):
    """An evaluation of one column."""
    return Evaluation(np.array(user), np.array(week), (Column("all", "ndcg@10", 10),), np.array(values, float)[:, None], {})


def test_common_queries_are_those_that_all_have_by_week_and_user():
    full = queries([3, 1, 2, 1], [5, 6, 6, 7], [0.1, 0.2, 0.3, 0.4])
    part = queries([1, 1, 9, 3], [7, 6, 6, 5], [0.7, 0.6, 0.9, 0.5])
    found = common({"full": [full, full], "part": [part]})
    assert found["part"][0].values.ravel().tolist() == [0.5, 0.6, 0.7]
    for each in found["full"]:
        assert each.values.ravel().tolist() == [0.1, 0.2, 0.4]
        assert (each.week.tolist(), each.user.tolist()) == ([5, 6, 7], [3, 1, 1])


def test_evaluations_without_a_common_query_cannot_be_compared():
    with pytest.raises(DataError, match="no query was ranked by all of them"):
        common({"a": [queries([1], [5], [0])], "b": [queries([1], [6], [0])]})
