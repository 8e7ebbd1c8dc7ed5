"""Time and memory of larger shops: python benchmarks/scale.py [--copies 1 3 10 20]

The shop is The Complete Journey several times over: as many users, products and events again for each copy, who keep to their own;
copies of a product share its text, whose vectors are read from the cache once they have been made. Each size runs in a process of its
own, all stages once: the timeline with its views, what a joint model is made of, one epoch of training (10,000 queries, about 2,048
candidates a batch and what its users had bought), and the three lists of 10,000 queries, or of all there are, over the whole catalogue.

Targets at 20 copies (29 million events, 1.4 million products), on 2 CPU cores: timeline within 60 s, epoch and ranking together within
1,800 s, all of it within 16 GB.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from seasonrec.data.dataset import Dataset
from seasonrec.evaluation.ranking import rank
from seasonrec.experiments.build import dataset_of, joint_of, texts_of
from seasonrec.experiments.cli import conf_dir
from seasonrec.experiments.fit import Fit
from seasonrec.experiments.record import RunRecord, plain_config, read_record
from seasonrec.experiments.train import begin
from seasonrec.schema import ITEM, TIME, USER

N_QUERIES = 10_000
MIB = 2**20 / 1e9  # in GB


def config(words: list[str]) -> DictConfig:
    """Of one epoch on The Complete Journey, by the model alone: trees that have the last word rank as many queries once more."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", ["logger=none", "callbacks=none", "reranker=none", "trainer.max_epochs=1", "paths.run=.", *words])


def copies(dataset: Dataset, n: int) -> Dataset:
    """The shop n times over; copies of a product have its text."""
    week = dataset.split.weeks["test"].start
    text = dict(zip(dataset.items[ITEM].to_list(), dataset.item_texts(dataset.start_of(week)), strict=True))
    items, users = (_copies(frame, n, [column]).sort(column) for frame, column in ((dataset.items, ITEM), (dataset.users, USER)))
    texts = [text[item.rpartition("-")[0]] for item in items[ITEM].to_list()]
    events = _copies(dataset.events, n, [USER, ITEM]).sort(TIME, maintain_order=True)
    return replace(dataset, events=events, items=items, users=users, text_rule=lambda *_: texts, rejected=None, promotions=None)


def _copies(frame: pl.DataFrame, n: int, ids: list[str]) -> pl.DataFrame:
    return pl.concat([frame.with_columns(pl.col(ids) + f"-{copy:02d}") for copy in range(n)])


def run(n: int, words: list[str]) -> dict[str, float]:
    """What one size took: seconds and peak memory in GB of each stage."""
    cfg = config(words)
    begin(cfg)
    with tempfile.TemporaryDirectory() as folder, RunRecord(folder, plain_config(cfg)) as record:
        with record.stage("copies"):
            dataset = copies(dataset_of(cfg), n)
        with record.stage("timeline"):
            timeline = dataset.timeline
            assert len(timeline.by_pair.time) == len(timeline.by_time.time)
            _ = timeline.user_starts, timeline.first_seen, timeline.repeats
        week = dataset.split.weeks["test"].start
        with record.stage("model"):
            joint = joint_of(cfg, dataset, texts_of(cfg, dataset, week))
        with record.stage("epoch"):
            Fit("final", dataset, joint, week, Path(folder)).run(cfg)
        queries = timeline.queries(dataset.split.weeks["test"])
        drawn = np.sort(np.random.default_rng(0).permutation(len(queries))[:N_QUERIES])
        with record.stage("ranking"):
            rank(joint.scorer, timeline, queries.take(drawn))
        stages = read_record(folder)["stages"]
    found = {"events": len(dataset.events), "products": dataset.n_items, "users": dataset.n_users, "queries": len(drawn)}
    for stage in stages:
        found |= {f"{stage['name']}, s": stage["seconds"], f"{stage['name']}, GB": stage["peak_memory_mb"] * MIB}
    return found


def measure(sizes: list[int], words: list[str]) -> None:
    """Prints one table: a column for each size."""
    tables = []
    for n in sizes:
        done = subprocess.run([sys.executable, __file__, "--run", str(n), *words], check=True, stdout=subprocess.PIPE, text=True)
        tables.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{n} copies: {tables[-1]}", file=sys.stderr, flush=True)
    print("| | " + " | ".join(f"{n}x" for n in sizes) + " |\n|---|" + "---:|" * len(sizes))
    for name in tables[0]:
        form = ",.1f" if "," in name else ",.0f"
        print(f"| {name} | " + " | ".join(format(table[name], form) for table in tables) + " |")


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 3, 10, 20])
    parser.add_argument("--run", type=int, help="one size alone, in this process; prints JSON")
    parser.add_argument("words", nargs="*", help="overrides as of `seasonrec train`, e.g. n_threads=2")
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(run(arguments.run, arguments.words)))
    else:
        measure(arguments.copies, arguments.words)


if __name__ == "__main__":
    main()
