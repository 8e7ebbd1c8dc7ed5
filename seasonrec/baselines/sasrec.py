"""What follows, in the order in which other users took things: a causal transformer over item ids."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seasonrec.baselines.products import products
from seasonrec.bounds import bounded
from seasonrec.data.sequences import Sequences
from seasonrec.data.timeline import AsOf
from seasonrec.errors import ConfigError, DataError

log = logging.getLogger(__name__)


class SasRec:
    """The next item after a user's last ones, by self-attention; trained by a softmax over the item and sampled others.

    Training drops units of the item embeddings themselves, both where they are read and where the softmax compares them, as RecTools does.

    The number of epochs is chosen on the last item of users, which a first training does not see; a second one then sees all. It tells
    nothing of when, so it belongs to leave-one-out rather than to weeks.

    Reference: Kang and McAuley (2018), Self-attentive sequential recommendation; the loss and settings of Tikhonovich et al. (2025),
    eSASRec: enhancing transformer-based recommendations in a modular fashion, "SASRec+SS", and with `block="ligr"` "eSASRec".

    Args:
        d: width of the embeddings.
        n_blocks, n_heads: of the transformer.
        block: "sasrec" as in the first reference, "ligr" with gates as in the second.
        widening: of the network within a block, in d.
        dropout: share of hidden units that training drops.
        length: items of a history that are read, the last ones.
        n_negatives: other items that the softmax runs over at each place, drawn alike from the catalogue.
        lr: learning rate, of Adam.
        batch_size: users.
        max_epochs: of the first training.
        patience: epochs without a better one after which it ends.
        n_held_out: users by whose last item the number of epochs is chosen, drawn by seed; None: all, as in the second reference. A few
            thousand cost less time and may end training too soon.
        device: "auto" is the GPU where there is one, else "cpu"; or a name that torch knows. Start values are the same on each.
        seed: of start values, order and negatives.

    Raises:
        ConfigError: a setting out of its range, an unknown block, or a device that is not there.
    """

    def __init__(
        self,
        d: int = 64,
        n_blocks: int = 1,
        n_heads: int = 1,
        block: str = "sasrec",
        widening: int = 1,
        dropout: float = 0.2,
        length: int = 50,
        n_negatives: int = 256,
        lr: float = 1e-3,
        batch_size: int = 128,
        max_epochs: int = 200,
        patience: int = 50,
        n_held_out: int | None = None,
        device: str = "auto",
        seed: int = 0,
    ):
        if block not in BLOCKS:
            raise ConfigError(f"sasrec.block is {block!r}, wanted one of {', '.join(BLOCKS)}")
        self._shape = {"d": d, "n_blocks": n_blocks, "n_heads": n_heads, "dropout": bounded("sasrec.dropout", dropout, 0, 1)}
        self._block, self._widening = BLOCKS[block], int(bounded("sasrec.widening", widening, 1))
        self._length, self._n_negatives = int(bounded("sasrec.length", length, 1)), int(bounded("sasrec.n_negatives", n_negatives, 1))
        self._lr, self._batch_size, self._seed = bounded("sasrec.lr", lr, 0), int(bounded("sasrec.batch_size", batch_size, 1)), seed
        self._max_epochs, self._patience = int(bounded("sasrec.max_epochs", max_epochs, 1)), int(bounded("sasrec.patience", patience, 1))
        self._n_held_out = None if n_held_out is None else int(bounded("sasrec.n_held_out", n_held_out, 1))
        self._device = usable(device)
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
        held_out = np.sort(rng.permutation(known)[: self._n_held_out])
        self.n_epochs = self._best_epoch(sequences, held_out) if len(held_out) else 1
        self.model = self._new_model(past.n_items)
        for _ in self._epochs(self.model, sequences, self.n_epochs):
            pass

    def _best_epoch(self, sequences: Sequences, held_out: NDArray[np.int64]) -> int:
        """How many epochs find the held-out items best, by the mean of 1 / log2(1 + place)."""
        target, without = sequences.last(held_out), sequences.without_last(held_out)
        model, gains = self._new_model(sequences.n_items), []
        for _ in self._epochs(model, without, self._max_epochs):
            place = np.concatenate([self._places(model, without, held_out[rows], target[rows]) for rows in self._batches(len(target))])
            gains.append(float(np.mean(1 / np.log2(2 + place))))
            log.info("sasrec: after epoch %d of at most %d, held-out items gain %.4f", len(gains), self._max_epochs, gains[-1])
            if len(gains) - int(np.argmax(gains)) > self._patience:
                break
        return int(np.argmax(gains)) + 1

    def _places(self, model: "Transformer", sequences: Sequences, users: NDArray[np.int64], target: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many items stand before each user's target [n]."""
        scores = self._scores(model, sequences, users)
        return (~(scores <= np.take_along_axis(scores, target[:, None], 1))).sum(1)  # all of them, where a training went to NaN

    def _batches(self, n: int) -> list[NDArray[np.int64]]:
        return np.array_split(np.arange(n), range(self._batch_size, n, self._batch_size))

    def _new_model(self, n_items: int) -> "Transformer":
        with self._seeded():
            model = Transformer(n_items, self._length, **self._shape, block=self._block, widening=self._widening)  # type: ignore[arg-type]
        return model.to(self._device)

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        """Draws from the seed alone, and leaves what others draw as it was."""
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(self._seed)
            yield

    def _padded(self, sequences: Sequences, users: NDArray[np.int64], length: int) -> Tensor:
        return torch.from_numpy(sequences.padded(users, length)).to(self._device)

    def _epochs(self, model: "Transformer", sequences: Sequences, n: int) -> Iterator[int]:
        """Trains, and gives the number of each epoch that ended."""
        optimizer = torch.optim.Adam(model.parameters(), lr=self._lr, betas=(0.9, 0.98), fused=True)
        rng = np.random.default_rng(self._seed)
        users = np.flatnonzero(sequences.lengths > 1)
        with self._seeded():
            for epoch in range(n):
                model.train()
                order = rng.permutation(users)
                for rows in self._batches(len(order)):
                    longest = min(int(sequences.lengths[order[rows]].max()), self._length + 1)
                    optimizer.zero_grad()
                    model.loss(self._padded(sequences, order[rows], longest), self._n_negatives).backward()
                    optimizer.step()
                model.eval()
                yield epoch

    def scores(self, users: NDArray[np.int64], now: AsOf) -> NDArray[np.float32]:
        """Products of what follows a user's history with every item, [n_users_in_batch, n_items]."""
        return self._scores(self.model, self._sequences(now), users)

    @torch.inference_mode()
    def _scores(self, model: "Transformer", sequences: Sequences, users: NDArray[np.int64]) -> NDArray[np.float32]:
        follows = model(self._padded(sequences, users, self._length))[:, -1]
        return (follows @ model.item.weight[:-1].T).numpy(force=True)


def usable(device: str) -> torch.device:
    """The device of that name.

    Raises:
        ConfigError: torch knows none of that name, or it is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device  # with the number of the card, where it is one
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"sasrec.device is {device!r}, which is not there; wanted auto, cpu or cuda ({error})") from error


class Transformer(nn.Module):
    """Blocks of causal self-attention over item embeddings and places, counted from the end.

    Only places that hold an item go through the blocks, as rows [n_known, d]: most histories are far shorter than the longest.

    Args:
        block: `Block` or `GatedBlock`.
        widening: of the network within a block, in d.
    """

    def __init__(
        self, n_items: int, length: int, d: int, n_blocks: int, n_heads: int, dropout: float, block: "type[Blocks]", widening: int = 1
    ):
        super().__init__()
        self.item, self.place = nn.Embedding(n_items + 1, d, padding_idx=n_items), nn.Embedding(length, d)
        self.blocks = nn.ModuleList(block(d, n_heads, dropout, widening) for _ in range(n_blocks))
        self.dropout, self.norm = nn.Dropout(dropout), block.norm_of_all(d)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.xavier_normal_(weight)
        with torch.no_grad():
            self.item.weight[n_items] = 0

    def forward(self, items: Tensor) -> Tensor:
        """What follows each place, [n, length, d]; where no item stands, the same everywhere."""
        known = items < self.item.num_embeddings - 1
        return self.norm(spread(self._known(items, known, self._table()), known))

    def _table(self) -> Tensor:
        """The item embeddings; training drops hidden units of them, the same wherever an item stands in the batch."""
        return self.dropout(self.item.weight)

    def _known(self, items: Tensor, known: Tensor, table: Tensor) -> Tensor:
        """What the blocks make of each item, in order [n_known, d]."""
        from_end = items.shape[1] - 1 - known.nonzero()[:, 1]
        x = self.dropout(nn.functional.embedding(items[known], table) + self.place(from_end))
        for block in self.blocks:
            x = block(x, known)
        return x

    def loss(self, items: Tensor, n_negatives: int) -> Tensor:
        """Cross-entropy of the item at each place but the first among others drawn alike; `items` is one longer than what is read."""
        n_items = self.item.num_embeddings - 1
        before = items[:, :-1] < n_items  # items stand at the right end, so that another follows each of them
        table = self._table()
        follows, target = self.norm(self._known(items[:, :-1], before, table)), items[:, 1:][before]
        candidates = torch.cat([target[:, None], torch.randint(n_items, (len(target), n_negatives), device=target.device)], 1)
        return nn.functional.cross_entropy(products(follows, table, candidates), torch.zeros_like(target))


def spread(x: Tensor, known: Tensor) -> Tensor:
    """Rows [n_known, d] at their places [n, length, d], zeros elsewhere."""
    places = x.new_zeros(*known.shape, x.shape[1])
    places[known] = x
    return places


def ahead(length: int, device: torch.device) -> Tensor:
    """Which places come after each place, [length, length]."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


class Block(nn.Module):
    """Attention to what came before, then a small network at each place.

    As in the reference, a block adds attention to its normalised input rather than to the input itself, and attends to padding, as zeros.
    In training that is padding up to the batch's longest history, in the reference always up to `length`.
    """

    norm_of_all: type[nn.Module] = nn.LayerNorm

    def __init__(self, d: int, n_heads: int, dropout: float, widening: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(d, n_heads, dropout, batch_first=True)
        self.before, self.between = nn.LayerNorm(d), nn.LayerNorm(d)
        wide = widening * d
        self.network = nn.Sequential(nn.Linear(d, wide), nn.ReLU(), nn.Dropout(dropout), nn.Linear(wide, d), nn.Dropout(dropout))

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """[n_known, d]; `known` says where these rows stand [n, length]."""
        query, key = self.before(x), spread(x, known)
        attended, _ = self.attention(spread(query, known), key, key, attn_mask=ahead(known.shape[1], known.device), need_weights=False)
        x = self.between(query + attended[known])
        return x + self.network(x)


class GatedBlock(nn.Module):
    """Attention and network read the normalised input, and a gate says how much of each is added to the input itself.

        x + sigmoid(A x + a) * attention(norm(x)), then x + sigmoid(B x + b) * V (silu(G norm(x)) * U norm(x))

    Reference: Borisyuk et al. (2025), From features to transformers: redefining ranking for scalable impact, "LiGR", as in Tikhonovich
    et al. (2025): padding is not attended to, and there is no norm after the last block.
    """

    norm_of_all: type[nn.Module] = nn.Identity

    def __init__(self, d: int, n_heads: int, dropout: float, widening: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(d, n_heads, dropout, batch_first=True)
        self.before, self.between = nn.LayerNorm(d), nn.LayerNorm(d)
        self.gate, self.network_gate = nn.Linear(d, d), nn.Linear(d, d)
        wide = widening * d
        self.inner_gate, self.up, self.down = (nn.Linear(*sizes, bias=False) for sizes in ((d, wide), (d, wide), (wide, d)))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """[n_known, d]; `known` says where these rows stand [n, length]."""
        x = x + self.gate(x).sigmoid() * self.dropout(self._attended(self.before(x), known))
        return x + self.network_gate(x).sigmoid() * self.dropout(self._network(self.between(x)))

    def _attended(self, x: Tensor, known: Tensor) -> Tensor:
        # A place sees itself even where it is padding, or its softmax would run over nothing.
        hidden = (ahead(known.shape[1], known.device) | ~known[:, None]) & ~torch.eye(known.shape[1], dtype=torch.bool, device=known.device)
        hidden = hidden.repeat_interleave(self.attention.num_heads, 0)
        x = spread(x, known)
        return self.attention(x, x, x, attn_mask=hidden, need_weights=False)[0][known]

    def _network(self, x: Tensor) -> Tensor:
        return self.down(self.dropout(nn.functional.silu(self.inner_gate(x)) * self.up(x)))


Blocks = Block | GatedBlock
BLOCKS: Final[dict[str, type[Blocks]]] = {"sasrec": Block, "ligr": GatedBlock}
