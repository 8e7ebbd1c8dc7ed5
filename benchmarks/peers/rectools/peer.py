"""RecTools transformers: python peer.py EXCHANGE sasrec|hstu, called by run.py.

Budget: one setting a model, the library's defaults but for width and length, trained for `EPOCHS`. A user's sequence is all that was bought
before the week asked about; parameters stay those of the cut-off.
"""

import json
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import polars as pl
import torch
from pytorch_lightning import seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import HSTUModel, SASRecModel

EPOCHS: Final = 10
SETTINGS: Final[Mapping[str, dict[str, Any]]] = {
    "sasrec": {"n_factors": 128, "n_blocks": 2, "n_heads": 4, "session_max_len": 50},
    "hstu": {"n_factors": 128, "n_blocks": 2, "n_heads": 4, "session_max_len": 100, "relative_time_attention": True},
}
FIXED: Final = {"loss": "softmax", "lr": 1e-3, "batch_size": 128, "dropout_rate": 0.2}
MODELS: Final = {"sasrec": SASRecModel, "hstu": HSTUModel}
RECENT_WEEKS: Final = 4  # whose popularity stands in for users whose purchases the model does not know


class Run:
    """The run of a data set.

    Args:
        exchange: the folder that the data are in, and that the lists and peer.json go to.
        model: of `MODELS`.
    """

    def __init__(self, exchange: Path, model: str):
        self.exchange, self.model = exchange, model
        self.meta, config = (json.loads((exchange / f"{name}.json").read_text()) for name in ("meta", "config"))
        self.seed, self.k = config["seed"], self.meta["k"]
        # A purchase is a distinct (user, item, week), as everywhere in the benchmark; the first event stands for it.
        self.events = pl.read_parquet(exchange / "events.parquet").unique(["user_id", "item_id", "week"], keep="first", maintain_order=True)
        self.items = pl.read_parquet(exchange / "items.parquet")["item_id"]  # sorted
        self.queries = pl.read_parquet(exchange / "queries.parquet")
        torch.set_num_threads(config["n_threads"] or torch.get_num_threads())

    def go(self) -> None:
        """Fits, ranks and writes both splits."""
        seconds: dict[str, float] = {}
        for split in ("validation", "test"):
            start = time.perf_counter()
            model = self.fit(self.meta["weeks"][split][0])
            seconds[f"fit for {split}"] = round(time.perf_counter() - start, 1)
            start = time.perf_counter()
            self.rank(model, split).write_parquet(self.exchange / f"{split}.parquet")
            seconds[f"ranking of {split}"] = round(time.perf_counter() - start, 1)
            print(seconds, flush=True)
        record = {
            "tuning": {"budget": "one setting"},
            "chosen": {"model": self.model} | FIXED | SETTINGS[self.model] | {"epochs": EPOCHS},
            "seconds": seconds,
            "versions": {name: version(name) for name in ("rectools", "torch", "pytorch-lightning", "numpy", "pyarrow", "polars")},
        }
        (self.exchange / "peer.json").write_text(json.dumps(record, indent=1))

    def fit(self, week: int) -> Any:
        """The model of all purchases before a week."""
        seed_everything(self.seed, verbose=False)
        options = {"epochs": EPOCHS, "deterministic": True, "recommend_torch_device": "cpu"}
        return MODELS[self.model](**FIXED, **SETTINGS[self.model], **options).fit(self.dataset(week))

    def dataset(self, week: int) -> Dataset:
        """All purchases before a week, as RecTools takes them."""
        known = self.events.filter(pl.col("week") < week)
        columns = {
            Columns.User: known["user_id"].to_numpy(),
            Columns.Item: known["item_id"].to_numpy(),
            Columns.Weight: np.ones(len(known)),
            Columns.Datetime: pd.to_datetime(known["time"].to_numpy(), unit="s"),
        }
        return Dataset.construct(pd.DataFrame(columns))

    def rank(self, model: Any, split: str) -> pl.DataFrame:
        """user_id, week, list, rank, item_id, score of every query of a split."""
        weeks = self.queries.filter(split=split).partition_by("week", as_dict=True)
        return pl.concat([part for (week,), queries in weeks.items() for part in self.lists(model, week, queries)])

    def lists(self, model: Any, week: int, queries: pl.DataFrame) -> list[pl.DataFrame]:
        """The three lists of each of a week's queries. The model knows no unsold item: those stand in the order of their ids."""
        known = self.events.filter(pl.col("week") < week)
        recent = known.filter(pl.col("week") >= week - RECENT_WEEKS)["item_id"].value_counts()
        popular = recent.sort(["count", "item_id"], descending=[True, False])["item_id"].head(self.k)
        unsold = self.items.filter(~self.items.is_in(known["item_id"].unique().implode())).head(self.k)
        dataset, found = self.dataset(week), {"cold": alike(queries, unsold)}
        for name, masked in (("all", False), ("new", True)):
            best = self.recommended(model, dataset, queries, masked)
            left = queries.join(best, on="user_id", how="anti")
            found[name] = pl.concat([best, alike(left, popular)], how="vertical_relaxed")
        return [
            of.select("user_id", *_constants(week, name), pl.col("rank").cast(pl.Int32), "item_id", "score") for name, of in found.items()
        ]

    def recommended(self, model: Any, dataset: Dataset, queries: pl.DataFrame, masked: bool) -> pl.DataFrame:
        """What the model recommends to the users that it can, bought items `masked` or not."""
        users = queries["user_id"].to_numpy()
        asked = {Columns.User: users, Columns.Weight: 1.0, Columns.Datetime: pd.to_datetime(queries["time"].to_numpy(), unit="s")}
        context = {"context": pd.DataFrame(asked)} if model.require_recommend_context else {}
        best = model.recommend(users, dataset, k=self.k, filter_viewed=masked, on_unsupported_targets="ignore", **context)
        return pl.from_pandas(best).select("user_id", "item_id", pl.col("score").cast(pl.Float32), "rank")


def alike(queries: pl.DataFrame, items: pl.Series) -> pl.DataFrame:
    """The same list for every query."""
    ranked = pl.DataFrame({"item_id": items, "score": pl.repeat(0, len(items), dtype=pl.Float32, eager=True)})
    return queries.select("user_id").join(ranked.with_row_index("rank", 1).select("item_id", "score", "rank"), how="cross")


def _constants(week: int, name: str) -> tuple[pl.Expr, pl.Expr]:
    return pl.lit(week, pl.Int32).alias("week"), pl.lit(name).alias("list")


if __name__ == "__main__":
    Run(Path(sys.argv[1]), sys.argv[2]).go()
