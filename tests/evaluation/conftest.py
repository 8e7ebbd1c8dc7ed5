"""A small shop whose numbers can be worked out by brute force."""

import numpy as np
import polars as pl
import pytest
import pytorch_lightning as lightning
import torch
from torch import nn

from seasonrec.data.dataset import Dataset, Split
from seasonrec.schema import DAY, WEEK, as_events

START = 1_483_228_800  # 2017-01-01 UTC
N_USERS, N_ITEMS, N_EVENTS, N_WEEKS = 40, 130, 4_000, 70


@pytest.fixture(scope="session")
def shop() -> Dataset:
    """4,000 events of 40 users over 70 weeks; items 0-39 are sold in autumn only, the last 20 from week 60 on, types 3 unknown."""
    rng = np.random.default_rng(3)
    user, item = rng.integers(N_USERS, size=N_EVENTS), rng.integers(N_ITEMS - 20, size=N_EVENTS)
    time = START + rng.integers(N_WEEKS * WEEK, size=N_EVENTS)
    autumn = item < 40
    time[autumn] = START + 280 * DAY + rng.integers(60 * DAY, size=autumn.sum())
    late = time >= START + 60 * WEEK
    item[late] = rng.integers(N_ITEMS - 40, N_ITEMS, size=late.sum())
    events = pl.DataFrame({"user_id": [f"u{n:02d}" for n in user], "item_id": [f"i{n:03d}" for n in item], "time": time})
    ids = [f"i{n:03d}" for n in range(N_ITEMS)]
    return Dataset(
        name="shop",
        events=as_events(events, "shop"),
        items=pl.DataFrame({"item_id": ids, "type": [None if n % 4 == 3 else f"type {n // 10}" for n in range(N_ITEMS)]}),
        users=pl.DataFrame({"user_id": [f"u{n:02d}" for n in range(N_USERS)]}),
        split=Split((56, 59), (60, 69)),
        week_zero=START,
        text_rule=lambda events, items, cutoff: [""] * len(items),
    )


class TiedScores:
    """Whole numbers 0..4 by user, item and week, so that most of a list is ties."""

    def fit(self, past):
        pass

    def scores(self, users, now):
        mixed = users[:, None] * 31 + np.arange(now.n_items) * 17 + now.week * 7
        return ((mixed * mixed // 11) % 5).astype(np.float32)


@pytest.fixture
def tied_scores() -> TiedScores:
    return TiedScores()


class Idle(lightning.LightningModule):
    """Trains a number that nobody reads."""

    def __init__(self):
        super().__init__()
        self.number = nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        return self.number**2

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture
def idle() -> Idle:
    """A module whose training changes nothing that is evaluated."""
    return Idle()
