"""A user's own file, in order and broken in every way that we could think of."""

import gzip
import math
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from seasonrec.data.adapters.table import Table
from seasonrec.data.dataset import Split
from seasonrec.errors import DataError
from seasonrec.schema import DAY, WEEK

COLUMNS = {"user": "customer", "item": "sku", "time": "day"}
MONDAY = datetime(2018, 1, 1, tzinfo=UTC)


def days(n_weeks):
    return [(MONDAY + timedelta(weeks=week)).strftime("%Y-%m-%d") for week in range(n_weeks)]


def good(n_weeks=70):
    """Two customers, each with a purchase on every Monday."""
    lines = [f"{who},{sku},{day},2,4.5" for day in days(n_weeks) for who, sku in (("ann", "007"), ("bob", "x1"))]
    return ["customer,sku,day,n,cost", *lines]


@pytest.fixture
def shop(tmp_path):
    def read(lines, columns=COLUMNS, name="shop.csv", **options):
        content = "\n".join(lines).encode() if isinstance(lines, list) else lines
        (tmp_path / name).write_bytes(content)
        return Table(path=str(tmp_path / name), columns=columns, **options).read()

    return read


def dropped(dataset):
    return {name: n for name, n in dataset.cleaning if n}


@pytest.mark.filterwarnings("error")
def test_a_good_file_loses_nothing_and_splits_into_its_last_weeks(shop):
    dataset = shop(good(), {**COLUMNS, "quantity": "n", "price": "cost", "rating": None})
    assert (dataset.n_users, dataset.n_items, len(dataset.events), dropped(dataset)) == (2, 2, 140, {})
    assert dataset.items["item_id"].to_list() == ["007", "x1"]  # an id keeps its zeros
    assert dataset.events.select("quantity", "price", "rating").row(0) == (2.0, 4.5, None)
    assert dataset.week_zero == MONDAY.timestamp()
    # The last Monday opens a week that is not full: 69 full weeks, 0..68.
    assert dataset.split == Split((53, 60), (61, 68))


def test_the_product_that_a_row_names_is_an_id_beside_the_item(shop):
    lines = [f"{line},{'art' if n == 0 else f'00{n % 3}'}" for n, line in enumerate(good())]
    assert shop(lines, {**COLUMNS, "product": "art"}).events["product_id"].head(3).to_list() == ["001", "002", "000"]


def test_gzip_parquet_and_other_separators_read_the_same(shop, tmp_path):
    expected = shop(good()).events
    assert shop(gzip.compress("\n".join(good()).encode()), name="shop.csv.gz").events.equals(expected)
    assert shop([line.replace(",", ";") for line in good()], separator=";").events.equals(expected)
    pl.read_csv(tmp_path / "shop.csv.gz", infer_schema=False).with_columns(pl.col("day").str.to_date()).write_parquet(
        tmp_path / "shop.parquet"
    )
    assert Table(path=str(tmp_path / "shop.parquet"), columns=COLUMNS).read().events.equals(expected)


@pytest.mark.parametrize(("decimal", "written"), [(".", "1,234.5"), (",", "1.234,5"), (",", "1234,5 ")])
def test_prices_are_read_as_they_are_written_in_the_shop_s_country(shop, decimal, written):
    lines = [line.replace(",", ";").replace("4.5", written) for line in good()]
    dataset = shop(lines, {**COLUMNS, "price": "cost"}, separator=";", decimal=decimal)
    assert (set(dataset.events["price"]), dropped(dataset)) == ({1234.5}, {})


@pytest.mark.parametrize(("decimal", "written"), [(".", "4,50"), (".", "1,23,456"), (",", "4.5"), (",", "12.34,5")])
def test_a_price_written_otherwise_is_dropped_and_not_read_as_another(shop, decimal, written):
    lines = good()
    lines[1] = lines[1].replace("4.5", written)
    lines[2:] = [line.replace("4.5", "4") for line in lines[2:]]
    dataset = shop([line.replace(",", ";", 4) for line in lines], {**COLUMNS, "price": "cost"}, separator=";", decimal=decimal)
    assert dropped(dataset) == {"unparsable_price": 1}


def test_numbers_that_spell_dates_are_read_by_their_format(tmp_path):
    n = len(days(70))
    frame = pl.DataFrame({"user_id": ["a"] * n, "item_id": ["x"] * n, "time": [int(day.replace("-", "")) for day in days(70)]})
    frame.write_parquet(tmp_path / "shop.parquet")
    dataset = Table(path=str(tmp_path / "shop.parquet"), time_format="%Y%m%d").read()
    assert dataset.events["time"].min() == MONDAY.timestamp()
    with pytest.raises(DataError, match=r"or the right data\.time_format: all of them lie in 1970"):
        Table(path=str(tmp_path / "shop.parquet")).read()


def test_minutes_with_a_zone_are_times_and_names_of_zones_are_not(shop):
    read = shop([line.replace(",20", ",20", 1).replace("-01,", "-01T12:00+02:00,") for line in good()])
    assert dropped(read) == {}
    assert 10 * 3600 in set(read.events["time"] % DAY)
    with pytest.raises(DataError, match="names of zones are not understood; leave %Z out"):
        shop(good(), time_format="%Y-%m-%d %Z")


@pytest.mark.parametrize(
    ("separator", "message"), [(",", r"what stands between its values, e\.g\. 'data\.separator=\";\"'"), (";;", "cannot be read")]
)
def test_a_file_of_other_separators_says_which_option_it_needs(shop, separator, message):
    lines = ["customer;sku;day;cost", *("ann;x1;2018-01-01;4,50" for _ in range(9)), "bob;x1;2018-01-02;1,2,3"]
    with pytest.raises(DataError, match=message):
        shop(lines, separator=separator)


def test_decimal_commas_say_which_option_they_need(shop):
    lines = [line.replace(",", ";").replace("4.5", "4,5") for line in good()]
    with pytest.raises(
        DataError, match=r"most are unparsable_price, e\.g\. {'cost': '4,5'}; for numbers such as 4,50 give 'data\.decimal=\",\"'; check"
    ):
        shop(lines, {**COLUMNS, "price": "cost"}, separator=";")


def test_dates_of_another_form_say_so_also_where_some_can_be_read(shop):
    dates = ["1900-01-01", "", *(f"{day}/02/2018" for day in range(13, 20))]
    message = (
        r"dropped all 9 rows: {'unparsable_time': 8, 'impossible_time': 1};"
        r" most are unparsable_time, e\.g\. {'day': '13/02/2018'}; give their format, e\.g\. data\.time_format='%d/%m/%Y'; check"
    )
    with pytest.raises(DataError, match=message):
        shop(["customer,sku,day", *(f"ann,1,{date}" for date in dates)])


def test_a_decimal_mark_that_is_none_is_an_error(shop):
    with pytest.raises(DataError, match=r"data\.decimal is ';', wanted one of \['\.', ','\]"):
        shop(good(), decimal=";")


def test_whole_numbers_of_a_float_column_are_ids_without_a_point(tmp_path):
    n = len(days(70))
    frame = pl.DataFrame({"user_id": [13085.0, None] * (n // 2), "item_id": [1.5] * n, "time": pl.Series(days(70)).str.to_date()})
    frame.write_parquet(tmp_path / "shop.parquet")
    dataset = Table(path=str(tmp_path / "shop.parquet")).read()
    assert dataset.users["user_id"].to_list() == ["13085"]
    assert dataset.items["item_id"].to_list() == ["1.5"]
    assert dropped(dataset) == {"no_user": 35}


def test_ids_that_a_csv_writes_as_floats_are_those_of_the_other_tables(shop, tmp_path):
    lines = ["customer,sku,day", *(f"{who},{sku},{day}" for day in days(70) for who, sku in (("184.0", "7"), ("1124.0", "8"), ("", "7")))]
    (tmp_path / "users.csv").write_text("who,town\n184,Oslo\n1124,Rome\n")
    (tmp_path / "items.csv").write_text("sku,title\n7.0,lamp\n8.0,tent\n,lost\n")
    users = {"path": str(tmp_path / "users.csv"), "columns": {"user": "who", "text": "town"}}
    items = {"path": str(tmp_path / "items.csv"), "columns": {"item": "sku", "text": "title"}}
    dataset = shop(lines, users=users, items=items)
    assert dataset.users.rows() == [("1124", "Rome"), ("184", "Oslo")]
    assert dataset.items.rows() == [("7", "lamp"), ("8", "tent")]
    assert dropped(dataset) == {"no_user": 70, "item_without_id": 1}


@pytest.mark.parametrize("other", ["x1", "7", "1.5", "1.00"])
def test_text_with_a_point_stays_where_a_single_id_is_of_another_form(shop, other):
    dataset = shop([line.replace("007", "7.0").replace("x1", other) for line in good()])
    assert set(dataset.items["item_id"]) == {"7.0", other}


ONE_BAD_ROW = {
    "no_user": ",007,2018-03-05,1,1",
    "no_item": "ann,  ,2018-03-05,1,1",
    "unparsable_time": "ann,007,2018-02-30,1,1",
    "impossible_time": "ann,007,1900-01-01,1,1",
    "unparsable_quantity": "ann,007,2018-03-05,two,1",
    "unparsable_price": "ann,007,2018-03-05,1,inf",
    "returned": "ann,007,2018-03-05,-1,1",
    "duplicate": "ann,007,2018-01-01,2,4.5",
}


@pytest.mark.parametrize("reason", ONE_BAD_ROW)
def test_a_row_that_cannot_be_used_is_dropped_counted_and_kept_aside(shop, reason):
    dataset = shop([*good(), ONE_BAD_ROW[reason]], {**COLUMNS, "quantity": "n", "price": "cost"})
    assert dropped(dataset) == {reason: 1}
    assert len(dataset.events) == 140
    row = dataset.rejected.row(0, named=True)
    assert (row["source"], row["source_row"], row["reason"]) == ("shop.csv", 141, reason)
    assert [row[name] or "" for name in ("customer", "sku", "day", "n", "cost")] == ONE_BAD_ROW[reason].split(",")


def test_returns_can_be_kept_and_nothing_at_all_is_no_return(shop):
    rows = [*good(), "ann,007,2018-03-05,-1,1", "ann,007,2018-03-06,0,1"]
    columns = {**COLUMNS, "quantity": "n"}
    assert len(shop(rows, columns).events) == 141
    assert len(shop(rows, columns, returns=True).events) == 142
    assert len(shop(rows).events) == 142  # without the column nobody can tell


def test_an_empty_number_is_unknown_and_no_mistake(shop):
    dataset = shop([*good(), "ann,007,2018-03-06,,"], {**COLUMNS, "quantity": "n"})
    assert dropped(dataset) == {}
    assert dataset.events["quantity"].to_list()[-1] is None


def test_rejected_rows_show_the_source_even_where_a_column_has_our_name(shop):
    lines = [line.replace("customer,sku,day", "user_id,item_id,time") for line in good()]
    dataset = shop([*lines, "ann,007,someday,1,1"], {"user": "user_id", "item": "item_id", "time": "time"})
    assert dataset.rejected["time"].to_list() == ["someday"]


def test_a_column_that_merely_has_our_name_is_not_read(shop):
    ours = ["quantity", "price", "rating", "description", "review"]
    head, *rows = (line.rsplit(",", 2)[0] for line in good())  # who, what and when
    rows = [f"{row},two,free,good,red,fine" for row in (*rows, "ann,007,someday")]
    dataset = shop([f"{head},{','.join(ours)}", *rows])
    assert [dataset.events[name].null_count() for name in ours] == [140] * 5
    assert dataset.rejected.select("day", *ours).rows() == [("someday", "two", "free", "good", "red", "fine")]


def of_parquet(folder, values):
    """A shop whose purchases have these 140 prices."""
    frame = pl.DataFrame({"user_id": "ann", "item_id": "x1", "time": pl.Series(days(140)).str.to_date(), "paid": values})
    frame.write_parquet(folder / "shop.parquet")
    columns = {"user": "user_id", "item": "item_id", "time": "time", "price": "paid"}
    return Table(path=str(folder / "shop.parquet"), columns=columns)


def test_categories_are_read_as_the_text_that_they_stand_for(tmp_path):
    dataset = of_parquet(tmp_path, pl.Series(["4.5", "free"] * 70, dtype=pl.Categorical)).read()
    assert (set(dataset.events["price"]), dropped(dataset)) == ({4.5}, {"unparsable_price": 70})


def test_what_a_parquet_file_has_that_is_not_a_number_is_nothing(tmp_path):
    dataset = of_parquet(tmp_path, [4.5, math.nan] * 70).read()
    assert (dataset.events["price"].to_list(), dropped(dataset)) == ([4.5, None] * 70, {})


@pytest.mark.parametrize(
    ("values", "held"), [([[4.5]] * 140, r"List\(Float64\), e\.g\. \[\[4\.5\]\]"), ([MONDAY] * 140, r"Datetime\(.*2018, 1, 1")]
)
def test_a_price_of_a_type_that_is_no_number_is_an_error(tmp_path, values, held):
    with pytest.raises(DataError, match=rf"shop\.parquet: column 'paid' holds {held}.*, wanted numbers or text"):
        of_parquet(tmp_path, values).read()


BROKEN = {
    "columns not named": (
        good(),
        {"user": "user_id", "item": "item_id", "time": "time"},
        r"no column 'user_id' nor 'item_id' nor 'time'; it has \['customer', 'sku', 'day', 'n', 'cost'\];"
        r" name another with data\.columns\.user=\.\.\. data\.columns\.item=\.\.\. data\.columns\.time=\.\.\.$",
    ),
    "wrong column": (
        good(),
        {**COLUMNS, "user": "custmer"},
        r"no column 'custmer' \(did you mean 'customer'\?\); it has \['customer', 'sku'",
    ),
    "unknown role": (good(), {**COLUMNS, "usr": "customer"}, r"unknown 'usr', did you mean 'user'; wanted some of"),
    "column not named": (good(), {"user": "customer", "item": None, "time": "day"}, r"\['item'\] not named"),
    "empty column": (
        ["customer,sku,day", "ann,,2018-01-01", "bob,,2018-01-02"],
        COLUMNS,
        r"'sku' is empty in all 2 rows; .*data\.columns\.item=",
    ),
    "dates of another form": (["customer,sku,day", "ann,1,01/02/2018"], COLUMNS, r"no time can be read, e\.g\. \['01/02/2018'\]"),
    "milliseconds": (
        ["customer,sku,day", "ann,1,1514764800000"],
        COLUMNS,
        r"dropped all 1 rows: {'impossible_time': 1}; .*give data\.time_format=ms",
    ),
    "no rows": (["customer,sku,day"], COLUMNS, r"has columns \['customer', 'sku', 'day'\] but no rows"),
    "empty file": (b"", COLUMNS, "is empty; wanted a header line and rows"),
    "not text": (b"PK\x03\x04\xff\xfe,\n\xff\xff,\xfe\n", COLUMNS, "cannot be read: invalid utf-8 sequence; give data.encoding"),
    "ragged": (["customer,sku,day", "ann,1,2018-01-01,9,9"], COLUMNS, "cannot be read: found more fields"),
    "a few weeks": (good(11), COLUMNS, "span 10 full weeks from 2018-01-01 to 2018-03-12, wanted at least 12"),
    "few times that can be read": (
        ["customer,sku,day", "ann,1,2018-01-01", *["ann,1,01/02/2018"] * 200],
        COLUMNS,
        r"span 0 full weeks from 2018-01-01 to 2018-01-01, .*; cleaning dropped 200 rows as unparsable_time$",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_with_what_was_found_and_what_to_do(shop, case):
    lines, columns, message = BROKEN[case]
    with pytest.raises(DataError, match=message):
        shop(lines, columns)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"country": "Atlantis"}, "country 'Atlantis' has no calendar"),
        ({"timezone": "Europe/Atlantis"}, "'Europe/Atlantis' is not in the IANA database"),
        ({"timezone_of_times": "local"}, "'local' is not in the IANA database"),
        ({"hemisphere": "west"}, "hemisphere must be"),
        ({"split": "later"}, "split: got 'later', wanted 'auto' or"),
        ({"split": {"validation": [60, 66]}}, "split: got"),
        ({"week_zero": "New Year"}, r"data\.week_zero: 'New Year' is not a date"),
        ({"season_level": "family"}, "items have no 'family'"),
        ({"encoding": "utf99"}, "cannot be read: unknown encoding"),
    ],
)
def test_an_option_that_names_something_unknown_is_refused(shop, options, message):
    with pytest.raises(DataError, match=message):
        shop(good(), **options)


def test_what_is_a_duplicate_does_not_depend_on_what_columns_are_called(shop):
    """Rows that differ as they stand in the file are two, even where nothing of what differs is kept."""
    rows = ["ann,7,2018-01-01 10:00:00.1,1", "ann,7,2018-01-01 10:00:00.9,1.0", "ann,7,2018-01-01 10:00:00.1,1"]
    for header in ("customer,sku,day,n", "user_id,item_id,time,quantity", "customer,sku,day,time"):
        columns = dict(zip(("user", "item", "time", "quantity"), header.split(","), strict=True))
        dataset = shop([header, *rows], columns, split={"validation": [-2, -1], "test": [0, 0]})
        assert dropped(dataset) == {"duplicate": 1}


def test_a_split_that_goes_on_after_the_data_is_refused(shop):
    with pytest.raises(DataError, match=r"^data\.split: test weeks 62 to 75, but the data end in week 69; name earlier ones$"):
        shop(good(), split={"validation": [54, 61], "test": [62, 75]})


def test_other_kinds_of_files_and_folders_are_refused(shop, tmp_path):
    with pytest.raises(DataError, match=r"wanted one of \.csv, \.csv\.gz, \.parquet; export the table"):
        shop(good(), name="shop.xlsx")
    with pytest.raises(DataError, match="cannot be read: parquet: File out of specification"):
        shop(good(), name="shop.parquet")
    with pytest.raises(DataError, match=r"is a folder; give data\.path"):
        Table(path=str(tmp_path)).sources()


def test_naive_times_are_taken_at_the_named_clock(shop):
    dataset = shop(good(), timezone_of_times="America/New_York")
    assert dataset.events["time"][0] == MONDAY.timestamp() + 5 * 3600


def test_weeks_and_their_origin_can_be_named(shop):
    dataset = shop(good(), week_zero="2017-12-25", split={"validation": [60, 62], "test": [63, 64]})
    assert dataset.split == Split((60, 62), (63, 64))
    assert dataset.timeline.week_of(dataset.timeline.time[0]) == 1


ITEMS = ["sku,title,note,family,born", "007,Licence,  ,film,1953", "007,Again,,film,1953", ",Lost,,film,1", "zz,Never sold,soon,new,2"]


def described(tmp_path, **columns):
    (tmp_path / "items.csv").write_text("\n".join(ITEMS))
    return {"path": str(tmp_path / "items.csv"), "columns": {"item": "sku", **columns}}


def test_an_item_table_gives_texts_and_attributes_and_its_rows_are_accounted_for(shop, tmp_path):
    dataset = shop(good(), items=described(tmp_path, text=["title", "note"], family="family"), season_level="family")
    assert dataset.items.select("item_id", "text", "family").rows() == [("007", "Licence", "film"), ("x1", None, None)]
    assert dataset.item_texts(0) == ["Licence", ""]  # an item without text stays in the catalogue
    assert dropped(dataset) == {"item_without_id": 1, "duplicate_item": 1, "item_never_sold": 1}
    assert dataset.rejected["source"].unique().to_list() == ["items.csv"]
    assert dataset.season_group.tolist() == [1, 0]


def test_items_that_nobody_bought_yet_stay_when_asked_for(shop, tmp_path):
    dataset = shop(good(), items=described(tmp_path, text="title"), unsold_items=True)
    assert dataset.items["item_id"].to_list() == ["007", "x1", "zz"]
    assert dataset.timeline.n_items == 3
    assert not dataset.timeline.as_of(dataset.start_of(80)).sold[2]


def test_texts_of_purchases_fill_what_the_item_table_lacks(shop, tmp_path):
    dataset = shop(good(), {**COLUMNS, "text": "cost"}, items=described(tmp_path, text="title"))
    assert dataset.item_texts(dataset.start_of(80)) == ["Licence", "4.5"]


def test_users_without_history_are_counted(shop, tmp_path):
    (tmp_path / "users.csv").write_text("who,age,town\nann,40,Oslo\nann,41,Oslo\neve,9,Rome\n,1,Bonn\n")
    dataset = shop(good(), users={"path": str(tmp_path / "users.csv"), "columns": {"user": "who", "text": ["age", "town"]}})
    assert dataset.user_texts == ["40, Oslo", ""]
    assert dropped(dataset) == {"user_without_id": 1, "duplicate_user": 1, "user_without_history": 1}


@pytest.mark.parametrize("options", [{}, {"unsold_items": True}])
def test_an_item_table_that_knows_no_id_is_refused_with_ids_of_both(shop, tmp_path, options):
    (tmp_path / "items.csv").write_text("sku,name\n,candle\n7,candle\n8,sledge\n")
    items = {"path": str(tmp_path / "items.csv"), "columns": {"item": "sku", "text": "name"}}
    message = r"items\.csv: none of its ids, such as \['7', '8'\], is among the events', such as \['007', 'x1'\]; look for zeros that"
    with pytest.raises(DataError, match=message):
        shop(good(), items=items, **options)


def test_a_user_table_that_knows_no_id_is_refused_with_ids_of_both(shop, tmp_path):
    (tmp_path / "users.csv").write_text("who,age\nANN,40\n")
    with pytest.raises(DataError, match=r"none of its ids, such as \['ANN'\], is among the events', such as \['ann', 'bob'\]"):
        shop(good(), users={"path": str(tmp_path / "users.csv"), "columns": {"user": "who", "text": "age"}})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": "title"}, r"data\.items\.columns: 'item' not named"),
        (
            {"item": "sku", "text": "titel"},
            r"no column 'titel' \(did you mean 'title'\?\).*; name another with data\.items\.columns\.text=\.\.\.",
        ),
        ({"item": "sku", "text": ["title", "colour"]}, r"no column 'colour'.*; name another with data\.items\.columns\.text=\.\.\."),
        ({"item": "sku", "group": "kind"}, r"no column 'kind'.*; name another with data\.items\.columns\.group=\.\.\."),
        (None, r"data\.items\.columns: 'item' not named, got {}"),
    ],
)
def test_an_item_table_needs_columns_that_it_has(shop, tmp_path, columns, message):
    with pytest.raises(DataError, match=message):
        shop(good(), items={**described(tmp_path), "columns": columns})


def test_a_user_table_needs_columns_that_it_has(shop, tmp_path):
    (tmp_path / "users.csv").write_text("who,age\nann,40\n")
    with pytest.raises(DataError, match=r"users\.csv has no column 'user_id'; it has .*; name another with data\.users\.columns\.user="):
        shop(good(), users={"path": str(tmp_path / "users.csv"), "columns": {"user": "user_id", "text": "age"}})


def promoted(folder, lines, **columns):
    """The option of a table of promotions."""
    (folder / "plan.csv").write_text("sku,from,until,how,where\n" + lines)
    return {"path": str(folder / "plan.csv"), "columns": {"item": "sku", "start": "from", "end": "until"} | columns}


def test_promotions_have_times_kinds_and_shares_and_those_that_cannot_be_used_are_counted(shop, tmp_path):
    lines = """x1,2018-02-01,2018-02-08,flyer,0.5
,2018-02-01,2018-02-08,flyer,1
x1,2018-02-08,2018-02-01,flyer,1
x1,2018-02-01,,flyer,1
x1,2018-02-01,2018-02-08,flyer,1.5
x1,2018-02-01,2018-02-08,flyer,some
99,2018-02-01,2018-02-08,flyer,1
x1,2018-02-01,2018-02-08,flyer,0.5
x1,1850-02-01,2018-02-08,flyer,1
x1,2018-03-01,9999-12-31,flyer,
"""
    dataset = shop(good(), promotions=promoted(tmp_path, lines, kind="how", share="where"))
    assert dataset.promotions.rows() == [
        ("x1", 1_517_443_200, 1_518_048_000, "flyer", 0.5),
        ("x1", 1_519_862_400, 4_102_444_800, "flyer", 1.0),  # to the end of all calendars, everywhere
    ]
    assert dropped(dataset) == {
        "promotion_without_item": 1,
        "promotion_without_period": 2,
        "promotion_at_impossible_time": 1,
        "promotion_share_beyond_0_1": 2,
        "promotion_of_unknown_item": 1,
        "duplicate_promotion": 1,
    }
    assert dataset.rejected["reason"].to_list().count("promotion_share_beyond_0_1") == 2


def test_promotions_without_kinds_and_shares_are_of_one_kind_and_everywhere(shop, tmp_path):
    dataset = shop(good(), promotions=promoted(tmp_path, "x1,2018-02-01,2018-02-08,,\n"))
    assert dataset.promotions.rows() == [("x1", 1_517_443_200, 1_518_048_000, "promotion", 1.0)]


def test_a_promotion_whose_kind_is_not_told_is_of_the_kind_without_name(shop, tmp_path):
    lines = "x1,2018-02-01,2018-02-08, ,1\nx1,2018-02-01,2018-02-08,flyer,1\n"
    dataset = shop(good(), promotions=promoted(tmp_path, lines, kind="how"))
    assert dataset.promotions["kind"].to_list() == ["promotion", "flyer"]
    assert dataset.plan.kinds == ("flyer", "promotion")


def test_promotions_may_have_times_of_their_own_form(shop, tmp_path):
    option = promoted(tmp_path, "x1,01/02/2018,08/02/2018,,\n") | {"time_format": "%d/%m/%Y"}
    assert shop(good(), promotions=option).promotions["start"].to_list() == [1_517_443_200]


def test_promotions_whose_times_are_of_another_form_say_which_option_they_need(shop, tmp_path):
    with pytest.raises(DataError, match=r"no time can be read.*e\.g\. data\.promotions\.time_format='%d/%m/%Y'"):
        shop(good(), promotions=promoted(tmp_path, "x1,01/02/2018,08/02/2018,,\n"))
    lines = "x1,2018-02-08,2018-02-01,,\nx1,13/02/2018,2018-02-15,,\nx1,14/02/2018,2018-02-16,,\n"
    with pytest.raises(DataError, match=r"{'until': '2018-02-01', 'from': '2018-02-08'}; .*data\.promotions\.time_format='%d/%m/%Y'"):
        shop(good(), promotions=promoted(tmp_path, lines))


def test_promotions_in_milliseconds_are_told_from_seconds(shop, tmp_path):
    with pytest.raises(DataError, match=r"'promotion_at_impossible_time': 1.*for milliseconds give data\.promotions\.time_format=ms"):
        shop(good(), promotions=promoted(tmp_path, "x1,1517443200000,1518048000000,,\n"))


@pytest.mark.parametrize("part", ["items", "users", "promotions"])
@pytest.mark.parametrize("option", [True, "plan.csv"])
def test_another_table_is_named_by_its_path_and_columns(part, option):
    with pytest.raises(DataError, match=rf"data\.{part} is .*, wanted {{path: FILE, columns: .*give data\.{part}\.path=FILE"):
        Table(path="shop.csv", **{part: option})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"start": None, "end": None}, r"data\.promotions\.columns: 'start', 'end' not named"),
        ({"sort": "how"}, r"data\.promotions\.columns: unknown \['sort'\]; wanted some of"),
        ({"kind": "hwo"}, r"no column 'hwo' \(did you mean 'how'\?\).*; name another with data\.promotions\.columns\.kind=\.\.\."),
    ],
)
def test_a_table_of_promotions_needs_columns_that_it_has(shop, tmp_path, columns, message):
    with pytest.raises(DataError, match=message):
        shop(good(), promotions=promoted(tmp_path, "x1,2018-02-01,2018-02-08,flyer,1\n", **columns))


def test_a_table_of_promotions_that_knows_no_item_is_refused(shop, tmp_path):
    with pytest.raises(DataError, match=r"'promotion_of_unknown_item': 1.*the events have items such as"):
        shop(good(), promotions=promoted(tmp_path, "99,2018-02-01,2018-02-08,flyer,1\n"))


def test_the_automatic_split_takes_the_last_full_weeks():
    assert Split.auto(0, 100 * WEEK - DAY, 0) == Split((84, 91), (92, 99))  # an event on the last day of week 99
    assert Split.auto(0, 100 * WEEK - DAY - 1, 0) == Split((83, 90), (91, 98))  # none on it: the week is not full


@pytest.mark.parametrize(("n_weeks", "size"), [(12, 4), (13, 4), (16, 6), (19, 7), (20, 8), (59, 8)])
def test_a_short_span_leaves_four_weeks_to_learn_from_and_says_that_last_year_is_unknown(n_weeks, size):
    with pytest.warns(UserWarning, match=f"span {n_weeks} weeks, under 60: counters of last year's season are off"):
        split = Split.auto(0, n_weeks * WEEK - 1, 0)
    assert split == Split((n_weeks - 2 * size, n_weeks - size - 1), (n_weeks - size, n_weeks - 1))
    assert split.validation[0] >= 4


def test_the_automatic_split_counts_from_the_first_event_not_from_week_zero():
    with pytest.raises(DataError, match="span 11 full weeks"):
        Split.auto(50 * WEEK, 61 * WEEK - 1, 0)
