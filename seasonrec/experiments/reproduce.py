"""A published table once more: what was published, what is found, and whether the two agree."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import polars as pl
from hydra import compose
from omegaconf import DictConfig
from rich.console import Console

from seasonrec.errors import DataError, SeasonrecError
from seasonrec.evaluation.tables import ABSENT, Cell, Grid
from seasonrec.experiments.aggregate import MARKDOWN, FinishedRun, Row, finished_runs, folders_of
from seasonrec.experiments.processes import failure_of, jobs_of, run_all
from seasonrec.experiments.provenance import code_version
from seasonrec.experiments.record import plain_config
from seasonrec.experiments.settings import asked_of
from seasonrec.experiments.sweep.worker import word
from seasonrec.own_code import changed_code

log = logging.getLogger(__name__)
TABLE: Final = "reproduced.csv"
N_NAMED: Final = 6  # settings in a note
REPRODUCED, OUTSIDE, MISSING = "reproduced", "outside", "not run"


def reproduce(cfg: DictConfig) -> pl.DataFrame:
    """Runs what is not there yet, prints published beside found and writes both into a folder; returns them, a row for each value.

    Raises:
        SeasonrecError: a value outside its tolerance or not found, or methods in another order.
        DataError: runs of different data or experiments.
        TrainingError: a run that failed.
    """
    wanted, folder = cfg.reproduce, Path(cfg.folder)
    runs = finished_runs(folders_of(cfg.runs) if cfg.runs else runs_of(cfg))
    metrics = metrics_of(runs)
    table = table_of(wanted, metrics)
    orders = list(orders_of(wanted, metrics))
    grid = grid_of(wanted, table)
    folder.mkdir(parents=True, exist_ok=True)
    table.write_csv(folder / TABLE)
    found = [f"{said}: {'reproduced' if holds else 'not so'}" for said, holds in orders]
    again = "" if cfg.runs else ": move it away to run it again"
    notes = [f"Published: {wanted.source}.", *found, *of_given(cfg, runs), *of_other_code(runs, again)]
    (folder / MARKDOWN).write_text(grid.section(notes))
    console = Console()
    console.print(grid.rich())
    for note in notes:
        console.print(note, markup=False)
    failed = table.filter(pl.col("verdict") != REPRODUCED)
    if len(failed) or not all(holds for _, holds in orders):
        n_orders = sum(not holds for _, holds in orders)
        raise SeasonrecError(
            f"reproduce: {len(failed)} of {len(table)} values and {n_orders} of {len(orders)} orders do not agree: {folder}"
        )
    log.info("%d values agree: %s", len(table), folder)
    return table


def runs_of(cfg: DictConfig) -> list[Path]:
    """The folders of the runs behind the result, each finished.

    Raises:
        TrainingError: one failed.
    """
    wanted, folder = cfg.reproduce, Path(cfg.folder).resolve()
    words = [*wanted.words, word("paths.cache", cfg.paths.cache), *cfg.words]
    jobs = jobs_of(wanted.name, folder, words, wanted.seeds, wanted.verb)
    if failed := run_all(jobs):
        raise failure_of(failed)
    return [job.folder for job in jobs]


def of_given(cfg: DictConfig, runs: Sequence[FinishedRun]) -> list[str]:
    """Notes on given runs that are not of the data, settings and seeds of the published ones; where the data lie is nobody's setting."""
    if not cfg.runs:
        return []
    of = lambda config: asked_of(config | {"seed": None, "data": {key: config["data"].get(key) for key in ("_target_", "level", "split")}})
    published = of(plain_config(compose(cfg.reproduce.verb, [*cfg.reproduce.words, *cfg.words])))
    given, own = (", ".join(map(str, seeds)) for seeds in (sorted(run.seed for run in runs), sorted(cfg.reproduce.seeds)))
    notes = [f"The runs given are of seed {given}; this result is found with seed {own}."] if given != own else []
    for run in runs:
        found = of(run.record["config"])
        if other := sorted(key for key in found.keys() | published.keys() if found.get(key) != published.get(key)):
            notes.append(f"{run.folder} has other settings than what was published: {', '.join(other[:N_NAMED])}.")
    return notes


def of_other_code(runs: Sequence[FinishedRun], ending: str) -> list[str]:
    """A note on each run that other code than this made: a finished run stands until it is moved away.

    Args:
        ending: of the note.
    """
    notes, now = [], code_version()
    for run in runs:
        code, own = run.record.get("code") or {}, changed_code(run.record)
        if own or any(code.get(key) != value for key, value in now.items()):
            which = ", ".join([f"commit {code.get('commit')}", *(["changed since"] if code.get("dirty") else []), *own])
            notes.append(f"{run.folder} was made by other code ({which}){ending}.")
    return notes


def metrics_of(runs: Sequence[FinishedRun]) -> pl.DataFrame:
    """What runs that differ by their seed only found on test weeks or, under leave-one-out, test items: means over them, by method.

    Raises:
        DataError: they differ by more.
    """
    asked = [asked_of({**run.record["config"], "data": None, "seed": None}) for run in runs]  # of the data, digests were compared
    if other := sorted({key for each in asked for key in each.keys() | asked[0].keys() if each.get(key) != asked[0].get(key)}):
        raise DataError(
            f"reproduce: the {len(runs)} runs are of several experiments ({', '.join(other[:4])}); give runs that differ by their seed only"
        )
    methods = runs[0].metrics["method"].unique(maintain_order=True)
    return pl.concat([Row(method, method, "", runs).summary for method in methods]).filter(split="test")


def table_of(wanted: DictConfig, metrics: pl.DataFrame) -> pl.DataFrame:
    """method, slice, metric, published, found, difference, tolerance, verdict: a row for each published value."""
    values = {(row["method"], row["slice"], row["metric"]): row["value"] for row in metrics.iter_rows(named=True)}
    rows = []
    for key, published in _published(wanted.published):
        found, tolerance = values.get(key), max(wanted.absolute, wanted.relative * abs(published))
        difference = None if found is None else found - published
        verdict = MISSING if difference is None else REPRODUCED if abs(difference) <= tolerance else OUTSIDE
        rows.append((*key, published, found, difference, tolerance, verdict))
    text, numbers = dict.fromkeys(("method", "slice", "metric"), pl.String()), ("published", "found", "difference", "tolerance")
    return pl.DataFrame(rows, schema={**text, **dict.fromkeys(numbers, pl.Float64()), "verdict": pl.String()}, orient="row")


def _published(by_method: Mapping) -> Iterator[tuple[tuple[str, str, str], float]]:
    for method, by_slice in by_method.items():
        for name, by_metric in by_slice.items():
            for metric, value in by_metric.items():
                yield (method, name, metric), float(value)


def orders_of(wanted: DictConfig, metrics: pl.DataFrame) -> Iterator[tuple[str, bool]]:
    """Each order of methods in words, and whether it is found."""
    for order in wanted.orders:
        found = dict(metrics.filter(slice=order.slice, metric=order.metric).select("method", "value").iter_rows())
        values = [found.get(method, math.nan) for method in order.methods]
        holds = all(better > worse for better, worse in pairwise(values))
        yield f"{order.slice} {order.metric}: {' > '.join(order.methods)}", holds


def grid_of(wanted: DictConfig, table: pl.DataFrame) -> Grid:
    """The table as text; what does not agree stands out."""
    number = lambda value, form: ABSENT if value is None else format(value, form)
    rows = [
        [
            Cell(row["method"]),
            Cell(f"{row['slice']} {row['metric']}"),
            *(Cell(number(row[name], form)) for name, form in (("published", ".4f"), ("found", ".4f"), ("difference", "+z.4f"))),
            Cell(number(row["tolerance"], ".4f")),
            Cell(row["verdict"], row["verdict"] != REPRODUCED),
        ]
        for row in table.iter_rows(named=True)
    ]
    return Grid(wanted.name, ["method", "column", "published", "found", "difference", "tolerance", "verdict"], rows)
