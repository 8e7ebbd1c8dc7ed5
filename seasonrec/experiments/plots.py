"""The pictures of a report: a table in, a matplotlib Figure out.

Figures are objects of their own, without pyplot, a display or global state. Colours can be told apart by colour-blind readers.
Reference: Okabe and Ito (2008), Color universal design.
"""

import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import matplotlib
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from seasonrec.errors import DataError
from seasonrec.evaluation.significance import ALPHA
from seasonrec.evaluation.tables import HEADLINES, SELECTION, TITLES
from seasonrec.experiments.record import JOINT
from seasonrec.seasons.phase import N_WEEKS

WIDTH: Final = 11.0  # inches; a report shows it about 1,100 pixels wide, so that a point is 1.4 pixels
INK, QUIET, FAINT = "#24292f", "#6e7781", "#d0d7de"
HIGHLIGHT: Final = "#d55e00"
PEERS: Final = ("#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
OTHERS: Final = "#b3bac2"  # methods too many to be told apart by colour
# A head's part of a score, or its loss, has the same name and colour everywhere; other heads take the colours left.
HEADS: Final[Mapping[str, tuple[str, str]]] = {
    "seasonal": ("season", "#e69f00"),
    "cf": ("taste", "#0072b2"),
    "content": ("content", "#009e73"),
    "total": ("total", INK),
}
MORE_HEADS: Final = ("#cc79a7", "#56b4e9", "#d55e00", "#6e7781")
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MONTH_STARTS: Final = np.cumsum([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30]) / 7  # in weeks of the year
STYLE: Final[dict[Any, Any]] = {
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # "$5 gift card, $10 gift card" is no formula
    "axes.edgecolor": FAINT,
    "axes.labelcolor": QUIET,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eaeef2",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


@contextmanager
def styled() -> Iterator[None]:
    """While open, or as a decorator, pictures are drawn in this project's style."""
    with matplotlib.rc_context(STYLE):
        yield


def ranked(table: pl.DataFrame) -> list[str]:
    """Methods by their mean NDCG@10 over all queries, best first; those without one last. The order and colours of every picture.

    Args:
        table: has columns method, slice, metric and value: metrics of one split, or values per week.
    """
    values = table.filter(slice=HEADLINES[0][0], metric=HEADLINES[0][1]).group_by("method").agg(pl.col("value").mean().alias("mean"))
    order = table.select("method").unique(maintain_order=True).join(values, on="method", how="left", maintain_order="left")
    return order.sort("mean", descending=True, nulls_last=True, maintain_order=True)["method"].to_list()


def method_colours(methods: Sequence[str]) -> dict[str, str]:
    """A colour per method: the joint model stands out, the next best ones have one of their own, the rest are grey."""
    peers = [method for method in methods if method != JOINT]
    return {JOINT: HIGHLIGHT} | {method: PEERS[place] if place < len(PEERS) else OTHERS for place, method in enumerate(peers)}


def head_styles(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """(title, colour) of each head or loss term. A name may end in a head's, e.g. "train/loss/seasonal"."""
    known = {name: HEADS[last] for name in names if (last := name.rpartition("/")[2]) in HEADS}
    others = [name for name in names if name not in known]
    return known | {name: (name, MORE_HEADS[place % len(MORE_HEADS)]) for place, name in enumerate(others)}


@styled()
def leaderboard(metrics: pl.DataFrame, ours: Collection[str] = (JOINT,)) -> Figure:
    """Every method's value with its 95% interval, one panel per headline metric that has values, the joint model highlighted.

    Args:
        metrics: rows of `Evaluation.table` of one split.
        ours: the methods to highlight.

    Raises:
        DataError: no headline metric has a value.
    """
    methods = ranked(metrics)
    panels = _panels(metrics, HEADLINES, "leaderboard")
    figure, axes = grid(len(panels), columns=5, height=0.8 + 0.24 * len(methods), sharey=True)
    for place, ((name, metric), part) in enumerate(panels.items()):
        _dots(
            axes[place],
            part,
            {method: row for row, method in enumerate(methods)},
            dict.fromkeys(methods, "#57606a") | dict.fromkeys(ours, HIGHLIGHT),
        )
        axes[place].set_title(f"{name.replace('_', ' ')}\n{TITLES[metric]}")
        axes[place].xaxis.set_major_locator(MaxNLocator(3))
    _name_rows(axes, methods)
    return figure


@styled()
def ablation(table: pl.DataFrame) -> Figure:
    """What each variant of a model differs from the whole one by, with its 95% interval, one panel per headline metric.

    Differences that stay after Holm's correction stand out.

    Args:
        table: variant, slice, metric, difference, difference_low, difference_high, p_holm.

    Raises:
        DataError: no headline metric has a difference.
    """
    names = {"variant": "method", "difference": "value", "difference_low": "low", "difference_high": "high"}
    differences = table.drop("value", "low", "high", strict=False).rename(names)
    panels = _panels(differences, HEADLINES, "ablation")
    variants = differences.drop_nulls("value")["method"].unique(maintain_order=True).to_list()
    figure, axes = grid(len(panels), columns=5, height=0.8 + 0.24 * len(variants), sharey=True)
    for ax, ((name, metric), part) in zip(axes, panels.items(), strict=True):
        sure = dict(part.select("method", pl.col("p_holm") < ALPHA).iter_rows())
        _dots(ax, part, {v: row for row, v in enumerate(variants)}, {v: HIGHLIGHT if sure.get(v) else OTHERS for v in variants})
        ax.axvline(0, color=QUIET, linewidth=0.8)
        ax.set_title(f"{name.replace('_', ' ')}\n{TITLES[metric]}")
        ax.xaxis.set_major_locator(MaxNLocator(2))
    _name_rows(axes, variants)
    return figure


@styled()
def per_week(weeks: pl.DataFrame, methods: Sequence[str]) -> Figure:
    """Each method's value week by week, one panel per metric that choices are made by; validation weeks are shaded.

    Args:
        weeks: method, split, week, date, slice, metric, value.
        methods: in the order of `ranked`, which gives their colours.

    Raises:
        DataError: none of these metrics has a value.
    """
    weeks = weeks.with_columns(pl.col("date").cast(pl.String).str.head(10).str.to_date())
    panels, colours = _panels(weeks, SELECTION, "per_week"), method_colours(methods)
    figure, axes = grid(len(panels), columns=1, height=2.1, sharex=True)
    for ax, ((name, metric), part) in zip(axes, panels.items(), strict=True):
        for method in reversed(methods):  # the best on top
            _week_lines(ax, part.filter(method=method), colours[method], bold=method == JOINT, label=_label(method, colours))
        ax.set_title(f"{name.replace('_', ' ')} {TITLES[metric]}")
        ax.set_ylim(bottom=0)
        _shade_validation(ax, part)
    dates = weeks["date"].unique().sort()
    shown = dates.gather_every(1 + len(dates) // 14)
    axes[-1].set_xticks(shown.to_numpy(), [f"{day.day} {MONTHS[day.month - 1]}\n{day.year}" for day in shown])
    _legend(figure, axes[0], methods)
    return figure


@styled()
def per_group(metrics: pl.DataFrame, group: str, methods: Sequence[str]) -> Figure:
    """Each method's value in every slice of a group, as dots; the joint model with its interval.

    Args:
        metrics: rows of `Evaluation.table` of one split.
        group: "holiday" or "month": the slices "holiday=christmas", ...
        methods: in the order of `ranked`, which gives their colours.

    Raises:
        DataError: the metrics have no such slice.
    """
    of_group = metrics.filter(pl.col("slice").str.starts_with(f"{group}="), pl.col("value").is_not_null())
    if of_group.is_empty():
        raise DataError(f"per_group: no slice begins with '{group}='; the metrics have {metrics['slice'].unique().sort().to_list()}")
    names, colours = of_group["slice"].unique(maintain_order=True).to_list(), method_colours(methods)
    figure, axes = grid(2, columns=2, height=0.9 + 0.75 * len(names), sharey=True)
    for ax, metric in zip(axes, TITLES, strict=True):
        for method, shift in zip(methods, np.linspace(-0.33, 0.33, len(methods)), strict=True):
            part = of_group.filter(method=method, metric=metric).with_columns(method=pl.col("slice"))
            rows = {name: row + (shift if len(methods) > 1 else 0) for row, name in enumerate(names)}
            _dots(ax, part, rows, dict.fromkeys(names, colours[method]), whiskers=method == JOINT, label=_label(method, colours))
        ax.hlines(np.arange(1, len(names)) - 0.5, 0, 1, colors=STYLE["grid.color"], transform=ax.get_yaxis_transform())
        ax.set_title(TITLES[metric])
        ax.set_xlim(left=0)
    _name_rows(axes, [_group_title(of_group, name) for name in names])
    _legend(figure, axes[0], methods)
    return figure


@styled()
def losses(table: pl.DataFrame) -> Figure:
    """Every loss term over the steps, a smooth line over the faint raw one, one panel per fit.

    Args:
        table: fit, epoch, step, name, value.

    Raises:
        DataError: there are no rows.
    """
    if table.is_empty():
        raise DataError("losses: no rows; a fit logs each of its loss terms")
    fits, styles = table["fit"].unique(maintain_order=True).to_list(), head_styles(table["name"].unique(maintain_order=True).to_list())
    figure, axes = grid(len(fits), columns=2, height=3.2, sharey=True)
    for ax, fit in zip(axes, fits, strict=False):
        for name, (title, colour) in styles.items():
            _loss_line(ax, table.filter(fit=fit, name=name).sort("step"), title, colour)
        ax.set_title(f"{fit} fit")
        ax.set_xlabel("step")
    axes[0].set_ylabel("loss")
    _legend(figure, axes[0], [title for title, _ in styles.values()])
    return figure


@styled()
def seasonality(table: pl.DataFrame) -> Figure:
    """The share of each item's yearly sales in every week, one small panel per item.

    The dotted line is an even year; weeks with at least twice as much stand out, and those without a row are shaded.

    Args:
        table: item_id, text, week_of_year (0..51), share (sums to 1 over an item's weeks).

    Raises:
        DataError: there are no rows.
    """
    if table.is_empty():
        raise DataError("seasonality: no rows; give the weekly shares of a few items")
    items = table.select("item_id", "text").unique("item_id", maintain_order=True)
    figure, axes = grid(len(items), columns=3, height=1.55, sharex=True)
    for ax, (item_id, text) in zip(axes, items.iter_rows(), strict=False):
        part = table.filter(item_id=item_id).sort("week_of_year")
        _year(ax, part["week_of_year"].to_numpy(), part["share"].to_numpy())
        ax.set_title(textwrap.shorten(f"{text or item_id}", 46, placeholder="…"), fontsize=9)
    return figure


def _panels(table: pl.DataFrame, pairs: Sequence[tuple[str, str]], where: str) -> dict[tuple[str, str], pl.DataFrame]:
    parts = {pair: table.filter(pl.col("value").is_not_null(), slice=pair[0], metric=pair[1]) for pair in pairs}
    if found := {pair: part for pair, part in parts.items() if len(part)}:
        return found
    raise DataError(
        f"{where}: none of {list(pairs)} has a value; the table has {table.select('slice', 'metric').unique().sort('slice').rows()}"
    )


def grid(n: int, columns: int, height: float, sharex: bool = False, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of n panels, each `height` inches high, as wide as the page."""
    columns = min(columns, n)
    rows = -(-n // columns)
    figure = Figure(figsize=(WIDTH, height * rows + 0.3), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).flat)
    for ax in axes[n:]:
        ax.remove()
    return figure, axes[:n]


def _dots(
    ax: Axes, part: pl.DataFrame, rows: Mapping[str, float], colours: Mapping[str, str], whiskers: bool = True, label: str = ""
) -> None:
    """Values as dots at the row of their method; where asked, the interval as a line through it."""
    x, y = part["value"].to_numpy(), np.array([rows[method] for method in part["method"]])
    colour = [colours[method] for method in part["method"]]
    if whiskers:
        ax.hlines(y, part["low"].fill_null(np.nan), part["high"].fill_null(np.nan), colors=colour, linewidth=1.6, alpha=0.55)
    ax.scatter(x, y, c=colour, s=26, zorder=3, label=label)
    ax.grid(axis="y", visible=False)


def _name_rows(axes: Sequence[Axes], names: Sequence[str]) -> None:
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.4, -0.6)  # the first on top
    for ax in axes:
        ax.tick_params(axis="y", length=0)


def _group_title(of_group: pl.DataFrame, name: str) -> str:
    group, _, value = name.partition("=")
    title = MONTHS[int(value) - 1] if group == "month" else value.replace("_", " ").title()
    return f"{title}\n{max(of_group.filter(slice=name)['n_queries']):,} queries"


def _week_lines(ax: Axes, part: pl.DataFrame, colour: str, bold: bool, label: str) -> None:
    # A line per split: between the weeks of two fits there is none.
    for _, line in part.sort("date").group_by("split", maintain_order=True):
        x, y = line["date"].to_numpy(), line["value"].to_numpy()
        ax.plot(
            x,
            y,
            color=colour,
            linewidth=2.4 if bold else 1.3,
            marker="o",
            markersize=5 if bold else 3.5,
            zorder=4 if bold else 2,
            label=label,
        )


def _shade_validation(ax: Axes, part: pl.DataFrame) -> None:
    days = part.filter(split="validation")["date"]
    if len(days):
        half_week = np.timedelta64(84, "h")
        ends = np.array([days.min(), days.max()], "datetime64[h]") + np.array([-half_week, half_week])
        ax.axvspan(*ends, color="#f6f8fa", zorder=0)
        ax.text(ends[0], 0.97, " validation", transform=ax.get_xaxis_transform(), color=QUIET, fontsize=8, va="top")


def _loss_line(ax: Axes, part: pl.DataFrame, title: str, colour: str) -> None:
    if part.is_empty():
        return
    x, y = part["step"].to_numpy(), part["value"].to_numpy()
    smooth = part["value"].ewm_mean(half_life=max(1.0, len(part) / 60)).to_numpy()
    ax.plot(x, y, color=colour, alpha=0.22, linewidth=0.8)
    ax.plot(x, smooth, color=colour, linewidth=1.8, marker="o" if len(part) < 3 else "", label=title)


def _year(ax: Axes, week: np.ndarray, share: np.ndarray) -> None:
    even = 1 / len(week)
    ax.bar(week + 0.5, share, width=1, color=np.where(share >= 2 * even, HIGHLIGHT, "#9ecae1"))
    for each in np.setdiff1d(np.arange(N_WEEKS), week):
        ax.axvspan(each, each + 1, color=STYLE["grid.color"], linewidth=0)
    ax.axhline(even, color=QUIET, linewidth=0.8, linestyle=":")
    ax.set_xticks(MONTH_STARTS, [month[0] for month in MONTHS], ha="left")
    ax.set_xlim(0, N_WEEKS)
    ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.grid(axis="x", visible=False)


def _label(method: str, colours: Mapping[str, str]) -> str:
    return "others" if colours[method] == OTHERS else method


def _legend(figure: Figure, ax: Axes, order: Sequence[str]) -> None:
    """One legend for all panels, in the given order, what is not in it last."""
    handles: dict[str, Any] = {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    shown = [label for label in order if label in handles]
    shown += [label for label in handles if label not in order]
    columns = min(len(shown), 7)
    by_row = [label for column in range(columns) for label in shown[column::columns]]  # matplotlib fills columns first
    figure.legend([handles[label] for label in by_row], by_row, loc="outside lower center", ncols=columns)
