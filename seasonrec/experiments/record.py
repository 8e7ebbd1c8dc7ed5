"""The run record: what ran, on which data, code and machine, what each stage cost, and the tables that came out.

A run is one folder. `run.json` is written again whenever something becomes known, so that a killed run leaves a record too.
No environment variable is ever stored, and a configuration value whose key names a secret is masked.
"""

import json
import logging
import math
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import polars as pl
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from seasonrec.data.dataset import Dataset
from seasonrec.errors import ConfigError, DataError
from seasonrec.experiments import memory, provenance
from seasonrec.experiments.settings import asked_of
from seasonrec.own_code import changed_code, recorded_code
from seasonrec.schema import TIME

log = logging.getLogger(__name__)
RECORD: Final = "run.json"
LOCK: Final = ".lock"  # held by the process that is at work on a run
PATIENCE: Final = 2.0  # seconds for which it is waited for: one that was killed may still be ending
# Methods that a run judges by itself: the joint model, what selection is relative to, and what ranks by texts alone, before and after
# training.
JOINT: Final = "joint"
REFERENCE: Final = "personal_frequency"
TEXT_PROFILE: Final = "text_profile"
TUNED: Final = "text_profile_tuned"
RUNNING, FINISHED, FAILED, PRUNED = "running", "finished", "failed", "pruned"
WITHIN, SO_FAR = "peak within the stage", "peak of the process so far"
# Columns of the tables in a run's folder. Examples have more: one per head and reranker, and a score is the sum of these parts.
TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "metrics": ("method", "split", "slice", "metric", "k", "value", "low", "high", "n_queries"),
    "rolling": ("method", "split", "slice", "metric", "k", "value", "low", "high", "n_queries"),
    "significance": ("other", "slice", "metric", "difference", "low", "high", "p", "p_holm", "detectable", "n_queries"),
    "losses": ("fit", "epoch", "step", "name", "value"),
    "ratings": ("epoch", "rmse", "mae"),
    "weeks": ("method", "split", "week", "date", "slice", "metric", "value", "n_queries"),
    "seasonality": ("item_id", "text", "week_of_year", "share"),
    "examples": ("user_id", "date", "season", "rank", "item_id", "text", "score"),
}
_WHOLE: Final = ("k", "n_queries", "epoch", "step", "week", "week_of_year", "rank")
_TEXT: Final = ("method", "split", "slice", "metric", "other", "fit", "name", "date", "item_id", "text", "user_id", "season")
_SECRET: Final = re.compile(
    r"^token$|(?:^|[_-])(?:api[_-]?key|password|secret|credentials?|(?:access|auth|api|hf)[_-]token)$", re.IGNORECASE
)
_PASSWORD: Final = re.compile(r"(://[^:/@\s]*:)(?!\d+/)\S+@")  # up to the last @, which hosts have none of; digits and / are a port
_MASK: Final = "***"


class RunRecord:
    """The record of one run, kept in `folder`/run.json.

    A folder that already has a record is a run that goes on: its start, stages and facts are kept and new stages follow. With what code,
    packages and machine it went on stands under "resumed", beside those that it began with.
    As a context manager it ends the record: "finished", or "failed" with the error. Until then the folder is this process's alone.

    Args:
        folder: of the run; made where missing.
        config: the composed configuration in plain containers; its `seed` is the run's.
        command: the words of the command line; by default this process's.

    Raises:
        ConfigError: the folder's record is of other settings, or another process is at work there.
        DataError: a value that JSON cannot hold, or an earlier record that cannot be read.
    """

    def __init__(self, folder: str | Path, config: Mapping[str, Any], *, command: Sequence[str] | None = None):
        self.folder, written = Path(folder), _masked(plain(config, "config"))
        self._lock = locked(self.folder, "give this one a folder of its own, hydra.run.dir=...")
        with ExitStack() as refused:
            refused.callback(self._lock.release)
            refuse_other_settings(config, self.folder)  # what stands there, e.g. a fit, would pass for what this config asks for
            earlier = read_record(self.folder) if (self.folder / RECORD).exists() else {}
            tell_changed_code(self.folder, earlier)
            refused.pop_all()
        self._peaks: list[float] = []  # of the open stages, outermost first
        self._error: BaseException | None = None
        now, asked = _now(), provenance.asked(self.folder)
        code = provenance.code_version() | recorded_code(config)
        here = {"code": code, "machine": provenance.machine(), "versions": provenance.package_versions()}
        self._content: dict[str, Any] = {
            "status": RUNNING,
            "error": None,
            "stage": None,
            "started": earlier.get("started", now),
            "resumed": [*earlier.get("resumed", []), *([{"at": now, **here}] if earlier else [])],
            "finished": None,
            "called_in": earlier.get("called_in", str(Path.cwd())),  # from where files of the config are seen that are named without a root
            "command": shlex.join(masked_word(word) for word in (sys.argv if command is None else command)),
            "overrides": earlier.get("overrides", [] if earlier else [masked_word(word) for word in asked["overrides"]]),
            "choices": earlier.get("choices", {} if earlier else asked["choices"]),
            "seed": plain(config.get("seed"), "config.seed"),
            "seasonrec": provenance.version("seasonrec"),
            **{name: earlier.get(name, value) for name, value in here.items()},
            "data": earlier.get("data"),
            "stages": earlier.get("stages", []),
            "facts": earlier.get("facts", {}),
            "config": written,
        }
        self.save()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Records the wall time and the peak memory of what runs inside. An error marks the record as failed and goes on.

        Stages may nest: an outer one's peak includes its inner ones'.
        """
        outer, within = self._content["stage"], self._begin_peak()
        self._content |= {"status": RUNNING, "stage": name}
        self.save()
        start, failed = time.perf_counter(), True
        try:
            yield
            failed = False
        except BaseException as error:
            self.fail(error)
            raise
        finally:
            self._end_stage(name, time.perf_counter() - start, within, failed)
            self._content["stage"] = outer
            self.save()

    def data(self, dataset: Dataset) -> None:
        """Records the data used: name, digests, kinds of promotions, sizes, span, split, shop and rows that each cleaning step dropped."""
        times = dataset.events[TIME]
        self._content["data"] = {
            "name": dataset.name,
            "digest": dataset.digest,
            "purchases_digest": dataset.purchases_digest,
            "promotion_kinds": None if dataset.plan is None else list(dataset.plan.kinds),
            "users": dataset.n_users,
            "items": dataset.n_items,
            "events": len(dataset.events),
            "first_event": _moment(times.min()),
            "last_event": _moment(times.max()),
            "split": {name: [weeks[0], weeks[-1]] for name, weeks in dataset.split.weeks.items()},
            "shop": asdict(dataset.shop),
            "cleaning": [{"step": step, "dropped": int(dropped)} for step, dropped in dataset.cleaning],
        }
        self.save()
        if dropped := [f"{n:,} {step}" for step, n in dataset.cleaning if n]:
            log.info(
                "data: %d events are kept; cleaning dropped %s: `seasonrec check-data` says more", len(dataset.events), ", ".join(dropped)
            )

    def facts(self, **facts: Any) -> None:
        """Records anything else, e.g. `parameters={"encoder": {"total": 10, "trainable": 2}}`; a later value replaces an earlier one.

        Raises:
            DataError: a value that JSON cannot hold.
        """
        self._content["facts"] |= plain(facts, "facts")
        self.save()

    def table(self, name: str, frame: pl.DataFrame) -> None:
        """Writes one of `TABLES` into the folder as CSV; the metrics as Parquet too.

        Raises:
            DataError: a name that is none of them, or a column missing.
        """
        if name not in TABLES:
            raise DataError(f"run record: no table is called {name!r}; there are {', '.join(TABLES)}")
        _check_columns(name, frame, f"table {name!r} of the run record")
        frame.write_csv(self.folder / f"{name}.csv")
        if name == "metrics":
            frame.write_parquet(self.folder / f"{name}.parquet")

    def finish(self, status: str = FINISHED) -> None:
        """Ends the record of a run that went well, or as far as its study wanted it to."""
        self._content |= {"status": status, "stage": None, "finished": _now()}
        self.save()

    def fail(self, error: BaseException) -> None:
        """Ends the record of a run that an error stopped. The same error passing through outer stages changes nothing."""
        if error is self._error:
            return
        self._error = error
        self._content |= {"status": FAILED, "finished": _now()}
        self._content["error"] = {
            "type": type(error).__name__,
            "message": str(error),
            "stage": self._content["stage"],
            "traceback": "".join(traceback.format_exception(error)),
        }
        self.save()

    def save(self) -> None:
        """Writes run.json in one step: whoever reads meets the old record or the new one, never half of one."""
        draft = self.folder / f".{RECORD}.{os.getpid()}"
        # A lone surrogate, e.g. of a file name that is no UTF-8, becomes its JSON escape.
        with draft.open("w", encoding="utf-8", errors="backslashreplace") as file:
            json.dump(self._content, file, indent=2, ensure_ascii=False, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.folder / RECORD)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self.fail(error)
        elif self._content["finished"] is None:
            self.finish()
        self._lock.release()

    def _begin_peak(self) -> bool:
        # Resetting forgets what the stages around this one have reached: keep it first.
        self._peaks = [max(known, memory.peak()) for known in self._peaks] + [0.0]
        return memory.reset_peak()

    def _end_stage(self, name: str, seconds: float, within: bool, failed: bool) -> None:
        self._peaks = [max(known, memory.peak()) for known in self._peaks]
        peak, gpu = self._peaks.pop(), memory.gpu_peak()
        row = {"name": name, "seconds": round(seconds, 3), "peak_memory_mb": round(peak, 1) or None, "memory": WITHIN if within else SO_FAR}
        if gpu is not None:
            row["gpu_peak_memory_mb"] = round(gpu, 1)
            here = self._content["resumed"][-1] if self._content["resumed"] else self._content
            here["machine"] = provenance.machine()  # when it began, the GPU was not in use yet
        if failed:
            row["failed"] = True
        self._content["stages"].append(row)


def read_record(folder: str | Path) -> dict[str, Any]:
    """What run.json of a run's folder holds.

    Raises:
        DataError: there is none, or it is no record.
    """
    path = Path(folder) / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path.parent}: no {RECORD} there; give the folder of a run, outputs/<experiment>/<time>") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); restore it, or remove it to begin a new record") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}, wanted the object that a run writes; restore it")
    return content


def is_finished(folder: str | Path) -> bool:
    """Whether a folder holds a whole run.

    Raises:
        DataError: its record cannot be read.
    """
    return (Path(folder) / RECORD).exists() and read_record(folder).get("status") == FINISHED


def what_is_missing(record: Mapping[str, Any], run: str | Path) -> str:
    """What to do about a run that left less than it was asked for."""
    config = record.get("config") or {}
    if record.get("status") != FINISHED:
        return f"finish it with `seasonrec train resume={run}`"
    if (config.get("eval") or {}).get("rolling"):
        return f"it rolls: take the run of one of its cut-offs, {run}/cut_offs/<date>"
    if config.get("stage") == "whole":
        return f"`seasonrec train resume={run}` makes again what is gone"
    return f"it was run with stage={config.get('stage')}: train with stage=whole"


def locked(folder: Path, otherwise: str, what: str = "is at work on the run there") -> FileLock:
    """A lock on the folder of a run, or of several, held until it is released or this process ends.

    Args:
        otherwise: what to do instead of waiting.
        what: another process does that has it.

    Raises:
        ConfigError: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=PATIENCE)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(f"{folder}: another process {what}; wait for it, or {otherwise}") from None
    except (NotImplementedError, OSError) as error:  # a file system that knows no locks
        log.warning("%s cannot be locked (%s): let no other process work there", folder, error)
    return lock


def refuse_other_settings(config: Mapping[str, Any], folder: str | Path) -> None:
    """Nothing, if a folder holds no run, or one whose numbers are those of this config.

    Args:
        config: in plain containers.

    Raises:
        ConfigError: it holds a run of other settings.
    """
    if not (Path(folder) / RECORD).exists():
        return
    wanted, found = asked_of(_masked(plain(config, "config"))), asked_of(read_record(folder)["config"])
    if other := sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)):
        raise ConfigError(
            f"{folder}: the run there has other settings ({', '.join(other[:4])}); name another folder, or move that one away"
        )


def tell_changed_code(folder: str | Path, record: Mapping[str, Any]) -> None:
    """A warning, if code of the user's own has changed since a folder's run began: what it has done is taken as it stands.

    Args:
        record: of the run; an empty one says nothing.
    """
    if changed := changed_code(record):
        log.warning("%s: since this run %s changed; move it away to run it again", folder, " and ".join(changed))


def refuse_other_data(folder: str | Path, digest: str, of: str = "digest") -> None:
    """Nothing, if a run recorded no data, or those of this digest.

    Args:
        of: "digest", or "purchases_digest", by which data with another plan of promotions are the same.

    Raises:
        DataError: it recorded others.
    """
    recorded = read_record(folder).get("data")
    if recorded and (wanted := recorded.get(of, recorded["digest"])) != digest:
        raise DataError(
            f"{folder}: the data have changed since this run was trained (digest {digest[:12]}, wanted {wanted[:12]});"
            " put the old file back, or train anew"
        )


def read_table(folder: str | Path, name: str) -> pl.DataFrame | None:
    """One of `TABLES` from a run's folder, ids and texts as strings; None where the run wrote none.

    Raises:
        DataError: a file that lacks a column or holds text where numbers belong.
    """
    path = Path(folder) / f"{name}.csv"
    if not path.exists():
        return None
    try:
        cells = pl.read_csv(path, infer_schema=False)
        _check_columns(name, cells, str(path))
        return cells.cast({column: _type_of(column) for column in cells.columns})
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: {str(error).splitlines()[0]}; wanted the columns {', '.join(TABLES[name])}") from error


def plain(value: Any, where: str) -> Any:
    """The value in what JSON has; NumPy and torch become Python's own. Numbers that JSON lacks become "nan", "inf", "-inf".

    Args:
        where: names the value in errors, e.g. "facts".

    Raises:
        DataError: something else than text, numbers, dates, paths, dataclasses and containers of these.
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Path | date):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(part, f"{where}.{key}") for key, part in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        parts = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [plain(part, f"{where}[{place}]") for place, part in enumerate(parts)]
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value), where)
    if hasattr(value, "tolist"):
        return plain(value.tolist(), where)
    raise DataError(f"run record: {where} is a {type(value).__name__}, wanted text, numbers, lists or mappings; convert it first")


def plain_config(cfg: DictConfig) -> dict[str, Any]:
    """A config in plain containers, interpolations resolved, as a run's record has it."""
    return plain(OmegaConf.to_container(cfg, resolve=True), "config")


def moved(value: Any, old: str, new: str) -> Any:
    """Plain values, where paths within one folder are within another: a run logs where it is now, not where it began.

    Args:
        old, new: absolute paths; of an old one that is not, nothing is known to lie within it.
    """
    if isinstance(value, dict):
        return {moved(key, old, new): moved(part, old, new) for key, part in value.items()}
    if isinstance(value, list):
        return [moved(part, old, new) for part in value]
    within = isinstance(value, str) and Path(old).is_absolute() and Path(value).is_relative_to(old)
    return str(Path(new) / Path(value).relative_to(old)) if within else value


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _MASK if part and _SECRET.search(key) else _masked(part) for key, part in value.items()}
    if isinstance(value, str):
        return without_password(value)
    return [_masked(part) for part in value] if isinstance(value, list) else value


def masked_word(word: str) -> str:
    """A word of a command line, its value masked where it is a secret or names one within {...}."""
    key, equals, value = word.partition("=")
    names = [key.lstrip("+~").rpartition(".")[2], *re.findall(r"([\w-]+)[\"']?\s*:(?!//)", value)]
    return f"{key}={_MASK}" if equals and any(map(_SECRET.search, names)) else without_password(word)


def hidden(config: Any, key: str = "") -> list[str]:
    """The keys of a recorded config whose values are secrets, which a record does not keep, with dots.

    Args:
        key: of the config itself.
    """
    if isinstance(config, Mapping):
        return [found for name, part in config.items() for found in hidden(part, f"{key}.{name}" if key else name)]
    if isinstance(config, list):
        return [found for place, part in enumerate(config) for found in hidden(part, f"{key}[{place}]")]
    return [key] if isinstance(config, str) and (config == _MASK or f":{_MASK}@" in config) else []


def without_password(text: str) -> str:
    """The text with the password of every URL in it masked, e.g. of a study's database."""
    return _PASSWORD.sub(rf"\1{_MASK}@", text)


def _check_columns(name: str, frame: pl.DataFrame, where: str) -> None:
    if missing := [column for column in TABLES[name] if column not in frame.columns]:
        raise DataError(f"{where}: lacks {missing}; found {frame.columns}, wanted {', '.join(TABLES[name])}")


def _type_of(column: str) -> pl.DataType:
    if column in _TEXT:
        return pl.String()
    return pl.Int64() if column in _WHOLE else pl.Float64()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _moment(seconds: Any) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
