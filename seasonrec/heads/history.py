"""A user as what the user bought: weights of purchases and weighted sums over them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seasonrec.data.batches import DECAYS, History
from seasonrec.shares import mean_row


class Decay(nn.Module):
    """How much each purchase of a user counts: a learnt blend of `DECAYS`, on a log scale of repeats."""

    def __init__(self):
        super().__init__()
        self.blend = nn.Parameter(torch.zeros(len(DECAYS)))

    def forward(self, history: History) -> Tensor:
        """The weight of each pair, [n_pairs]."""
        return torch.log1p(history.weight @ torch.softmax(self.blend, 0))


class Centre(nn.Module):
    """User vectors less the average user, so that a score says what sets this user apart.

    Without it a map of ids or texts learns the popularity of the training weeks by heart, and what is in season now loses. Users
    without history stay at 0.

    Args:
        d: width of the vectors.
        momentum: share of a batch's mean in the running one, by which users are centred after training; the first batches count alike.
    """

    mean: Tensor
    n_batches: Tensor

    def __init__(self, d: int, momentum: float = 0.05):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("n_batches", torch.zeros(()))

    def forward(self, vectors: Tensor, known: Tensor) -> Tensor:
        """The centred vectors, [B, d].

        Args:
            vectors: [B, d].
            known: whether each user has a history [B].
        """
        mean = self.mean
        if self.training:
            of_batch, n_users = mean_row(vectors[known])
            # A single user is their own mean: less it, nothing would be left to learn from.
            mean = of_batch if n_users > 1 else self.mean.clone()
            if n_users:
                self.n_batches += 1
                self.mean.lerp_(of_batch.detach().to(self.mean.dtype), max(self.momentum, 1 / float(self.n_batches)))
        return (vectors - mean) * known[:, None]


def user_vectors(history: History, table: Tensor, row: Tensor, weight: Tensor, hidden: float = 0.0) -> Tensor:
    """The weighted sum of each query's rows of a table, over the root of its weights plus one, [B, d]; 0 for users without history.

    Divided by the root, the vector of a user of whom much is known is longer: more is known, so scores may differ more.

    Args:
        table: [n_rows, d].
        row: of each pair [n_pairs].
        weight: of each pair [n_pairs].
        hidden: share of purchases to hide at random; the others count for them, so that vectors keep their length.
    """
    kept = F.dropout(weight, hidden)
    total = F.embedding_bag(row, table, history.starts, mode="sum", per_sample_weights=kept.to(table.dtype))
    n = torch.zeros(len(history.starts), dtype=weight.dtype, device=weight.device).index_add(0, history.query, weight)
    return total / (n + 1).sqrt()[:, None]


def ranges(start: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers of several ranges, one range after the other, and which range each number is of, [sum of sizes] each.

    Args:
        start, size: of each range [n].
    """
    which = torch.arange(len(size), device=size.device).repeat_interleave(size)
    return torch.arange(len(which), device=size.device) + (start - (size.cumsum(0) - size)).index_select(0, which), which
