"""Prepared data are read back as long as nothing changed, and only then."""

import importlib
import linecache
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from omegaconf import OmegaConf

from seasonrec.data import prepare as module
from seasonrec.data.adapters.complete_journey import CompleteJourney
from seasonrec.data.adapters.table import Table
from seasonrec.data.prepare import digest_of, prepare
from seasonrec.errors import DataError
from seasonrec.schema import EVENTS

TABLES = ("events", "items", "users", "rejected")


def lines(n_weeks, extra=""):
    rows = [f"u{week % 3},i{week % 4},{1_500_000_000 + week * 604_800}" for week in range(n_weeks)]
    return "\n".join(["user_id,item_id,time", *rows]) + extra + "\n"


@pytest.fixture
def adapter(tmp_path):
    (tmp_path / "shop.csv").write_text(lines(70))
    return Table(path=str(tmp_path / "shop.csv"), name="my/shop")


@pytest.fixture(autouse=True)
def readings(monkeypatch):
    """One entry for each time that a source was read."""
    done, read = [], Table.read

    def counted(table):
        done.append(table.path)
        return read(table)

    monkeypatch.setattr(Table, "read", counted)
    return done


def test_the_second_time_nothing_is_read_and_everything_is_equal(adapter, tmp_path, readings):
    first, again = prepare(adapter, tmp_path / "c"), prepare(adapter, tmp_path / "c")
    assert len(readings) == 1
    assert all(getattr(first, name).equals(getattr(again, name)) for name in TABLES)
    assert replace(again, **{name: getattr(first, name) for name in TABLES}) == first
    assert again.item_texts(again.start_of(60)) == [""] * 4


def test_a_changed_source_or_option_is_read_anew(adapter, tmp_path, readings):
    first = prepare(adapter, tmp_path / "c")
    assert prepare(replace(adapter, country="GB"), tmp_path / "c").digest != first.digest
    Path(adapter.path).write_text(lines(70, "\nu9,i9,1500000000"))
    changed = prepare(adapter, tmp_path / "c")
    assert changed.digest != first.digest
    assert (first.n_users, changed.n_users) == (3, 4)
    assert len(readings) == 3


OWN = """import its_reader
from seasonrec.data.adapters.table import Table


class Mine(Table):
    def read(self):
        return super().read()
"""


def test_an_adapter_of_one_s_own_is_read_anew_when_its_code_has_changed(adapter, tmp_path, monkeypatch, readings):
    """Its class is a part of what the data are; what else is in its file and what it imports only of what was prepared."""
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    texts = [(OWN, ""), (OWN, ""), (OWN + "        # of other users\n", ""), (OWN + "\n\nclass Head:\n    d = 8\n", ""), (OWN, "n = 2")]
    for text, helper in texts:
        (tmp_path / "its_adapter.py").write_text(text)
        (tmp_path / "its_reader.py").write_text(helper)
        for name in ("its_adapter", "its_reader"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        linecache.clearcache()
        mine = importlib.import_module("its_adapter").Mine(path=adapter.path, name="mine")
        found.append((prepare(mine, tmp_path / "c").digest, len(readings)))
    digests, n_readings = zip(*found, strict=True)
    assert [digest == digests[0] for digest in digests] == [True, True, False, True, True]
    assert n_readings == (1, 1, 2, 3, 4)


def test_only_what_is_read_differently_than_before_has_another_digest(adapter, monkeypatch):
    now = digest_of(adapter), digest_of(CompleteJourney())
    monkeypatch.delattr(Table, "READING")
    assert (digest_of(adapter) == now[0], digest_of(CompleteJourney()) == now[1]) == (False, True)


def test_the_digest_says_what_the_data_are_not_where_they_lie(adapter, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    moved = Path(adapter.path).rename(tmp_path / "elsewhere" / "other.csv")
    elsewhere = replace(adapter, path=str(moved))
    digest = digest_of(elsewhere)
    moved.rename(adapter.path)
    assert digest_of(adapter) == digest
    assert len(digest) == 32


def test_options_of_any_mapping_or_sequence_give_the_digest_of_plain_ones(adapter):
    columns = {"user": "user_id", "item": "item_id", "time": "time"}
    weeks = {"validation": (50, 52), "test": (53, 55)}
    plain = replace(adapter, columns=columns, split=weeks)
    configured = replace(adapter, columns=OmegaConf.create(columns), split=OmegaConf.create({"validation": [50, 52], "test": [53, 55]}))
    assert digest_of(plain) == digest_of(configured)
    assert digest_of(plain) != digest_of(adapter)


def test_a_column_of_an_item_table_that_is_called_path_is_an_option_and_no_place(adapter, tmp_path):
    (tmp_path / "items.csv").write_text("a,b,c\ni0,x,y\n")
    one, two = (replace(adapter, items={"path": str(tmp_path / "items.csv"), "columns": {"item": "a", "path": name}}) for name in "bc")
    assert digest_of(one) != digest_of(two)


def test_an_adapter_of_ones_own_may_leave_out_event_columns_and_is_read_once(adapter, tmp_path, readings, monkeypatch):
    read = Table.read
    monkeypatch.setattr(Table, "read", lambda self: replace(table := read(self), events=table.events.select("user_id", "item_id", "time")))
    first, again, alone = prepare(adapter, tmp_path / "c"), prepare(adapter, tmp_path / "c"), prepare(adapter, None)
    assert len(readings) == 2
    for each in (first, again, alone):
        assert list(each.events.columns) == list(EVENTS)


def test_a_new_format_is_another_digest(adapter, monkeypatch):
    digest = digest_of(adapter)
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    assert digest_of(adapter) != digest


def test_an_entry_has_the_tables_and_nothing_unfinished_stays_beside_it(adapter, tmp_path):
    dataset = prepare(adapter, tmp_path / "c")
    (entry,) = (tmp_path / "c").iterdir()
    assert entry.name == f"my_shop-{dataset.digest}"
    assert sorted(file.name for file in entry.iterdir()) == [
        "events.parquet",
        "items.parquet",
        "meta.json",
        "rejected.parquet",
        "users.parquet",
    ]


def test_promotions_are_kept_with_the_rest_and_with_none_there_is_no_file(adapter, tmp_path, readings):
    (tmp_path / "plan.csv").write_text("item_id,start,end\ni1,2018-01-01,2018-01-08\n")
    columns = {name: name for name in ("start", "end")} | {"item": "item_id"}
    told = replace(adapter, promotions={"path": str(tmp_path / "plan.csv"), "columns": columns})
    first, again = prepare(told, tmp_path / "c"), prepare(told, tmp_path / "c")
    assert len(readings) == 1
    assert first.promotions.equals(again.promotions)
    assert len(again.promotions) == 1
    without = prepare(adapter, tmp_path / "c")
    assert without.promotions is None
    assert first.purchases_digest == again.purchases_digest == without.digest == without.purchases_digest != first.digest
    (entry,) = (tmp_path / "c").glob(f"*{first.digest}")
    (entry / "promotions.parquet").unlink()
    with pytest.raises(DataError, match=r"cannot be read: .*promotions\.parquet.*; delete the folder"):
        prepare(told, tmp_path / "c")
    (tmp_path / "plan.csv").write_text("item_id,start,end\ni1,2018-01-01,2018-01-09\n")
    assert digest_of(told) != first.digest


def test_an_interrupted_writing_leaves_nothing(adapter, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_meta", full)
        with pytest.raises(OSError, match="no space"):
            prepare(adapter, tmp_path / "c")
    assert list((tmp_path / "c").iterdir()) == []
    assert prepare(adapter, tmp_path / "c").n_users == 3


def test_of_two_that_prepare_the_same_data_at_once_the_first_stays(adapter, tmp_path, monkeypatch):
    store = module._store

    def late(dataset, notices, entry):
        store(dataset, notices, entry)  # the other process
        before = (entry / "events.parquet").stat().st_ino
        store(dataset, notices, entry)
        assert (entry / "events.parquet").stat().st_ino == before

    monkeypatch.setattr(module, "_store", late)
    prepare(adapter, tmp_path / "c")
    assert len(list((tmp_path / "c").iterdir())) == 1


def test_many_at_once_all_get_the_same(adapter, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        digests = {dataset.digest for dataset in pool.map(lambda _: prepare(adapter, tmp_path / "c"), range(4))}
    assert len(digests) == 1
    assert len(list((tmp_path / "c").iterdir())) == 1


def test_without_a_folder_nothing_is_kept(adapter, tmp_path):
    assert prepare(adapter, None).digest == digest_of(adapter)
    assert [path.name for path in tmp_path.iterdir()] == ["shop.csv"]


def test_a_damaged_entry_is_named(adapter, tmp_path):
    prepare(adapter, tmp_path / "c")
    (entry,) = (tmp_path / "c").iterdir()
    (entry / "events.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"cannot be read.*delete the folder"):
        prepare(adapter, tmp_path / "c")


def test_a_short_span_is_said_on_every_reading(adapter, tmp_path, readings):
    Path(adapter.path).write_text(lines(30))
    for _ in range(2):
        with pytest.warns(UserWarning, match="counters of last year's season are off"):
            prepare(adapter, tmp_path / "c")
    assert len(readings) == 1


def test_the_real_grocer_comes_back_as_it_was_read(tmp_path):
    first, again = prepare(CompleteJourney(), tmp_path), prepare(CompleteJourney(), tmp_path)
    assert first.events.equals(again.events)
    assert first.items.equals(again.items)
    assert pl.read_parquet(next(tmp_path.glob("*/rejected.parquet"))).height == 23_839
