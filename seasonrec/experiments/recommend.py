"""Recommendations of a trained run, on the screen or in a file."""

import json
import logging
from pathlib import Path

import polars as pl
import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seasonrec.errors import ConfigError
from seasonrec.experiments.cores import n_cores
from seasonrec.experiments.recommender import Recommender, users_of

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
        Console().print(shown(table, f"{cfg.date}: {recommender.season_text(str(cfg.date))}"))


def shown(table: pl.DataFrame, title: str) -> Table:
    """The recommendations for the terminal, without their date, which is in the title; in a narrow one nothing is cut off."""
    table, previous = table.drop("date"), None
    screen = Table(title=title)
    for name in table.columns:
        screen.add_column(name, overflow="fold", no_wrap=table.schema[name].is_numeric())
    for row in table.iter_rows():
        if previous not in (None, row[0]):
            screen.add_section()
        screen.add_row(*(Text(f"{cell:.3f}" if isinstance(cell, float) else str(cell)) for cell in row))  # a bracket is no markup
        previous = row[0]
    return screen
