"""What every adapter promises, whatever its source looks like."""

from dataclasses import fields, is_dataclass

import numpy as np
import polars as pl
import pytest

from seasonrec.data.adapters.adapter import Adapter
from seasonrec.data.prepare import prepare
from seasonrec.errors import DataError
from seasonrec.schema import DESCRIPTION, EVENTS, ITEM, TEXT, TIME, USER, WEEK


def retold(events: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    """The same events with other descriptions, and one more event of each item, at and after the cut-off."""
    lie = pl.when(pl.col(TIME) < cutoff).then(pl.col(DESCRIPTION)).otherwise(pl.lit("zebra umbrella"))
    again = events.unique(ITEM, maintain_order=True).with_columns(
        pl.lit(cutoff, pl.Int64).alias(TIME), pl.lit("yak yak yak").alias(DESCRIPTION)
    )
    return pl.concat([events.with_columns(lie.alias(DESCRIPTION)), *[again] * 50])


def test_an_adapter_is_a_frozen_dataclass_that_keeps_the_protocol(adapter):
    assert isinstance(adapter, Adapter)
    assert is_dataclass(adapter)
    assert type(adapter).__dataclass_params__.frozen
    assert next(field.name for field in fields(adapter)) == "path"


def test_tables_are_canonical_and_sorted_by_id_as_text(adapter):
    dataset = adapter.read()
    assert dict(dataset.events.schema) == dict(EVENTS)
    for table, key in ((dataset.items, ITEM), (dataset.users, USER)):
        assert table[key].to_list() == sorted(set(dataset.events[key]))
        assert table.schema[TEXT] == pl.String
    assert len(dataset.timeline) == len(dataset.events) > 0
    assert dataset.name == adapter.name


def test_every_item_has_one_text_and_users_too(adapter):
    dataset = adapter.read()
    texts = dataset.item_texts(int(dataset.events[TIME].max()))
    assert len(texts) == dataset.n_items
    assert all(isinstance(text, str) for text in texts)
    assert len(dataset.user_texts) == dataset.n_users


@pytest.mark.parametrize("weeks", [0.5, 30, 89, 104])
def test_no_text_of_an_item_seen_before_the_cut_off_depends_on_what_was_said_from_then_on(adapter, weeks):
    dataset = adapter.read()
    cutoff = int(dataset.events[TIME].min() + weeks * WEEK)
    known = np.isin(dataset.items[ITEM].to_numpy(), dataset.events.filter(pl.col(TIME) < cutoff)[ITEM].unique().to_numpy())
    assert known.any()
    texts = np.array(dataset.item_texts(cutoff))
    for future in (retold(dataset.events, cutoff), dataset.events.filter(pl.col(TIME) < cutoff)):
        np.testing.assert_array_equal(np.array(adapter.item_texts(future, dataset.items, cutoff))[known], texts[known])


def test_dropped_rows_are_counted_and_kept_aside_under_the_same_names(adapter):
    dataset = adapter.read()
    assert dataset.rejected is not None
    counts = dict(dataset.rejected["reason"].value_counts().iter_rows())
    assert counts == {name: n for name, n in dataset.cleaning if n}


def test_prepared_data_are_those_that_were_read(adapter, tmp_path):
    first, again = prepare(adapter, tmp_path / "cache"), prepare(adapter, tmp_path / "cache")
    for name in ("events", "items", "users", "rejected"):
        assert getattr(first, name).equals(getattr(again, name))
    for name in ("name", "split", "week_zero", "shop", "season_level", "season_min_triples", "cleaning", "digest"):
        assert getattr(first, name) == getattr(again, name)
    cutoff = first.start_of(30)
    assert first.item_texts(cutoff) == again.item_texts(cutoff)


def test_a_missing_file_is_named_with_what_to_give(adapter):
    for path in adapter.sources().values():
        path.rename(path.with_name("elsewhere"))
        with pytest.raises(DataError, match=r"does not exist; give data\."):
            adapter.read()
        path.with_name("elsewhere").rename(path)
