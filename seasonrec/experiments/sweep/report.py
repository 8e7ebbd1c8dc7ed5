"""One page that shows a study, and trials.csv beside it: made from the study alone, so it can be made again at any time."""

import html
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import optuna
import polars as pl
from omegaconf import OmegaConf
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from seasonrec.evaluation.tables import ABSENT
from seasonrec.experiments import page
from seasonrec.experiments.page import Html, Picture, write_page
from seasonrec.experiments.record import without_password
from seasonrec.experiments.sweep import plots
from seasonrec.experiments.sweep.best import BEST
from seasonrec.experiments.sweep.plots import keys_in
from seasonrec.experiments.sweep.study import DEFINITION, FOLDER, OUTCOMES, REASON, VALUES, Plan, n_ended, pick, retried

TRIALS: Final = "trials.csv"
RULE: Final = "Picked of the Pareto front: the point nearest to the best value of each objective, every one scaled to 0..1 over the front."
ONE: Final = "Picked: the completed trial within the limits whose objective is best."


def write_study_report(plan: Plan, study: optuna.Study, command: str) -> Path:
    """The path of report.html in the study's folder; its pictures also go to plots/*.png and its trials to trials.csv.

    Args:
        command: that trains the picked trial.
    """
    trials, chosen = study.get_trials(), pick(study)
    picture = partial(page.picture, plan.folder)
    best = chosen.number if chosen else None
    sections = {
        "Objectives": _objectives(plan, study, chosen),
        "History": _history(plan, study, trials, best, picture),
        "Parameters": _parameters(plan, study, trials, best, picture),
        **({"Pareto front": _pareto(plan, study, best, picture)} if len(plan.objectives) > 1 else {}),
        "Trials": _trials(plan, trials, best),
        "The study": _settings(plan, study),
    }
    trial_table(plan, trials).write_csv(plan.folder / TRIALS)
    return write_page(plan.folder, f"study {plan.cfg.name}", sections, _headline(plan, trials, chosen, command))


def trial_table(plan: Plan, trials: Sequence[FrozenTrial]) -> pl.DataFrame:
    """One row per trial: number, state, seconds, what it set, what it ended with, its folder and why it ended early."""
    keys = keys_in(trials)
    outcomes = sorted({name for trial in trials for name in trial.user_attrs.get(OUTCOMES, {})})
    rows = [
        {"trial": trial.number, "state": _state(trial, trials), "seconds": seconds_of(trial)}
        | {key: _plain(trial.user_attrs.get(VALUES, {}).get(key)) for key in keys}
        | {name: trial.user_attrs.get(OUTCOMES, {}).get(name) for name in outcomes}
        | {"folder": trial.user_attrs.get(FOLDER), "reason": trial.user_attrs.get(REASON)}
        for trial in trials
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def seconds_of(trial: FrozenTrial) -> float | None:
    """How long a finished trial took, from its first sign of life to its last."""
    return round(trial.duration.total_seconds(), 1) if trial.duration else None


def _headline(plan: Plan, trials: Sequence[FrozenTrial], chosen: FrozenTrial | None, command: str) -> Html:
    """What came out and what it cost."""
    states = [_state(trial, trials) for trial in trials]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    took = sum(seconds_of(trial) or 0 for trial in trials)
    started = [trial.datetime_start for trial in trials if trial.datetime_start]
    ended = [trial.datetime_complete for trial in trials if trial.datetime_complete]
    wall = (max(ended) - min(started)).total_seconds() if started and ended else 0.0
    facts = (
        f"{n_ended(trials)} of {plan.cfg.n_trials} trials ({counted}) · seed {plan.cfg.seed} · {took / 60:,.1f} minutes of trials"
        f" within {wall / 60:,.1f} minutes · validation weeks only"
    )
    told = "No trial completed within the limits." if chosen is None else f"Trial {chosen.number}: {_told(plan, chosen)}."
    where = f" <code>{html.escape(command)}</code>" if chosen else ""
    return Html(f"<p class='quiet'>{html.escape(facts)}</p><p class='lead'><b>{html.escape(told)}</b>{where}</p>")


def _told(plan: Plan, trial: FrozenTrial) -> str:
    return ", ".join(f"{name} {value:.5g}" for name, value in zip(plan.objectives, trial.values, strict=True))


def _objectives(plan: Plan, study: optuna.Study, chosen: FrozenTrial | None) -> Html:
    rule = RULE if len(plan.objectives) > 1 else ONE
    rows = [[name, direction] for name, direction in plan.objectives.items()] + [[limit.name, "limit"] for limit in plan.limits]
    picked = [] if chosen is None else [[key, _text(value)] for key, value in chosen.user_attrs[VALUES].items()]
    values = page.table(["key", "picked"], picked) if chosen else ""
    return Html(f"<p>{html.escape(rule)}</p>{page.table(['objective', 'wanted'], rows)}{values}")


def _history(plan: Plan, study: optuna.Study, trials: Sequence[FrozenTrial], best: int | None, picture: Picture) -> Html:
    maximized = [direction == StudyDirection.MAXIMIZE for direction in study.directions]
    return Html(
        picture("history", partial(plots.history, trials, list(plan.objectives), maximized), "What each trial came to.")
        + picture("curves", partial(plots.curves, trials, best), "Every epoch of every trial; the picked one in orange, pruned ones grey.")
    )


def _parameters(plan: Plan, study: optuna.Study, trials: Sequence[FrozenTrial], best: int | None, picture: Picture) -> Html:
    keys, parts = keys_in(trials), []
    parts.append(picture("importances", lambda: plots.importances(plots.importances_of(study)), IMPORTANCE_NOTE))
    for place, name in enumerate(plan.objectives):
        suffix = f"_{place}" if place else ""
        maximized = study.directions[place] == StudyDirection.MAXIMIZE
        parts.append(picture(f"slices{suffix}", partial(plots.slices, trials, keys, name, place, best), f"{name} by each key alone."))
        draw = partial(plots.parallel_coordinates, trials, keys, name, place, maximized=maximized, best=best)
        parts.append(
            picture(f"parallel{suffix}", draw, f"Each line is a trial; the brighter the better by {name}, the picked one in orange.")
        )
    return Html("".join(parts))


def _pareto(plan: Plan, study: optuna.Study, best: int | None, picture: Picture) -> Html:
    front = sorted(study.best_trials, key=lambda trial: trial.values)
    if not front:
        return page.missing("No trial completed within the limits.")
    rows = [[str(trial.number), *(f"{value:.4f}" for value in trial.values)] for trial in front]
    draw = partial(plots.pareto, study.get_trials(), [trial.number for trial in front], list(plan.objectives), best)
    return Html(picture("pareto", draw, RULE) + page.table(["trial", *plan.objectives], rows, ours=[str(best)]))


def _trials(plan: Plan, trials: Sequence[FrozenTrial], best: int | None) -> Html:
    keys = keys_in(trials)
    rows = [
        [
            _link(plan, trial, best),
            _state(trial, trials),
            *(f"{value:.4f}" for value in (trial.values or [])),
            *([ABSENT] * (len(plan.objectives) - len(trial.values or []))),
            *(_text(trial.user_attrs.get(VALUES, {}).get(key)) for key in keys),
            ABSENT if seconds_of(trial) is None else f"{seconds_of(trial):,.0f}",
            trial.user_attrs.get(REASON, ""),
        ]
        for trial in trials
    ]
    return page.table(["trial", "state", *plan.objectives, *keys, "seconds", "because"], rows)


def _link(plan: Plan, trial: FrozenTrial, best: int | None) -> Html:
    """The trial's number, as link to its run where that lies here."""
    folder = trial.user_attrs.get(FOLDER, "")
    number = f"<b>{trial.number}, picked</b>" if trial.number == best else str(trial.number)
    return Html(f"<a href='{html.escape(folder)}/'>{number}</a>" if folder and (plan.folder / folder).is_dir() else number)


def _state(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> str:
    """How the trial ended, in words."""
    if trial.number in retried(trials):
        return "interrupted, queued again"
    return {TrialState.COMPLETE: "completed", TrialState.FAIL: "failed"}.get(trial.state, trial.state.name.lower())


def _settings(plan: Plan, study: optuna.Study) -> Html:
    files = [name for name in (BEST, TRIALS) if (plan.folder / name).exists() or name == BEST]
    links = " · ".join(f"<a href='{name}'>{name}</a>" for name in files)
    words = study.user_attrs[DEFINITION]["words"]
    settings: Any = OmegaConf.to_container(plan.cfg, resolve=True)
    settings["storage"] = without_password(settings["storage"])
    return Html(f"<p>{links}</p>" + page.block({"words of every trial": words}) + page.folded("Configuration", page.block(settings)))


def _text(value: Any) -> str:
    if value is None:
        return ABSENT
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | None) else str(value)


IMPORTANCE_NOTE: Final = (
    "How much each key decides whether a trial is among the best (PED-ANOVA). Few trials tell little: look at the slices too."
)
