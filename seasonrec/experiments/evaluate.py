"""The baselines alone on a data set, or the lists of a finished run once more."""

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import polars as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict
from rich.console import Console
from rich.table import Table

from seasonrec.data.dataset import Dataset
from seasonrec.errors import ConfigError, DataError
from seasonrec.evaluation.cross_validation import SLICE, cross_validate, error_grid, errors_table, folds
from seasonrec.evaluation.leave_one_out import rank_leave_one_out
from seasonrec.evaluation.lists import read_lists
from seasonrec.experiments.build import baselines_of, dataset_of, refuse_raters, texts_of
from seasonrec.experiments.judge import SPLITS, Judge, progress_of
from seasonrec.experiments.judge_ratings import refuse_rankers
from seasonrec.experiments.processes import words_without
from seasonrec.experiments.recommender import moved, places, unchanged
from seasonrec.experiments.record import RunRecord, plain_config, read_record, what_is_missing
from seasonrec.experiments.rolling import cut_offs, roll, together
from seasonrec.experiments.train import begin, judge_baselines, judge_of

log = logging.getLogger(__name__)
# What evaluating the lists of a run once more may be told: where its data lie, and how intervals are drawn.
OF_LISTS: Final = ("run", "data", "experiment", "name", "seed", "n_threads", "paths")
INTERVALS: Final = "eval.n_resamples="
Tables = Callable[[DictConfig, Dataset], Iterator[pl.DataFrame]]


def evaluate(cfg: DictConfig) -> None:
    """Prints the leaderboard and writes metrics.csv; of the weekly protocol also weeks.csv and the lists.

    Raises:
        ConfigError: an unknown protocol, no baseline, or one that does something else than the protocol asks for.
    """
    if cfg.run and cfg.protocol != "weekly":
        raise ConfigError(f"run={cfg.run}: the lists of a run are of the weekly benchmark; leave out protocol={cfg.protocol}, or run")
    begin(cfg)
    if cfg.protocol not in PROTOCOLS:
        raise ConfigError(f"protocol is {cfg.protocol!r}, wanted one of {', '.join(PROTOCOLS)}")
    PROTOCOLS[cfg.protocol](cfg)


def _weekly(cfg: DictConfig) -> None:
    if cfg.eval.rolling and not cfg.run:
        roll(cfg, _weekly, judge_of)
        return
    folder = Path(cfg.paths.run)
    cfg = _of_run(cfg) if cfg.run else cfg
    with RunRecord(folder, plain_config(cfg)) as record:
        with record.stage("data"):
            dataset = unchanged(dataset_of(cfg), Path(cfg.run)) if cfg.run else dataset_of(cfg)
            if cfg.eval.rolling:
                dataset = together(dataset, cut_offs(dataset, **cfg.eval.rolling))
            record.data(dataset)
            judge = judge_of(cfg, dataset, folder)
        with record.stage("evaluation"):
            _judge_lists(cfg, judge, dataset) if cfg.run else _judge_baselines(cfg, judge, dataset)
            record.table("metrics", judge.metrics)
            record.table("weeks", judge.weeks())
        judge.show()
    log.info("metrics: %s", folder / "metrics.csv")


def _of_run(cfg: DictConfig) -> DictConfig:
    """The config with the data, weeks and encoder of the run whose lists are evaluated once more.

    Raises:
        ConfigError: the command line asks for other lists than lie there.
    """
    if others := [word for word in words_without(*OF_LISTS) if not word.lstrip("+").startswith(INTERVALS)]:
        raise ConfigError(f"run={cfg.run}: the lists of a run are evaluated as they are, with its own weeks; leave out {' '.join(others)}")
    of_run, own = moved(read_record(cfg.run), places(cfg.data)), cfg.copy()
    with open_dict(own):
        own.data, own.encoder = of_run.data, of_run.encoder
        own.eval.split, own.eval.rolling = of_run.eval.get("split"), of_run.eval.get("rolling")
    return own


def _without_weeks(tables: Tables, shown: Callable[[DictConfig, pl.DataFrame], Table], cfg: DictConfig) -> None:
    """Every baseline by a published protocol that knows no weeks.

    Args:
        tables: the metrics of each baseline.
        shown: all of them for the terminal.
    """
    folder = Path(cfg.paths.run)
    if not cfg.baseline:
        raise ConfigError(f"protocol={cfg.protocol} judges baselines, and there is none; give baseline={SUITED[cfg.protocol]}")
    with RunRecord(folder, plain_config(cfg)) as record:
        with record.stage("data"):
            dataset = dataset_of(cfg)
            record.data(dataset)
        with record.stage("evaluation"):
            metrics = pl.concat(tables(cfg, dataset))
            record.table("metrics", metrics)
        Console().print(shown(cfg, metrics))
    log.info("metrics: %s", folder / "metrics.csv")


def _leave_one_out_tables(cfg: DictConfig, dataset: Dataset) -> Iterator[pl.DataFrame]:
    """Each user's last item, and the one before it."""
    scorers = baselines_of(cfg, texts_of(cfg, dataset, 0))
    refuse_raters(scorers)
    for name, scorer in scorers.items():
        for split in SPLITS:
            with progress_of(f"{name} on {split}", dataset.n_users) as advance:
                options = {"batch_size": cfg.eval.batch_size, "progress": advance, "fit": split == SPLITS[0]}
                evaluation = rank_leave_one_out(scorer, dataset.timeline, split, rank_seen=cfg.rank_seen, **options)
            yield evaluation.table(name, split, n_resamples=cfg.eval.n_resamples, seed=cfg.seed)


def leave_one_out_table(cfg: DictConfig, metrics: pl.DataFrame) -> Table:
    """One row per method, one column per metric, for the terminal; says which protocol it is."""
    among = "full ranking" if cfg.rank_seen else "all items not taken before"
    wide = metrics.filter(split="test").pivot("metric", index="method", values="value", maintain_order=True)
    table = Table(*wide.columns, title=f"leave-one-out, {among}: the last item of each user")
    for method, *values in wide.iter_rows():
        table.add_row(method, *(f"{value:.4f}" for value in values))
    return table


def _cross_validation_tables(cfg: DictConfig, dataset: Dataset) -> Iterator[pl.DataFrame]:
    """Each rating from those of the other folds, which `seed` draws."""
    refuse_rankers(cfg.baseline, f"protocol={SLICE}")
    timeline = dataset.timeline
    fold = folds(timeline, cfg.n_folds, cfg.seed)
    for name, node in cfg.baseline.items():
        with progress_of(f"{name} on {cfg.n_folds} folds", len(timeline)) as advance:
            predicted = cross_validate(partial(instantiate, node), timeline, fold, batch_size=cfg.eval.batch_size, progress=advance)
        yield errors_table(name, timeline, predicted, fold)


def _judge_baselines(cfg: DictConfig, judge: Judge, dataset: Dataset) -> None:
    judge_baselines(cfg, judge, {split: texts_of(cfg, dataset, dataset.split.weeks[split].start) for split in SPLITS})


def _judge_lists(cfg: DictConfig, judge: Judge, dataset: Dataset) -> None:
    """Every method of a run, from its lists alone; the distance within them is that of the run's encoder as it was loaded."""
    run = Path(cfg.run)
    paths = sorted((run / "lists").glob("*.parquet"))
    if not paths:
        raise DataError(f"{run}: no lists of test weeks there; {what_is_missing(read_record(run), run)}")
    vectors = texts_of(cfg, dataset, dataset.split.weeks["test"].start).item_vectors()
    for path in paths:
        lists = {"test": read_lists(path, dataset), "validation": read_lists(path.parent / "validation" / path.name, dataset)}
        # Validation weeks of one cut-off are test weeks of the one before: no calibration can be learnt from them.
        judge.judge(path.stem, lists, vectors, calibrate=not cfg.eval.rolling)


PROTOCOLS: Final[Mapping[str, Callable[[DictConfig], None]]] = {
    "weekly": _weekly,
    "leave_one_out": partial(_without_weeks, _leave_one_out_tables, leave_one_out_table),
    "cross_validation": partial(_without_weeks, _cross_validation_tables, lambda _, metrics: error_grid(metrics).rich()),
}
SUITED: Final = {"leave_one_out": "sasrec or baseline=default", "cross_validation": "svd or baseline=ratings"}
