"""What a model may know of its inputs: the range that training has seen."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from seasonrec.data.batches import N_PAIR_FEATURES, N_USER_FEATURES, Batch
from seasonrec.heads.head import Sizes
from seasonrec.shares import widen


class Seen(nn.Module):
    """Features kept within the range that training has seen, each for itself; as they are before any training.

    Of values beyond it nothing was learnt, and a network's guess there is a bad one. In a shop's first year a time of the year is still to
    come; and when that year is over, last year's counters, until then always 0, begin to move.

    Args:
        d: number of features.
    """

    lowest: Tensor
    highest: Tensor

    def __init__(self, d: int):
        super().__init__()
        self.register_buffer("lowest", torch.full((d,), torch.inf))
        self.register_buffer("highest", torch.full((d,), -torch.inf))

    def forward(self, features: Tensor, within: Tensor | None = None) -> Tensor:
        """The nearest features within the range, [..., d]; in training they are what widens it.

        Args:
            features: [..., d].
            within: those that training learns from, of all `features` [n, d]; None for all.
        """
        if self.training:
            return self._see(features, features if within is None else within)
        return torch.where(self.lowest <= self.highest, features.clamp(self.lowest, self.highest), features)

    def _see(self, features: Tensor, within: Tensor) -> Tensor:
        if within.numel():
            lowest, highest = torch.aminmax(within.reshape(-1, within.shape[-1]), dim=0)
            torch.minimum(self.lowest, lowest, out=self.lowest)
            torch.maximum(self.highest, highest, out=self.highest)
        widen(self.lowest, self.highest)
        return features


class SeenInputs(nn.Module):
    """Season, demand and history of a batch within the range that training has seen."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.season, self.demand = Seen(sizes.d_season), Seen(sizes.d_demand)
        self.pair, self.user = Seen(N_PAIR_FEATURES), Seen(N_USER_FEATURES)

    def forward(self, batch: Batch) -> Batch:
        """The batch as heads and mixer may see it; in training as it is."""
        moment, history = batch.moment, batch.history
        season, demand = self.season(moment.season), self.demand(moment.demand, batch.demand)
        pair, user = self.pair(history.features), self.user(history.user)
        if self.training:
            return batch
        return replace(batch, moment=replace(moment, season=season, demand=demand), history=replace(history, features=pair, user=user))
