"""T1: which products at this time of the year?"""

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
        return self.score(batch.demand).T


class HarmonicText(nn.Module):
    """Season features (harmonics of the phase, nearness of holidays) matched to product texts; starts at 0.

    Args:
        d: width in which season and text meet.
    """

    def __init__(self, sizes: Sizes, d: int = 64, dropout: float = 0.2):
        super().__init__()
        self.season, self.text = nn.Linear(sizes.d_season, d), nn.Linear(sizes.d_text, d, bias=False)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.season.weight)
        nn.init.zeros_(self.season.bias)

    def forward(self, batch: Batch, texts: Texts) -> Tensor:
        """[1, C]."""
        # The season is projected back into the text space: one product with each text instead of d.
        season = self.dropout(self.season(batch.moment.season))
        in_text_space = season @ self.text.weight
        return texts.match(in_text_space[None])


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
        return texts.match(in_text_space[None])
