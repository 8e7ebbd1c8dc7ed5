"""Recommendations of a trained run, on the screen or in a file."""

import json
import logging
from pathlib import Path

import polars as pl
import torch
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seasonrec.errors import ConfigError
from seasonrec.experiments.cores import n_cores
from seasonrec.experiments.recommender import Recommender, users_of
from seasonrec.schema import ITEM, USER

log = logging.getLogger(__name__)
WRITERS = {
    ".csv": lambda table, path: table.write_csv(path),
    ".parquet": lambda table, path: table.write_parquet(path),
    ".json": lambda table, path: path.write_text(json.dumps(table.to_dicts(), indent=2, ensure_ascii=False), encoding="utf-8"),
}


def recommend(cfg: DictConfig) -> None:
    """Prints or writes one row per user and rank; each score split by head."""
    path = Path(cfg.output) if cfg.output else None
    if path and path.suffix not in WRITERS:
        raise ConfigError(f"output {path}: wanted a name that ends in one of {', '.join(WRITERS)}")
    torch.set_num_threads(cfg.n_threads or n_cores())
    recommender = Recommender.load(cfg.run, data=cfg.data, cache=cfg.cache)
    table = recommender.recommend(users_of(cfg.users), str(cfg.date), k=cfg.k, new_only=cfg.new_only)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[path.suffix](table, path)
        log.info("%d recommendations: %s", len(table), path)
    else:
        date = str(cfg.date)
        Console().print(shown(table, f"{date}, in the week around {recommender.fourth_day(date)}: {recommender.season_text(date)}"))


def shown(table: pl.DataFrame, title: str) -> Table:
    """The recommendations for the terminal, user by user; the date is in the title. In a narrow one nothing is cut off.

    An item's id stands before its text, not beside it, and a user above all of theirs, so that 80 columns are enough for both.
    """
    numbers = [name for name in table.columns if name != "rank" and table.schema[name].is_numeric()]
    screen = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    screen.add_column("rank", justify="right", no_wrap=True)
    screen.add_column("product", overflow="fold")
    for name in numbers:
        screen.add_column(name, justify="right", no_wrap=True)
    for (user,), part in table.group_by(USER, maintain_order=True):
        screen.add_section()
        screen.add_row("", Text(f"user {user}", "bold"))  # of a Text, a bracket is no markup
        for row in part.iter_rows(named=True):
            product = Text.assemble((row[ITEM], "cyan"), " ", row["text"])
            screen.add_row(str(row["rank"]), product, *(f"{row[name]:.3f}" for name in numbers))
    return screen
