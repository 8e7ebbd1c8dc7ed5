"""From the heads' scores to one: additive, so that each recommendation splits exactly into what each head contributed."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from seasonrec.data.batches import N_USER_FEATURES, Batch
from seasonrec.heads.head import Sizes

LIMIT = 2.0  # an item's gate stays within a factor of 7, so that an unseen extreme of demand cannot blow up a score

MixerFactory = Callable[[Sizes, Sequence[str]], nn.Module]


class Weighted(nn.Module):
    """Each head's score times one learnt weight.

    Args:
        heads: names of the heads.
    """

    def __init__(self, sizes: Sizes, heads: Sequence[str]):
        super().__init__()
        self.heads = list(heads)
        self.log_weight = nn.Parameter(torch.zeros(len(self.heads)))

    def forward(self, by_head: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """What each head contributes, [B, C] or [1, C]; the mixed score is the sum."""
        return {name: by_head[name] * weight for name, weight in zip(self.heads, self.log_weight.exp(), strict=True)}


class Gated(nn.Module):
    """Each head's score times a positive gate, which sees how much is known of user and item and whether the user has had the item.

    gate = exp(query part + item part + own part): a user without history leaves it to season, an unsold item to its text, and an item
    that the user has bought before is judged otherwise than one that is new to this user. Gates start at 1; they see the season only with
    `season`.

    Args:
        hidden: width of the query part's hidden layer.
        season: whether gates see the season's features. Weeks of the year that training has not seen are then judged by guesswork, so
            it needs more than a year of training weeks.
    """

    def __init__(self, sizes: Sizes, heads: Sequence[str], hidden: int = 16, season: bool = False):
        super().__init__()
        self.heads, self.season = list(heads), season
        n = len(self.heads)
        last_of_query = nn.Linear(hidden, n)
        self.query = nn.Sequential(nn.Linear(N_USER_FEATURES + 1 + (sizes.d_season if season else 0), hidden), nn.Tanh(), last_of_query)
        self.item, self.own = nn.Linear(sizes.d_demand, n), nn.Parameter(torch.zeros(n))
        for last in (last_of_query, self.item):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, by_head: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """What each head contributes, [B, C]; the mixed score is the sum."""
        query = self.query(self._query_facts(batch)).exp()
        item = self.item(batch.demand).clamp(-LIMIT, LIMIT).exp()
        own = self.own.exp() - 1
        listed = batch.history.column >= 0
        pairs = batch.history.query[listed], batch.history.column[listed]
        mixed = {}
        for n, name in enumerate(self.heads):
            score = by_head[name] * item[:, n] * query[:, n, None]
            mixed[name] = score.index_put(pairs, score[pairs] * own[n], accumulate=True)
        return mixed

    def _query_facts(self, batch: Batch) -> Tensor:
        """How much is known of each user, and the season where gates see it, [B, d]."""
        h = batch.history
        known = torch.cat([h.user, h.known[:, None].to(h.user.dtype)], 1)
        return torch.cat([known, batch.moment.season.expand(len(known), -1)], 1) if self.season else known
