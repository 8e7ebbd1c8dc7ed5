"""Fixtures shared by all tests."""

import os
import zlib
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from seasonrec.data.batches import Batcher, Moments
from seasonrec.data.similar_users import SimilarUsers
from seasonrec.data.timeline import Timeline
from seasonrec.encoders.catalogue import CatalogueTexts
from seasonrec.encoders.neighbours import TextPool
from seasonrec.encoders.tokens import Tokens
from seasonrec.heads.head import Sizes
from seasonrec.schema import WEEK
from seasonrec.seasons.calendar import Calendar
from seasonrec.seasons.context import SeasonContext
from seasonrec.seasons.in_season import SeasonLabels


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of research data sets that the project may not ship, named by SEASONREC_DATA."""
    folder = os.environ.get("SEASONREC_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SEASONREC_DATA names no folder of research data sets")
    return Path(folder)


@pytest.fixture
def random_timeline() -> Timeline:
    """400 events of 12 users and 30 items over 40 weeks, several a week for the same pair."""
    rng = np.random.default_rng(7)
    return Timeline(
        rng.integers(0, 12, 400),
        rng.integers(0, 30, 400),
        1_500_000_000 + rng.integers(0, 40 * WEEK, 400),
        n_users=13,  # the last user and the last two items never appear
        n_items=32,
        week_zero=1_500_000_000,
    )


class WordEncoder(nn.Module):
    """A text encoder whose vectors can be worked out: the normalised sum of one learnt vector a word; zero for a blank text.

    `encoded` holds every text that `encode` was asked for, in order.
    """

    def __init__(self, d=8, learns=False):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.words = nn.Parameter(torch.randn(997, d, generator=generator), requires_grad=learns)
        self.encoded = []

    def tokenize(self, texts):
        words = [[zlib.crc32(word.encode()) % 997 for word in text.split()] for text in texts]
        return Tokens(np.fromiter(chain.from_iterable(words), np.int32), np.cumsum([0, *map(len, words)]))

    def forward(self, tokens):
        text = torch.from_numpy(np.repeat(np.arange(len(tokens)), tokens.lengths))
        total = torch.zeros(len(tokens), self.words.shape[1]).index_add(0, text, self.words[torch.from_numpy(tokens.ids).long()])
        return nn.functional.normalize(total, dim=-1)

    def encode_tokens(self, tokens):
        return self(tokens).detach().numpy()

    def digest(self):
        return "words"

    def tokenize_pairs(self, first, second):
        return self.tokenize([f"{a} / {b}" for a, b in zip(first, second, strict=True)])

    def pooled(self, tokens):
        return 3 * self(tokens)

    def encode(self, texts, *, cache=None, progress=None):
        self.encoded += texts
        return self(self.tokenize(texts)).detach().numpy()


@pytest.fixture
def word_encoder():
    """The class: `word_encoder(learns=True)` makes an encoder with gradients."""
    return WordEncoder


@dataclass
class SmallShop:
    """Two years of a shop small enough for loops. The last user never buys, the last two items are never sold.

    Users have a text each, but for every third; items share texts in pairs, and item 3 has none.
    """

    timeline: Timeline
    season: SeasonContext
    texts: CatalogueTexts
    batcher: Batcher
    sizes: Sizes

    def with_timeline(self, timeline):
        """The same shop with another past, and nothing kept of the old one."""
        batcher = Batcher(Moments(self.season, self.batcher.moments._pool), SimilarUsers(k=4), self.batcher._words, self.batcher.in_season)
        return SmallShop(timeline, self.season, self.texts, batcher, self.sizes)

    def batch(self, week=100, users=(0, 4, 12, -1, 7), candidates=None):
        """A batch without truth; user 12 has never bought, -1 is nobody."""
        return self.batcher.batch(np.array(users), self.timeline.at_week(week), candidates)

    def training_batch(self, week=100, candidates=None):
        """All queries of a week with their truth."""
        return self.batcher.with_truth(self.timeline.queries(range(week, week + 1)), self.timeline.at_week(week), candidates)


WORDS = "red green blue large small mug egg candle lights wreath tree pumpkin barbecue garden scarf gift"


def small_shop_of(encoder):
    rng = np.random.default_rng(2)
    n, users, items, weeks = 1_500, 12, 30, 110
    start = 1_483_228_800  # 2017-01-01 UTC
    item = np.minimum(rng.integers(0, items, n), rng.integers(0, items, n))  # some sell better
    timeline = Timeline(
        rng.integers(0, users, n),
        item,
        start + rng.integers(0, weeks * WEEK, n),
        n_users=users + 1,
        n_items=items + 2,
        week_zero=start,
        rating=rng.integers(1, 6, n),
    )
    words = WORDS.split()
    item_texts = ["" if row == 3 else f"{words[row // 2]} {words[(row // 2 + 5) % 16]}" for row in range(timeline.n_items)]
    user_texts = ["" if row % 3 == 2 else f"likes {words[row]}" for row in range(timeline.n_users)]
    texts = CatalogueTexts(encoder, item_texts, user_texts, n_fresh=6)
    season = SeasonContext(Calendar(), n_harmonics=2)
    says = lambda users, time: [f"user {user}" for user in users.tolist()]
    rows = np.arange(timeline.n_items)
    in_season = partial(SeasonLabels.by, group=rows, unlabelled=rows == 0, min_triples=5)
    batcher = Batcher(Moments(season, TextPool(texts.of_item.numpy(), texts.find_neighbours(3))), SimilarUsers(k=4), says, in_season)
    moments = batcher.moments
    sizes = Sizes(timeline.n_users, timeline.n_items, texts.d_text, moments.d_season, moments.d_demand)
    return SmallShop(timeline, season, texts, batcher, sizes)


@pytest.fixture
def small_shop():
    """A shop whose encoder is frozen."""
    return small_shop_of(WordEncoder())


@pytest.fixture
def learning_shop():
    """The same shop with an encoder that learns."""
    return small_shop_of(WordEncoder(learns=True))
