"""From the heads' scores to one: additive, so that each recommendation splits exactly into what each head contributed."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from seasonrec.data.batches import N_USER_FEATURES, Batch
from seasonrec.heads.cf import MANY, lift
from seasonrec.heads.head import Sizes, over

PAIRS = 1 << 18  # judged at a time where nothing learns: their hidden layer of 8 MB stays in the processor's cache
USUAL_SCORE = 4.0  # heads' scores are of this size: the network sees them as of size 1
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
        n, self.d_query = len(self.heads), N_USER_FEATURES + 1 + (sizes.d_season if season else 0)
        last_of_query = nn.Linear(hidden, n)
        self.query = nn.Sequential(nn.Linear(self.d_query, hidden), nn.Tanh(), last_of_query)
        self.item, self.own = nn.Linear(sizes.d_demand, n), nn.Parameter(torch.zeros(n))
        for last in (last_of_query, self.item):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, by_head: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """What each head contributes, [B, C]; the mixed score is the sum."""
        query = self.query(self.query_facts(batch)).exp()
        item = self.item(batch.demand).clamp(-LIMIT, LIMIT).exp()
        own = self.own.exp() - 1
        pairs, mixed = batch.history.listed, {}
        for n, name in enumerate(self.heads):
            score = over(torch.mul, by_head[name] * item[:, n], query[:, n, None])
            mixed[name] = score.index_put_(pairs, score[pairs] * own[n], accumulate=True)
        return mixed

    def query_facts(self, batch: Batch) -> Tensor:
        """How much is known of each user, and the season where gates see it, [B, d]."""
        h = batch.history
        known = torch.cat([h.user, h.known[:, None].to(h.user.dtype)], 1)
        return torch.cat([known, batch.moment.season.expand(len(known), -1)], 1) if self.season else known


class Paired(Gated):
    """Gates that see the pair too: whether the user has had the item, how much of it similar users bought, and what the heads say of it.

    Each gate of `Gated` is multiplied by one from a small network over these facts, what is known of the user, and the item's demand. It
    starts at 1. What the heads say is only looked at: no gradient reaches them on this way.

    Memory: some 13 bytes x B x C x (width + heads) while it learns.

    Args:
        hidden, season: as of `Gated`.
        width: of the network's hidden layer.
    """

    def __init__(self, sizes: Sizes, heads: Sequence[str], hidden: int = 16, season: bool = False, width: int = 8):
        super().__init__(sizes, heads, hidden, season)
        self.of_query, self.of_item = nn.Linear(self.d_query, width), nn.Linear(sizes.d_demand, width, bias=False)
        self.of_pair, self.last = nn.Linear(3 + len(self.heads), width, bias=False), nn.Linear(width, len(self.heads))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, by_head: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """What each head contributes, [B, C]; the mixed score is the sum."""
        gate = self._gate(by_head, batch)
        return {name: score * gate[..., n] for n, (name, score) in enumerate(super().forward(by_head, batch).items())}

    def _gate(self, by_head: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """[B, C, n_heads]."""
        own = torch.zeros_like(batch.similar)
        own[batch.history.listed] = 1
        of_pairs = own, batch.similar, *(by_head[name].detach().expand_as(own) for name in self.heads)
        query, item = self.of_query(self.query_facts(batch)), self.of_item(batch.demand)
        rows = len(own) if torch.is_grad_enabled() else max(1, PAIRS // own.shape[1])
        parts = zip(query.split(rows), *(each.split(rows) for each in of_pairs), strict=True)
        return torch.cat([self._of_queries(item, batch.usual, *part) for part in parts])

    def _of_queries(self, item: Tensor, usual: Tensor, query: Tensor, own: Tensor, similar: Tensor, *said: Tensor) -> Tensor:
        """The gates of some queries [n, C, n_heads].

        Args:
            item: the items' part of the hidden layer [C, width].
            usual: purchases by the average user [C].
            query: the queries' part of the hidden layer [n, width].
            own: 1 where the user has had the item, else 0 [n, C].
            similar: purchases by similar users [n, C].
            said: each head's scores [n, C].
        """
        facts = [torch.ones_like(own), own, (MANY * similar).log1p(), lift(similar, usual), *(score / USUAL_SCORE for score in said)]
        # The query's part is the weight of a fact that is always 1: so one product makes the whole hidden layer.
        weight = torch.cat([query[:, None], self.of_pair.weight.T.expand(len(query), -1, -1)], 1)
        hidden = torch.baddbmm(item.expand(len(query), -1, -1), torch.stack(facts, 2), weight).tanh()
        return self.last(hidden).clamp(-LIMIT, LIMIT).exp()
