"""What follows, in the order in which other users took things: a causal transformer over item ids."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seasonrec.baselines.bounds import bounded
from seasonrec.baselines.products import products
from seasonrec.data.sequences import Sequences
from seasonrec.data.timeline import AsOf
from seasonrec.errors import DataError

N_HELD_OUT: Final = 2_000  # users by whose last item the number of epochs is chosen


class SasRec:
    """The next item after a user's last ones, by self-attention; trained by a softmax over the item and sampled others.

    The number of epochs is chosen on the last item of some users, which a first training does not see; a second one then sees all. It
    tells nothing of when, so it belongs to leave-one-out rather than to weeks.

    Reference: Kang and McAuley (2018), Self-attentive sequential recommendation; the loss and settings of Tikhonovich et al. (2025),
    eSASRec: enhancing transformer-based recommendations in a modular fashion, "SASRec+SS".

    Args:
        d: width of the embeddings.
        n_blocks, n_heads: of the transformer.
        dropout: share of hidden units that training drops.
        length: items of a history that are read, the last ones.
        n_negatives: other items that the softmax runs over at each place, drawn alike from the catalogue.
        lr: learning rate, of Adam.
        batch_size: users.
        max_epochs: of the first training.
        patience: epochs without a better one after which it ends.
        seed: of start values, order and negatives.
    """

    def __init__(
        self,
        d: int = 64,
        n_blocks: int = 1,
        n_heads: int = 1,
        dropout: float = 0.2,
        length: int = 50,
        n_negatives: int = 256,
        lr: float = 1e-3,
        batch_size: int = 128,
        max_epochs: int = 200,
        patience: int = 10,
        seed: int = 0,
    ):
        self._shape = {"d": d, "n_blocks": n_blocks, "n_heads": n_heads, "dropout": bounded("sasrec.dropout", dropout, 0, 1)}
        self._length, self._n_negatives = int(bounded("sasrec.length", length, 1)), int(bounded("sasrec.n_negatives", n_negatives, 1))
        self._lr, self._batch_size, self._seed = bounded("sasrec.lr", lr, 0), int(bounded("sasrec.batch_size", batch_size, 1)), seed
        self._max_epochs, self._patience = int(bounded("sasrec.max_epochs", max_epochs, 1)), int(bounded("sasrec.patience", patience, 1))
        self._sequences = lru_cache(maxsize=1)(Sequences.of)  # consecutive calls come with the same moment

    def fit(self, past: AsOf) -> None:
        """Learns from every place of every history but the first.

        Raises:
            DataError: no history has a second place.
        """
        sequences = self._sequences(past)
        if not (sequences.lengths > 1).any():
            raise DataError(
                f"sasrec: none of {past.n_users} users has two events to learn from, wanted at least one who has; give longer sequences"
                " (leave-one-out holds out the last two items of each), or leave sasrec out of the baselines"
            )
        rng = np.random.default_rng(self._seed)
        known = np.flatnonzero(sequences.lengths > 2)  # what is held out has a history of two, so that one place is left to learn from
        held_out = np.sort(rng.permutation(known)[:N_HELD_OUT])
        self.n_epochs = self._best_epoch(sequences, held_out) if len(held_out) else 1
        self.model = self._new_model(past.n_items)
        for _ in self._epochs(self.model, sequences, self.n_epochs):
            pass

    def _best_epoch(self, sequences: Sequences, held_out: NDArray[np.int64]) -> int:
        """How many epochs find the held-out items best, by the mean of 1 / log2(1 + place)."""
        target, without = sequences.last(held_out), sequences.without_last(held_out)
        model, gains = self._new_model(sequences.n_items), []
        for _ in self._epochs(model, without, self._max_epochs):
            scores = self._scores(model, without, held_out)
            place = (scores > scores[np.arange(len(target)), target][:, None]).sum(1)
            gains.append(float(np.mean(1 / np.log2(2 + place))))
            if len(gains) - int(np.argmax(gains)) > self._patience:
                break
        return int(np.argmax(gains)) + 1

    def _new_model(self, n_items: int) -> "Transformer":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            return Transformer(n_items, self._length, **self._shape)  # type: ignore[arg-type]

    def _epochs(self, model: "Transformer", sequences: Sequences, n: int) -> Iterator[int]:
        """Trains, and gives the number of each epoch that ended."""
        optimizer = torch.optim.Adam(model.parameters(), lr=self._lr, betas=(0.9, 0.98), fused=True)
        rng = np.random.default_rng(self._seed)
        users = np.flatnonzero(sequences.lengths > 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            for epoch in range(n):
                model.train()
                order = rng.permutation(users)
                for rows in np.array_split(order, range(self._batch_size, len(order), self._batch_size)):
                    longest = min(int(sequences.lengths[rows].max()), self._length + 1)
                    items = torch.from_numpy(sequences.padded(rows, longest))
                    optimizer.zero_grad()
                    model.loss(items, self._n_negatives).backward()
                    optimizer.step()
                model.eval()
                yield epoch

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """Products of what follows a user's history with every item, [n_users_in_batch, n_items]."""
        return self._scores(self.model, self._sequences(now), users)

    @torch.inference_mode()
    def _scores(self, model: "Transformer", sequences: Sequences, users: NDArray[np.int64]) -> NDArray[np.float32]:
        follows = model(torch.from_numpy(sequences.padded(users, self._length)))[:, -1]
        return (follows @ model.item.weight[:-1].T).numpy()


class Transformer(nn.Module):
    """Blocks of causal self-attention over item embeddings and places, counted from the end.

    As in the reference, a block adds attention to its normalised input rather than to the input itself.
    """

    def __init__(self, n_items: int, length: int, d: int, n_blocks: int, n_heads: int, dropout: float):
        super().__init__()
        self.item, self.place = nn.Embedding(n_items + 1, d, padding_idx=n_items), nn.Embedding(length, d)
        nn.init.xavier_normal_(self.item.weight)
        nn.init.xavier_normal_(self.place.weight)
        with torch.no_grad():
            self.item.weight[n_items] = 0
        self.blocks = nn.ModuleList(Block(d, n_heads, dropout) for _ in range(n_blocks))
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(d)

    def forward(self, items: Tensor) -> Tensor:
        """What follows each place, [n, length, d]."""
        known = (items < self.item.num_embeddings - 1).unsqueeze(-1)
        x = self.dropout(self.item(items) + self.place.weight[: items.shape[1]].flip(0))
        for block in self.blocks:
            x = block(x * known)
        return self.norm(x * known)

    def loss(self, items: Tensor, n_negatives: int) -> Tensor:
        """Cross-entropy of the item at each place but the first among others drawn alike; `items` is one longer than what is read."""
        n_items = self.item.num_embeddings - 1
        asked = (items[:, 1:] < n_items) & (items[:, :-1] < n_items)
        follows, target = self(items[:, :-1])[asked], items[:, 1:][asked]
        candidates = torch.cat([target[:, None], torch.randint(n_items, (len(target), n_negatives))], 1)
        logits = products(follows, self.item.weight, candidates)
        return nn.functional.cross_entropy(logits, torch.zeros_like(target))


class Block(nn.Module):
    """Attention to what came before, then a small network at each place."""

    def __init__(self, d: int, n_heads: int, dropout: float):
        super().__init__()
        self.attention = nn.MultiheadAttention(d, n_heads, dropout, batch_first=True)
        self.before, self.between = nn.LayerNorm(d), nn.LayerNorm(d)
        self.network = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Dropout(dropout), nn.Linear(d, d), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """[n, length, d]."""
        ahead = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        query = self.before(x)
        x = self.between(query + self.attention(query, x, x, attn_mask=ahead, need_weights=False)[0])
        return x + self.network(x)
