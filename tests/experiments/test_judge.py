"""What is kept of a method, and when its lists come from the cache."""

import importlib
import io
import logging
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from rich.console import Console

from seasonrec.data.adapters.sequences import NO_WEEKS
from seasonrec.data.dataset import Shop, Split
from seasonrec.errors import ConfigError, DataError
from seasonrec.evaluation.lists import Lists, read_lists
from seasonrec.experiments import judge as judging
from seasonrec.experiments.judge import Judge, code_digest
from seasonrec.experiments.train import judge_of


class ByRow:
    """Scores items by their row, and counts how often it is asked to learn; says from when."""

    def __init__(self, log):
        self.log = log

    def fit(self, past):
        self.log.append(past.week)

    def scores(self, users, now):
        return np.tile(np.arange(now.n_items, dtype=np.float32), (len(users), 1))


@pytest.fixture
def fresh(composed, dataset, tmp_path) -> Judge:
    """A judge that has seen nothing."""
    return judge_of(composed(), dataset, tmp_path / "run")


@pytest.fixture
def cached(fresh, tmp_path):
    """Asks for lists through a cache; gives them and how often the method had to learn."""

    def ask(config="a", split="validation", judge=fresh):
        log = []
        lists = judge.cached("by_row", config, lambda split: ByRow(log), split, tmp_path / "cache")
        return lists, len(log)

    return ask


def test_lists_of_other_versions_of_its_packages_are_ranked_again(cached, monkeypatch):
    assert [cached()[1], cached()[1]] == [1, 0]
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99")
    assert cached()[1] == 1


def test_a_method_learns_from_before_the_first_week_of_the_split(fresh):
    log = []
    for split in ("validation", "test"):
        fresh.rank("by_row", ByRow(log), split)
    assert log == [54, 62]


def test_weeks_in_which_nobody_buys_again_are_an_error_that_names_them(composed, dataset, tmp_path):
    late = judge_of(composed(), replace(dataset, split=Split((900, 901), (902, 903))), tmp_path)
    with pytest.raises(
        DataError, match=r"no user who had bought before buys in the validation weeks, 900 to 901: .* data\.split or eval\.split"
    ):
        late.rank("by_row", ByRow([]), "validation")


def test_lists_too_short_for_the_metrics_are_an_error_before_anything_is_ranked(composed, dataset, tmp_path):
    with pytest.raises(ConfigError, match=r"^eval\.k is 5, but the metrics look at lists of \d+; give eval\.k=\d+ or more$"):
        judge_of(composed("eval.k=5"), dataset, tmp_path)


def test_data_without_weeks_are_an_error_that_says_what_to_do_with_them(composed, dataset, tmp_path):
    with pytest.raises(ConfigError, match=r"has no weeks, only an order: give it to `seasonrec evaluate protocol=leave_one_out`$"):
        judge_of(composed(), replace(dataset, split=NO_WEEKS), tmp_path)


def test_lists_come_from_the_cache_the_second_time(cached):
    (first, n_first), (again, n_again) = cached(), cached()
    assert (n_first, n_again) == (1, 0)
    np.testing.assert_array_equal(again.items, first.items)
    np.testing.assert_array_equal(again.scores, first.scores)


def test_another_configuration_or_split_is_ranked(cached):
    cached()
    assert cached(config="b")[1] == 1
    assert cached(split="test")[1] == 1
    assert cached(config="a")[1] == 0


def test_other_data_are_ranked(cached, fresh, monkeypatch):
    cached()
    monkeypatch.setitem(fresh.dataset.__dict__, "purchases_digest", "0" * 32)
    assert cached()[1] == 1


def test_data_without_a_digest_are_ranked_every_time(cached, fresh, monkeypatch):
    monkeypatch.setitem(fresh.dataset.__dict__, "purchases_digest", "")
    assert (cached()[1], cached()[1]) == (1, 1)


def test_lists_of_other_code_or_length_are_ranked(cached, fresh, monkeypatch):
    cached()
    fresh.k = 90
    assert cached()[1] == 1
    fresh.k = 100
    monkeypatch.setattr(judging, "code_digest", lambda method: "other")
    assert cached()[1] == 1


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:500]), lambda path: path.write_bytes(b"")])
def test_a_damaged_file_is_ranked_again_with_a_warning(cached, tmp_path, caplog, damage):
    first, _ = cached()
    (path,) = (tmp_path / "cache").glob("*.parquet")
    damage(path)
    with caplog.at_level(logging.WARNING):
        again, n = cached()
    assert n == 1
    assert f"{path} is damaged, so by_row is ranked again" in caplog.text
    np.testing.assert_array_equal(again.items, first.items)
    assert cached()[1] == 0


def test_nothing_but_lists_is_left_in_the_cache(cached, tmp_path):
    cached()
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".parquet"]


def test_the_digest_of_the_code_changes_with_a_baseline_but_not_with_the_model(tmp_path, monkeypatch):
    for name in ("baselines/popular.py", "heads/cf.py", "__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a = 1\n")
    monkeypatch.setattr(judging.seasonrec, "__file__", str(tmp_path / "__init__.py"))
    digests = []
    for changed in (None, "heads/cf.py", "baselines/popular.py"):
        if changed:
            (tmp_path / changed).write_text("a = 2\n")
        judging.code_of_baselines.cache_clear()
        digests.append(code_digest(ByRow))
    judging.code_of_baselines.cache_clear()
    assert digests[0] == digests[1] != digests[2]


def test_the_digest_of_the_code_changes_with_a_users_own_method(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for text in ("class Mine:\n    k = 1\n", "class Mine:\n    k = 2\n"):
        (tmp_path / "my_baseline.py").write_text(text)
        digests.append(code_digest(importlib.import_module("my_baseline").Mine))
    assert digests[0] != digests[1]


def test_the_digest_of_the_code_changes_with_what_a_users_own_method_imports(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "its_baseline.py").write_text("from its_helper import K\n\n\nclass Mine:\n    k = K\n")
    digests = []
    for text in ("K = 1\n", "K = 2\n"):
        (tmp_path / "its_helper.py").write_text(text)
        digests.append(code_digest(importlib.import_module("its_baseline").Mine))
    assert digests[0] != digests[1]


def test_judged_lists_lie_in_the_runs_folder(fresh, dataset):
    lists = {split: fresh.rank("by_row", ByRow([]), split) for split in ("validation", "test")}
    fresh.judge("by_row", lists)
    for split, path in (("test", "lists/by_row.parquet"), ("validation", "lists/validation/by_row.parquet")):
        np.testing.assert_array_equal(read_lists(fresh.folder / path, dataset).items, lists[split].items)


@pytest.mark.parametrize("calibrate", [True, False])
def test_lists_may_be_judged_without_calibration(fresh, calibrate):
    lists = {split: fresh.rank("by_row", ByRow([]), split) for split in ("validation", "test")}
    fresh.judge("by_row", lists, calibrate=calibrate)
    assert ("ece" in fresh.of("by_row", "test")["metric"]) == calibrate


def test_a_table_of_one_method_and_split_is_a_part_of_all(judge):
    assert_frame_equal(judge.of("popular_4_weeks", "test"), judge.metrics.filter(method="popular_4_weeks", split="test"))
    assert judge.metrics["method"].unique(maintain_order=True).to_list() == ["personal_frequency", "popular_4_weeks"]


def test_weeks_add_up_to_the_whole(judge):
    weeks = judge.weeks().filter(method="popular_4_weeks", split="test", slice="new_to_user", metric="ndcg@10")
    whole = judge.of("popular_4_weeks", "test").filter(slice="new_to_user", metric="ndcg@10")
    assert weeks["n_queries"].sum() == whole["n_queries"][0]
    assert (weeks["value"] * weeks["n_queries"]).sum() / weeks["n_queries"].sum() == pytest.approx(whole["value"][0])
    assert weeks["date"].to_list()[:2] == ["2022-11-07", "2022-11-14"]


def test_a_method_is_compared_with_every_other_one(judge):
    table = judge.significance("popular_4_weeks")
    assert table["other"].unique().to_list() == ["personal_frequency"]
    row = table.filter(slice="all", metric="ndcg@10")
    value = {
        name: judge.of(name, "test").filter(slice="all", metric="ndcg@10")["value"][0] for name in ("popular_4_weeks", "personal_frequency")
    }
    assert row["difference"][0] == pytest.approx(value["popular_4_weeks"] - value["personal_frequency"])


def test_a_method_alone_is_compared_with_nothing(fresh):
    fresh.judge("by_row", {split: fresh.rank("by_row", ByRow([]), split) for split in ("validation", "test")})
    assert fresh.significance("by_row") is None


def test_the_leaderboard_shows_test_weeks(judge):
    console = Console(width=150, file=io.StringIO(), record=True)
    judge.show(console)
    shown = console.export_text()
    assert "test weeks" in shown
    value = judge.of("popular_4_weeks", "test").filter(slice="all", metric="ndcg@10")["value"][0]
    assert f"{value:.4f}" in shown


@pytest.mark.parametrize("timezone", ["America/Los_Angeles", "Pacific/Auckland", "Pacific/Kiritimati"])
def test_a_week_s_holidays_are_those_of_its_fourth_day_wherever_the_shop_is(composed, dataset, tmp_path, timezone):
    """Weeks begin on Mondays: whatever the shop's clocks say at midnight or noon of Greenwich, their fourth day is a Thursday."""

    def holidays(zone):
        judge = judge_of(composed(), replace(dataset, shop=Shop(timezone=zone)), tmp_path / zone)
        judge.judge("by_row", {"test": judge.rank("by_row", ByRow([]), "test")}, calibrate=False)
        return judge.metrics.filter(pl.col("slice").str.starts_with("holiday="))

    assert "holiday=thanksgiving_day" in set(holidays("UTC")["slice"])
    assert_frame_equal(holidays(timezone), holidays("UTC"))


def test_a_method_that_ranks_for_some_queries_alone_is_refused(fresh):
    lists = {split: fresh.rank("by_row", ByRow([]), split) for split in ("validation", "test")}
    of_test, n = lists["test"], len(lists["test"].queries)
    some = Lists(of_test.queries.take(np.arange(3, n)), of_test.items[3:], of_test.scores[3:])
    with pytest.raises(DataError, match=f"^by_row: no lists for 3 of {n} test queries; a method ranks for all of them$"):
        fresh.judge("by_row", {"validation": lists["validation"], "test": some})
