"""The pictures of a study, in the manner of a run's: trials in, a matplotlib Figure out."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np
import optuna
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from seasonrec.errors import DataError
from seasonrec.experiments.plots import FAINT, HIGHLIGHT, INK, PEERS, QUIET, grid, styled
from seasonrec.experiments.sweep.study import VALUES

ENOUGH: Final = 4  # completed trials, below which nothing can be said of parameters
LOGARITHMIC: Final = 30  # a parameter that spans such a factor is drawn on a logarithmic axis
COLOURS: Final = colormaps["viridis"]


@styled()
def history(trials: Sequence[FrozenTrial], objectives: Sequence[str], maximized: Sequence[bool]) -> Figure:
    """What each trial came to, in the order in which they began, and the best so far; pruned ones as crosses where they ended.

    Args:
        objectives: names of a trial's values, `maximized` tells which of them should be great.

    Raises:
        DataError: no trial completed.
    """
    done = completed(trials)
    figure, axes = grid(len(objectives), columns=1, height=2.6, sharex=True)
    for place, (ax, name) in enumerate(zip(axes, objectives, strict=True)):
        number, value = np.array([trial.number for trial in done]), np.array([trial.values[place] for trial in done])
        best = np.maximum.accumulate(value) if maximized[place] else np.minimum.accumulate(value)
        ax.step(number, best, where="post", color=HIGHLIGHT, linewidth=1.8, label="best so far")
        ax.scatter(number, value, s=26, color=PEERS[0], zorder=3, label="completed")
        if pruned := [(trial.number, trial.values[place]) for trial in trials if trial.state == TrialState.PRUNED and trial.values]:
            ax.scatter(*zip(*pruned, strict=True), s=22, marker="x", color=QUIET, zorder=3, label="pruned")  # type: ignore[misc]
        ax.set_title(name)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    axes[-1].set_xlabel("trial")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@styled()
def curves(trials: Sequence[FrozenTrial], best: int | None) -> Figure:
    """The selection metric of every trial, epoch by epoch; pruned ones are faint, the picked one stands out.

    Raises:
        DataError: no trial reported an epoch.
    """
    shown = [trial for trial in trials if trial.intermediate_values]
    if not shown:
        raise DataError("curves: no trial reported an epoch")
    figure, (ax,) = grid(1, columns=1, height=3.2)
    for trial in sorted(shown, key=lambda each: each.number == best):
        epoch, value = zip(*sorted(trial.intermediate_values.items()), strict=True)
        pruned = trial.state == TrialState.PRUNED
        colour, width = (HIGHLIGHT, 2.4) if trial.number == best else (QUIET if pruned else PEERS[0], 1.0)
        ax.plot(np.add(epoch, 1), value, color=colour, linewidth=width, alpha=0.45 if pruned else 0.9, marker="x" if pruned else "o", ms=3)
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_title("validation/selection")
    return figure


@styled()
def importances(found: dict[str, float]) -> Figure:
    """A bar per parameter, the most important on top.

    Args:
        found: from `importances_of`.
    """
    names = list(reversed(found))
    figure, (ax,) = grid(1, columns=1, height=0.7 + 0.3 * len(names))
    bars = ax.barh(names, [found[name] for name in names], color=PEERS[0], height=0.62)
    ax.bar_label(bars, fmt="%.2f", padding=4, color=QUIET)
    ax.set_xlim(0, max(found.values()) * 1.1)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("share of importance")
    return figure


@styled()
def slices(trials: Sequence[FrozenTrial], keys: Sequence[str], objective: str, place: int = 0, best: int | None = None) -> Figure:
    """One panel per parameter: its value against the objective, for every completed trial; later trials are darker.

    Args:
        place: of the objective among a trial's values.
        best: number of the picked trial.

    Raises:
        DataError: too few trials completed.
    """
    done = completed(trials, ENOUGH)
    figure, axes = grid(len(keys), columns=3, height=2.3, sharey=True)
    for ax, key in zip(axes, keys, strict=True):
        those = [trial for trial in done if key in trial.user_attrs[VALUES]]
        x, y = _positions(ax, [trial.user_attrs[VALUES][key] for trial in those]), np.array([trial.values[place] for trial in those])
        ax.scatter(x, y, c=[trial.number for trial in those], cmap="Blues", vmin=-len(trials), s=24, edgecolors=QUIET, linewidths=0.4)
        for spot in [n for n, trial in enumerate(those) if trial.number == best]:
            ax.scatter(x[spot], y[spot], s=70, facecolors="none", edgecolors=HIGHLIGHT, linewidths=2, zorder=4)
        ax.set_title(key, fontsize=9)
    for ax in axes[::3]:
        ax.set_ylabel(objective)
    return figure


@styled()
def parallel_coordinates(
    trials: Sequence[FrozenTrial], keys: Sequence[str], objective: str, place: int = 0, *, maximized: bool = True, best: int | None = None
) -> Figure:
    """A line per completed trial through its parameters to its objective; the better the brighter, the picked one in orange.

    Raises:
        DataError: too few trials completed.
    """
    done = completed(trials, ENOUGH)
    value = np.array([trial.values[place] for trial in done])
    order = np.argsort(value if maximized else -value, kind="stable")  # the best on top
    columns = [_unit([trial.user_attrs[VALUES].get(key) for trial in done]) for key in keys]
    columns.append((_scaled(value), [f"{low:.3g}" for low in (value.min(), value.max())], [0.0, 1.0]))
    figure, (ax,) = grid(1, columns=1, height=3.6)
    height = np.stack([heights for heights, _, _ in columns], 1)
    for rank, row in enumerate(order):
        chosen = done[row].number == best
        colour = HIGHLIGHT if chosen else COLOURS(rank / max(len(order) - 1, 1))
        ax.plot(height[row], color=colour, linewidth=2.6 if chosen else 1.1, alpha=1 if chosen else 0.75, zorder=3 if chosen else 2)
    for spot, (_, texts, at) in enumerate(columns):
        ax.axvline(spot, color=FAINT, linewidth=1)
        for text, y in zip(texts, at, strict=True):
            ax.text(spot + 0.02, y, text, fontsize=8, color=INK, zorder=5, bbox={"facecolor": "white", "alpha": 0.7, "pad": 0.6, "lw": 0})
    ax.set_xticks(range(len(columns)), [each.replace(".", ".\n") for each in (*keys, objective)], fontsize=8)
    ax.set_yticks([])
    ax.grid(visible=False)
    ax.set_ylim(-0.08, 1.08)
    return figure


@styled()
def pareto(trials: Sequence[FrozenTrial], front: Sequence[int], objectives: Sequence[str], best: int | None) -> Figure:
    """Every pair of objectives: completed trials in grey, the Pareto front in colour with trial numbers, the picked point ringed.

    Raises:
        DataError: no trial completed.
    """
    done = completed(trials)
    pairs = list(combinations(range(len(objectives)), 2))
    figure, axes = grid(len(pairs), columns=2, height=3.4)
    values, on_front = np.array([trial.values for trial in done]), np.isin([trial.number for trial in done], front)
    for ax, (x, y) in zip(axes, pairs, strict=True):
        ax.scatter(values[~on_front, x], values[~on_front, y], s=22, color=FAINT, label="dominated")
        ax.scatter(values[on_front, x], values[on_front, y], s=34, color=PEERS[0], zorder=3, label="Pareto front")
        for trial in [each for each in done if each.number in front]:
            ax.annotate(str(trial.number), (trial.values[x], trial.values[y]), (5, 4), textcoords="offset points", fontsize=8, color=QUIET)
            if trial.number == best:
                ax.scatter(trial.values[x], trial.values[y], s=110, facecolors="none", edgecolors=HIGHLIGHT, linewidths=2, label="picked")
        ax.set_xlabel(objectives[x])
        ax.set_ylabel(objectives[y])
    axes[0].legend()
    return figure


def importances_of(study: optuna.Study) -> dict[str, float]:
    """How much each searched key decides whether a trial is among the best, shares that sum to 1, greatest first.

    Of several objectives: among the best is who is near the Pareto front. Weights of a simplex are measured as what they are,
    not as the draws behind them.

    Reference: Watanabe, Bansal and Hutter (2023), PED-ANOVA.

    Raises:
        DataError: too few trials completed, or none of the keys varied among them.
    """
    done = completed(study.get_trials(deepcopy=False), ENOUGH)
    known = {key: [trial.user_attrs[VALUES][key] for trial in done if key in trial.user_attrs[VALUES]] for key in keys_in(done)}
    kinds = {key: kind for key, values in known.items() if (kind := _distribution(values)) is not None}
    if not kinds:
        raise DataError("importances: no parameter differs between the completed trials")
    told = optuna.create_study(directions=study.directions)
    for trial in done:
        values = {
            key: str(value) if isinstance(kinds[key], CategoricalDistribution) else value
            for key, value in trial.user_attrs[VALUES].items()
            if key in kinds
        }
        told.add_trial(optuna.create_trial(params=values, distributions={key: kinds[key] for key in values}, values=trial.values))
    return optuna.importance.get_param_importances(told)


def keys_in(trials: Sequence[FrozenTrial]) -> list[str]:
    """Every key that a trial set, in the order of the space."""
    return list(dict.fromkeys(key for trial in trials for key in trial.user_attrs.get(VALUES, {})))


def completed(trials: Sequence[FrozenTrial], at_least: int = 1) -> list[FrozenTrial]:
    """The trials that came to their end.

    Raises:
        DataError: fewer than wanted.
    """
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if len(done) < at_least:
        raise DataError(f"{len(done)} trials completed, wanted at least {at_least}; go on with the study")
    return done


def _distribution(values: Sequence[Any]) -> BaseDistribution | None:
    """What values may have been drawn from; None if they are all the same."""
    if not _numeric(values):
        kinds = sorted(set(map(str, values)))
        return CategoricalDistribution(kinds) if len(kinds) > 1 else None
    low, high = min(values), max(values)
    return FloatDistribution(low, high, log=_logarithmic(low, high)) if low < high else None


def _positions(ax: Axes, values: Sequence[Any]) -> NDArray:
    """Where values stand on the horizontal axis, which is named for them; what is no number gets a place of its own."""
    if not _numeric(values):
        kinds = sorted(set(map(str, values)))
        ax.set_xticks(range(len(kinds)), kinds)
        ax.set_xlim(-0.5, len(kinds) - 0.5)
        return np.array([kinds.index(str(value)) for value in values])
    if values and _logarithmic(min(values), max(values)):
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())  # of an axis of hardly a decade every tick would be named, one over the other
    else:
        ax.xaxis.set_major_locator(MaxNLocator(4))
    return np.array(values, float)


def _unit(values: Sequence[Any]) -> tuple[NDArray, list[str], list[float]]:
    """Values on an axis from 0 to 1, NaN where there is none, with the texts of the axis and their places."""
    there = [value for value in values if value is not None]
    if not _numeric(there):
        kinds = sorted(set(map(str, there)))
        place = {kind: (n + 0.5) / len(kinds) for n, kind in enumerate(kinds)}
        return np.array([np.nan if value is None else place[str(value)] for value in values]), kinds, list(place.values())
    number = np.array([np.nan if value is None else value for value in values], float)
    low, high = np.nanmin(number), np.nanmax(number)
    scaled = _scaled(np.log(number)) if _logarithmic(low, high) else _scaled(number)
    return scaled, [f"{low:.3g}", f"{high:.3g}"], [0.0, 1.0]


def _scaled(value: NDArray) -> NDArray:
    low, high = np.nanmin(value), np.nanmax(value)
    return (value - low) / (high - low) if high > low else np.where(np.isnan(value), np.nan, 0.5)


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _logarithmic(low: float, high: float) -> bool:
    return low > 0 and high / low >= LOGARITHMIC
