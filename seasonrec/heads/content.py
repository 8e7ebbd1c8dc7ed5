"""T3: what resembles what the user likes, in words?"""

import torch
from torch import Tensor, nn

from seasonrec.data.batches import Batch
from seasonrec.encoders.catalogue import Texts
from seasonrec.heads.head import Sizes
from seasonrec.heads.history import Centre, Decay, user_vectors


class ProfileText(nn.Module):
    """The user's text profile (decayed texts of what was bought, and the user's own text) against product texts.

    Both sides are projected by maps that start alike, so that the score starts as the encoder's own likeness.

    Args:
        d: width in which profile and product meet.
        history_dropout: share of purchases that training hides.
        own: whether items that the user has bought before are scored too; without it they get 0. All of them are like the profile that
            they make, and how they differ in that says little of which one is bought again: that is for a head that sees purchases.
    """

    # Runs on record from before there was a choice scored own items, and are loaded without it: conf/ has another default.
    def __init__(self, sizes: Sizes, d: int = 96, dropout: float = 0.2, history_dropout: float = 0.3, own: bool = True):
        super().__init__()
        self.profile, self.item = nn.Linear(sizes.d_text, d, bias=False), nn.Linear(sizes.d_text, d, bias=False)
        self.profile.load_state_dict(self.item.state_dict())
        self.user = nn.Linear(sizes.d_text, d, bias=False)
        nn.init.zeros_(self.user.weight)
        self.decay, self.centre, self.dropout, self.history_dropout = Decay(), Centre(d), nn.Dropout(dropout), history_dropout
        self.log_temperature, self.own = nn.Parameter(torch.zeros(())), own

    def forward(self, batch: Batch, texts: Texts) -> Tensor:
        """[B, C]."""
        h = batch.history
        hidden = self.history_dropout if self.training else 0
        bought = user_vectors(h, texts.vectors, texts.of_item[h.item], self.decay(h), hidden)
        user = self.centre(self.profile(bought), h.known) + self.user(texts.vectors[texts.of_user[batch.user]])
        # Projected back into the text space, as in the seasonal heads: texts are met as they are.
        in_text_space = (self.dropout(user) * self.log_temperature.exp()) @ self.item.weight
        score = texts.match(in_text_space, batch.candidate)
        return score if self.own else score.index_put_(h.listed, score.new_zeros(()))
