"""Ranks, evaluates and compares methods on the same queries, and keeps what comes out."""

import hashlib
import inspect
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import seasonrec
from seasonrec.data.adapters.sequences import NO_WEEKS
from seasonrec.data.dataset import Dataset
from seasonrec.errors import ConfigError, DataError
from seasonrec.evaluation.calibration import fit_platt
from seasonrec.evaluation.evaluate import LONGEST, Evaluation, evaluate, means
from seasonrec.evaluation.labels import holiday_windows, season_labels
from seasonrec.evaluation.lists import Lists, read_lists, write_lists
from seasonrec.evaluation.ranking import rank
from seasonrec.evaluation.scorer import Scorer
from seasonrec.evaluation.selection import Selection
from seasonrec.evaluation.significance import compare
from seasonrec.evaluation.tables import HEADLINES, leaderboard
from seasonrec.experiments.record import REFERENCE
from seasonrec.own_code import digests, own_code
from seasonrec.seasons.calendar import Calendar
from seasonrec.seasons.in_season import SeasonLabels

log = logging.getLogger(__name__)
SPLITS = ("validation", "test")


class Judge:
    """Evaluates methods on the validation and test weeks of one data set.

    Lists of test weeks go to `folder`/lists/<method>.parquet, those of validation weeks to `folder`/lists/validation/.

    Args:
        folder: of the run.
        k: length of the lists.
        batch_size: queries scored at a time, at most.
        n_resamples: of the intervals in the metrics table.
        n_paired: of the paired comparison.

    Raises:
        ConfigError: lists too short for the metrics, or data without weeks.
    """

    def __init__(
        self,
        dataset: Dataset,
        calendar: Calendar,
        folder: Path,
        *,
        k: int = 100,
        batch_size: int = 256,
        n_resamples: int = 1_000,
        n_paired: int = 10_000,
        seed: int = 0,
    ):
        if k < (wanted := min(LONGEST, dataset.n_items)):
            raise ConfigError(f"eval.k is {k}, but the metrics look at lists of {wanted}; give eval.k={wanted} or more")
        if dataset.split == NO_WEEKS:
            raise ConfigError(f"{dataset.name} has no weeks, only an order: give it to `seasonrec evaluate protocol=leave_one_out`")
        self.dataset, self.folder, self.k, self.batch_size = dataset, folder, k, batch_size
        self._calendar, self.n_resamples, self._n_paired, self._seed = calendar, n_resamples, n_paired, seed
        self.queries = {split: dataset.timeline.queries(dataset.split.weeks[split]) for split in SPLITS}
        self._tables: list[pl.DataFrame] = []
        self._evaluations: dict[str, dict[str, Evaluation]] = {split: {} for split in SPLITS}

    @cached_property
    def labels(self) -> SeasonLabels:
        """Which items are in season when; for evaluation only."""
        return season_labels(self.dataset)

    def rank(self, method: str, scorer: Scorer, split: str, *, fit: bool = True) -> Lists:
        """The method's lists for the queries of a split; what it learns, it learns from before the split's first week.

        Raises:
            DataError: there are no queries.
        """
        queries = self.queries[split]
        if not len(queries):
            weeks = self.dataset.split.weeks[split]
            raise DataError(
                f"no user who had bought before buys in the {split} weeks, {weeks[0]} to {weeks[-1]}: there is nothing to evaluate;"
                " `seasonrec check-data` shows the weeks, data.split or eval.split names others"
            )
        if fit:
            scorer.fit(self.dataset.timeline.at_week(self.dataset.split.weeks[split].start))
        with progress_of(f"{method} on {split}", len(queries)) as advance:
            return rank(scorer, self.dataset.timeline, queries, k=self.k, batch_size=self.batch_size, progress=advance)

    def cached(self, method: str, config: Any, scorer: Callable[[str], Scorer], split: str, folder: Path) -> Lists:
        """The lists of a method that depends on data, configuration and code only: from the cache, or ranked and put there.

        Their file is copied into the run's folder. A damaged file is ranked again, with a warning.

        Args:
            config: all that the method's scores depend on beyond data and code, as JSON has it.
            scorer: split -> the method, unfitted.
        """
        made = scorer(split)
        key = {
            "method": config,
            "data": self.dataset.purchases_digest,  # no baseline reads promotions
            "weeks": list(self.dataset.split.weeks[split]),
            "k": self.k,
            "code": code_digest(type(made)),
            "versions": versions_behind(type(made)),
            "own": own_code(config) if isinstance(config, Mapping) else None,  # of functions that make it, and of its parts
        }
        path = folder / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]}.parquet"
        if self.dataset.purchases_digest and path.exists():
            try:
                return self._copied(path, method, split)
            except (DataError, pl.exceptions.PolarsError) as error:
                log.warning("%s is damaged, so %s is ranked again: %s", path, method, error)
        lists = self.rank(method, made, split)
        draft = path.with_suffix(f".{np.random.default_rng().integers(1 << 40)}")  # two processes may write the same lists
        write_lists(lists, self.dataset, draft)
        draft.replace(path)
        return self._copied(path, method, split)

    def file(self, method: str, split: str) -> Path:
        """Where the lists of a method go."""
        return self.folder / "lists" / ("" if split == "test" else split) / f"{method}.parquet"

    def judge(
        self, method: str, lists: Mapping[str, Lists], vectors: NDArray | None = None, *, calibrate: bool = True, written: bool = False
    ) -> None:
        """Evaluates a method's lists, of both splits or of validation weeks alone, and writes them into the run's folder.

        Args:
            vectors: text vectors of the items [n_items, d], for the distance within lists.
            calibrate: on validation lists, for the calibration error "ece"; not where some of them are of weeks after tested ones.
            written: the lists are in the run's folder already.

        Raises:
            DataError: lists that lack queries, beside which a mean over the others would stand as if it were of all.
        """
        for split, of_split in lists.items():
            wanted, found = (queries.keys(self.dataset.n_users) for queries in (self.queries[split], of_split.queries))
            if lacking := np.count_nonzero(~np.isin(wanted, found)):
                raise DataError(f"{method}: no lists for {lacking} of {len(wanted)} {split} queries; a method ranks for all of them")
        platt = fit_platt(lists["validation"]) if calibrate else None
        for split in lists:
            if not written:
                write_lists(lists[split], self.dataset, self.file(method, split))
            evaluation = evaluate(
                lists[split],
                self.dataset.timeline,
                self.labels,
                holidays=holiday_windows(lists[split].queries, self._calendar),
                vectors=vectors,
                platt=platt if split == "test" else None,
            )
            self._evaluations[split][method] = evaluation
            self._tables.append(evaluation.table(method, split, n_resamples=self.n_resamples, seed=self._seed))

    def _copied(self, path: Path, method: str, split: str) -> Lists:
        """The lists of a file, which is copied to where the method's go."""
        lists = read_lists(path, self.dataset)
        (file := self.file(method, split)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, file)
        return lists

    @property
    def tested(self) -> Mapping[str, Evaluation]:
        """What was judged on test weeks so far, by method."""
        return self._evaluations["test"]

    @property
    def metrics(self) -> pl.DataFrame:
        """Every metric of every method judged so far."""
        return pl.concat(self._tables)

    def of(self, method: str, split: str) -> pl.DataFrame:
        """The metrics of one method and split."""
        return self.metrics.filter(method=method, split=split)

    def selection(self, scorer: Scorer, n: int | None) -> Selection:
        """Measures each epoch of a model in training on at most n validation queries drawn at random, relative to `REFERENCE`."""
        queries, evaluation = self.queries["validation"], self._evaluations["validation"][REFERENCE]
        drawn = np.sort(np.random.default_rng(self._seed).permutation(len(queries))[:n])
        table = evaluation.take(drawn).table(REFERENCE, "validation", n_resamples=1)
        return Selection(scorer, self.dataset.timeline, queries.take(drawn), self.labels, table, batch_size=self.batch_size)

    def significance(self, method: str) -> pl.DataFrame | None:
        """The method against each other one on test weeks; None where there is no other."""
        others = {name: evaluation for name, evaluation in self._evaluations["test"].items() if name != method}
        if not others:
            return None
        return compare(self._evaluations["test"][method], others, n_resamples=self._n_paired, seed=self._seed)

    def weeks(self) -> pl.DataFrame:
        """The headline metrics of every method week by week."""
        return pl.concat([self._by_week(m, split, e) for split, of in self._evaluations.items() for m, e in of.items()])

    def _by_week(self, method: str, split: str, evaluation: Evaluation) -> pl.DataFrame:
        values = evaluation.select(HEADLINES)
        rows = []
        for week in np.unique(evaluation.week):
            of_week = values[evaluation.week == week]
            date = self.dataset.date_of(int(week))
            rows += [
                {"week": int(week), "date": date, "slice": name, "metric": metric, "value": value, "n_queries": int(n)}
                for (name, metric), value, n in zip(HEADLINES, means(of_week).tolist(), (~np.isnan(of_week)).sum(0), strict=True)
            ]
        return pl.DataFrame(rows).select(pl.lit(method).alias("method"), pl.lit(split).alias("split"), pl.all()).fill_nan(None)

    def show(self, console: Console | None = None, split: str = "test") -> None:
        """Prints the leaderboard of the test weeks, or of the validation weeks."""
        (console or Console(width=150)).print(leaderboard(self.metrics, split))


@contextmanager
def progress_of(what: str, total: int):
    """A progress bar with the time that is left; gives the function that advances it."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda n: progress.advance(task, n)


def code_digest(method: type) -> str:
    """A digest of the source that makes a method's lists: results of other code are other results.

    Args:
        method: of a user's own the files count too that its class and those above it are of, and what they import.
    """
    digest = hashlib.sha256(code_of_baselines())
    digest.update(json.dumps(digests(each.__module__ for each in method.__mro__)).encode())
    with suppress(TypeError, OSError):  # of a class that was typed into a notebook there is no file
        digest.update(Path(inspect.getfile(method)).read_bytes())
    return digest.hexdigest()


def versions_behind(method: type) -> dict[str, str]:
    """The versions of the packages that make a method's lists, those that its class and those above it are of among them."""
    modules = {*NUMERIC, *(each.__module__.partition(".")[0] for each in method.__mro__)} - {seasonrec.__name__}
    return {name: metadata.version(name) for name in sorted({name for module in modules for name in _packages().get(module, ())})}


@cache
def _packages() -> Mapping[str, Sequence[str]]:
    """What is installed, by the modules that it brings."""
    return metadata.packages_distributions()


@cache
def code_of_baselines() -> bytes:
    """A digest of the source that all baselines share."""
    root = Path(seasonrec.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for pattern in CODE_OF_BASELINES for path in root.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.digest()


# What a baseline's lists depend on: packages, and sources of ours.
NUMERIC = ("numpy", "scipy", "torch", "polars", "implicit")
CODE_OF_BASELINES = ("baselines/*.py", "data/**/*.py", "encoders/*.py", "evaluation/ranking.py", "evaluation/lists.py", "schema.py")
