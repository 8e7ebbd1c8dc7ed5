"""A trained run in use."""

import io
import json
import logging
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from rich.console import Console

import seasonrec
from seasonrec.errors import ConfigError, DataError
from seasonrec.evaluation.lists import read_lists
from seasonrec.experiments.examples import K, examples
from seasonrec.experiments.fit import WEIGHTS
from seasonrec.experiments.recommend import shown
from seasonrec.experiments.recommender import Recommender, users_of
from seasonrec.experiments.recommender import moved as places_now

COLUMNS = ["user_id", "date", "rank", "item_id", "text", "score"]
PARTS = ["seasonal", "cf", "content", "reranker"]
FIRST = "2022-11-07"  # the first day of the test weeks


@pytest.fixture(scope="module")
def recommender(run) -> Recommender:
    return seasonrec.load(run)


@pytest.fixture(scope="module")
def lists(run, dataset):
    return read_lists(run / "lists/joint.parquet", dataset)


@pytest.mark.parametrize(("new_only", "which"), [(False, "all"), (True, "new")])
@pytest.mark.parametrize(("day", "week"), [(FIRST, 62), ("2022-12-15", 67), (date(2023, 1, 1), 69)])
def test_recommendations_are_the_lists_of_the_evaluation(recommender, dataset, lists, day, week, new_only, which):
    rows = np.flatnonzero(lists.queries.week == week)
    users = dataset.users["user_id"].gather(lists.queries.user[rows]).to_list()
    assert len(users) > 40
    found = recommender.recommend(users, day, k=100, new_only=new_only)
    query, place = np.nonzero(lists.of(which)[rows] >= 0)
    assert found["user_id"].to_list() == [users[n] for n in query]
    np.testing.assert_array_equal(found["rank"], place + 1)
    np.testing.assert_array_equal(found["item_id"], dataset.items["item_id"].gather(lists.of(which)[rows][query, place]))
    np.testing.assert_allclose(found["score"], lists.scores[rows, ["all", "new"].index(which)][query, place], atol=1e-5)


def test_what_each_part_gives_adds_up_to_the_score(recommender):
    found = recommender.recommend(["u03", "u04"], FIRST)
    assert found.columns == [*COLUMNS, *PARTS]
    assert len(found) == 20
    np.testing.assert_allclose(found.select(PARTS).sum_horizontal(), found["score"], atol=1e-5)
    assert recommender.recommend(["u03"], FIRST, explain=False).columns == COLUMNS


def test_texts_belong_to_their_items(recommender, purchases):
    words = dict(pl.read_csv(purchases).select("product", "words").unique().iter_rows())
    found = recommender.recommend(["u03"], FIRST)
    assert found["text"].to_list() == [words[item] for item in found["item_id"]]


def test_users_whom_the_run_does_not_know_get_season_and_popularity(recommender):
    found = recommender.recommend(["stranger", "u03", "somebody"], FIRST, k=20)
    stranger, known, somebody = (found.filter(user_id=user).drop("user_id") for user in ("stranger", "u03", "somebody"))
    assert_frame_equal(stranger, somebody)
    assert stranger["score"].is_finite().all()
    assert (stranger["cf"] == 0).all()
    assert (stranger["content"] == 0).all()
    np.testing.assert_allclose(stranger["seasonal"] + stranger["reranker"], stranger["score"], rtol=1e-5)
    assert known["item_id"].to_list() != stranger["item_id"].to_list()


def test_strangers_are_counted_and_one_user_needs_no_list(recommender, caplog):
    with caplog.at_level(logging.INFO):
        one = recommender.recommend("u03", FIRST, k=3)
        assert not caplog.messages
        recommender.recommend(["u03", "stranger", "somebody"], FIRST, k=3)
    assert caplog.messages == ["2 of 3 users are not in the data, e.g. 'stranger': season and popularity"]
    assert_frame_equal(one, recommender.recommend(["u03"], FIRST, k=3))


def test_next_december_is_asked_about_as_december(recommender):
    assert "mid December, winter" in recommender.season_text("2023-12-14")
    december, june = (recommender.recommend(["stranger"], day, k=20) for day in ("2023-12-14", "2023-06-15"))
    share = {name: of["text"].str.contains("christmas").mean() for name, of in (("december", december), ("june", june))}
    assert share["december"] > 2 * share["june"]
    assert december["date"].unique().to_list() == ["2023-12-14"]


def test_after_the_data_everything_is_known(recommender, dataset):
    # The last event lies in week 69, so week 70 is the first of which nothing is known; later weeks know as much.
    now, about = recommender._views("2023-12-14")
    assert now.week == 70
    assert about == dataset.start_of(119)
    assert dataset.start_of(119) <= np.datetime64("2023-12-14", "s").astype(int) < dataset.start_of(120)


@pytest.mark.parametrize("day", ["2019-06-01", "2021-08-30", "2021-09-05"])
def test_a_date_before_anything_is_known_is_an_error(recommender, day):
    with pytest.raises(DataError, match=r"lies in week -?\d+ and the data begin in week 0; nothing is known before"):
        recommender.recommend(["u03"], day)


@pytest.mark.parametrize("day", ["someday", "31.12.2022", "2022-13-01", "NaT", ""])
def test_a_date_that_cannot_be_read_is_an_error(recommender, day):
    with pytest.raises(DataError, match=r"cannot be read; give YYYY-MM-DD"):
        recommender.recommend(["u03"], day)


@pytest.mark.parametrize(("users", "k"), [([], 10), (["u03"], 0)])
def test_nobody_or_nothing_to_recommend_is_an_error(recommender, users, k):
    with pytest.raises(DataError, match="give at least one user id and k of at least 1"):
        recommender.recommend(users, FIRST, k=k)


def test_what_the_user_bought_can_be_left_out(recommender, dataset):
    found = recommender.recommend(["u03"], FIRST, k=200, new_only=True)
    bought = set(dataset.events.filter((pl.col("user_id") == "u03") & (pl.col("time") < dataset.start_of(62)))["item_id"])
    assert len(bought) > 5
    assert set(found["item_id"]) == set(dataset.items["item_id"]) - bought


def test_a_list_longer_than_the_catalogue_is_the_catalogue(recommender, dataset):
    assert len(recommender.recommend(["u03"], FIRST, k=1_000)) == dataset.n_items


def test_many_users_are_served_in_portions(recommender):
    users = [f"u{n % 60:02d}" for n in range(300)]
    found = recommender.recommend(users, FIRST, k=1)
    assert found["user_id"].to_list() == users
    assert_frame_equal(found[:30], recommender.recommend(users[:30], FIRST, k=1), abs_tol=1e-5)


@pytest.mark.parametrize(
    ("given", "users"),
    [("a", ["a"]), ("a, b,,c", ["a", "b", "c"]), (7, ["7"]), (["a", 7], ["a", "7"]), (("x,y",), ["x,y"])],
)
def test_users_as_a_command_line_gives_them(given, users):
    assert users_of(given) == users


def test_users_from_a_file_with_one_on_each_line(tmp_path):
    (tmp_path / "vip.txt").write_text("a\n\n b,c \n", encoding="utf-8-sig")  # as Excel writes it
    assert users_of(str(tmp_path / "vip.txt")) == ["a", "b,c"]


@pytest.mark.parametrize("given", ["vip.txt", "nowhere/vip.csv"])
def test_a_file_of_users_that_is_not_there_is_no_user(given):
    with pytest.raises(DataError, match=f"there is no file {given}"):
        users_of(given)


@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
def test_the_command_writes_a_file(command, run, recommender, tmp_path, kind):
    path = tmp_path / "new" / f"lists.{kind}"
    command("recommend", f"run={run}", "users=u03,stranger", f"date={FIRST}", "k=4", f"output={path}", "n_threads=1")
    read = {"csv": pl.read_csv, "parquet": pl.read_parquet, "json": lambda path: pl.DataFrame(json.loads(path.read_text()))}[kind]
    wanted = recommender.recommend(["u03", "stranger"], FIRST, k=4)
    assert_frame_equal(read(path), wanted, check_dtypes=False, abs_tol=1e-5)


def test_the_command_refuses_another_kind_of_file(command, run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command("recommend", f"run={run}", "users=u03", f"date={FIRST}", f"output={tmp_path}/lists.xlsx")
    assert "wanted a name that ends in one of .csv, .parquet, .json" in capsys.readouterr().err


def test_the_command_prints_a_table_under_the_season(command, run, capsys):
    command("recommend", f"run={run}", "users=u03", "date=2023-12-14", "k=2", "n_threads=1")
    shown = capsys.readouterr().out
    assert "mid December" in " ".join(shown.split())
    assert "u03" in shown


def test_a_bracket_in_a_product_s_name_is_no_markup(recommender):
    table = recommender.recommend(["u03"], FIRST, k=2).with_columns(text=pl.Series(["Jacke [blau] XL", "kit [/neu]"]))
    console = Console(width=200, file=io.StringIO())
    console.print(shown(table, "December"))
    assert all(text in console.file.getvalue() for text in table["text"])


@pytest.mark.parametrize(("left", "week"), [(0, 63), (1, 62), (2, 62)])
def test_examples_are_of_the_first_test_week_that_has_queries_and_name_no_user_twice(recommender, left, week):
    dataset = recommender.dataset
    of_week = dataset.timeline.queries(range(62, 63)).user
    users = dataset.users["user_id"].gather(np.unique(of_week)[left:])
    begin, end = dataset.start_of(62), dataset.start_of(63)
    fewer = replace(
        dataset, events=dataset.events.filter(~(pl.col("time").is_between(begin, end - 1) & pl.col("user_id").is_in(users.implode())))
    )
    table = examples(Recommender(fewer, recommender.joint, recommender.item_texts))
    assert table["date"].min() == dataset.date_of(week)
    assert table["user_id"].n_unique() * 2 * K == len(table)


def test_nothing_is_cut_off_in_a_narrow_terminal(recommender):
    table = recommender.recommend(["u03", "stranger"], FIRST, k=2)
    console = Console(width=60, file=io.StringIO())
    console.print(shown(table, "December"))
    said = console.file.getvalue()
    assert "…" not in said
    assert all(f"{score:.3f}" in said for score in table["score"])
    assert FIRST not in said


def test_80_columns_hold_whole_ids_and_whole_words():
    user, items = "R_01vNIayewjIIKMF", ["B00EXAMPLE-RED-LARGE", "85123A"]
    words = ["WHITE", "HANGING", "HEART", "T-LIGHT", "HOLDER"]
    table = pl.DataFrame({"user_id": user, "date": FIRST, "rank": [1, 2], "item_id": items, "text": " ".join(words), "score": 7.123})
    console = Console(width=80, file=io.StringIO())
    console.print(shown(table.with_columns(pl.lit(-1.234).alias(name) for name in PARTS), "December"))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    said = [word for line in lines for word in line.split()]
    assert [said.count(each) for each in (user, *items, *words, *PARTS, "-1.234")] == [1, 1, 1, *[2] * 5, *[1] * 4, 8]


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def test_a_run_works_from_another_folder(copy, recommender):
    assert_frame_equal(seasonrec.load(copy).recommend(["u03"], FIRST), recommender.recommend(["u03"], FIRST))


def test_data_named_as_they_are_seen_from_where_the_run_was_called_are_found_from_anywhere(
    copy, purchases, recommender, tmp_path, monkeypatch
):
    record = json.loads((copy / "run.json").read_text())
    assert record["called_in"] == str(Path.cwd())
    (called_in := tmp_path / "called_in").mkdir()
    shutil.copy(purchases, called_in / "shop.csv")
    record["config"]["data"]["path"] = "shop.csv"
    (copy / "run.json").write_text(json.dumps(record | {"called_in": str(called_in)}))
    monkeypatch.chdir(tmp_path)
    wanted = recommender.recommend(["u03"], FIRST)
    assert_frame_equal(seasonrec.load(copy).recommend(["u03"], FIRST), wanted)
    shutil.move(called_in / "shop.csv", tmp_path / "shop.csv")  # and where nothing is there any more, from here
    assert_frame_equal(seasonrec.load(copy).recommend(["u03"], FIRST), wanted)


def test_an_adapter_of_ones_own_may_name_several_files(tmp_path):
    (tmp_path / "a.csv").touch()
    data = {"_target_": "my.Shop", "path": ["a.csv"], "items": {"path": "a.csv"}}
    record = {"called_in": str(tmp_path), "config": {"data": data, "paths": {"cache": "cache"}}}
    assert places_now(record, None).data == data | {"items": {"path": str(tmp_path / "a.csv")}}


@pytest.fixture
def moved(copy, purchases, tmp_path):
    """A run whose data and cache do not lie where they lay when it was trained, and where its data lie."""
    record = json.loads((copy / "run.json").read_text())
    record["config"]["data"]["path"] = str(tmp_path / "gone.csv")
    record["config"]["paths"]["cache"] = str(tmp_path / "gone.csv" / "cache")
    (copy / "run.json").write_text(json.dumps(record))
    return copy, shutil.copy(purchases, tmp_path / "here.csv")


def test_data_that_have_moved_are_named(moved, command, recommender, tmp_path):
    (run, purchases), cache, lists = moved, tmp_path / "cache", tmp_path / "lists.parquet"
    wanted = recommender.recommend(["u03"], FIRST)
    assert_frame_equal(seasonrec.load(run, data={"path": purchases}, cache=cache).recommend(["u03"], FIRST), wanted)
    command("recommend", f"run={run}", f"data.path={purchases}", f"cache={cache}", "users=u03", f"date={FIRST}", f"output={lists}")
    assert_frame_equal(pl.read_parquet(lists), wanted)


def test_data_that_have_moved_but_are_not_named_are_an_error(moved, tmp_path):
    with pytest.raises(DataError, match=r"gone\.csv"):
        seasonrec.load(moved[0], cache=tmp_path / "cache")


def test_a_key_that_the_run_s_data_lack_is_an_error(moved):
    with pytest.raises(ConfigError, match=r"data\.pth: there is no such key; did you mean 'path'\?"):
        seasonrec.load(moved[0], data={"pth": moved[1]})


def test_a_class_of_one_s_own_that_is_not_here_is_named(copy):
    record = json.loads((copy / "run.json").read_text())
    record["config"]["model"]["heads"]["content"]["_target_"] = "my_heads.Content"
    (copy / "run.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"^model\.heads\.content\._target_: cannot import my_heads\.Content: .*is its package installed"):
        seasonrec.load(copy)


def test_data_that_have_changed_are_an_error(copy, purchases, tmp_path):
    (tmp_path / "more.csv").write_text(purchases.read_text() + "u00,i000,1672500000,red christmas candle\n")
    record = json.loads((copy / "run.json").read_text())
    record["config"]["data"]["path"] = str(tmp_path / "more.csv")
    (copy / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"the data have changed since this run was trained \(digest \w{12}, wanted \w{12}\); put the old"):
        seasonrec.load(copy)


def test_a_run_whose_final_fit_has_not_ended_is_an_error(copy):
    (copy / "fits/final" / WEIGHTS).unlink()
    record = json.loads((copy / "run.json").read_text())
    of_rolling = {**record, "config": {**record["config"], "eval": {"rolling": {"every": 13}}}}
    for found, advice in (
        (record | {"status": "failed"}, r"\(status 'failed'\); finish it with `seasonrec train resume="),
        (of_rolling, r"it rolls: take the run of one of its cut-offs, .*/cut_offs/<date>"),
    ):
        (copy / "run.json").write_text(json.dumps(found))
        with pytest.raises(DataError, match=rf"there is no final model .*{advice}"):
            seasonrec.load(copy)


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"no run\.json there"):
        seasonrec.load(tmp_path)


def test_importing_seasonrec_brings_nothing_heavy():
    code = "import seasonrec, sys; seasonrec.load; print([name for name in ('torch', 'polars', 'numpy', 'hydra') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
