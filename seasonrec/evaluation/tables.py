"""The leaderboard, in every form that it is wanted in, and the one number to select by."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from rich.markup import escape
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
ESCAPED_BAR: Final = r"\|"
LATEX: Final = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
    ABSENT: "--",
}


class Cell(NamedTuple):
    """What stands in a table, and whether it stands out."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Grid:
    """A table of text before it has a form; the first column names the row.

    Args:
        heads: one for each column.
        rows: as long as `heads`.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def rich(self) -> Table:
        """For the terminal."""
        table = Table(title=self.title)
        for place, head in enumerate(self.heads):
            table.add_column(head.replace(" ", "\n") if place else head, justify="right" if place else "left", overflow="fold")
        for row in self.rows:
            lines = [(escape(text).replace(" ±", "\n±").replace(" (", "\n("), strong) for text, strong in row]
            table.add_row(*(f"[bold]{text}[/bold]" if strong else text for text, strong in lines))
        return table

    def markdown(self) -> str:
        """As Markdown."""
        lines = [self.heads, ["---"] + ["---:"] * (len(self.heads) - 1)]
        lines += [[f"**{text}**" if strong else text for text, strong in row] for row in self.rows]
        return "\n".join(f"| {' | '.join(part.replace('|', ESCAPED_BAR) for part in line)} |" for line in lines) + "\n"

    def section(self, notes: Sequence[str] = ()) -> str:
        """A part of a Markdown page: the title, the table, and the notes as a list."""
        return "\n".join([f"## {self.title}\n\n{self.markdown()}", *(f"- {note}" for note in notes), ""])

    def latex(self) -> str:
        """As a LaTeX tabular; needs the package booktabs."""
        lines = [[_latex(head) for head in self.heads]]
        lines += [[rf"\textbf{{{_latex(text)}}}" if strong else _latex(text) for text, strong in row] for row in self.rows]
        head, *body = [rf"{' & '.join(line)} \\" for line in lines]
        form = "l" + "r" * (len(self.heads) - 1)
        return "\n".join([rf"\begin{{tabular}}{{{form}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]) + "\n"


def grid(metrics: pl.DataFrame, split: str = "test") -> Grid:
    """One row per method, one column per headline metric; the best of each column is strong. The last row says of how many queries.

    Means over seeds, which have a column n_seeds, get half their interval's width after a ± and their number of seeds.

    Args:
        metrics: rows of `Evaluation.table` of any number of methods, or of `over_seeds` with column method, in the order in
            which to show them.

    Raises:
        DataError: no rows of this split.
    """
    methods, of_split = _methods(metrics, split), metrics.filter(split=split)
    values, spreads = _matrix(of_split, methods), np.full((len(methods), len(HEADLINES)), np.nan)
    seeds: dict[str, list[Cell]] = {}
    if "n_seeds" in of_split.columns:
        spreads = _matrix(of_split.with_columns(value=(pl.col("high") - pl.col("low")) / 2), methods)
        seeds = {method: [Cell(str(of_split.filter(method=method)["n_seeds"].max()))] for method in methods}
    best = values == np.fmax.reduce(values, axis=0)
    cells = [[_cell(*each) for each in zip(*row, strict=True)] for row in zip(values, spreads, best, strict=True)]
    rows = [[Cell(method), *seeds.get(method, []), *row] for method, row in zip(methods, cells, strict=True)]
    if "n_queries" in of_split.columns:
        largest = of_split.group_by("slice", "metric").agg(pl.col("n_queries").max())
        n = {(name, metric): found for name, metric, found in largest.iter_rows()}
        rows.append([Cell("queries"), *([Cell(ABSENT)] if seeds else []), *(Cell(f"{n.get(pair, 0):,}") for pair in HEADLINES)])
    return Grid(f"{split} weeks", ["method", *(["seeds"] if seeds else []), *map(title_of, HEADLINES)], rows)


def leaderboard(metrics: pl.DataFrame, split: str = "test") -> Table:
    """The grid of these metrics for the terminal.

    Raises:
        DataError: no rows of this split.
    """
    return grid(metrics, split).rich()


def markdown(metrics: pl.DataFrame, split: str = "test") -> str:
    """The same as Markdown.

    Raises:
        DataError: no rows of this split.
    """
    return grid(metrics, split).markdown()


def wide(metrics: pl.DataFrame, split: str = "test") -> pl.DataFrame:
    """The same as numbers: method, and a column for each headline metric.

    Raises:
        DataError: no rows of this split.
    """
    methods = _methods(metrics, split)
    values = pl.DataFrame(_matrix(metrics.filter(split=split), methods), list(map(title_of, HEADLINES)))
    return values.fill_nan(None).select(pl.Series("method", methods), pl.all())


def differences(tests: pl.DataFrame, method: str, alpha: float = 0.05) -> Grid:
    """How much better a method is than each other one, with its corrected p; strong where p is below alpha.

    The last rows say how small a true difference these queries can show, in one test and after Holm's correction over all of them.

    Args:
        tests: from `compare`.
        method: that was compared.
    """
    pairs = list(tests.select("slice", "metric").unique(maintain_order=True).iter_rows())
    cells = {(row["other"], row["slice"], row["metric"]): _difference(row, alpha) for row in tests.iter_rows(named=True)}
    others = tests["other"].unique(maintain_order=True).to_list()
    rows = [[Cell(other), *(cells[other, *pair] for pair in pairs)] for other in others]
    rows += [[Cell(name), *map(Cell, least)] for name, least in smallest(tests, pairs).items()]
    return Grid(f"{method} minus each other, Holm-corrected p", ["other", *map(title_of, pairs)], rows)


def changes(table: pl.DataFrame, reference: str, alpha: float = 0.05) -> Grid:
    """One row per variant, one column per headline metric: mean over seeds, and the difference to the reference with interval and p.

    A difference whose corrected p is below alpha is strong. The last rows say how small a true difference these queries can show.

    Args:
        table: variant, slice, metric, value, low, high, n_seeds, difference, difference_low, difference_high, p_holm; of the last
            four, none where nothing was compared.
        reference: the variant that the others are compared with.
    """
    cells = {(row["variant"], row["slice"], row["metric"]): _change(row, alpha) for row in table.iter_rows(named=True)}
    seeds = dict(table.group_by("variant", maintain_order=True).agg(pl.col("n_seeds").max()).iter_rows())
    rows = [[Cell(name), Cell(str(n)), *(cells.get((name, *pair), Cell(ABSENT)) for pair in HEADLINES)] for name, n in seeds.items()]
    rows += [[Cell(name), Cell(ABSENT), *map(Cell, least)] for name, least in smallest(table, HEADLINES).items()]
    return Grid(f"variants, and what they differ from {reference} by", ["variant", "seeds", *map(title_of, HEADLINES)], rows)


def smallest(tests: pl.DataFrame, pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """The smallest true difference that every test of each (slice, metric) can show, by what it is called.

    Args:
        tests: from `compare`; one of before there was a column detectable_holm has no such row.
    """
    columns = {"detectable": "detectable", "detectable after Holm": "detectable_holm"}
    largest = lambda column, pair: tests.filter(slice=pair[0], metric=pair[1])[column].max()
    return {
        name: [ABSENT if (least := largest(column, pair)) is None else f"{least:.4f}" for pair in pairs]
        for name, column in columns.items()
        if column in tests.columns
    }


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


def title_of(pair: tuple[str, str]) -> str:
    """The head of a (slice, metric) column, e.g. "all NDCG@10"."""
    return f"{pair[0]} {TITLES[pair[1]]}"


def _methods(metrics: pl.DataFrame, split: str) -> list[str]:
    """The methods with rows of a split, in order.

    Raises:
        DataError: there are none.
    """
    if methods := metrics.filter(split=split)["method"].unique(maintain_order=True).to_list():
        return methods
    raise DataError(f"leaderboard: no rows of split {split!r}; the table has {metrics['split'].unique().sort().to_list()}")


def _matrix(metrics: pl.DataFrame, methods: Sequence[str]) -> np.ndarray:
    """The value of each method and headline metric, [n_methods, n_headlines]."""
    return np.array([[_value(metrics.filter(method=method), pair) for pair in HEADLINES] for method in methods])


def _cell(value: float, spread: float, best: bool) -> Cell:
    if np.isnan(value):
        return Cell(ABSENT)
    return Cell(f"{value:.4f}" if np.isnan(spread) else f"{value:.4f} ±{spread:.4f}", bool(best))


def _difference(row: Mapping[str, Any], alpha: float) -> Cell:
    if row["difference"] is None:
        return Cell(ABSENT)
    return Cell(f"{row['difference']:+z.4f} ({p_text(row['p_holm'])})", _below(row["p_holm"], alpha))


def _change(row: Mapping[str, Any], alpha: float) -> Cell:
    numbers = [np.nan if row[name] is None else row[name] for name in ("value", "low", "high")]
    value = _cell(numbers[0], (numbers[2] - numbers[1]) / 2, False)
    if row.get("difference") is None:
        return value
    within = "" if row["difference_low"] is None else f", {row['difference_low']:+z.4f} to {row['difference_high']:+z.4f}"
    change = f"{row['difference']:+z.4f}{within}, {p_text(row['p_holm'])}"
    return Cell(f"{value.text} ({change})", _below(row["p_holm"], alpha))


def _below(p: float | None, alpha: float) -> bool:
    return p is not None and p < alpha


def p_text(p: float | None) -> str:
    """A p value in words; a bootstrap knows small ones by their size only."""
    return f"p {ABSENT}" if p is None else f"p {p:.3f}" if p >= 0.001 else "p < 0.001"


def _latex(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in text)
