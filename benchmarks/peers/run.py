"""One peer on one data set, judged as everything else is: python benchmarks/peers/run.py lightgbm data=online_retail_ii data.path=FILE

The words after the peer's name are overrides of `seasonrec evaluate` (data, seed, n_threads, eval=rolling, paths.output, ...). The
run's folder outputs/peers/<peer>/<time> holds lists/<peer>.parquet, metrics.csv, weeks.csv and run.json, with the peer's own record under
facts; of one that predicts ratings, metrics.csv and run.json. With paths.run=DIR an interrupted eval=rolling goes on there.
"""

import json
import logging
import os
import subprocess
import sys
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import numpy as np
from environment import python_of
from handover import write_folds, write_handover
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from seasonrec.data.dataset import Dataset
from seasonrec.evaluation.cross_validation import error_grid, errors_table, folds
from seasonrec.evaluation.lists import read_lists
from seasonrec.evaluation.tables import markdown
from seasonrec.experiments import cli
from seasonrec.experiments.build import dataset_of, texts_of
from seasonrec.experiments.config import SCHEMAS, check_config
from seasonrec.experiments.judge import SPLITS
from seasonrec.experiments.record import RunRecord, plain_config
from seasonrec.experiments.rolling import roll
from seasonrec.experiments.train import begin, judge_of

HERE: Final = Path(__file__).parent


class Peer(NamedTuple):
    """Where a peer lives.

    Args:
        folder: with peer.py, requirements.txt and constraints.txt.
        on_top: its environment is this one and more.
        words: for peer.py, after the folders.
        rates: it predicts ratings, by protocol=cross_validation, and ranks nothing.
    """

    folder: str
    on_top: bool
    words: tuple[str, ...] = ()
    rates: bool = False


PEERS: Final = {
    "lightgbm": Peer("lightgbm", on_top=True),
    "sasrec": Peer("rectools", on_top=False, words=("sasrec",)),
    "hstu": Peer("rectools", on_top=False, words=("hstu",)),
    "surprise": Peer("surprise", on_top=False, rates=True),
}


def main() -> None:
    """Runs the peer that the command line names and prints its row of the leaderboard."""
    name, *overrides = sys.argv[1:] or [""]
    if name not in PEERS:
        sys.exit(f"usage: python benchmarks/peers/run.py {{{','.join(PEERS)}}} [key=value ...]")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cfg = config_of(name, overrides)
    if cfg.eval.rolling and PEERS[name].rates:
        sys.exit(f"eval=rolling: {name} predicts ratings and ranks nothing week by week; leave it out")
    begin(cfg)
    with cli.plain_errors("evaluate"):
        roll(cfg, partial(run, name), judge_of) if cfg.eval.rolling else print(run(name, cfg))


def config_of(name: str, overrides: list[str]) -> DictConfig:
    """The configuration of `seasonrec evaluate` with the folder of this run."""
    with initialize_config_dir(str(cli.conf_dir()), version_base="1.3"):
        cfg = compose("evaluate", overrides)
    folder = cfg.paths.run or Path(cfg.paths.output, "peers", name, datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    cfg.paths.run = str(Path(folder).resolve())
    check_config(cfg, SCHEMAS["evaluate"])
    with open_dict(cfg):
        cfg.baseline = {name: None}  # what stands there is not run; so the folder of another peer's run is refused
    return cfg


def run(name: str, cfg: DictConfig) -> str:
    """The peer's row as Markdown; everything else goes to the run's folder."""
    peer, folder = PEERS[name], Path(cfg.paths.run)
    with TemporaryDirectory() as temporary, RunRecord(folder, plain_config(cfg)) as record:
        exchange = Path(temporary)
        with record.stage("environment"):
            python = python_of(HERE / peer.folder, on_top=peer.on_top)
        with record.stage("handover"):
            dataset = dataset_of(cfg)
            record.data(dataset)
            exchange_of = RatingExchange if peer.rates else RankingExchange
            exchanged = exchange_of(name, cfg, dataset, exchange)
        with record.stage("peer"):
            command = [str(python), str(HERE / peer.folder / "peer.py"), str(exchange), *peer.words]
            subprocess.run(command, check=True, env=os.environ | threads(cfg.n_threads))
            record.facts(peer=json.loads((exchange / "peer.json").read_text()))
        with record.stage("evaluation"):
            return "\n".join([str(folder), *exchanged.judged(record)])


class RankingExchange:
    """Hands over queries without truth, and judges the lists that come back.

    Args:
        name: of the peer.
        exchange: the folder that both see.
    """

    def __init__(self, name: str, cfg: DictConfig, dataset: Dataset, exchange: Path):
        self._name, self._cfg, self._dataset, self._exchange = name, cfg, dataset, exchange
        self._vectors = {split: texts_of(cfg, dataset, dataset.split.weeks[split].start).item_vectors() for split in SPLITS}
        write_handover(exchange, dataset, self._vectors, plain_config(cfg))

    def judged(self, record: RunRecord) -> list[str]:
        """The peer's rows of the leaderboard as Markdown, validation weeks first; tables and lists go to the run's folder."""
        judge = judge_of(self._cfg, self._dataset, record.folder)
        lists = {split: read_lists(self._exchange / f"{split}.parquet", self._dataset) for split in SPLITS}
        judge.judge(self._name, lists, self._vectors["test"])
        record.table("metrics", judge.metrics)
        record.table("weeks", judge.weeks())
        return [markdown(judge.metrics, split) for split in SPLITS]


class RatingExchange:
    """Hands over the ratings with their folds, and judges the predictions that come back. Arguments as those of `RankingExchange`."""

    def __init__(self, name: str, cfg: DictConfig, dataset: Dataset, exchange: Path):
        self._name, self._exchange, self._timeline = name, exchange, dataset.timeline
        self._fold = folds(self._timeline, cfg.n_folds, cfg.seed)
        write_folds(exchange, self._timeline, self._fold, plain_config(cfg))

    def judged(self, record: RunRecord) -> list[str]:
        """RMSE and MAE of the mean over folds and of each fold as Markdown; the table goes to the run's folder."""
        metrics = errors_table(self._name, self._timeline, np.load(self._exchange / "predicted.npy"), self._fold)
        record.table("metrics", metrics)
        return [error_grid(metrics).markdown()]


def threads(n: int | None) -> dict[str, str]:
    """Environment variables by which every numeric library of a peer keeps to n threads; waiting threads leave the core to others."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    return {"OMP_WAIT_POLICY": "passive"} | ({} if n is None else dict.fromkeys(names, str(n)))


if __name__ == "__main__":
    main()
