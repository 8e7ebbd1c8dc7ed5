"""T1: which products at this time of the year?"""

import torch
from torch import Tensor, nn

from seasonrec.data.batches import Batch
from seasonrec.encoders.catalogue import Texts
from seasonrec.heads.head import Sizes, mlp


class AsOfDemand(nn.Module):
    """What sells now, sold in these weeks last year, and rises: a small network over as-of demand, alike for all queries.

    Args:
        hidden: width of its hidden layer.
    """

    def __init__(self, sizes: Sizes, hidden: int = 64, dropout: float = 0.0):
        super().__init__()
        self.score = mlp(sizes.d_demand, hidden, dropout=dropout)

    def forward(self, batch: Batch, texts: Texts) -> Tensor:
        """[1, C]."""
        return self.score(batch.of_candidates(batch.moment.demand)).T


class HarmonicText(nn.Module):
    """Season features (harmonics of the phase, nearness of holidays) matched to product texts; starts at 0.

    Features stay within the range that training has seen (0 included): of a time of the year that is still to come nothing was learnt,
    and a straight line into it is a bad guess.

    Args:
        d: width in which season and text meet.
    """

    lowest: Tensor
    highest: Tensor

    def __init__(self, sizes: Sizes, d: int = 64, dropout: float = 0.2):
        super().__init__()
        self.season, self.text = nn.Linear(sizes.d_season, d), nn.Linear(sizes.d_text, d, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("lowest", torch.zeros(sizes.d_season))
        self.register_buffer("highest", torch.zeros(sizes.d_season))
        nn.init.zeros_(self.season.weight)
        nn.init.zeros_(self.season.bias)

    def forward(self, batch: Batch, texts: Texts) -> Tensor:
        """[1, C]."""
        # The season is projected back into the text space: one product with each text instead of d.
        season = self.dropout(self.season(self._seen(batch.moment.season)))
        in_text_space = season @ self.text.weight
        return texts.match(in_text_space[None], batch.candidate)

    def _seen(self, season: Tensor) -> Tensor:
        if self.training:
            torch.minimum(self.lowest, season, out=self.lowest)
            torch.maximum(self.highest, season, out=self.highest)
        return season.clamp(self.lowest, self.highest)


class ContextText(nn.Module):
    """The season in words ("week 50, mid December, winter, 12 days before Christmas"), by the same encoder, matched to product texts.

    Starts at 0, so that the encoder's own notion of likeness, which is not that of sales, does no harm before it is learnt.

    Args:
        d: width in which context and text meet.
    """

    def __init__(self, sizes: Sizes, d: int = 64, dropout: float = 0.2):
        super().__init__()
        self.context, self.text = nn.Linear(sizes.d_text, d), nn.Linear(sizes.d_text, d, bias=False)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.context.weight)
        nn.init.zeros_(self.context.bias)

    def forward(self, batch: Batch, texts: Texts) -> Tensor:
        """[1, C]."""
        in_text_space = self.dropout(self.context(texts.context)) @ self.text.weight
        return texts.match(in_text_space[None], batch.candidate)
