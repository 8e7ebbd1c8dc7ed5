"""Files as tables, with errors that say what is wrong with them."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import chain, repeat
from pathlib import Path

import polars as pl

from seasonrec.errors import DataError

TABLES = (".csv", ".csv.gz", ".parquet")


def existing(path: str | Path, want: str) -> Path:
    """The path of a file that is there.

    Args:
        want: what to give, named in the error, e.g. "data.path: the UCI file online_retail_II.csv or a Parquet of it".

    Raises:
        DataError: there is no file.
    """
    found = Path(path).expanduser()
    if not found.is_file():
        problem = "is a folder" if found.is_dir() else "does not exist"
        raise DataError(f"{found} {problem}; give {want}")
    return found


def read_table(path: Path, *, separator: str = ",", encoding: str = "utf8") -> pl.DataFrame:
    """The rows of a CSV (also gzipped; every column as text, so that ids keep their zeros) or Parquet file (categories as text).

    Raises:
        DataError: another kind of file, one that cannot be read as what it is called, or one without rows.
    """
    if not path.name.lower().endswith(TABLES):
        raise DataError(f"{path}: files of this kind are not read, wanted one of {', '.join(TABLES)}; export the table as CSV or Parquet")
    try:
        if path.suffix.lower() == ".parquet":
            frame = pl.read_parquet(path).with_columns(pl.col(pl.Categorical).cast(pl.String))
        else:
            frame = pl.read_csv(path, infer_schema=False, separator=separator, encoding=encoding)
    except pl.exceptions.NoDataError as error:
        raise DataError(f"{path} is empty; wanted a header line and rows") from error
    except (pl.exceptions.PolarsError, OSError, LookupError, ValueError) as error:
        hint = "check that it opens as what its name says, and what stands between its values, e.g. 'data.separator=\";\"'"
        if "utf-8" in str(error):
            hint = "give data.encoding, e.g. latin-1"
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}; {hint}") from error
    if not len(frame):
        raise DataError(f"{path} has columns {frame.columns} but no rows; give a file with at least one")
    return frame


def read_json_lines(path: Path, schema: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    """The named fields of a file of one JSON object a line (also gzipped); a field that an object lacks is null.

    Raises:
        DataError: a file that is not of this form, or that is empty.
    """
    try:
        frame = pl.read_ndjson(path, schema=dict(schema))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{path} cannot be read: {str(error).splitlines()[0]}; wanted one JSON object a line, as in the Amazon reviews of 2018"
        ) from error
    if not len(frame):
        raise DataError(f"{path} is empty; wanted one JSON object a line")
    return frame


def filled(frame: pl.DataFrame, columns: Iterable[str], where: str | Path, options: Iterable[str] = ()) -> pl.DataFrame:
    """The same frame, if it has each of the columns and none is empty.

    Args:
        where: names the file in errors.
        options: what names each of the columns, in their order, e.g. "data.columns.user"; none where the file's form is fixed.

    Raises:
        DataError: columns that are missing (with near matches) or one that holds nothing; it says which options name others.
    """
    named = list(zip(columns, chain(options, repeat(None)), strict=False))
    other = lambda options: f"; name another with {' '.join(f'{option}=...' for option in options)}" if any(options) else ""
    if missing := {str(column): option for column, option in named if column not in frame.columns}:
        near = {column: " or ".join(map(repr, get_close_matches(column, frame.columns, n=3))) for column in missing}
        names = [f"{column!r}{like and f' (did you mean {like}?)'}" for column, like in near.items()]
        raise DataError(f"{where} has no column {' nor '.join(names)}; it has {frame.columns}{other(missing.values())}")
    for column, option in named:
        values = frame[column]
        if values.null_count() == len(values) or (values.dtype == pl.String and not (values.str.len_bytes() > 0).any()):
            raise DataError(f"{where}: column {column!r} is empty in all {len(values)} rows; wanted values{other([option])}")
    return frame


def ids(values: pl.Series) -> pl.Series:
    """Outside identifiers as text: whole numbers lose the ".0" that a missing value elsewhere in the column gave them.

    Text, as of a CSV, loses it only where each value has it, so that different ids stay different.
    """
    if values.dtype.is_float():
        values = values.fill_nan(None)
        whole = values.cast(pl.Int64, strict=False)
        if (whole.cast(values.dtype) == values).all():
            values = whole
    text = values.cast(pl.String).str.strip_chars()
    if text.filter(text != "").str.contains(r"^\d+\.0$").all():
        text = text.str.strip_suffix(".0")
    return text
