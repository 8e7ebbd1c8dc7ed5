"""What a peer gets: prepared data, queries and text vectors as files that any environment can read.

config.json          the resolved configuration; `seed` and `n_threads` are the peer's too
meta.json            week_zero, the weeks of each split, the length of lists, the data's digest
events.parquet       user_id, item_id, time (int64 seconds UTC), week; all of them: a peer uses those before a query's week
items.parquet        item_id, and its text as known before the validation and the test weeks
queries.parquet      split, user_id, week, time (of the week's first second); without truth
vectors.safetensors  text vectors of the items, "validation" and "test" [n_items, d]

Into the same folder it writes validation.parquet and test.parquet (user_id, week, list, rank, item_id, score) and peer.json.

A peer that predicts ratings gets config.json and

ratings.npz          user and item (rows), rating and fold of each [n]; a fold is predicted from the others

and writes predicted.npy, the rating of each [n], and peer.json.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import save_file

from seasonrec.data.dataset import Dataset
from seasonrec.data.timeline import Timeline
from seasonrec.evaluation.cross_validation import ratings_of
from seasonrec.schema import ITEM, TIME, USER, WEEK


def write_handover(folder: Path, dataset: Dataset, vectors: Mapping[str, NDArray[np.float32]], config: Mapping[str, Any]) -> None:
    """Writes the files into a folder.

    Args:
        vectors: split -> text vectors of the items as known when its first week began [n_items, d].
        config: in plain containers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weeks, start_of = dataset.split.weeks, dataset.start_of
    meta = {
        "week_zero": dataset.week_zero,
        "weeks": {split: [of.start, of.stop - 1] for split, of in weeks.items()},
        "k": config["eval"]["k"],
        "digest": dataset.digest,
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1))
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    events = dataset.events.sort(TIME, maintain_order=True).select(USER, ITEM, TIME, week=(pl.col(TIME) - dataset.week_zero) // WEEK)
    events.write_parquet(folder / "events.parquet")
    texts = {split: pl.Series(dataset.item_texts(start_of(of.start))) for split, of in weeks.items()}
    dataset.items.select(ITEM).with_columns(**texts).write_parquet(folder / "items.parquet")
    pl.concat([_queries(dataset, split) for split in weeks]).write_parquet(folder / "queries.parquet")
    save_file({split: np.ascontiguousarray(of) for split, of in vectors.items()}, folder / "vectors.safetensors")


def write_folds(folder: Path, timeline: Timeline, fold: NDArray[np.int64], config: Mapping[str, Any]) -> None:
    """Writes the files for a peer that predicts ratings into a folder.

    Args:
        fold: of each rating [n].
        config: in plain containers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    np.savez(folder / "ratings.npz", user=timeline.user, item=timeline.item, rating=ratings_of(timeline), fold=fold)


def _queries(dataset: Dataset, split: str) -> pl.DataFrame:
    queries = dataset.timeline.queries(dataset.split.weeks[split])
    user = dataset.users[USER].gather(queries.user)
    return pl.DataFrame({"split": pl.repeat(split, len(user), eager=True), USER: user, "week": queries.week, TIME: queries.time})
