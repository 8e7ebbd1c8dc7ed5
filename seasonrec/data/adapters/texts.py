"""What an item is called, as known at a cut-off."""

import polars as pl

from seasonrec.schema import DESCRIPTION, ITEM, TEXT, TIME


def of_table(items: pl.DataFrame) -> list[str]:
    """The text that the item table holds for each item; a table does not change with time."""
    return items[TEXT].fill_null("").to_list()


def before(events: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    """The described events strictly before the cut-off: item_id, time and description."""
    return events.select(ITEM, TIME, DESCRIPTION).filter(pl.col(TIME) < cutoff, pl.col(DESCRIPTION).str.len_bytes() > 0)


def first_of_later(events: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    """The first description of each item that had no event before the cut-off: item_id, time and description."""
    seen = events.filter(pl.col(TIME) < cutoff).select(ITEM).unique()
    later = events.select(ITEM, TIME, DESCRIPTION).join(seen, on=ITEM, how="anti", maintain_order="left")
    described = later.filter(pl.col(DESCRIPTION).str.len_bytes() > 0)
    return described.sort(TIME, maintain_order=True).unique(ITEM, keep="first", maintain_order=True)


def usual(events: pl.DataFrame, items: pl.DataFrame, cutoff: int) -> list[str]:
    """Each item's most frequent description before the cut-off, ties by the alphabet; a later item's first one.

    An item that was seen, but not described, before the cut-off has "".
    """
    counts = before(events, cutoff).group_by(ITEM, DESCRIPTION).len()
    most = counts.sort([ITEM, "len", DESCRIPTION], descending=[False, True, False]).unique(ITEM, keep="first", maintain_order=True)
    return in_order(pl.concat([most.select(ITEM, DESCRIPTION), first_of_later(events, cutoff).select(ITEM, DESCRIPTION)]), items)


def in_order(texts: pl.DataFrame, items: pl.DataFrame) -> list[str]:
    """The descriptions (item_id, description) in the order of `items`, "" where there is none."""
    return items.select(ITEM).join(texts, on=ITEM, how="left", maintain_order="left")[DESCRIPTION].fill_null("").to_list()


def distinct_words(text: pl.Expr) -> pl.Expr:
    """The words of a text in small letters, each once, in the order of their first appearance; a list a row."""
    return text.str.to_lowercase().str.extract_all(r"[\p{L}\p{N}]+(?:'\p{L}+)?").list.unique(maintain_order=True)
