"""The leaderboard and the one number to select by."""

import warnings
from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from rich.table import Table

from seasonrec.errors import DataError

# (slice, metric) of the columns that decide whether a method is good.
HEADLINES: Final = (
    ("all", "ndcg@10"),
    ("all", "recall@50"),
    ("repeat", "ndcg@10"),
    ("new_to_user", "ndcg@10"),
    ("new_to_user", "recall@50"),
    ("in_season", "recall@50"),
    ("in_season", "ndcg@10"),
    ("off_season", "ndcg@10"),
    ("cold_item", "ndcg@10"),
    ("cold_item", "recall@50"),
)
SELECTION: Final = (("all", "ndcg@10"), ("new_to_user", "ndcg@10"), ("in_season", "recall@50"))
TITLES: Final = {"ndcg@10": "NDCG@10", "recall@50": "R@50"}
ABSENT: Final = "–"


def leaderboard(metrics: pl.DataFrame, split: str = "test") -> Table:
    """One row per method, one column per headline metric, for the terminal; the best of each column is bold.

    Args:
        metrics: rows of `Evaluation.table` of any number of methods, in the order in which to show them.

    Raises:
        DataError: no rows of this split.
    """
    table = Table(title=f"{split} weeks")
    table.add_column("method")
    for title in _titles():
        table.add_column(title.replace(" ", "\n"), justify="right")
    for method, cells in _rows(metrics, split, "[bold]{}[/bold]"):
        table.add_row(method, *cells)
    return table


def markdown(metrics: pl.DataFrame, split: str = "test") -> str:
    """The same leaderboard as a Markdown table.

    Raises:
        DataError: no rows of this split.
    """
    lines = [("method", *_titles()), ("---", *["---:"] * len(HEADLINES))]
    lines += [(method, *cells) for method, cells in _rows(metrics, split, "**{}**")]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def selection_score(method: pl.DataFrame, reference: pl.DataFrame) -> float:
    """The number that every choice is made by: geometric mean of `SELECTION`, each divided by the reference's value.

    1 is as good as the reference, which the benchmark takes as personal frequency; 0 means that one of them is 0.
    A part in which the reference has no or zero value cannot be divided by: it is left out, with a warning.

    Args:
        method, reference: rows of `Evaluation.table` of one method and one split each, on the same weeks.

    Raises:
        DataError: a table of several methods or splits, or no part that can be compared.
    """
    values, references = _selected(method), _selected(reference)
    usable = (references > 0) & ~np.isnan(values)
    if not usable.any():
        raise DataError(f"selection_score: the reference has no positive value in any of {SELECTION}; choose weeks with more purchases")
    if not usable.all():
        left_out = [pair for pair, use in zip(SELECTION, usable, strict=True) if not use]
        warnings.warn(f"selection_score leaves out {left_out}: no queries, or the reference's value is 0", stacklevel=2)
    ratio = values[usable] / references[usable]
    return float(np.prod(ratio) ** (1 / len(ratio)))


def _selected(metrics: pl.DataFrame) -> np.ndarray:
    if len(kinds := metrics.select("method", "split").unique()) != 1:
        raise DataError(f"selection_score: rows of {sorted(kinds.rows())}, wanted one method and one split; filter the table first")
    return np.array([_value(metrics, pair) for pair in SELECTION])


def _value(metrics: pl.DataFrame, pair: tuple[str, str]) -> float:
    found = metrics.filter(slice=pair[0], metric=pair[1])["value"].drop_nulls()
    return float(found[0]) if len(found) else float("nan")


def _titles() -> list[str]:
    return [f"{name} {TITLES[metric]}" for name, metric in HEADLINES]


def _rows(metrics: pl.DataFrame, split: str, bold: str) -> list[tuple[str, list[str]]]:
    of_split = metrics.filter(split=split)
    if of_split.is_empty():
        raise DataError(f"leaderboard: no rows of split {split!r}; the table has {metrics['split'].unique().sort().to_list()}")
    methods = of_split["method"].unique(maintain_order=True).to_list()
    values = np.array([[_value(of_split.filter(method=method), pair) for pair in HEADLINES] for method in methods])
    best = values == np.fmax.reduce(values, axis=0)
    return [(method, _cells(row, top, bold)) for method, row, top in zip(methods, values, best, strict=True)]


def _cells(values: Sequence[float], best: Sequence[bool], bold: str) -> list[str]:
    shown = [ABSENT if np.isnan(value) else f"{value:.4f}" for value in values]
    return [bold.format(text) if top else text for text, top in zip(shown, best, strict=True)]
