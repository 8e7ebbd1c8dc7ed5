"""What the adapters of published data sets make of rows worked out by hand."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from seasonrec.data.adapters.amazon_reviews import AmazonReviews
from seasonrec.data.adapters.complete_journey import CompleteJourney
from seasonrec.data.adapters.online_retail_ii import OnlineRetailII
from seasonrec.data.adapters.open_ecommerce import OpenEcommerce, title_words
from seasonrec.data.adapters.sequences import Sequences
from seasonrec.errors import DataError
from seasonrec.schema import DAY

PARTS = ("household_size", "household_comp", "age", "income", "home_ownership", "marital_status")
DECEMBER = 1_259_625_600  # 2009-12-01 UTC


def test_complete_journey_reads_its_times_as_utc_and_prices_one_piece(build):
    transactions = pl.DataFrame(
        {
            "household_id": [7, 7],
            "product_id": [3, 4],
            "quantity": [4, 0],
            "sales_value": [10.0, 1.0],
            "transaction_timestamp": pl.Series(["2017-03-05 23:59:59", "2017-12-31 00:00:00"]).str.to_datetime(time_unit="ns"),
        }
    )
    adapter = build("complete_journey")
    transactions.write_parquet(adapter.sources()["transactions"])
    pl.DataFrame({"household_id": [7], **dict.fromkeys(PARTS, "x")}).write_parquet(adapter.sources()["demographics"])
    events = adapter.read().events
    assert events["time"].to_list() == [1_488_758_399, 1_514_678_400]
    assert events["price"].to_list() == [2.5, None]
    assert events["user_id"].to_list() == ["7", "7"]


def test_complete_journey_says_products_in_words_and_households_in_a_sentence(build):
    dataset = build("complete_journey").read()
    assert dataset.items["text"].to_list()[1] == "soft drink 2 liter bottle drinks grocery, national brand, 2 l"
    assert dataset.items["text"].to_list()[0] == "fuel, private brand"
    assert dataset.user_texts == [
        "household of 3, 2 adults with kids, age 45-54, income 50-74k, homeowner",
        "household of 1, 1 adult no kids, age 65+, income under 15k, unmarried",
        "",
        "",
    ]
    assert dict(dataset.cleaning)["item_never_sold"] == 1  # product 6


def test_complete_journey_counts_in_how_many_of_a_week_s_shops_a_product_is_promoted(build):
    adapter = replace(build("complete_journey"), promotions=("display", "mailer"))
    rows = [  # product, store, display, mailer, week
        (1, 10, "3", "D", 55),
        (1, 11, "3", "D", 55),
        (1, 11, "3", "D", 55),  # the same once more
        (1, 12, "0", "D", 55),
        (2, 13, "A", "0", 55),
        (2, 10, "0", "A", 56),
        (9, 10, "0", "A", 56),  # never sold
    ]
    columns = ["product_id", "store_id", "display_location", "mailer_location", "week"]
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(Path(adapter.path) / "promotions.parquet")
    dataset = adapter.read()
    start = 1_515_387_600  # Monday 8 January 2018, midnight in New York: week 2 began on 2 January 2017
    assert dataset.promotions.sort("start", "kind", "item_id").rows() == [
        ("1", start, start + 7 * DAY, "display: front end cap", 0.5),  # two of four shops
        ("2", start, start + 7 * DAY, "display: in shelf", 0.25),
        ("1", start, start + 7 * DAY, "mailer: front page feature", 0.75),
        ("2", start + 7 * DAY, start + 14 * DAY, "mailer: interior page feature", 1.0),  # the only one that tells
    ]
    assert dict(dataset.cleaning)["promotion_of_unknown_item"] == 1
    assert build("complete_journey").read().promotions is None
    assert set(replace(adapter, promotions=["mailer"]).read().promotions["kind"]) == {
        "mailer: front page feature",
        "mailer: interior page feature",
    }


@pytest.mark.parametrize("kinds", [True, "mailer", ["mailer", "radio"]])
def test_complete_journey_knows_two_kinds_of_promotions(kinds):
    with pytest.raises(DataError, match=r"data\.promotions is .*, wanted some of \['display', 'mailer'\], e\.g\."):
        CompleteJourney(promotions=kinds)


def test_complete_journey_weeks_of_the_plan_begin_at_midnight_in_summer_too(build):
    adapter = replace(build("complete_journey"), promotions=("display", "mailer"))
    columns = ["product_id", "store_id", "display_location", "mailer_location", "week"]
    pl.DataFrame([(1, 10, "0", "A", 11)], schema=columns, orient="row").write_parquet(Path(adapter.path) / "promotions.parquet")
    (row,) = adapter.read().promotions.rows()
    assert row[1:3] == (1_488_776_400, 1_489_377_600)  # 6 March 2017 05:00 UTC, 13 March 04:00 UTC: clocks went forward


def test_complete_journey_texts_of_the_real_table_repeat_no_word_and_are_nearly_all_there(grocer):
    texts = grocer.item_texts(grocer.start_of(48))
    assert sum(text == "" for text in texts) == 17  # products that the product table lacks
    for text in texts[::500]:
        words = text.split(", ")[0].split()
        assert len(words) == len(set(words))
        assert text == text.lower()
    assert sum(text != "" for text in grocer.user_texts) == 801


def sales(*rows):
    names = ["Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country"]
    return pl.DataFrame(rows, schema=names, orient="row")


SALES = sales(
    ("1", "85048a", "BALL", 2, "2009-12-01 07:45:00", 6.95, 13085.0, "United Kingdom"),
    ("1", "85048a", "BALL", 2, "2009-12-01 07:45:00", 6.95, 13085.0, "United Kingdom"),  # duplicate
    ("C2", "85048A", "BALL", -2, "2009-12-02 07:45:00", 6.95, 13085.0, "United Kingdom"),  # cancellation
    ("3", "85048A", "BALL", 1, "2009-12-03 07:45:00", 6.95, None, "France"),  # unknown customer
    ("4", "POST", "POSTAGE", 1, "2009-12-03 07:45:00", 18.0, 13086.0, "France"),  # no product
    ("5", "85048A", " GLASS  BALL", 1, "2009-12-04 00:00:00", 6.95, 13085.0, "France"),
)


def written(frame, folder, name):
    if name.endswith(".parquet"):
        frame.with_columns(pl.col("InvoiceDate").str.to_datetime(time_unit="ns")).write_parquet(folder / name)
    else:
        frame.write_csv(folder / name)
    return str(folder / name)


@pytest.mark.parametrize("name", ["sales.csv", "sales.parquet"])
def test_online_retail_ii_keeps_sales_of_products_to_known_customers(tmp_path, name):
    dataset = OnlineRetailII(written(SALES, tmp_path, name)).read()
    assert dataset.events.select("user_id", "item_id", "time", "quantity").rows() == [
        ("13085", "85048A", DECEMBER + 7 * 3600 + 45 * 60, 2.0),
        ("13085", "85048A", DECEMBER + 3 * DAY, 1.0),
    ]
    dropped = {name: n for name, n in dataset.cleaning if n}
    assert dropped == {"duplicate": 1, "quantity_not_positive": 1, "no_user": 1, "not_a_product": 1}
    assert dataset.rejected["source_row"].to_list() == [2, 3, 4, 5]
    assert dataset.rejected["StockCode"].to_list() == ["85048a", "85048A", "85048A", "POST"]
    assert dataset.user_texts == ["customer in United Kingdom"]


def test_online_retail_ii_reads_no_column_that_the_original_lacks(tmp_path):
    dataset = OnlineRetailII(written(SALES.with_columns(rating=pl.lit("good")), tmp_path, "sales.csv")).read()
    assert dataset.events["rating"].to_list() == [None, None]


def test_online_retail_ii_breaks_a_tie_of_descriptions_by_the_alphabet_and_writes_small_letters(tmp_path):
    dataset = OnlineRetailII(written(SALES, tmp_path, "sales.csv")).read()
    assert dataset.item_texts(DECEMBER + 10 * DAY) == ["glass ball"]  # " GLASS" comes before "BALL"
    assert dataset.item_texts(DECEMBER + 2 * DAY) == ["ball"]
    assert dataset.item_texts(DECEMBER) == ["ball"]  # not yet sold: its first description


def test_online_retail_ii_reads_other_dates_and_encodings_when_told(tmp_path):
    text = SALES.with_columns(pl.lit("03/12/2009 09:30").alias("InvoiceDate"), pl.lit("CAFÉ").alias("Description")).write_csv()
    (tmp_path / "sales.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"encoding, e\.g\. latin-1"):
        OnlineRetailII(str(tmp_path / "sales.csv")).read()
    with pytest.raises(DataError, match=r"no time can be read, e\.g\. \['03/12/2009 09:30'\]"):
        OnlineRetailII(str(tmp_path / "sales.csv"), encoding="latin-1").read()
    dataset = OnlineRetailII(str(tmp_path / "sales.csv"), encoding="latin-1", time_format="%d/%m/%Y %H:%M").read()
    assert dataset.events["time"].to_list()[0] == DECEMBER + 2 * DAY + 9 * 3600 + 30 * 60
    assert dataset.item_texts(0) == ["café"]


def test_title_words_order_by_how_much_they_mark_an_item():
    titles = [
        ("BATTERY", 0, "black alkaline cell"),
        ("BATTERY", 1, "black alkaline pack"),
        ("LAMP", 2, "black glass lamp"),
        ("LAMP", 3, "black glass lamp"),  # the same title again adds nothing
        ("BATTERY", 9, "zebra zebra"),  # after the cut-off
        ("TENT", 9, "black canvas tent pole"),  # first seen after the cut-off
    ]
    events = pl.DataFrame(titles, schema=["item_id", "time", "description"], orient="row")
    words = dict(title_words(events, 5, n_words=2).iter_rows())
    # alkaline: in 2 titles x log(2 items / 1 item); cell and pack: 1 x log 2; black: 2 x log(2 / 2) = 0.
    assert words == {"BATTERY": "alkaline cell", "LAMP": "glass black", "TENT": "black canvas"}


def test_open_ecommerce_names_a_category_before_its_words(build):
    texts = build("open_ecommerce_category").read().item_texts(1_600_000_000)
    assert all(text.startswith(f"garden lamp {n}: ") for n, text in enumerate(texts))
    assert not any(word in text.split(": ")[1].split() for text in texts for word in ("garden", "lamp"))


def test_open_ecommerce_knows_which_product_of_a_category_was_bought(build):
    events = build("open_ecommerce_category").read().events
    assert events["item_id"].str.replace("GARDEN_LAMP_", "B").equals(events["product_id"], check_names=False)


def test_open_ecommerce_knows_two_levels():
    with pytest.raises(DataError, match=r"data\.level: got 'brand', wanted one of \['category', 'product'\]"):
        OpenEcommerce(path="anywhere.csv", level="brand")


def test_amazon_reviews_carry_ratings_and_titles(build):
    adapter = build("amazon_reviews")
    dataset = adapter.read()
    assert dataset.timeline.rating is not None
    assert set(dataset.events["rating"]) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert dataset.item_texts(0)[0] == "Tea & Mug 0"
    assert dict(dataset.cleaning)["item_never_sold"] == 2
    assert replace(adapter, metadata=None).read().item_texts(0) == [""] * 6


def test_amazon_titles_that_are_pieces_of_script_are_no_text(build):
    adapter = build("amazon_reviews")
    lines = [json.dumps({"asin": "B0", "title": "var aPageStart = 1;"}), json.dumps({"asin": "B1", "title": "Mug"})]
    adapter.sources()["metadata"].write_bytes(gzip.compress("\n".join(lines).encode()))
    assert adapter.read().item_texts(0)[:2] == ["", "Mug"]


@pytest.mark.shared
def test_gift_cards_are_read_whole(shared_data):
    folder = shared_data / "amazon_gift_cards"
    dataset = AmazonReviews(str(folder / "Gift_Cards_5.json.gz"), str(folder / "meta_Gift_Cards.json.gz")).read()
    assert (dataset.n_users, dataset.n_items, len(dataset.events), dict(dataset.cleaning)["duplicate"]) == (458, 148, 2_969, 3)
    assert all(dataset.item_texts(0))


def test_sequences_keep_the_order_of_each_line(build):
    dataset = build("sequences").read()
    assert dataset.events.select("user_id", "item_id", "time").rows() == [
        ("1", "12", 0), ("1", "7", 1), ("1", "31", 2), ("2", "7", 0), ("2", "12", 1), ("10", "31", 0),
    ]  # fmt: skip
    assert dataset.users["user_id"].to_list() == ["1", "10", "2"]
    assert all(len(dataset.timeline.queries(weeks)) == 0 for weeks in dataset.split.weeks.values())


def test_sequences_of_a_table_have_the_first_text_of_each_item(tmp_path):
    rows = [(1, 5, "old name"), (1, 4, None), (2, 5, "new name")]
    pl.DataFrame(rows, schema=["user", "item", "text_id"], orient="row").write_parquet(tmp_path / "s.parquet")
    dataset = Sequences(str(tmp_path / "s.parquet")).read()
    assert dataset.item_texts(0) == ["", "old name"]
    with pytest.raises(DataError, match=r"has no column 'name'; it has \['user', 'item', 'text_id'\]; name another with data\.text=\.\.\."):
        Sequences(str(tmp_path / "s.parquet"), text="name").read()


@pytest.mark.shared
def test_the_published_sequences_have_their_published_sizes_and_items(shared_data):
    dataset = Sequences(str(shared_data / "amazon_sequential" / "Beauty.txt")).read()
    assert (dataset.n_users, dataset.n_items) == (22_363, 12_101)
    last = dataset.events.filter(pl.col("user_id") == "1")["item_id"].to_list()
    assert last == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(("content", "message"), [(b"", "no line with a user"), (b"1\n2\n", "no line with a user"), (b"\xff\xfe", "UTF-8")])
def test_sequences_refuse_lines_without_items(tmp_path, content, message):
    (tmp_path / "lists.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        Sequences(str(tmp_path / "lists.txt")).read()
