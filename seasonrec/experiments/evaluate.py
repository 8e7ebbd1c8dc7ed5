"""The baselines alone on a data set, or the lists of a finished run once more."""

import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from seasonrec.data.dataset import Dataset
from seasonrec.errors import DataError
from seasonrec.evaluation.lists import read_lists
from seasonrec.experiments.build import dataset_of, texts_of
from seasonrec.experiments.judge import SPLITS, Judge
from seasonrec.experiments.recommender import unchanged
from seasonrec.experiments.record import RunRecord, read_record
from seasonrec.experiments.train import begin, judge_baselines, judge_of, plain_config

log = logging.getLogger(__name__)


def evaluate(cfg: DictConfig) -> None:
    """Prints the leaderboard and writes metrics.csv, weeks.csv and the lists of the baselines."""
    begin(cfg)
    folder = Path(cfg.paths.run)
    with RunRecord(folder, plain_config(cfg)) as record:
        with record.stage("data"):
            of_run = OmegaConf.create(read_record(cfg.run)["config"]) if cfg.run else cfg
            dataset = unchanged(dataset_of(of_run), Path(cfg.run)) if cfg.run else dataset_of(cfg)
            record.data(dataset)
            judge = judge_of(cfg, dataset, folder)
        with record.stage("evaluation"):
            _judge_lists(of_run, judge, dataset, Path(cfg.run)) if cfg.run else _judge_baselines(cfg, judge, dataset)
            record.table("metrics", judge.metrics)
            record.table("weeks", judge.weeks())
        judge.show()
    log.info("metrics: %s", folder / "metrics.csv")


def _judge_baselines(cfg: DictConfig, judge: Judge, dataset: Dataset) -> None:
    judge_baselines(cfg, judge, {split: texts_of(cfg, dataset, dataset.split.weeks[split].start) for split in SPLITS})


def _judge_lists(cfg: DictConfig, judge: Judge, dataset: Dataset, run: Path) -> None:
    """Every method of a run, from its lists alone; the distance within them is that of the run's encoder as it was loaded."""
    paths = sorted((run / "lists").glob("*.parquet"))
    if not paths:
        raise DataError(f"{run}: no lists there; the run ended before its evaluation, go on with `seasonrec train resume={run}`")
    vectors = texts_of(cfg, dataset, dataset.split.weeks["test"].start).item_vectors()
    for path in paths:
        lists = {"test": read_lists(path, dataset), "validation": read_lists(path.parent / "validation" / path.name, dataset)}
        judge.judge(path.stem, lists, vectors)
