"""Times of any source as int64 seconds UTC."""

from typing import Final

import polars as pl

from seasonrec.data.cleaning import FORMAT_HINT
from seasonrec.errors import DataError
from seasonrec.seasons.phase import zone

UNITS: Final = {"s": 1, "ms": 1_000, "us": 1_000_000}
# ISO 8601 only: 01/02/2017 is two different days on two sides of an ocean, so its format must be given.
ISO: Final = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M%#z",
)


def seconds(
    times: pl.Series, where: str, *, time_format: str | None = None, timezone: str | None = None, option: str = "data.time_format"
) -> pl.Series:
    """Each time as int64 seconds since 1970 UTC; null where it cannot be read.

    Args:
        times: dates, datetimes (a zone of their own is honoured), numbers, or text.
        where: names file and column in errors.
        time_format: of text, or of numbers that spell a date, e.g. "%d/%m/%Y %H:%M" or "%Y%m%d"; or the unit of numbers: "s" (the
            default), "ms" or "us". None reads ISO 8601, or seconds where the text is all digits.
        timezone: IANA name of the clock that wrote times without a zone; None takes them as UTC. An hour that the clock
            showed twice is its first; one that it skipped is null.
        option: names what gives `time_format`, in errors.

    Raises:
        DataError: no time can be read, a column of another type, or an unknown zone.
    """
    if timezone is not None:
        zone(timezone)
    if times.dtype == pl.String:
        return _from_text(times, where, time_format, timezone, option)
    if times.dtype.is_numeric():
        if time_format is None or time_format in UNITS:
            return _from_numbers(times, time_format)
        return _from_text(times.cast(pl.Int64, strict=False).cast(pl.String), where, time_format, timezone, option)
    if times.dtype == pl.Date:
        times = times.cast(pl.Datetime("us"))
    if not isinstance(times.dtype, pl.Datetime):
        raise DataError(f"{where} holds {times.dtype}, wanted dates, datetimes, seconds or text")
    return _epoch(times, timezone)


def _epoch(times: pl.Series, timezone: str | None) -> pl.Series:
    if timezone is not None and times.dtype.time_zone is None:  # type: ignore[attr-defined]
        times = times.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    return times.dt.epoch("s")


def _from_numbers(numbers: pl.Series, time_format: str | None) -> pl.Series:
    # float64 holds whole numbers up to 9e15 exactly: microseconds until the year 2255.
    return (numbers.cast(pl.Float64, strict=False) / UNITS.get(time_format or "s", 1)).floor().cast(pl.Int64, strict=False)


def _from_text(times: pl.Series, where: str, time_format: str | None, timezone: str | None, option: str) -> pl.Series:
    text = times.str.strip_chars()
    if time_format in UNITS or (time_format is None and _counts_seconds(text)):
        read = _from_numbers(text.cast(pl.Float64, strict=False), time_format)
    elif time_format is not None:
        read = _parsed(text, time_format, timezone)
    else:
        read = _from_iso(text.str.replace("T", " ", literal=True), timezone)
    if not read.count():
        wanted = f"the format {time_format!r}" if time_format else "ISO 8601 such as 2017-12-24 or 2017-12-24T18:30:00Z"
        example = text.drop_nulls().head(1).to_list()
        raise DataError(f"{where}: no time can be read, e.g. {example}, wanted {wanted}; {FORMAT_HINT.format(option)}")
    return read


def _counts_seconds(text: pl.Series) -> bool:
    # Eight digits are a day such as 20171224, not a moment of 1970.
    return text.count() > 0 and bool(text.drop_nulls().str.contains(r"^-?\d{9,}$").all())


def _from_iso(text: pl.Series, timezone: str | None) -> pl.Series:
    """Each text by the first format that reads it; most files need one format only."""
    read = _parsed(text, ISO[0], timezone)
    for form in ISO[1:]:
        if read.null_count() == text.null_count():
            break
        read = read.zip_with(read.is_not_null(), _parsed(text, form, timezone))
    return read


def _parsed(text: pl.Series, form: str, timezone: str | None) -> pl.Series:
    if "%Z" in form:  # read, and taken for UTC
        raise DataError(
            f"time_format {form!r}: names of zones are not understood; leave %Z out of times and format, and give data.timezone_of_times"
        )
    try:
        return _epoch(text.str.to_datetime(form, strict=False, time_unit="us"), timezone)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"time_format {form!r} is not understood: {str(error).splitlines()[0]}; use strftime codes") from error
