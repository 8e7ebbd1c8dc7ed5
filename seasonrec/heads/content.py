"""T3: what resembles what the user likes, in words?"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seasonrec.data.batches import Batch, History
from seasonrec.encoders.catalogue import Texts
from seasonrec.errors import ConfigError
from seasonrec.heads.head import HeadFactory, Sizes, Sum
from seasonrec.heads.history import Centre, Decay, ranges, user_vectors


class Content(Sum):
    """A sum of parts that find what is like what the user has bought.

    Args:
        own: whether items that the user has bought before are scored too; without it they get 0. All of them are like themselves, and
            how they differ in that says little of which one is bought again: that is for a head that sees purchases.
    """

    def __init__(self, sizes: Sizes, parts: Mapping[str, HeadFactory], own: bool = False):
        super().__init__(sizes, parts)
        self.own = own

    def forward(self, batch: Batch, texts: Texts) -> Tensor:
        """[B, C]."""
        score = super().forward(batch, texts)
        return score if self.own else without_own(score, batch.history)


def without_own(score: Tensor, history: History) -> Tensor:
    """The same scores [B, C], but 0 for what each user has bought before."""
    return score.index_put(history.listed, score.new_zeros(()))


class ProfileText(nn.Module):
    """The user's text profile (decayed texts of what was bought, and the user's own text) against product texts.

    Both sides are projected by maps that start alike, so that the score starts as the encoder's own likeness.

    Args:
        d: width in which profile and product meet.
        history_dropout: share of purchases that training hides.
        own: as of `Content`.
    """

    # Runs on record from before there was a choice scored own items, and are loaded without it: conf/ has another default.
    def __init__(self, sizes: Sizes, d: int = 96, dropout: float = 0.2, history_dropout: float = 0.3, own: bool = True):
        super().__init__()
        self.profile, self.item = nn.Linear(sizes.d_text, d, bias=False), nn.Linear(sizes.d_text, d, bias=False)
        self.profile.load_state_dict(self.item.state_dict())
        self.user = nn.Linear(sizes.d_text, d, bias=False)
        nn.init.zeros_(self.user.weight)
        self.decay, self.centre, self.dropout, self.history_dropout = Decay(), Centre(d), nn.Dropout(dropout), history_dropout
        self.log_temperature, self.own = nn.Parameter(torch.zeros(1)), own

    def forward(self, batch: Batch, texts: Texts) -> Tensor:
        """[B, C]."""
        h = batch.history
        hidden = self.history_dropout if self.training else 0
        bought = user_vectors(h, texts.vectors, texts.of_item.index_select(0, h.item), self.decay(h), hidden)
        user = self.centre(self.profile(bought), h.known) + self.user(texts.vectors[texts.of_user[batch.user]])
        # Projected back into the text space, as in the seasonal heads: texts are met as they are.
        in_text_space = (self.dropout(user) * self.log_temperature.exp()) @ self.item.weight
        score = texts.match(in_text_space)
        return score if self.own else without_own(score, h)


class NearestTexts(nn.Module):
    """What reads nearly like a single thing that the user has bought, however many others there are: nearest neighbours in words.

        weight * log(1 + scale * sum over own purchases of decayed count * exp(sharpness * (cosine - 1)))

    over the purchases among whose nearest texts the item's is. A mean of texts, such as a profile, says what kind of things somebody
    buys; the next volume of a series, or the same shirt in blue, is like one of them only. Only seven numbers are learnt, so it
    holds for products that nobody has bought yet and in shops where hardly anything is bought twice.

    Memory: some 40 bytes x pairs of the batch's histories x neighbours among the candidates.

    Args:
        sharpness, scale, weight: where they begin.
    """

    def __init__(self, sizes: Sizes, sharpness: float = 10.0, scale: float = 20.0, weight: float = 0.3):
        super().__init__()
        self.decay = Decay()
        self.log_sharpness, self.log_scale = (nn.Parameter(torch.tensor([float(start)]).log()) for start in (sharpness, scale))
        self.weight = nn.Parameter(torch.tensor([float(weight)]))

    def forward(self, batch: Batch, texts: Texts) -> Tensor:
        """[B, C]; own items too.

        Raises:
            ConfigError: no neighbours were found.
        """
        if texts.near is None:
            raise ConfigError("the content head's part `nearest` needs model.text_neighbours; give them, or leave the part out")
        h, (text, _) = batch.history, texts.asked
        place = torch.full((len(texts.vectors),), -1, device=text.device).index_copy(0, text, torch.arange(len(text), device=text.device))
        # Users share purchases, and products texts: two texts are compared once, whoever has bought the one.
        bought, row = texts.of_item.index_select(0, h.item).unique(return_inverse=True)
        index, cosine = (of_text.index_select(0, bought).flatten() for of_text in (texts.near.index, texts.near.cosine))
        near = place.index_select(0, index)
        kept = ((near >= 0) & (cosine > 0)).nonzero().squeeze(1)
        near, likeness = near[kept], (self.log_sharpness.exp() * (cosine[kept] - 1)).exp()
        n_near = torch.bincount(kept // texts.near.index.shape[1], minlength=len(bought))
        at, pair = ranges((n_near.cumsum(0) - n_near)[row], n_near[row])
        cell = (h.query * len(text)).index_select(0, pair) + near.index_select(0, at)
        said = self.decay(h).index_select(0, pair) * likeness.index_select(0, at)
        total = said.new_zeros(len(batch.user) * len(text)).index_add(0, cell, said)
        return texts.to_candidates((self.weight * (self.log_scale.exp() * total).log1p()).view(len(batch.user), -1))
