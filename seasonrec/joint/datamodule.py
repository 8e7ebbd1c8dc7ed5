"""What training reads: the queries of the weeks before a cut-off, in batches."""

from dataclasses import dataclass, field

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from seasonrec.bounds import bounded
from seasonrec.data.batches import Batcher, TrainingBatches
from seasonrec.data.candidates import CandidateSampler
from seasonrec.data.timeline import AsOf
from seasonrec.errors import ConfigError
from seasonrec.schema import WEEK


@dataclass(frozen=True)
class Sampling:
    """From which queries, in which portions and against which candidates the model learns.

    Args:
        users: the share of users that is learnt from, above 0, at most 1; histories and counters are of all.
        n_weeks: how many of the last weeks before the cut-off. Several years, so that each season has been seen more than once.
        n_queries: an epoch's, drawn anew for each; None for all of them. So an epoch is as long for a large shop as for a small one.
        batch_size: queries a batch, all of one week.
        candidates: what the softmax runs over; None: the truth alone, for losses that compare no items, such as that of ratings.
        in_season: how much more a purchase counts, at least 0, whose item is in season in its week: has twice its yearly share then, by
            what was known at the cut-off. Lists show more of the season so, and less of all else.
        skip_weeks: whole weeks at the very beginning of the data that are history only; of under twice as many weeks, half of them.
    """

    users: float = 1.0
    n_weeks: int = 156
    n_queries: int | None = 10_000
    batch_size: int = 64
    candidates: CandidateSampler | None = field(default_factory=CandidateSampler)
    in_season: float = 0.0
    skip_weeks: int = 4

    def __post_init__(self) -> None:
        for name in ("n_weeks", "n_queries", "batch_size"):
            if (value := getattr(self, name)) is not None:
                bounded(f"sampling.{name}", value, 1)
        bounded("sampling.in_season", self.in_season, 0)
        if not 0 < self.users <= 1:
            raise ConfigError(f"sampling.users is {self.users}, wanted a share of users above 0, at most 1")

    def weeks(self, past: AsOf) -> range:
        """The weeks to learn from as of a cut-off."""
        known = int((past.time - past.start) // WEEK)
        n = max(known - min(self.skip_weeks, known // 2), 1)
        return range(past.week - min(n, self.n_weeks), past.week)


class QueryData(pl.LightningDataModule):
    """Batches of past queries, as of one cut-off.

    Args:
        past: all that was known at the cut-off.
        seed: of the order of queries and of the candidates drawn.
    """

    def __init__(self, past: AsOf, batcher: Batcher, sampling: Sampling, seed: int):
        super().__init__()
        self.batches = TrainingBatches(
            past,
            sampling.weeks(past),
            batcher,
            batch_size=sampling.batch_size,
            sampler=sampling.candidates,
            seed=seed,
            n_queries=sampling.n_queries,
            users=sampling.users,
            in_season=sampling.in_season,
        )

    def train_dataloader(self) -> DataLoader:
        """One epoch's queries; batches are made whole, so nothing is collated."""
        # A generator of its own: each pass draws a seed for workers, from the model's random numbers unless told otherwise,
        # and a resumed training makes its first pass at another moment.
        return DataLoader(self.batches, batch_size=None, generator=torch.Generator())
