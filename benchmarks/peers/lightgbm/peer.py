"""LightGBM LambdaMART over candidates with hand-made features: python peer.py EXCHANGE, called by run.py.

Budget: each of `SETTINGS` is fitted once on the weeks before validation and ranks these weeks with so many `ROUNDS`; that with the best
selection metric of the benchmark is fitted again on all weeks before the test.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np
import polars as pl
from facts import Facts, Rows, Sizes
from numpy.typing import NDArray
from omegaconf import OmegaConf

from seasonrec.baselines.personal_frequency import PersonalFrequency
from seasonrec.data.timeline import AsOf, Queries, Timeline
from seasonrec.evaluation.evaluate import evaluate
from seasonrec.evaluation.labels import season_labels
from seasonrec.evaluation.lists import Lists, write_lists
from seasonrec.evaluation.ranking import rank
from seasonrec.evaluation.tables import selection_score
from seasonrec.experiments.build import dataset_of, texts_of
from seasonrec.seasons.in_season import SeasonLabels

SETTINGS: Final = ({"learning_rate": 0.1, "num_leaves": 31}, {"learning_rate": 0.05, "num_leaves": 63})
ROUNDS: Final = (100, 200, 300)
FIXED: Final = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 50,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "max_bin": 127,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
N_WEEKS, N_QUERIES, N_NEGATIVES = 36, 12_000, 100  # before validation; queries drawn from these weeks; other candidates of each, on average
BATCH = 256

RowsOf = Callable[[NDArray[np.int64], AsOf], Rows]
Table = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]


class Trees:
    """Boosted trees over the candidates of each query; other items follow below them, by popularity and text."""

    def __init__(self, booster: lightgbm.Booster, rows_of: RowsOf, n_rounds: int):
        self._booster, self._rows_of, self._n_rounds = booster, rows_of, n_rounds

    def fit(self, past: AsOf) -> None:
        """The booster is fitted already."""

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """One score an item, [n_users_in_batch, n_items]."""
        rows = self._rows_of(users, now)
        scores = self._booster.predict(rows.features, num_iteration=self._n_rounds)
        dense = rows.rest + np.float32(scores.min(initial=0))
        dense[rows.query, rows.item] = scores
        return dense


class Kept:
    """The rows of validation batches are made once for all settings."""

    def __init__(self, facts: Facts):
        self._facts, self._made = facts, dict[tuple[int, bytes], Rows]()

    def of(self, users: NDArray[np.int64], now: AsOf) -> Rows:
        """The rows of a batch."""
        key = (now.week, users.tobytes())
        if key not in self._made:
            self._made[key] = self._facts.rows(users, now)
        return self._made[key]


def batches(queries: Queries) -> Iterator[Queries]:
    """The batches in which `rank` asks."""
    for week in np.unique(queries.week):
        rows = np.flatnonzero(queries.week == week)
        yield from (queries.take(part) for part in np.array_split(rows, range(BATCH, len(rows), BATCH)))


def table(queries: Queries, timeline: Timeline, rows_of: RowsOf, seed: int) -> Table:
    """The features of candidates [n, d], whether each was bought [n], and how many there are of each query with a bought one.

    Of the candidates that were not bought, `N_NEGATIVES` of a query are drawn on average.
    """
    rng, features, bought, sizes = np.random.default_rng(seed), [], [], []
    for batch in batches(queries):
        rows = rows_of(batch.user.astype(np.int64), timeline.at_week(int(batch.week[0])))
        truth = np.zeros((len(batch), timeline.n_items), bool)
        truth[batch.truth_query, batch.truth_item] = True
        hit = truth[rows.query, rows.item]
        found = np.bincount(rows.query[hit], minlength=len(batch)) > 0
        share = N_NEGATIVES / np.bincount(rows.query, minlength=len(batch))[rows.query]
        keep = found[rows.query] & (hit | (rng.random(len(hit)) < share))
        features.append(rows.features[keep])
        bought.append(hit[keep])
        size = np.bincount(rows.query[keep], minlength=len(batch))
        sizes.append(size[size > 0])
    return np.concatenate(features), np.concatenate(bought), np.concatenate(sizes)


def drawn(queries: Queries, n: int, seed: int) -> Queries:
    """At most n of the queries, in their order."""
    return queries.take(np.sort(np.random.default_rng(seed).permutation(len(queries))[:n]))


class Run:
    """The run of a data set.

    Args:
        exchange: the folder that config.json is in, and that the lists and peer.json go to.
    """

    def __init__(self, exchange: Path):
        self.exchange, self.cfg = exchange, OmegaConf.create(json.loads((exchange / "config.json").read_text()))
        self.seconds: dict[str, dict[str, float]] = {}
        self.dataset = dataset_of(self.cfg)
        self.timeline, self.weeks, self.seed = self.dataset.timeline, self.dataset.split.weeks, int(self.cfg.seed)
        texts = {split: texts_of(self.cfg, self.dataset, self.weeks[split].start) for split in self.weeks}
        self.facts = Facts(self.timeline, self.weeks, texts, Sizes(), plan=self.dataset.plan)
        self.kept = Kept(self.facts)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the seconds of what runs inside: those of the clock, and those of the processor, which a busy machine does not stretch."""
        start = time.perf_counter(), time.process_time()
        yield
        spent = {"clock": time.perf_counter() - start[0], "processor": time.process_time() - start[1]}
        before = self.seconds.get(name, {})
        self.seconds[name] = {kind: round(before.get(kind, 0) + seconds, 1) for kind, seconds in spent.items()}
        print(f"{name}: {self.seconds[name]}", flush=True)

    def go(self) -> None:
        """Tunes, fits, ranks and writes."""
        first, cut = self.weeks["validation"].start, self.weeks["test"].start
        queries = self.timeline.at_week(cut).queries(self.weeks["validation"])
        with self.stage("features"):
            past = self.timeline.at_week(first).queries(range(max(first - N_WEEKS, 1), first))
            train = table(drawn(past, N_QUERIES, self.seed), self.timeline, self.facts.rows, self.seed)
        with self.stage("tuning"):
            tried, validation = self.tune(train, queries)
            chosen = max(tried, key=lambda each: each["selection"])
        with self.stage("features"):
            more = table(queries, self.timeline, self.kept.of, self.seed)
            both = tuple(np.concatenate(parts) for parts in zip(train, more, strict=True))
        with self.stage("fit"):
            setting, n_rounds = {name: chosen[name] for name in SETTINGS[0]}, chosen["rounds"]
            trees = Trees(self.boosted(both, setting, n_rounds), self.facts.rows, n_rounds)
        with self.stage("ranking"):
            test = rank(trees, self.timeline, self.timeline.queries(self.weeks["test"]), batch_size=BATCH)
        for split, lists in {"validation": validation, "test": test}.items():
            write_lists(lists, self.dataset, self.exchange / f"{split}.parquet")
        record = {
            "tuning": {"budget": f"{len(SETTINGS)} settings, {len(ROUNDS)} numbers of rounds each", "tried": tried},
            "chosen": FIXED | setting | {"rounds": n_rounds},
            "training": {"weeks": N_WEEKS, "rows": len(both[0]), "queries": len(both[2]), "features": both[0].shape[1]},
            "seconds": self.seconds,
            "versions": {"lightgbm": lightgbm.__version__, "numpy": np.__version__, "python": sys.version.split()[0]},
        }
        (self.exchange / "peer.json").write_text(json.dumps(record, indent=1))

    def tune(self, train: Table, queries: Queries) -> tuple[list[dict[str, Any]], Lists]:
        """Each setting with its rounds and selection metric on the validation queries, and the lists of the best."""
        labels, tried, best = season_labels(self.dataset), list[dict[str, Any]](), None
        usual = self.metrics(rank(PersonalFrequency(), self.timeline, queries), labels)
        for setting in SETTINGS:
            booster = self.boosted(train, setting, max(ROUNDS))
            for n_rounds in ROUNDS:
                lists = rank(Trees(booster, self.kept.of, n_rounds), self.timeline, queries, batch_size=BATCH)
                selection = selection_score(self.metrics(lists, labels), usual)
                if best is None or selection > max(each["selection"] for each in tried):
                    best = lists
                tried.append(setting | {"rounds": n_rounds, "selection": selection})
                print(tried[-1], flush=True)
        return tried, best

    def metrics(self, lists: Lists, labels: SeasonLabels) -> pl.DataFrame:
        """Of validation lists."""
        return evaluate(lists, self.timeline, labels).table("lightgbm", "validation", n_resamples=1)

    def boosted(self, train: Table, setting: dict[str, Any], n_rounds: int) -> lightgbm.Booster:
        """Trees fitted to a table."""
        features, bought, sizes = train
        options = FIXED | setting | {"num_threads": self.cfg.n_threads or 0, "seed": self.seed}
        return lightgbm.train(options, lightgbm.Dataset(features, bought, group=sizes), n_rounds)


if __name__ == "__main__":
    Run(Path(sys.argv[1])).go()
