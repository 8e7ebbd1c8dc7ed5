"""Prepared data on disk: cleaned once, read back as long as source bytes and options stay the same."""

import hashlib
import inspect
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Final

import polars as pl
from filelock import FileLock

from seasonrec.data.adapters.adapter import Adapter
from seasonrec.data.dataset import Dataset, Shop, Split
from seasonrec.errors import DataError
from seasonrec.own_code import digests
from seasonrec.schema import EVENTS, as_events

# Raise it whenever the same source would be cleaned, or written, differently; READING of an adapter's class, where it alone would.
FORMAT: Final = 2
TABLES: Final = ("events", "items", "users", "rejected")
PROMOTIONS: Final = "promotions"  # a fifth, where the shop tells; the option and the source of an adapter are called so too
META: Final = "meta.json"


def prepare(adapter: Adapter, cache_dir: str | Path | None) -> Dataset:
    """The adapter's data set with its digest, from the cache if it holds the same sources and options.

    A cache entry is a folder named by data set and digest, with the canonical tables as Parquet and `meta.json`. It
    appears whole or not at all: of two processes that want the same data, one prepares and the other waits for it.

    Args:
        cache_dir: made if it does not exist; None reads the sources and keeps nothing.

    Raises:
        DataError: sources that the adapter refuses, or a damaged entry.
    """
    digest, purchases = digests_of(adapter)
    if cache_dir is None:
        return replace(_read(adapter), digest=digest, purchases_digest=purchases)
    name = re.sub(r"[^\w.-]+", "_", adapter.name)
    entry = Path(cache_dir).expanduser() / f"{name}-{digest}{_of_own_code(adapter)}"
    entry.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(entry.parent.with_name(f"{entry.parent.name}.lock")):
        if entry.is_dir() and not _is_older(entry):
            return replace(_load(adapter, entry), digest=digest, purchases_digest=purchases)
        with warnings.catch_warnings(record=True) as notices:
            warnings.simplefilter("always")
            dataset = replace(_read(adapter), digest=digest, purchases_digest=purchases)
        messages = [str(notice.message) for notice in notices if issubclass(notice.category, UserWarning)]
        _store(dataset, messages, entry)
    _repeat(messages)
    return dataset


def _read(adapter: Adapter) -> Dataset:
    """What an adapter reads; one of a user's own may leave out event columns that it has nothing for."""
    dataset = adapter.read()
    return replace(dataset, events=as_events(dataset.events, adapter.name))


def _is_older(entry: Path) -> bool:
    """Whether an entry was made before there was one of the event columns, and is to be made anew."""
    try:
        return not EVENTS.keys() <= pl.read_parquet_schema(entry / "events.parquet").keys()
    except (OSError, pl.exceptions.PolarsError):
        return False  # a damaged one is for its user to look at


def _of_own_code(adapter: Adapter) -> str:
    """What an entry's name ends in where the adapter is a user's own: what it imports may read the sources differently too."""
    own = digests(each.__module__ for each in type(adapter).__mro__)
    return f"-{hashlib.sha256(json.dumps(own).encode()).hexdigest()[:8]}" if own else ""


def digest_of(adapter: Adapter) -> str:
    """32 hex digits that change with a byte of a source, an option, the format, or the class of a user's own adapter.

    They do not change with where the files lie.
    """
    return digests_of(adapter)[0]


def digests_of(adapter: Adapter) -> tuple[str, str]:
    """The digest of an adapter, and that of the same without promotions; they are one where the shop does not tell."""
    sources, options = adapter.sources(), _options(adapter)
    promotions = options.pop(PROMOTIONS, None)
    kind = f"{type(adapter).__module__}.{type(adapter).__qualname__}"
    code = [_source(each) for each in type(adapter).__mro__ if digests([each.__module__]) or each.__module__ == "__main__"]
    more = filter(None, (code, getattr(type(adapter), "READING", None)))
    told = hashlib.sha256(json.dumps([FORMAT, kind, options, *more], sort_keys=True).encode())
    for role, path in sorted(sources.items()):
        if role != PROMOTIONS:
            told.update(_content(role, path))
    without = told.hexdigest()[:32]
    if PROMOTIONS not in sources:
        return without, without
    told.update(json.dumps(promotions, sort_keys=True).encode() + _content(PROMOTIONS, sources[PROMOTIONS]))
    return told.hexdigest()[:32], without


def _source(of: type) -> str:
    """The code of a class; of one that was typed where nobody keeps it there is none."""
    try:
        return inspect.getsource(of)
    except (OSError, TypeError):
        return ""


def _content(role: str, path: Path) -> bytes:
    with path.open("rb") as file:
        return f"{role} {path.suffix} {hashlib.file_digest(file, 'sha256').hexdigest()}".encode()


def _plain(value: Any) -> Any:
    """Mappings and sequences of any kind, e.g. a config's, as dicts and lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _options(adapter: Adapter) -> dict[str, Any]:
    """The adapter's fields without the paths of its sources: the bytes behind them are in the digest."""
    options = {option.name: _plain(getattr(adapter, option.name)) for option in fields(adapter)}  # type: ignore[arg-type]
    for option in (options, *(value for value in options.values() if isinstance(value, dict))):
        option.pop("path", None)
    options.pop("metadata", None)
    return options


def _store(dataset: Dataset, notices: list[str], entry: Path) -> None:
    """Writes an entry beside its place and moves it there in one step, in the place of an older one."""
    unfinished = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
    try:
        for name in (*TABLES, *([] if dataset.promotions is None else [PROMOTIONS])):
            getattr(dataset, name).write_parquet(unfinished / f"{name}.parquet", compression="lz4")
        (unfinished / META).write_text(json.dumps(_meta(dataset) | {"notices": notices}, indent=1) + "\n", "utf8")
        if entry.is_dir() and _is_older(entry):
            os.rename(entry, unfinished.with_name(f"{unfinished.name}-older"))
        os.rename(unfinished, entry)
    except OSError:
        if not (entry / META).is_file():  # it was not another process that came first
            raise
    finally:
        for folder in (unfinished, unfinished.with_name(f"{unfinished.name}-older")):
            shutil.rmtree(folder, ignore_errors=True)


def _meta(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "split": asdict(dataset.split),
        "week_zero": dataset.week_zero,
        "shop": asdict(dataset.shop),
        "season_level": dataset.season_level,
        "season_min_triples": dataset.season_min_triples,
        "cleaning": dataset.cleaning,
        PROMOTIONS: dataset.promotions is not None,
    }


def _load(adapter: Adapter, entry: Path) -> Dataset:
    try:
        meta: dict[str, Any] = json.loads((entry / META).read_text("utf8"))
        names = [*TABLES, PROMOTIONS] if meta.pop(PROMOTIONS, False) else TABLES
        tables: dict[str, Any] = {name: pl.read_parquet(entry / f"{name}.parquet") for name in names}
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise DataError(f"prepared data in {entry} cannot be read: {error}; delete the folder, and they are made anew") from error
    _repeat(meta.pop("notices"))
    meta["split"] = Split(*(tuple(meta["split"][part]) for part in ("validation", "test")))
    meta["shop"] = Shop(**meta["shop"])
    meta["cleaning"] = tuple((step, n) for step, n in meta["cleaning"])
    return Dataset(**tables, **meta, text_rule=adapter.item_texts)


def _repeat(notices: Sequence[str]) -> None:
    """What was noticed on the first reading is said on every one."""
    for notice in notices:
        warnings.warn(notice, stacklevel=3)
