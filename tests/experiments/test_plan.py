"""A run that knows the shop's plan of promotions, from training to recommending by a newer plan."""

import json
import logging
import shutil

import numpy as np
import polars as pl
import pytest
from experiments.conftest import N_USERS, N_WEEKS, START, shop

import seasonrec
from seasonrec.errors import DataError
from seasonrec.experiments.record import read_record
from seasonrec.schema import DAY, WEEK, day_of

FIRST = "2022-11-07"  # the first day of the test weeks
TEST_WEEK = 62
WEEKS = range(TEST_WEEK, TEST_WEEK + 4)  # before Christmas pushes all else down


def special_of(week):
    """The product that is promoted in a week: one of forty that are sold all year."""
    return f"i{80 + 7 * week % 40:03d}"


def plan_of(path, specials):
    """Writes a plan in which each product of {week: product} is in that week's flyer, from Monday to Sunday."""
    rows = [(product, day_of(START + week * WEEK), day_of(START + (week + 1) * WEEK), "flyer") for week, product in specials.items()]
    pl.DataFrame(rows, ["sku", "from", "until", "how"], orient="row").write_csv(path)
    return path


@pytest.fixture(scope="module")
def promoted_run(command, words, tmp_path_factory):
    """A run in a shop where every second user buys what is promoted, whatever they bought before."""
    folder, rng = tmp_path_factory.mktemp("promoted"), np.random.default_rng(3)
    names = dict(shop().select("product", "words").iter_rows())
    extra = [
        (f"u{user:02d}", special_of(week), START + week * WEEK + int(rng.integers(6 * DAY)), names.get(special_of(week), "plain card"))
        for week in range(N_WEEKS)
        for user in range(N_USERS)
        if rng.random() < 0.5
    ]
    sales = pl.concat([shop(), pl.DataFrame(extra, ["customer", "product", "when", "words"], orient="row")])
    sales.write_csv(folder / "purchases.csv")
    plan = plan_of(folder / "plan.csv", {week: special_of(week) for week in range(N_WEEKS)})
    told = {"item": "sku", "start": "from", "end": "until", "kind": "how"}
    option = [f"data.promotions.path={plan}", *(f"data.promotions.columns.{role}={name}" for role, name in told.items())]
    where = [f"data.path={folder / 'purchases.csv'}", "baseline=none", f"hydra.run.dir={folder / 'run'}"]
    command("train", *words, *option, *where, "data.promotions.time_format='%Y-%m-%d'")
    return folder / "run"


def place_of(recommender, product, day=FIRST):
    """The rank of a product among all, for somebody of whom nothing is known."""
    found = recommender.recommend(["stranger"], day, k=120)
    return found.filter(item_id=product)["rank"].item()


def test_what_the_plan_promotes_in_the_week_is_recommended(promoted_run, caplog):
    recommender = seasonrec.load(promoted_run)
    with caplog.at_level(logging.WARNING):
        places = [[place_of(recommender, special_of(of), day_of(START + week * WEEK)) for of in WEEKS] for week in WEEKS]
    assert not caplog.messages
    # Each column is a product, each row a week: on the diagonal stands that of the week.
    assert np.argmin(places, axis=0).tolist() == list(range(len(WEEKS)))
    assert max(np.diag(places)) <= 5
    assert read_record(promoted_run)["data"]["promotion_kinds"] == ["flyer"]


def test_a_newer_plan_is_followed_while_purchases_are_those_of_the_training(promoted_run, tmp_path):
    other = special_of(TEST_WEEK + 5)
    assert place_of(seasonrec.load(promoted_run), other) > 10
    plan = plan_of(tmp_path / "newer.csv", {TEST_WEEK - 1: special_of(TEST_WEEK - 1), TEST_WEEK: other})
    newer = seasonrec.load(promoted_run, data={"promotions": {"path": str(plan)}})
    assert place_of(newer, other) <= 5
    assert place_of(newer, special_of(TEST_WEEK)) > 10


def test_weeks_of_which_the_plan_says_nothing_and_kinds_that_the_run_does_not_know_are_named(promoted_run, tmp_path, caplog):
    plan = plan_of(tmp_path / "short.csv", {TEST_WEEK: special_of(TEST_WEEK)})
    plan.write_text(plan.read_text() + f"{special_of(TEST_WEEK)},2022-11-14,2022-11-21,radio\n")
    with caplog.at_level(logging.WARNING):
        recommender = seasonrec.load(promoted_run, data={"promotions": {"path": str(plan)}})
        recommender.recommend("u03", FIRST)
        assert caplog.messages == ["promotions of kinds that the run does not know count nothing: radio"]
        recommender.recommend("u03", "2022-11-14")
    assert caplog.messages[1:] == ["the plan of promotions has nothing in the week of 2022-11-14: recommended as for a week without any"]


def test_lists_are_evaluated_where_the_plan_has_moved_to(promoted_run, command, tmp_path):
    again, record = shutil.copytree(promoted_run, tmp_path / "again"), read_record(promoted_run)
    plan, sales = record["config"]["data"]["promotions"]["path"], record["config"]["data"]["path"]
    record["config"]["data"]["promotions"]["path"] = "gone.csv"
    (again / "run.json").write_text(json.dumps(record))
    where = ["data=table", f"data.path={sales}", f"data.promotions.path={plan}", f"hydra.run.dir={tmp_path / 'out'}"]
    command("evaluate", f"run={again}", *where, "eval.n_resamples=50", "n_threads=1")
    assert read_record(tmp_path / "out")["data"]["digest"] == record["data"]["digest"]


@pytest.mark.parametrize(
    "word", ["eval.k=5", "baseline=none", "eval.split={validation: [40, 43], test: [44, 47]}", "rank_seen=false", "protocol=leave_one_out"]
)
def test_other_lists_than_a_run_has_are_not_evaluated(promoted_run, command, tmp_path, capsys, word):
    with pytest.raises(SystemExit):
        command("evaluate", f"run={promoted_run}", word, "eval.n_resamples=50", f"hydra.run.dir={tmp_path}")
    said = " ".join(capsys.readouterr().err.split())
    assert "the lists of a run are" in said
    assert f"leave out {word}" in said


def test_a_run_that_has_learnt_from_a_plan_needs_one(promoted_run):
    record = read_record(promoted_run)
    assert record["data"]["digest"] != record["data"]["purchases_digest"]
    with pytest.raises(DataError, match=r"has learnt from promotions \(flyer\); give data\.promotions as it was trained with"):
        seasonrec.load(promoted_run, data={"promotions": {"path": None}})
