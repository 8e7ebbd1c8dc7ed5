"""One peer on one data set, judged as everything else is: python benchmarks/peers/run.py lightgbm data=online_retail_ii data.path=FILE

The words after the peer's name are overrides of `seasonrec evaluate` (data, seed, n_threads, paths.output, ...). The run's folder
outputs/peers/<peer>/<time> holds lists/<peer>.parquet, metrics.csv, weeks.csv and run.json, with the peer's own record under facts.
"""

import json
import logging
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from environment import python_of
from handover import write_handover
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from seasonrec.evaluation.lists import read_lists
from seasonrec.evaluation.tables import markdown
from seasonrec.experiments import cli
from seasonrec.experiments.build import dataset_of, texts_of
from seasonrec.experiments.config import SCHEMAS, check_config
from seasonrec.experiments.judge import SPLITS
from seasonrec.experiments.record import RunRecord
from seasonrec.experiments.train import begin, judge_of, plain_config

HERE: Final = Path(__file__).parent


class Peer(NamedTuple):
    """Where a peer lives.

    Args:
        folder: with peer.py, requirements.txt and constraints.txt.
        on_top: its environment is this one and more.
        words: for peer.py, after the folders.
    """

    folder: str
    on_top: bool
    words: tuple[str, ...] = ()


PEERS: Final = {
    "lightgbm": Peer("lightgbm", on_top=True),
    "sasrec": Peer("rectools", on_top=False, words=("sasrec",)),
    "hstu": Peer("rectools", on_top=False, words=("hstu",)),
}


def main() -> None:
    """Runs the peer that the command line names and prints its row of the leaderboard."""
    name, *overrides = sys.argv[1:] or [""]
    if name not in PEERS:
        sys.exit(f"usage: python benchmarks/peers/run.py {{{','.join(PEERS)}}} [key=value ...]")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cfg = config_of(name, overrides)
    begin(cfg)
    with cli.plain_errors():
        print(run(name, cfg))


def config_of(name: str, overrides: list[str]) -> DictConfig:
    """The configuration of `seasonrec evaluate` with the folder of this run."""
    with initialize_config_dir(str(cli.conf_dir()), version_base="1.3"):
        cfg = compose("evaluate", overrides)
    cfg.paths.run = str(Path(cfg.paths.output, "peers", name, datetime.now().strftime("%Y-%m-%d_%H-%M-%S")).resolve())
    check_config(cfg, SCHEMAS["evaluate"])
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
            vectors = {split: texts_of(cfg, dataset, dataset.split.weeks[split].start).item_vectors() for split in SPLITS}
            write_handover(exchange, dataset, vectors, plain_config(cfg))
        with record.stage("peer"):
            command = [str(python), str(HERE / peer.folder / "peer.py"), str(exchange), *peer.words]
            subprocess.run(command, check=True, env=os.environ | threads(cfg.n_threads))
            record.facts(peer=json.loads((exchange / "peer.json").read_text()))
        with record.stage("evaluation"):
            judge = judge_of(cfg, dataset, folder)
            judge.judge(name, {split: read_lists(exchange / f"{split}.parquet", dataset) for split in SPLITS}, vectors["test"])
            record.table("metrics", judge.metrics)
            record.table("weeks", judge.weeks())
    return "\n".join([str(folder), markdown(judge.metrics, "validation"), markdown(judge.metrics)])


def threads(n: int | None) -> dict[str, str]:
    """Environment variables by which every numeric library of a peer keeps to n threads; waiting threads leave the core to others."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    return {"OMP_WAIT_POLICY": "passive"} | ({} if n is None else dict.fromkeys(names, str(n)))


if __name__ == "__main__":
    main()
