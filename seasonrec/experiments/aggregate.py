"""One table from any set of runs: means over seeds, differences with paired tests, in every form that a paper or a page wants."""

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl
from omegaconf import DictConfig
from rich.console import Console

from seasonrec.data.dataset import Dataset
from seasonrec.errors import ConfigError, DataError, SeasonrecError
from seasonrec.evaluation.evaluate import Evaluation, evaluate
from seasonrec.evaluation.labels import holiday_windows, season_labels
from seasonrec.evaluation.lists import read_lists
from seasonrec.evaluation.seeds import Seeded, over_seeds, pairs_of
from seasonrec.evaluation.significance import compare_pairs
from seasonrec.evaluation.tables import differences, grid, selection_score
from seasonrec.experiments import rolling
from seasonrec.experiments.build import calendar_of, dataset_of
from seasonrec.experiments.config import nearest
from seasonrec.experiments.recommender import moved, unchanged
from seasonrec.experiments.record import FINISHED, JOINT, RECORD, REFERENCE, TUNED, read_record, read_table
from seasonrec.experiments.report import write_comparison
from seasonrec.experiments.settings import labels, refuse_mixtures, settings_of, told_apart

log = logging.getLogger(__name__)
SUMMARY, TESTS, RUNS = "summary.csv", "significance.csv", "runs.csv"
MARKDOWN, LATEX = "report.md", "report.tex"
WIDTH: Final = 240  # characters; a table takes what it needs
FLOOR: Final = 0.01  # of a corrected p, above which a reader is told that more resamples are needed
LEARNT: Final = (JOINT, TUNED)  # methods that are another with each seed
WHERE_RUNS_ARE: Final = "give folders of runs, e.g. outputs/train/* or multirun/train/<time>"
SEEDS_NOTE: Final = "A value is the mean over seeds, ± half its 95% Student interval; of one seed there is no interval."


@dataclass(frozen=True)
class FinishedRun:
    """What a run's folder says of it."""

    folder: Path
    record: Mapping[str, Any]
    metrics: pl.DataFrame

    @property
    def seed(self) -> int:
        """That it ran with."""
        return self.record["seed"]


@dataclass(frozen=True)
class Row:
    """A method of runs that differ by their seed only: a row of the table.

    Args:
        name: in the table.
        method: in the runs.
        label: in which settings these runs differ from the others.
    """

    name: str
    method: str
    label: str
    runs: Sequence[FinishedRun]

    @property
    def seeds(self) -> list[int] | None:
        """Of the runs; None of a baseline or peer with one run: it stands for every seed."""
        return None if len(self.runs) == 1 and self.method not in LEARNT else [run.seed for run in self.runs]

    @property
    def summary(self) -> pl.DataFrame:
        """Means over the runs, in the form of a metrics table."""
        return self.mean([run.metrics for run in self.runs])

    def mean(self, tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """The method's means over tables of the runs', under the row's name."""
        return over_seeds([table.filter(method=self.method) for table in tables]).select(pl.lit(self.name).alias("method"), pl.all())


class Judged(NamedTuple):
    """What paired tests compare.

    Args:
        dataset: behind the rows.
        pairs: the reference and each other row by its name.
        notes: on rows that were not compared over all their seeds.
    """

    dataset: Dataset
    pairs: Mapping[str, tuple[Evaluation, Evaluation]]
    notes: Sequence[str]


def report(cfg: DictConfig) -> pl.DataFrame:
    """Prints the table of some runs and writes it into a folder; returns it, one row per method, split, slice and metric.

    Raises:
        ConfigError: an unknown split or row.
        DataError: no finished runs there, or runs of different data.
    """
    runs = finished_runs(folders_of(cfg.runs))
    if other := [run.folder for run in runs if "all" not in run.metrics["slice"]]:
        raise DataError(f"report: {other[0]} ranks nothing week by week; read its metrics.csv, or compare it with `seasonrec reproduce`")
    rows = rows_of(runs)
    summary = pl.concat([row.summary for row in rows])
    split = split_of(cfg.split, runs)
    against = reference_of(cfg.reference, rows, summary)
    parts, folder = parts_of(rows), Path(cfg.output)
    judged = judged_again(rows, against, split, cfg.data) if cfg.n_resamples and len(rows) > 1 else None
    pairs, compared = (judged.pairs, judged.notes) if judged else ({}, [])
    tests = compare_pairs(pairs, n_resamples=cfg.n_resamples) if pairs else None
    notes = [*notes_of(rows, tests, against, cfg.n_resamples), *compared]
    write(folder, rows, summary, tests, split, against, notes, parts)
    if judged and pairs and parts is not None and split == "test":
        rolling.by_quarter(pairs, judged.dataset, cfg.n_resamples).write_csv(folder / rolling.TESTS)
    console = Console(width=WIDTH)
    console.print(grid(summary, split).rich())
    if tests is not None:
        console.print(differences(tests, against.name).rich())
    for note in compared:
        console.print(note, markup=False)
    log.info("%d runs: %s", len(runs), folder)
    return summary


def folders_of(given: str | Sequence[str]) -> list[Path]:
    """The folders of runs under what a command line gives: run folders, folders of them such as a multirun's, patterns with *.

    A folder without a run among several is left out with a warning: a command that was mistyped leaves one.

    Raises:
        DataError: one of them does not exist, or none leads to a run.
    """
    folders: list[Path] = []
    for pattern in map(str.strip, given.split(",") if isinstance(given, str) else given):
        places = [pattern] if Path(pattern).exists() else sorted(glob(pattern), key=_in_order)
        found = {place: _runs_under(Path(place)) for place in places}
        empty = [place for place, runs in found.items() if not runs]
        if not places or (len(empty) == len(places) and not Path(pattern).exists()):
            raise DataError(f"report: no {RECORD} in or under {pattern}; {WHERE_RUNS_ARE}")
        for place in empty:
            log.warning("left out: no %s in or under %s", RECORD, place)
        folders += [run for runs in found.values() for run in runs]
    if not folders:
        raise DataError(f"report: no {RECORD} in or under {given}; {WHERE_RUNS_ARE}")
    return list({folder.resolve(): folder for folder in folders}.values())


def _runs_under(folder: Path) -> list[Path]:
    if (folder / RECORD).is_file():
        return [folder]
    found = {path.parent for path in folder.rglob(RECORD)}
    whole = [run for run in found if found.isdisjoint(run.parents)]  # below a run lie those that it is made of, e.g. its cut-offs
    return sorted(whole, key=lambda path: _in_order(str(path)))


def _in_order(path: str) -> list:
    """A key by which job 2 of a multirun comes before job 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]


def finished_runs(folders: Sequence[Path]) -> list[FinishedRun]:
    """What finished in these folders; the rest is left out with a warning, and so is all but the last of several equal runs.

    Of two that differ only in how far they went, the one with test weeks stays.

    Raises:
        DataError: nothing finished, or the runs saw different data.
    """
    finished: list[FinishedRun] = []
    for folder in folders:
        record, metrics = read_record(folder), read_table(folder, "metrics")
        if record.get("status") != FINISHED or metrics is None:
            log.warning("left out: %s has status %r%s", folder, record.get("status"), "" if metrics is not None else " and no metrics.csv")
            continue
        finished.append(FinishedRun(folder, record, metrics))
    if not finished:
        raise DataError(f"report: none of {len(folders)} runs has finished; go on with `seasonrec train resume=<folder>`")
    refuse_mixtures({str(run.folder): run.record for run in finished})
    runs: dict[str, FinishedRun] = {}
    for run in finished:
        # What a peer of another library was asked is in no config: its name in the table tells it apart.
        methods = sorted(run.metrics["method"].unique())
        same = repr((_experiment(run), run.seed, run.record["config"].get("baseline"), methods))
        before = runs.get(same, run)
        left_out, runs[same] = (run, before) if _went_further(before, run) else (before, run)
        if left_out is not runs[same]:
            log.warning("left out: %s is the same experiment with the same seed as %s", left_out.folder, runs[same].folder)
    return list(runs.values())


def _went_further(one: FinishedRun, other: FinishedRun) -> bool:
    return one.metrics["split"].n_unique() > other.metrics["split"].n_unique()


def _shortest_first(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    return sorted(runs, key=lambda run: run.metrics["split"].n_unique())


def _experiment(run: FinishedRun) -> str:
    return repr(sorted(settings_of(run.record).items()))


def rows_of(runs: Sequence[FinishedRun]) -> list[Row]:
    """The joint model of each experiment, then every other method once, or once for each value that it has."""
    experiments: dict[str, list[FinishedRun]] = {}
    for run in runs:
        experiments.setdefault(_experiment(run), []).append(run)
    groups = list(experiments.values())
    # Runs of one seed beside other baselines are one joint model.
    joint_runs = {id(group): {run.seed: run for run in _shortest_first(group) if JOINT in run.metrics["method"]} for group in groups}
    trained, alone = ([group for group in groups if bool(joint_runs[id(group)]) == has] for has in (True, False))
    named = dict(zip(map(id, trained), labels([group[0].record for group in trained]), strict=True))
    named |= {id(group): f"alone {label}".strip() for group, label in zip(alone, labels([each[0].record for each in alone]), strict=True)}
    joint = [Row(f"{JOINT} {named[id(group)]}".strip(), JOINT, named[id(group)], list(joint_runs[id(group)].values())) for group in trained]
    others = dict.fromkeys(method for run in runs for method in run.metrics["method"].unique(maintain_order=True) if method != JOINT)
    by_label = [(named[id(group)], group) for group in groups]
    splits = set.intersection(*(set(run.metrics["split"]) for run in runs))
    return [*joint, *(row for method in others for row in _rows_of_peer(method, by_label, splits))]


def _rows_of_peer(method: str, groups: Sequence[tuple[str, Sequence[FinishedRun]]], splits: Collection[str]) -> Iterator[Row]:
    """A baseline's rows: experiments in which it has the same values share one, and so do seeds that it does not depend on.

    Args:
        groups: the runs of each experiment, with its label.
        splits: that all runs have.
    """
    every = [(label, run) for label, runs in groups for run in runs if method in run.metrics["method"]]
    asked = [(run.record["config"].get("baseline") or {}).get(method) or {} for _, run in every]
    runs_of: dict[str, list[FinishedRun]] = {}
    for (label, run), setting in zip(every, told_apart(asked), strict=True):
        runs_of.setdefault(" ".join(filter(None, (setting, label))), []).append(run)
    kinds: dict[frozenset, Row] = {}
    for label, runs in runs_of.items():
        distinct = {_values(run.metrics.filter(pl.col("split").is_in(splits), method=method)): run for run in runs}
        kinds.setdefault(frozenset(distinct), Row(method, method, label, list(distinct.values())))
    for row in kinds.values():
        yield row if len(kinds) == 1 else replace(row, name=f"{method} {row.label}".strip())


def _values(metrics: pl.DataFrame) -> tuple:
    """All values by which a method is known; how far apart a list's texts are depends on who reads them."""
    of_method = metrics.filter(~pl.col("metric").str.starts_with("distance@"))
    return tuple(of_method.sort("split", "slice", "metric")["value"].round(9))


def split_of(asked: str | None, runs: Sequence[FinishedRun]) -> str:
    """The split to show: the one asked for, else the test weeks if every run was judged on them, else the validation weeks.

    Raises:
        ConfigError: not every run has the one asked for.
    """
    common = set.intersection(*(set(run.metrics["split"]) for run in runs))
    if asked and asked not in common:
        raise ConfigError(
            f"split is {asked!r}, but all runs have {', '.join(sorted(common)) or 'none'}; leave it out, or report other runs"
        )
    return asked or ("test" if "test" in common else "validation")


def reference_of(asked: str | None, rows: Sequence[Row], summary: pl.DataFrame) -> Row:
    """The row that is tested against each other one: by default the experiment that is best on validation weeks.

    Raises:
        ConfigError: no row has the name or label asked for.
    """
    if asked is not None:
        if found := [row for row in rows if asked in (row.name, row.label)]:
            return found[0]
        raise ConfigError(f"reference: no row is called {asked!r}; {nearest(asked, [row.name for row in rows])}")
    validation = summary.filter(split="validation")
    scale = validation.filter(method=next((row.name for row in rows if row.method == REFERENCE), REFERENCE))
    candidates = [row for row in rows if row.method == JOINT] or list(rows)
    if scale.is_empty() or len(candidates) == 1:
        return candidates[0]
    return max(candidates, key=lambda row: selection_score(validation.filter(method=row.name), scale))


def parts_of(rows: Sequence[Row]) -> pl.DataFrame | None:
    """Means over the runs by cut-off and quarter, which stand in column split; None unless all runs have several cut-offs."""
    means = []
    for row in rows:
        tables = [table for run in row.runs if (table := read_table(run.folder, rolling.TABLE)) is not None]
        if len(tables) < len(row.runs):
            return None
        means.append(row.mean(tables))
    return pl.concat(means)


def judged_again(rows: Sequence[Row], against: Row, split: str, data: Mapping[str, Any] | None = None) -> Judged | None:
    """The reference beside each other row, judged query by query; None, with a warning, where the data cannot be read.

    The values of a query are averaged over the seeds of both rows: what is tested is whether other users would say the same.

    Args:
        data: keys of the reference's data config that have other values here, where the file has moved.
    """
    try:
        dataset = dataset_behind(against, data)
        others = evaluations_of(rows, dataset, split)
        reference = others.pop(against.name)
        return Judged(dataset, pairs_of(reference, others), of_seeds(against.name, reference, others))
    except (SeasonrecError, OSError) as error:
        log.warning("no tests, for the truth of the lists cannot be read: %s", error)
        return None


def dataset_behind(row: Row, data: Mapping[str, Any] | None = None) -> Dataset:
    """The data of a row's runs.

    Args:
        data: keys of its data config that have other values here, where the file has moved.

    Raises:
        DataError: they are gone, or have changed since.
    """
    first, *_ = row.runs
    return unchanged(dataset_of(moved(first.record, data)), first.folder)


def evaluations_of(rows: Sequence[Row], dataset: Dataset, split: str) -> dict[str, Seeded]:
    """The lists of each row once more, run by run: all by the same truth and labels.

    Raises:
        DataError: lists that are gone, or of other data.
    """
    seasons, calendar = season_labels(dataset), calendar_of(dataset)
    place = Path("lists") / ("" if split == "test" else split)

    def judged(path: Path) -> Evaluation:
        lists = read_lists(path, dataset)
        return evaluate(lists, dataset.timeline, seasons, holidays=holiday_windows(lists.queries, calendar))

    return {row.name: Seeded([judged(run.folder / place / f"{row.method}.parquet") for run in row.runs], row.seeds) for row in rows}


def write(
    folder: Path,
    rows: Sequence[Row],
    summary: pl.DataFrame,
    tests: pl.DataFrame | None,
    split: str,
    against: Row,
    notes: Sequence[str],
    parts: pl.DataFrame | None = None,
) -> None:
    """Writes summary.csv, significance.csv, runs.csv, report.md, report.tex and report.html with its picture.

    Args:
        parts: from `parts_of`, which go to rolling.csv and rolling.md too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    runs = table_of_runs(rows)
    summary.write_csv(folder / SUMMARY)
    runs.write_csv(folder / RUNS)
    grids = [grid(summary, split)]
    if tests is not None:
        tests.write_csv(folder / TESTS)
        grids.append(differences(tests, against.name))
    *others, last = grids
    (folder / MARKDOWN).write_text("".join([*(each.section() for each in others), last.section(notes)]))
    (folder / LATEX).write_text("\n".join(f"% {each.title}\n{each.latex()}" for each in grids))
    if parts is not None:
        parts.write_csv(folder / f"{rolling.TABLE}.csv")
        (folder / rolling.MARKDOWN).write_text(rolling.markdown_of(parts))
    write_comparison(folder, summary, split, tests, against.name, [row.name for row in rows if row.method == JOINT], notes, runs, parts)


def notes_of(rows: Sequence[Row], tests: pl.DataFrame | None, against: Row, n_resamples: int) -> list[str]:
    """What a reader has to know of the numbers."""
    notes = [SEEDS_NOTE]
    if tests is not None:
        n = tests["p_holm"].count()  # of few users there is none
        notes.append(
            f"Tests: {against.name} against each other row, paired bootstrap over users of values averaged over the seeds that both ran"
            f" with (a baseline or peer of one run stands for every seed), Holm-corrected over all {n} of them. They say nothing about"
            " other seeds."
        )
        if (floor := n / (n_resamples + 1)) > FLOOR:
            notes.append(f"With {n_resamples:,} resamples no corrected p can be below {floor:.3f}; raise n_resamples to see smaller ones.")
    versions: dict[str, set[str]] = {}
    for code in (run.record.get("code") or {} for row in rows for run in row.runs):
        for part, version in {"the code": str(code.get("commit"))[:10], **(code.get("own") or {})}.items():
            versions.setdefault(part, set()).add(version)
    several = {part: found for part, found in versions.items() if len(found) > 1}
    return [*notes, *(f"The runs are of {len(found)} versions of {part}: {', '.join(sorted(found))}." for part, found in several.items())]


def of_seeds(reference: str, method: Seeded, others: Mapping[str, Seeded]) -> list[str]:
    """A note on each row that was not compared with the reference over all seeds of both."""
    listed = lambda seeds: ", ".join(map(str, seeds))
    notes = []
    for name, other in others.items():
        if method.seeds is None or other.seeds is None or {*method.seeds} == {*other.seeds}:
            continue
        whose, shared = f"{name} ran with seed {listed(other.seeds)}, {reference} with {listed(method.seeds)}", method.shared(other)
        notes.append(f"{whose}: {f'the difference is that of seed {listed(shared)}' if shared else 'no difference is shown'}.")
    return notes


def table_of_runs(rows: Sequence[Row]) -> pl.DataFrame:
    """Which runs are behind each row of the joint model: method, seed, selection, minutes, folder."""
    behind = [(row, run) for row in rows if row.method == JOINT for run in row.runs]
    return pl.DataFrame(
        {
            "method": [row.name for row, _ in behind],
            "seed": [run.seed for _, run in behind],
            "selection": [(run.record.get("facts") or {}).get("selection") for _, run in behind],
            "minutes": [round(sum(stage["seconds"] for stage in run.record.get("stages") or []) / 60, 2) for _, run in behind],
            "folder": [str(run.folder) for _, run in behind],
        },
        schema={"method": pl.String, "seed": pl.Int64, "selection": pl.Float64, "minutes": pl.Float64, "folder": pl.String},
    )
