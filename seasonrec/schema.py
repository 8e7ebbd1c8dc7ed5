"""The canonical tables that every adapter produces and everything else reads.

events  one row per purchase line: who took what, when
items   one row per catalogue item: text and attributes
users   one row per user that has attributes: their text
promotions  one row per item, period and kind: what the shop promotes when; only where it tells

Times are int64 **seconds** since 1970-01-01 UTC, as they stand in the source.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import polars as pl
from polars import selectors

from seasonrec.errors import DataError

USER: Final = "user_id"
ITEM: Final = "item_id"
TIME: Final = "time"
QUANTITY: Final = "quantity"
PRICE: Final = "price"
RATING: Final = "rating"
PRODUCT: Final = "product_id"  # which product of the item this was, where an item is several: a category, a style
DESCRIPTION: Final = "description"  # the item's text as it stood on this event
REVIEW: Final = "review"  # what the user wrote about the item on this event
TEXT: Final = "text"
START: Final = "start"  # of a promotion
END: Final = "end"  # the first second after it
KIND: Final = "kind"  # e.g. flyer or display
SHARE: Final = "share"  # of the shop's places that have it, above 0, up to 1
PROMOTION: Final = (ITEM, START, END, KIND, SHARE)
REASON: Final = "reason"  # why a rejected row was dropped: the cleaning step's name

DAY: Final = 86_400
WEEK: Final = 7 * DAY
FOURTH_DAY: Final = 3 * DAY  # into a week: what season it is, is asked of that day

EVENTS: Final[Mapping[str, pl.DataType]] = {
    USER: pl.String(),
    ITEM: pl.String(),
    TIME: pl.Int64(),
    QUANTITY: pl.Float32(),
    PRICE: pl.Float32(),
    RATING: pl.Float32(),
    PRODUCT: pl.String(),
    DESCRIPTION: pl.String(),
    REVIEW: pl.String(),
}
REQUIRED_EVENTS: Final = (USER, ITEM, TIME)


def day_of(time: int) -> str:
    """The day of a time in UTC, e.g. "2017-12-24"."""
    return datetime.fromtimestamp(time, UTC).date().isoformat()


def as_events(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """The frame's event columns in canonical order and type; the optional ones it lacks are null, and so is what is not a number.

    Args:
        frame: has at least user_id, item_id and time (int64 seconds UTC); rows in source order.
        where: named in errors, e.g. the file the rows came from.

    Raises:
        DataError: a required column is missing or holds nulls.
    """
    missing = [name for name in REQUIRED_EVENTS if name not in frame.columns]
    if missing:
        raise DataError(f"{where}: events lack {missing}; found columns {frame.columns}; map them in data.columns")
    for name in REQUIRED_EVENTS:
        if nulls := frame[name].null_count():
            raise DataError(f"{where}: {nulls} events have no {name}; add a cleaning step that drops and counts them")
    columns = {name: pl.col(name) if name in frame.columns else pl.lit(None).alias(name) for name in EVENTS}
    events = frame.select(columns[name].cast(dtype) for name, dtype in EVENTS.items())
    return events.with_columns(selectors.float().fill_nan(None))  # a Parquet file may say either where nothing was given
