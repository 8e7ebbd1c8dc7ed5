"""What peers are given and what the trees may know. Fits of whole peers need their environments: benchmarks/peers/README.md."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import polars as pl
import pytest
from packaging.requirements import Requirement
from safetensors.numpy import load_file

from seasonrec.data.dataset import Dataset, Split
from seasonrec.data.promotions import Promotions
from seasonrec.data.timeline import Timeline
from seasonrec.errors import ConfigError
from seasonrec.evaluation.cross_validation import folds
from seasonrec.experiments.record import RunRecord, plain_config, read_table, refuse_other_settings
from seasonrec.schema import DAY, WEEK, as_events

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
WEEKS = Split((96, 99), (100, 103)).weeks


@pytest.fixture
def module(monkeypatch) -> Callable[[str], ModuleType]:
    """Imports a file of the peers by its name, as their scripts do."""
    for folder in (PEERS, PEERS / "lightgbm"):
        monkeypatch.syspath_prepend(folder)
    return import_module


@pytest.fixture
def facts(module, small_shop):
    """Makes the trees' rows of the small shop, with another past if one is given."""

    def make(timeline: Timeline | None = None, plan: Promotions | None = None):
        of = module("facts")
        few = of.Sizes(own=3, popular=4, neighbours=2, promoted=2, near=3, unsold=1)
        texts = dict.fromkeys(WEEKS, small_shop.texts)
        return of.Facts(timeline or small_shop.timeline, WEEKS, texts, few, k=3, n_users=4, plan=plan)

    return make


USERS = np.array([0, 4, 12, 7])  # 12 has never bought


def changed_from(timeline: Timeline, time: int) -> Timeline:
    """The same events before a time, others from it on."""
    item = np.where(timeline.time < time, timeline.item, (timeline.item + 7) % timeline.n_items)
    sizes = {"n_users": timeline.n_users, "n_items": timeline.n_items, "week_zero": timeline.week_zero}
    return Timeline(timeline.user, item, timeline.time, **sizes)


def test_rows_do_not_move_when_the_future_changes(facts, small_shop):
    t = small_shop.timeline
    for week in (70, 97, 102):
        other = changed_from(t, int(t.start_of(week)))
        assert (other.item != t.item).any()
        before, after = (facts(each).rows(USERS, each.at_week(week)) for each in (t, other))
        np.testing.assert_array_equal(before.item, after.item)
        np.testing.assert_array_equal(before.features, after.features)
        np.testing.assert_array_equal(before.rest, after.rest)


def test_what_the_shop_promotes_in_the_week_is_a_candidate_and_told_of_each_item(facts, small_shop):
    now = small_shop.timeline.at_week(97)
    unpopular = np.argsort(now.demand(52), kind="stable")[4]  # sold, but among no other candidates of 12, who has never bought
    table = pl.DataFrame([(now.time, now.time + WEEK, "flyer", 0.5)], schema=["start", "end", "kind", "share"], orient="row")
    plan = Promotions(table, np.array([unpopular]), now.n_items)
    without, rows = (facts(plan=each).rows(np.array([12]), now) for each in (None, plan))
    assert unpopular not in without.item
    assert set(rows.item) == {*without.item, unpopular}
    assert rows.features.shape[1] == without.features.shape[1] + 2
    assert ((rows.features == 0.5).any(1) == (rows.item == unpopular)).all()


def test_weights_of_training_weeks_have_not_seen_what_these_bought(facts):
    learned = facts().learned_week
    assert all(learned(week) <= week for week in range(1, 104))
    assert [learned(week) for week in (87, 88, 95)] == [80, 88, 88], "blocks of eight weeks, counted back from validation"
    assert {learned(week) for week in WEEKS["validation"]} == {96}
    assert {learned(week) for week in WEEKS["test"]} == {100}, "frozen at the cut-off, as the benchmark wants"


def test_candidates_are_distinct_and_hold_what_the_user_buys_most(facts, small_shop):
    now = small_shop.timeline.at_week(102)
    rows = facts().rows(USERS, now)
    assert len(np.unique(rows.query * now.n_items + rows.item)) == len(rows.item)
    bought = now.interactions(0.98)[USERS].toarray()
    for query in np.flatnonzero(bought.sum(1)):
        own = rows.item[(rows.query == query) & (bought[query, rows.item] > 0)]
        assert set(own) == set(np.argsort(-bought[query], kind="stable")[:3])
    assert (rows.query == 2).any(), "who has never bought gets what is popular"


def test_own_features_are_unknown_exactly_where_nothing_was_bought(facts, small_shop):
    now = small_shop.timeline.at_week(102)
    rows = facts().rows(USERS, now)
    user, item, time, _ = now.events()
    day = (time - now.week_zero) // DAY
    days = Counter((u, i) for u, i, _ in {*zip(user.tolist(), item.tolist(), day.tolist(), strict=True)})
    bought = np.array([days[USERS[query], row] for query, row in zip(rows.query, rows.item, strict=True)])
    np.testing.assert_array_equal(np.isnan(rows.features[:, 0]), bought == 0)
    np.testing.assert_allclose(np.expm1(rows.features[bought > 0, 0]), bought[bought > 0], rtol=1e-5)


def test_items_that_are_no_candidates_stand_below_those_that_are(facts, small_shop):
    rest = facts().rows(USERS, small_shop.timeline.at_week(102)).rest
    assert rest.shape == (4, small_shop.timeline.n_items)
    assert -2 - 1e-6 <= rest.min() <= rest.max() < 0


def test_the_handover_holds_all_events_and_queries_without_truth(module, tmp_path, dataset_of_table):
    dataset = dataset_of_table
    vectors = {split: np.eye(dataset.n_items, 3, dtype=np.float32) for split in ("validation", "test")}
    module("handover").write_handover(tmp_path, dataset, vectors, {"seed": 3, "eval": {"k": 100}})
    events = pl.read_parquet(tmp_path / "events.parquet")
    assert len(events) == len(dataset.events)
    assert events["time"].is_sorted()
    assert events["week"].to_list() == ((events["time"] - dataset.week_zero) // WEEK).to_list()
    queries = pl.read_parquet(tmp_path / "queries.parquet")
    assert queries.columns == ["split", "user_id", "week", "time"]
    for split, weeks in dataset.split.weeks.items():
        wanted = dataset.timeline.queries(weeks)
        given = queries.filter(split=split)
        assert given["user_id"].to_list() == dataset.users["user_id"].gather(wanted.user).to_list()
        assert given["week"].to_list() == wanted.week.tolist()
    assert pl.read_parquet(tmp_path / "items.parquet")["item_id"].to_list() == dataset.items["item_id"].to_list()
    np.testing.assert_array_equal(load_file(tmp_path / "vectors.safetensors")["test"], vectors["test"])
    assert json.loads((tmp_path / "meta.json").read_text())["weeks"] == {"validation": [8, 9], "test": [10, 11]}


def test_ratings_are_handed_over_in_the_order_of_their_folds(module, tmp_path, small_shop):
    fold = folds(small_shop.timeline, 5, seed=1)
    module("handover").write_folds(tmp_path, small_shop.timeline, fold, {"seed": 1})
    given = np.load(tmp_path / "ratings.npz")
    for name in ("user", "item", "rating"):
        np.testing.assert_array_equal(given[name], getattr(small_shop.timeline, name))
    np.testing.assert_array_equal(given["fold"], fold)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 1


def test_predictions_of_a_peer_are_judged_as_those_of_a_baseline(module, tmp_path, dataset_of_table):
    rating = pl.Series("rating", np.random.default_rng(0).integers(1, 6, 500), pl.Float32)
    dataset = replace(dataset_of_table, events=dataset_of_table.events.with_columns(rating))
    run = module("run")
    exchanged = run.RatingExchange("mine", run.config_of("mine", ["n_folds=4"]), dataset, tmp_path)
    np.save(tmp_path / "predicted.npy", dataset.timeline.rating + np.float32(0.5))
    assert (
        exchanged.judged(RunRecord(tmp_path / "run", {"seed": 0}))[0].splitlines()[2]
        == "| mine | **0.5000 ±0.0000** | **0.5000 ±0.0000** |"
    )
    assert set(read_table(tmp_path / "run", "metrics")["slice"]) == {"cross_validation", *(f"fold_{n}" for n in range(4))}


def test_a_run_goes_to_a_folder_of_its_own_or_where_it_is_told_to_go_on(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config_of = module("run").config_of
    assert Path(config_of("mine", []).paths.run).parent == tmp_path / "outputs" / "peers" / "mine"
    mine = config_of("mine", ["paths.run=begun"])
    assert mine.paths.run == str(tmp_path / "begun")
    with RunRecord(tmp_path / "begun", plain_config(mine)):
        pass
    refuse_other_settings(plain_config(mine), tmp_path / "begun")
    with pytest.raises(ConfigError, match=r"other settings \(baseline\)"):
        refuse_other_settings(plain_config(config_of("another", ["paths.run=begun"])), tmp_path / "begun")


@pytest.fixture
def dataset_of_table() -> Dataset:
    """500 purchases of nine users over twelve weeks."""
    rng, start = np.random.default_rng(4), 1_500_000_000 // WEEK * WEEK
    user, item = (pl.Series(rng.integers(0, n, 500).astype(str)) for n in (9, 8))
    events = pl.DataFrame({"user_id": user, "item_id": item, "time": start + rng.integers(0, 12 * WEEK, 500)})
    tables = {
        "events": as_events(events, "test"),
        "items": item.unique().sort().to_frame("item_id"),
        "users": user.unique().sort().to_frame("user_id"),
    }
    text_rule = lambda events, items, cutoff: ["x"] * len(items)
    return Dataset("table", **tables, split=Split((8, 9), (10, 11)), week_zero=start, text_rule=text_rule)


def test_a_peer_is_run_at_each_cut_off_of_eval_rolling(module, monkeypatch, tmp_path):
    """In place of its process stands one that gives every query the items in the order of their ids."""
    rng, (first, last) = np.random.default_rng(4), (1_500_000_000 // WEEK * WEEK, 40 * WEEK)
    table = pl.DataFrame({"customer": rng.integers(0, 9, 600), "sku": rng.integers(0, 8, 600), "day": first + rng.integers(0, last, 600)})
    table.with_columns(title=pl.format("thing {}", "sku")).write_csv(tmp_path / "shop.csv")

    def in_order_of_ids(command, **_):
        exchange = Path(command[2])
        queries = pl.read_parquet(exchange / "queries.parquet")
        items = pl.read_parquet(exchange / "items.parquet").select("item_id", rank=1 + pl.int_range(pl.len()))
        items = items.with_columns(score=-pl.col("rank"))
        for split in ("validation", "test"):
            lists = queries.filter(split=split).join(pl.DataFrame({"list": ["all", "new", "cold"]}), how="cross").join(items, how="cross")
            lists.select("user_id", "week", "list", "rank", "item_id", "score").write_parquet(exchange / f"{split}.parquet")
        (exchange / "peer.json").write_text("{}")

    run = module("run")
    monkeypatch.setattr(run, "subprocess", SimpleNamespace(run=in_order_of_ids))  # others go on having their own
    monkeypatch.setattr(run, "python_of", lambda folder, on_top: Path("python"))
    columns = {"user": "customer", "item": "sku", "time": "day", "text": "title"}
    words = [f"data.columns.{key}={value}" for key, value in columns.items()] + ["data=table", f"data.path={tmp_path}/shop.csv", "eval.k=8"]
    rolling = ["eval=rolling", "eval.rolling.n_weeks=8", "eval.rolling.every=4", "eval.rolling.n_validation=2"]
    monkeypatch.setattr("sys.argv", ["run.py", "sasrec", *words, *rolling, f"paths.output={tmp_path}/out", f"paths.cache={tmp_path}/cache"])
    run.main()
    (whole,) = (tmp_path / "out" / "peers" / "sasrec").iterdir()
    table = read_table(whole, "rolling").filter(slice="all", metric="ndcg@10")
    assert set(table["method"]) == {"sasrec"}
    n = dict(table.select("split", "n_queries").iter_rows())
    cut_offs = [value for name, value in n.items() if name.startswith("cut-off")]
    assert len(cut_offs) == 2
    assert sum(cut_offs) == read_table(whole, "metrics").filter(split="test", slice="all", metric="ndcg@10")["n_queries"].item()


def test_every_peer_has_its_script_and_pins_what_it_asks_for(module):
    for peer in module("run").PEERS.values():
        folder = PEERS / peer.folder
        assert (folder / "peer.py").is_file()
        lines = {name: (folder / f"{name}.txt").read_text().splitlines() for name in ("requirements", "constraints")}
        asked, pinned = ([Requirement(line) for line in of if not line.startswith("#")] for of in lines.values())
        assert all(str(each.specifier).startswith("==") for each in pinned), "an environment that is made again is the same"
        assert {each.name.lower() for each in asked} <= {each.name.lower() for each in pinned}


def test_an_unknown_peer_ends_with_the_names_of_those_that_there_are(module, monkeypatch):
    monkeypatch.setattr("sys.argv", ["run.py", "xgboost"])
    with pytest.raises(SystemExit, match="lightgbm,sasrec,hstu,surprise"):
        module("run").main()


def test_a_peer_that_ranks_nothing_does_not_roll(module, monkeypatch):
    monkeypatch.setattr("sys.argv", ["run.py", "surprise", "eval=rolling", "data=movielens", "data.path=ml-100k"])
    with pytest.raises(SystemExit, match="eval=rolling: surprise predicts ratings and ranks nothing week by week; leave it out"):
        module("run").main()


def test_a_peer_keeps_to_the_threads_it_is_given(module):
    threads = module("run").threads
    assert threads(2)["OMP_NUM_THREADS"] == threads(2)["POLARS_MAX_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in threads(None)
