"""What training reads: the queries of the weeks before a cut-off, in batches."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, IterableDataset

from seasonrec.data.batches import Batch, Batcher, TrainingBatches
from seasonrec.data.candidates import CandidateSampler
from seasonrec.data.timeline import AsOf
from seasonrec.errors import ConfigError
from seasonrec.schema import WEEK


@dataclass(frozen=True)
class Sampling:
    """From which queries, in which portions and against which candidates the model learns.

    Args:
        n_weeks: how many of the last weeks before the cut-off. More than a year, so that every week of the year has been seen.
        n_queries: an epoch's, drawn anew for each; None for all of them. So an epoch is as long for a large shop as for a small one.
        batch_size: queries a batch, all of one week.
        candidates: what the softmax runs over.
        skip_weeks: weeks at the very beginning of the data that are history only.
    """

    n_weeks: int = 80
    n_queries: int | None = 10_000
    batch_size: int = 64
    candidates: CandidateSampler = field(default_factory=CandidateSampler)
    skip_weeks: int = 4

    def __post_init__(self) -> None:
        for name in ("n_weeks", "n_queries", "batch_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"sampling.{name} is {value}, wanted at least 1")

    def weeks(self, past: AsOf) -> range:
        """The weeks to learn from as of a cut-off."""
        first = past.week - int((past.time - past.start) // WEEK) + self.skip_weeks
        return range(max(past.week - self.n_weeks, min(first, past.week - 1)), past.week)


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
        )

    def train_dataloader(self) -> DataLoader:
        """One epoch's queries; batches are made whole, so nothing is collated."""
        # A generator of its own: each pass draws a seed for workers, from the model's random numbers unless told otherwise,
        # and a resumed training makes its first pass at another moment.
        return DataLoader(Ahead(self.batches), batch_size=None, generator=torch.Generator())


class Ahead(IterableDataset):
    """The same batches, the next of which is made by a thread while the model learns from the last."""

    def __init__(self, batches: TrainingBatches):
        self.batches = batches

    @property
    def epoch(self) -> int:
        """Whose order and draws the next pass has."""
        return self.batches.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.batches.epoch = epoch

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self.batches)
        with ThreadPoolExecutor(1) as thread:
            coming = thread.submit(next, batches, None)
            while (batch := coming.result()) is not None:
                coming = thread.submit(next, batches, None)
                yield batch
