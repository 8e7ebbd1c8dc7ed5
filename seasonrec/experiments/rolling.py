"""`eval=rolling`: runs at several cut-offs, each as any other run, and what they are together: all seasons rather than the last one."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from seasonrec.data.dataset import Dataset, Split
from seasonrec.errors import ConfigError, DataError
from seasonrec.evaluation.evaluate import Evaluation
from seasonrec.evaluation.lists import read_lists
from seasonrec.evaluation.seeds import CELL
from seasonrec.evaluation.significance import compare_pairs
from seasonrec.evaluation.tables import grid, selection_score
from seasonrec.experiments.build import dataset_of
from seasonrec.experiments.judge import SPLITS, Judge
from seasonrec.experiments.ranks import follows
from seasonrec.experiments.recommender import unchanged
from seasonrec.experiments.record import (
    JOINT,
    REFERENCE,
    RunRecord,
    is_finished,
    moved,
    plain_config,
    read_record,
    refuse_other_settings,
    tell_changed_code,
)
from seasonrec.experiments.report import write_report
from seasonrec.schema import DAY, WEEK

log = logging.getLogger(__name__)
CUT_OFFS: Final = "cut_offs"  # the folder of their runs
TABLE, TESTS, MARKDOWN = "rolling", "rolling_significance.csv", "rolling.md"
MEAN: Final = "mean of cut-offs"


def roll(cfg: DictConfig, once: Callable[[DictConfig], Any], judge_of: Callable[[DictConfig, Dataset, Path], Judge]) -> float:
    """Runs at every cut-off, then judges all their lists together; the selection metric of the joint model, NaN if there is none.

    The folder of the whole is that of a run: its lists are those of all cut-offs, and so are its metrics, tests and report. Beside them
    stand rolling.csv and rolling.md, by cut-off and quarter. Runs that had finished are not run again.

    Of processes that torchrun or srun started, rank 0's does all this; the others lend their devices to each cut-off's run, and return NaN.

    Args:
        once: runs a config whose `eval.split` is a cut-off's.
        judge_of: makes the judge of all lists.

    Raises:
        ConfigError: the run ends before its test weeks, the cut-offs do not go together, or that of one was run with other settings.
        DataError: the data are too short for any cut-off, or have changed since the run began.
    """
    if cfg.get("stage", "whole") != "whole":
        raise ConfigError(f"eval.rolling tests, but stage={cfg.stage} ends before that; leave one of them out")
    if "trainer" in cfg and follows(cfg.trainer):
        return accompany(cfg, once)
    folder = Path(cfg.paths.run)
    with RunRecord(folder, plain_config(cfg)) as record:
        with record.stage("data"):
            dataset = unchanged(dataset_of(cfg), folder)
            splits = cut_offs(dataset, **cfg.eval.rolling)
            dataset = together(dataset, splits)
            record.data(dataset)
        runs = [config_at(cfg, dataset, split) for split in splits]
        for own in runs:
            with record.stage(f"cut-off {Path(own.paths.run).name}"):
                run_once(own, once)
        with record.stage("evaluation"):
            judge = judge_of(cfg, dataset, folder)
            judge_together(judge, dataset, [Path(own.paths.run) for own in runs])
            score = write(judge, dataset, splits, record, cfg.eval.n_paired)
        with record.stage("report"):
            report = write_report(folder)
        judge.show()
    log.info("report: %s; by cut-off and quarter: %s", report, folder / MARKDOWN)
    return score


def cut_offs(dataset: Dataset, *, n_weeks: int, every: int, n_validation: int, min_weeks: int) -> list[Split]:
    """The splits whose test weeks are, one after another, the last `n_weeks` up to the data set's last test week.

    Args:
        every: test weeks of each split; the last one has what is left.
        n_validation: weeks before them.
        min_weeks: of data before the validation weeks; a split with fewer is left out, with a warning.

    Raises:
        ConfigError: nothing to test, or validation weeks that two splits share.
        DataError: every split would have too few weeks to learn from.
    """
    if not 1 <= n_validation <= every or n_weeks < 1:
        raise ConfigError(
            f"eval.rolling: wanted n_weeks of at least 1 and 1 <= n_validation <= every, got {n_weeks=}, {n_validation=}, {every=}"
        )
    end = dataset.split.test[1] + 1
    starts = range(end - n_weeks, end, every)
    begin = int((dataset.timeline.time[0] - dataset.week_zero) // WEEK)
    splits = [Split((start - n_validation, start - 1), (start, min(start + every, end) - 1)) for start in starts]
    usable = [split for split in splits if split.validation[0] - begin >= min_weeks]
    if not usable:
        raise DataError(
            f"eval.rolling: the last cut-off, week {starts[-1]}, leaves {splits[-1].validation[0] - begin} weeks to learn from, wanted"
            f" {min_weeks}; lower eval.rolling.min_weeks, every or n_validation"
        )
    if left_out := len(splits) - len(usable):
        log.warning("left out: %d of %d cut-offs have fewer than %d weeks of data to learn from", left_out, len(splits), min_weeks)
    return usable


def together(dataset: Dataset, splits: Sequence[Split]) -> Dataset:
    """The data set whose test weeks are those of all cut-offs."""
    return replace(dataset, split=Split(splits[0].validation, (splits[0].test[0], splits[-1].test[1])))


def accompany(cfg: DictConfig, once: Callable[[DictConfig], Any]) -> float:
    """Lends this process's device to the run of every cut-off; NaN. Those that had finished ask nothing of it, so none is left out."""
    dataset = dataset_of(cfg)
    for split in cut_offs(dataset, **cfg.eval.rolling):
        once(config_at(cfg, dataset, split))
    return math.nan


def config_at(cfg: DictConfig, dataset: Dataset, split: Split) -> DictConfig:
    """The config of one cut-off's run, in a folder named by its first test week."""
    folder = str(Path(cfg.paths.run) / CUT_OFFS / dataset.date_of(split.test[0]))
    # What lies in the whole's folder, such as logs, lies in that of each run.
    own = OmegaConf.create(moved(OmegaConf.to_container(cfg, resolve=True), cfg.paths.run, folder))
    own.eval.rolling, own.eval.split = None, {part: list(weeks) for part, weeks in asdict(split).items()}
    own.paths.run = folder
    if own.get("resume"):  # the whole goes on: so does each of its runs, by its folder
        own.resume = None
    return own


def run_once(own: DictConfig, once: Callable[[DictConfig], Any]) -> None:
    """The run of one cut-off, unless it has finished already.

    Raises:
        ConfigError: its folder holds a run of other settings.
    """
    folder = Path(own.paths.run)
    refuse_other_settings(plain_config(own), folder)
    if is_finished(folder):
        tell_changed_code(folder, read_record(folder))
    else:
        log.info("cut-off %s: test weeks %d to %d", folder.name, *own.eval.split.test)
        once(own)


def judge_together(judge: Judge, dataset: Dataset, runs: Sequence[Path]) -> None:
    """Judges every method's lists of all cut-offs as if they were of one run; no two of them rank for the same week.

    Without calibration: validation weeks of one cut-off are test weeks of the one before.
    """
    for path in sorted((runs[0] / "lists").glob("*.parquet")):
        lists = {}
        for split in SPLITS:
            (file := judge.file(path.stem, split)).parent.mkdir(parents=True, exist_ok=True)
            pl.concat([pl.scan_parquet(run / file.relative_to(judge.folder)) for run in runs]).sink_parquet(file)
            lists[split] = read_lists(file, dataset)
        judge.judge(path.stem, lists, calibrate=False, written=True)


def write(judge: Judge, dataset: Dataset, splits: Sequence[Split], record: RunRecord, n_resamples: int) -> float:
    """Writes the tables of all cut-offs together and apart; the selection metric, NaN if there is no joint model."""
    record.table("metrics", judge.metrics)
    record.table("weeks", judge.weeks().filter(split="test"))  # nearly all validation weeks are test weeks of another cut-off too
    table = by_part(judge, dataset, splits)
    record.table(TABLE, table)
    (judge.folder / MARKDOWN).write_text(markdown_of(table))
    if JOINT not in judge.tested:
        return math.nan
    if (tests := judge.significance(JOINT)) is not None:
        record.table("significance", tests)
        pairs = {name: (judge.tested[JOINT], each) for name, each in judge.tested.items() if name != JOINT}
        by_quarter(pairs, dataset, n_resamples).write_csv(judge.folder / TESTS)
    score = selection_score(judge.of(JOINT, "validation"), judge.of(REFERENCE, "validation"))
    record.facts(selection=score)
    return score


def by_part(judge: Judge, dataset: Dataset, splits: Sequence[Split]) -> pl.DataFrame:
    """Every method's metrics as `Evaluation.table` has them, column split naming the weeks: each cut-off's, each quarter's, the mean.

    The mean counts every cut-off once, however many queries it has; it has no interval.
    """
    weeks = {f"cut-off {dataset.date_of(split.test[0])}": np.arange(split.test[0], split.test[1] + 1) for split in splits}
    by_cut_off = pl.concat(list(_tables(judge, weeks)))
    mean = by_cut_off.group_by("method", *CELL[1:], maintain_order=True).agg(pl.col("value").mean(), pl.col("n_queries").sum())
    mean = mean.with_columns(split=pl.lit(MEAN), low=pl.lit(None, pl.Float64), high=pl.lit(None, pl.Float64))
    of_quarters = _tables(judge, quarters(next(iter(judge.tested.values())).week, dataset))
    return pl.concat([by_cut_off, *of_quarters, mean.select(by_cut_off.columns)])


def markdown_of(table: pl.DataFrame) -> str:
    """A leaderboard for each cut-off and quarter, and for their mean, of a table of `by_part`."""
    return "\n".join(f"## {part}\n\n{grid(table, part).markdown()}" for part in table["split"].unique(maintain_order=True))


def by_quarter(methods: Mapping[str, tuple[Evaluation, Evaluation]], dataset: Dataset, n_resamples: int) -> pl.DataFrame:
    """A method against each other one quarter by quarter, by `compare_pairs`; p is corrected within a quarter."""
    (first, _), *_ = methods.values()
    tables = []
    for quarter, weeks in quarters(first.week, dataset).items():
        rows = np.flatnonzero(np.isin(first.week, weeks))
        of_quarter = {name: (method.take(rows), other.take(rows)) for name, (method, other) in methods.items()}
        tests = compare_pairs(of_quarter, n_resamples=n_resamples)
        tables.append(tests.select(pl.lit(quarter).alias("quarter"), pl.all()))
    return pl.concat(tables)


def quarters(weeks: NDArray[np.integer], dataset: Dataset) -> dict[str, NDArray[np.int64]]:
    """Which of some weeks are in which quarter by their fourth day, e.g. "2011 Q4"."""
    week = np.unique(weeks).astype(np.int64)
    month = (dataset.week_zero + week * WEEK + 3 * DAY).astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)
    name = np.array([f"{1970 + each // 12} Q{each % 12 // 3 + 1}" for each in month])
    return {str(quarter): week[name == quarter] for quarter in np.unique(name)}


def _tables(judge: Judge, parts: Mapping[str, NDArray[np.int64]]) -> Iterator[pl.DataFrame]:
    for part, weeks in parts.items():
        for method, evaluation in judge.tested.items():
            rows = np.flatnonzero(np.isin(evaluation.week, weeks))
            yield evaluation.take(rows).table(method, part, n_resamples=judge.n_resamples)
