"""What a run shows beside its numbers: recommendations taken apart, and items with their seasons."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from seasonrec.data.dataset import Dataset
from seasonrec.experiments.recommender import Recommender
from seasonrec.experiments.record import RunRecord
from seasonrec.schema import DAY, ITEM, USER, day_of
from seasonrec.seasons.phase import N_WEEKS, week_of_year
from seasonrec.seasons.profile import seasonal_profile

N_ITEMS: Final = 12
K: Final = 5
HALF_YEAR: Final = 182 * DAY


def write_examples(record: RunRecord, recommender: Recommender) -> None:
    """Writes examples.csv and seasonality.csv of a run."""
    record.table("examples", examples(recommender))
    record.table("seasonality", seasonality(recommender.dataset, recommender.item_texts))


def examples(recommender: Recommender) -> pl.DataFrame:
    """The first recommendations to three users in the first test week that has any and half a year later, each score split by head.

    The users are those at the quartiles of history length among the users of that week, so that they differ and nobody picks them.
    """
    dataset = recommender.dataset
    queries = dataset.timeline.queries(dataset.split.weeks["test"])
    week = int(queries.week.min())
    users = np.unique(queries.user[queries.week == week])
    n = recommender.timeline.at_week(week).histories(users)
    by_length = users[np.argsort(np.bincount(n.pair_query, minlength=len(users)), kind="stable")]
    places = sorted({len(users) * quarter // 4 for quarter in (1, 2, 3)})  # of one or two users fewer
    chosen = dataset.users[USER].gather(by_length[places]).to_list()
    now = dataset.start_of(week)
    frames = [
        recommender.recommend(chosen, date, k=K, explain=True).with_columns(pl.lit(recommender.season_text(date)).alias("season"))
        for date in (day_of(now), day_of(now + HALF_YEAR))
    ]
    return pl.concat(frames)


def seasonality(dataset: Dataset, texts: Sequence[str]) -> pl.DataFrame:
    """The weekly shares of the items whose sales before the test weeks are the most seasonal, among those sold often.

    Each week counts by its sales a day, so that one covered twice weighs no more than others; one never covered has no row.
    """
    first_test = dataset.split.weeks["test"].start
    p = dataset.timeline.at_week(first_test).purchases()
    covered = np.arange(dataset.timeline.time[0] // DAY, -(-dataset.start_of(first_test) // DAY)) * DAY
    days = np.bincount(week_of_year(covered), minlength=N_WEEKS)
    weeks = np.flatnonzero(days)
    n = np.bincount(p.item, minlength=dataset.n_items)
    often = np.argsort(-n, kind="stable")[: max(len(n) // 50, N_ITEMS)]
    profile = seasonal_profile(p.item, week_of_year(p.time), dataset.n_items, days=days)[:, weeks]
    peak = profile[often].max(1)
    chosen = often[np.argsort(-peak, kind="stable")[:N_ITEMS]]
    return pl.DataFrame(
        {
            ITEM: np.repeat(dataset.items[ITEM].gather(chosen).to_numpy(), len(weeks)),
            "text": np.repeat(np.array(texts, object)[chosen], len(weeks)),
            "week_of_year": np.tile(weeks, len(chosen)),
            "share": profile[chosen].ravel(),
        }
    )
