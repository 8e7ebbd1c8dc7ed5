"""The report shows the run's numbers, needs nothing from elsewhere and lets no text of the data become markup."""

import re
from base64 import b64decode
from datetime import date, timedelta
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread

from seasonrec.errors import DataError
from seasonrec.evaluation.tables import HEADLINES
from seasonrec.experiments import report
from seasonrec.experiments.record import RunRecord, read_table
from seasonrec.experiments.report import write_ratings, write_report

METHODS = ("popular", "personal", "joint")
EVIL = "<script>alert('christmas')</script>"
VOID = {"meta", "img", "br", "link", "input", "rect", "line"}
PICTURES = {"leaderboard", "weeks", "holidays", "months", "losses", "seasonality"}


class Page(HTMLParser):
    """What a browser would see: text, attributes and tables of cells; tags that do not match are an error."""

    def __init__(self, source):
        super().__init__()
        self.open, self.attributes, self.tags, self.texts, self.tables = [], [], [], [], []
        self.feed(source)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data + " "

    @property
    def text(self):
        return " ".join(self.texts)

    def table(self, first_head):
        """The rows of the first table whose first head cell begins so."""
        return next(rows for rows in self.tables if rows[0][0].startswith(first_head))


def metrics():
    rng = np.random.default_rng(1)
    slices = dict.fromkeys([name for name, _ in HEADLINES] + ["month=12", "holiday=christmas"])
    rows = [
        (method, split, name, metric, k, value, value - 0.01, value + 0.02, 1_234)
        for split in ("validation", "test")
        for place, method in enumerate(METHODS)
        for name in slices
        for metric, k in (("ndcg@10", 10), ("recall@50", 50))
        for value in [0.1 * (place + 1) + rng.uniform(0, 0.05)]
    ]
    rows.append(("joint", "test", "all", "coverage@10", 10, 0.4321, None, None, 1_234))
    return pl.DataFrame(rows, schema=["method", "split", "slice", "metric", "k", "value", "low", "high", "n_queries"], orient="row")


def significance():
    rows = [
        (other, "all", "ndcg@10", difference, difference - 0.002, difference + 0.002, p, p, 0.0031, 1_234)
        for other, difference, p in (("popular", 0.2111, 0.0002), ("personal", -0.0012, 0.7))
    ]
    names = ["other", "slice", "metric", "difference", "low", "high", "p", "p_holm", "detectable", "n_queries"]
    return pl.DataFrame(rows, schema=names, orient="row")


def weeks():
    rows = [
        (method, "test", 48 + n, date(2017, 12, 3) + timedelta(7 * n), "all", "ndcg@10", 0.1 + n / 100, 300)
        for method in METHODS
        for n in range(4)
    ]
    return pl.DataFrame(rows, schema=["method", "split", "week", "date", "slice", "metric", "value", "n_queries"], orient="row")


def losses():
    rows = [
        (fit, step // 5, step, name, 9.0 - step / 10) for fit in ("selection", "final") for name in ("seasonal", "cf") for step in range(10)
    ]
    return pl.DataFrame(rows, schema=["fit", "epoch", "step", "name", "value"], orient="row")


def seasonality():
    return pl.DataFrame({"item_id": ["01"] * 52, "text": [EVIL] * 52, "week_of_year": range(52), "share": [1 / 52] * 52})


def examples():
    """Three users in two seasons; the parts of a score are its rank, -1 and the rest."""
    rows = [
        (user, day, season, rank, f"00{rank}", EVIL if rank == 1 else f"item {rank}", 9.0 - rank, float(rank), -1.0, 10.0 - 2 * rank)
        for user in ("007", "12", "<b>13</b>")
        for day, season in (("2017-07-05", "summer"), ("2017-12-06", "Christmas"))
        for rank in (1, 2, 3)
    ]
    names = ["user_id", "date", "season", "rank", "item_id", "text", "score", "seasonal", "cf", "content"]
    return pl.DataFrame(rows, schema=names, orient="row")


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs") / "my <experiment>" / "2026-01-01"
    config = {"seed": 3, "data": {"path": "<i>shop</i>.csv", "columns": ["a", "b"]}, "callbacks": [{"patience": 2}], "empty": {}}
    with RunRecord(folder, config) as record:
        with record.stage("train"):
            pass
        record.facts(parameters={"encoder": {"total": 22_713_216, "trainable": 0}})
        tables = {"metrics": metrics(), "significance": significance(), "weeks": weeks(), "losses": losses()}
        for name, table in (tables | {"seasonality": seasonality(), "examples": examples()}).items():
            record.table(name, table)
    return folder, write_report(folder)


@pytest.fixture(scope="module")
def page(full):
    return Page(full[1].read_text())


def test_every_headline_number_and_interval_stands_in_the_leaderboard_as_in_the_csv(full, page):
    table, test = page.table("method"), read_table(full[0], "metrics").filter(split="test")
    assert [row[0].strip() for row in table[1:]] == ["joint", "personal", "popular"], "best first"
    for method, *cells in table[1:]:
        for (name, metric), cell in zip(HEADLINES, cells, strict=True):
            row = test.row(
                by_predicate=(pl.col("method") == method.strip()) & (pl.col("slice") == name) & (pl.col("metric") == metric), named=True
            )
            assert cell.split() == [f"{row['value']:.4f}", f"{row['low']:.4f}–{row['high']:.4f}"]
    assert "1,234 queries" in table[0][1]
    assert "0.4321" in page.text, "beyond accuracy"


def test_the_headline_names_the_best_method_of_each_column(full, page):
    best = read_table(full[0], "metrics").filter(split="test", slice="in_season", metric="recall@50").sort("value")[-1]
    assert f"in season R@50: {best['method'][0]} {best['value'][0]:.4f}" in page.text
    assert "joint is best in 10 of 10 columns of the test weeks; 0 of these with p < 0.05 after Holm over all tests." in page.text


def test_the_first_sentence_counts_what_is_level_and_what_is_sure_for_themselves():
    pairs = HEADLINES[:4]
    columns = {pair: {"popular": 0.1, "personal": 0.2, "joint": value} for pair, value in zip(pairs, (0.3, 0.3, 0.2, 0.1), strict=True)}
    tests = pl.DataFrame(
        [("personal", *pairs[0], 0.9, 0.01), ("popular", *pairs[0], 0.01, None), ("personal", *pairs[1], 0.01, 0.06)],
        schema=["other", "slice", "metric", "p_holm", "p_primary"],
        orient="row",
    )
    said = "joint is best in 2 of 4 columns of the test weeks, level with another in 1"
    assert report._lead(columns, "test", tests) == f"{said}; 1 of these with p < 0.05 after Holm over the columns. "
    assert report._lead(columns, "test", None) == f"{said}. "
    assert report._lead({pairs[0]: {"joint": 0.3}}, "test", None) == "joint is best in 1 of 1 columns of the test weeks. "


@pytest.mark.parametrize(
    ("primary", "family", "explained"),
    [({"p_primary": [None, 0.004]}, "p 0.004 (Holm over the columns)", True), ({}, "p 0.700 (Holm over all tests)", False)],
)
def test_each_p_says_which_tests_it_is_corrected_over(tmp_path, primary, family, explained):
    metrics().write_csv(tmp_path / "metrics.csv")
    significance().with_columns(pl.Series(name, p) for name, p in primary.items()).write_csv(tmp_path / "significance.csv")
    page = Page(write_report(tmp_path).read_text())
    assert family in page.text
    assert (report.PRIMARY_NOTE in page.text) is explained
    assert page.table("joint minus")[1][1].split()[-2:] == ["p", "0.700"]
    assert "p after Holm over all tests of this table" in page.text


def test_differences_come_with_interval_corrected_p_and_what_could_be_detected(page):
    rows = {row[0].strip(): row[1].split() for row in page.table("joint minus")[1:]}
    assert rows["popular"] == ["+0.2111", "0.2091", "to", "0.2131", "p", "<", "0.001"]
    assert rows["personal"][-2:] == ["p", "0.700"]
    assert rows["detectable"] == ["0.0031"]
    assert [value for _, name, value in page.attributes if name == "class" and value in ("up", "down", "open")] == ["open", "up"]


def test_the_page_is_whole_without_scripts_and_without_anything_from_elsewhere(full, page):
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    sources = [value for _, name, value in page.attributes if name in ("src", "href", "srcset", "xlink:href")]
    assert len(sources) == len(PICTURES)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    style = re.search(r"<style>(.*?)</style>", full[1].read_text(), re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style


def test_texts_of_the_data_are_text(full, page):
    assert EVIL in page.text
    assert EVIL not in full[1].read_text()
    assert "User <b>13</b>" in page.text
    assert "path: <i>shop</i>.csv" in page.text
    assert "my <experiment> / 2026-01-01" in page.text
    assert page.tags.count("i") == 3, "the legend's three squares and none of the data's"


def test_the_pictures_are_valid_and_the_embedded_ones_are_those_in_the_folder(full, page):
    folder, _ = full
    assert {path.stem for path in (folder / "plots").iterdir()} == PICTURES
    embedded = {b64decode(value.partition(",")[2]) for _, name, value in page.attributes if name == "src"}
    assert embedded == {path.read_bytes() for path in (folder / "plots").glob("*.png")}
    for content in embedded:
        height, width, _ = imread(BytesIO(content), "png").shape
        assert width == 11 * 150
        assert height > 200


def test_of_the_year_is_said_how_its_shares_were_made(page):
    (note,) = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt") and "year" in value]
    for said in ("sales a day", "cover twice weigh no more", "never covered are grey", "Averaged over 5 weeks", "500 purchases"):
        assert said in note


def test_every_score_is_split_into_season_taste_and_content(page):
    lists = [rows for rows in page.tables if rows[0][-1].strip() == "of which"]
    assert len(lists) == 6, "three users in two seasons"
    second = lists[0][2]  # rank 2: 2 - 1 + 6 = 7
    assert [second[0].strip(), *second[1].split()] == ["2", "item", "2", "002"]
    assert second[2].strip() == "7.000"
    assert second[3].split("  ")[-1].strip().endswith("season +2.00, taste -1.00, content +6.00")


def test_a_bar_is_as_long_as_its_parts_and_negative_ones_lie_left_of_zero(page):
    bars = [float(value) for tag, name, value in page.attributes if tag == "rect" and name in ("x", "width")]
    (zero, *_) = [float(value) for tag, name, value in page.attributes if tag == "line" and name == "x1"]
    # The longest score adds 1 + 8 and takes 1: 150 pixels are 10 units.
    assert zero == 15
    assert bars[:6] == [15, 15, 0, 15, 30, 120]


def test_the_run_is_described(page):
    for line in ("seed: 3", '  columns: ["a", "b"]', "    patience: 2", "empty: {}", "    total: 22713216"):
        assert line in page.text
    assert page.table("stage")[1][0].strip() == "train"
    assert page.table("mean of the last epoch")[1][1].split() == ["8.3000"]  # steps 5-9: 8.5, 8.4, 8.3, 8.2, 8.1


def test_the_same_folder_gives_the_same_report(full):
    before = full[1].read_bytes()
    assert write_report(full[0]).read_bytes() == before


def test_a_folder_of_metrics_alone_gives_a_report_that_names_what_is_missing(tmp_path):
    metrics().filter(pl.col("slice").is_in(["all", "in_season"]), method="personal").write_csv(tmp_path / "metrics.csv")
    page = Page(write_report(tmp_path).read_text())
    for name in ("significance", "weeks", "losses", "seasonality", "examples"):
        assert f"This run wrote no {name}.csv." in page.text
    assert "The folder has no run.json." in page.text
    assert "no slice begins with 'holiday='" in page.text
    assert "joint" not in page.text.replace("joint model", "")


def test_a_failed_run_shows_its_error(tmp_path):
    RunRecord(tmp_path, {}).table("metrics", metrics())
    with pytest.raises(ZeroDivisionError), RunRecord(tmp_path, {}) as record, record.stage("report"):
        1 / 0  # noqa: B018
    page = Page(write_report(tmp_path).read_text())
    assert "ZeroDivisionError: division by zero" in page.text
    assert "report (failed)" in page.text


@pytest.mark.parametrize("heads", [[], ["seasonal"], ["seasonal", "cf", "content", "weather"]])
def test_heads_may_be_fewer_or_more_than_three(tmp_path, heads):
    metrics().write_csv(tmp_path / "metrics.csv")
    table = examples().drop("seasonal", "cf", "content").with_columns(pl.lit(1.0).alias(name) for name in heads)
    table.with_columns(score=pl.lit(float(len(heads)))).write_csv(tmp_path / "examples.csv")
    page = Page(write_report(tmp_path).read_text())
    assert page.tags.count("rect") == 18 * len(heads)
    assert "do not add up" not in page.text


def test_parts_that_do_not_add_up_are_told(tmp_path):
    metrics().write_csv(tmp_path / "metrics.csv")
    examples().with_columns(pl.col("score") + 0.25).write_csv(tmp_path / "examples.csv")
    assert "The parts do not add up to the score: they differ by up to 0.25." in Page(write_report(tmp_path).read_text()).text


def test_a_run_of_ratings_says_what_of_the_encoder_learnt_and_nothing_of_before_and_after(tmp_path):
    language = dict.fromkeys(("tokens_per_text", "cut_texts", "unknown_tokens", "split_words", "pieces_per_word"), 0.5)
    rows = [("joint", split, "ratings", name, None, 0.5, 0.4, 0.6, 9) for split in ("validation", "test") for name in ("rmse", "mae")]
    with RunRecord(tmp_path, {}) as record:
        record.facts(encoder={"trainable_share": 0.75, "language": language | {"n_texts": 9, "loss_of": None}})
        record.table("metrics", pl.DataFrame(rows, schema=metrics().columns, orient="row"))
    page = Page(write_ratings(tmp_path).read_text())
    assert ["parameters that learn ", "75.00% "] in [row for rows in page.tables for row in rows]
    assert "It did not learn" not in page.text


def test_a_folder_without_metrics_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"no metrics\.csv with rows there; give the folder of a run"):
        write_report(tmp_path)
    with pytest.raises(DataError, match=r"no metrics\.csv"):
        write_report(tmp_path / "nowhere")
