"""What is known of users in words, as of a moment."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seasonrec.data.dataset import Dataset, rows_of
from seasonrec.errors import ConfigError
from seasonrec.schema import ITEM, REVIEW, TIME, USER


class UserWords:
    """A user as a text: the user's own text, then what was bought and what the user wrote about it, the newest first.

    Newest first, so that a reader of so many tokens loses the oldest.

    Args:
        dataset: the shop; only events before the moment asked about are read.
        item_texts: of each catalogue item, as known at the model's cut-off [n_items].
        n_purchases: of a user, the newest ones.
        n_words: of each review, its first ones; 0 reads no reviews.

    Raises:
        ConfigError: a number below 0.
    """

    def __init__(self, dataset: Dataset, item_texts: Sequence[str], n_purchases: int = 8, n_words: int = 24):
        if min(n_purchases, n_words) < 0:
            raise ConfigError(f"model.user_words: n_purchases is {n_purchases} and n_words {n_words}, wanted at least 0 of each")
        events = dataset.events.with_columns(pl.Series("row", rows_of(dataset.events[USER], dataset.users[USER])))
        events = events.sort("row", TIME, maintain_order=True)
        written = events[REVIEW].fill_null("").str.split(" ").list.head(n_words).list.join(" ")
        self._own, self._item_texts, self._n = dataset.user_texts, item_texts, n_purchases
        self._item, self._written = rows_of(events[ITEM], dataset.items[ITEM]), written.to_list()
        # One ascending number for (user, time), so that one search finds all users' newest events.
        self._first = int(events[TIME].min())  # type: ignore[arg-type]
        self._span = int(events[TIME].max()) - self._first + 1  # type: ignore[arg-type]
        self._key = self._keys(events["row"].to_numpy(), events[TIME].to_numpy())

    def __call__(self, users: NDArray[np.int64], time: int) -> list[str]:
        """The text of each user from events strictly before a time (int64 seconds UTC), [n]; "" where nothing is known.

        Args:
            users: rows; -1 is a user of whom nothing is known.
        """
        first = np.searchsorted(self._key, self._keys(users, np.int64(self._first)))
        end = np.searchsorted(self._key, self._keys(users, np.int64(time)))
        spans = zip(users.tolist(), np.maximum(first, end - self._n).tolist(), end.tolist(), strict=True)
        return ["" if user < 0 else self._text(user, range(lo, hi)) for user, lo, hi in spans]

    def _keys(self, users: NDArray, times: NDArray | np.int64) -> NDArray[np.int64]:
        return users.astype(np.int64) * (self._span + 1) + np.clip(times - self._first, 0, self._span)

    def _text(self, user: int, events: range) -> str:
        bought = (": ".join(filter(None, (self._item_texts[self._item[at]], self._written[at]))) for at in reversed(events))
        return "; ".join(filter(None, (self._own[user], *bought)))
