"""T2: what do this user and users like this one take?"""

from typing import Final

import torch
from torch import Tensor, nn

from seasonrec.data.batches import N_PAIR_FEATURES, N_USER_FEATURES, Batch
from seasonrec.encoders.catalogue import Texts
from seasonrec.heads.head import Sizes, mlp, over
from seasonrec.heads.history import Centre, Decay, user_vectors

FEW: Final = 1e-4  # purchases by the average user added on both sides of a lift, so that rare items have lifts near 0
MANY: Final = 20  # similar users together: so much that the log of their purchases bends


def lift(similar: Tensor, usual: Tensor, shrinkage: Tensor | float = 1.0) -> Tensor:
    """How much more than usual the users like this one buy an item, as a log ratio; 0 where they buy as all users do.

    Args:
        similar: mean decayed purchases by similar users.
        usual: by all users.
        shrinkage: weight of the usual in both, positive.
    """
    usual = usual + FEW
    ratio = over(torch.add, similar + FEW, shrinkage * usual)
    return over(torch.log, over(torch.div, ratio, (1 + shrinkage) * usual))


class Repeat(nn.Module):
    """Repeat consumption: a small network over what the user's own purchases of an item, those of similar users, and its demand say of
    the next one.

    Items that the user has not bought score 0.

    Args:
        hidden: width of its hidden layer.

    Reference: Bhagat et al. (2018), Buy it again: modeling repeat purchase recommendations; here with learnt intervals and decays.
    """

    def __init__(self, sizes: Sizes, hidden: int = 64, dropout: float = 0.0):
        super().__init__()
        self.score = mlp(N_PAIR_FEATURES + 2 + sizes.d_demand, hidden, dropout=dropout)

    def forward(self, batch: Batch, texts: Texts) -> Tensor:
        """[B, C]."""
        h = batch.history
        query, column = h.listed
        similar, usual = batch.similar[query, column], batch.usual[column]
        of_others = torch.stack([(MANY * similar).log1p(), lift(similar, usual)], 1)
        own, demand = h.features.index_select(0, h.listed_pairs), batch.demand.index_select(0, column)
        score = self.score(torch.cat([own, of_others, demand], 1)).squeeze(1)
        return score.new_zeros(len(batch.user), batch.n_candidates).index_put_((query, column), score)


class Neighbours(nn.Module):
    """What users like this one buy more than others do: the lift of an item among the nearest users, weighted by what is known of the user.

    Reference: Hu, He, Gao and Zhang (2020), Modeling personalized item frequency information for next-basket recommendation; here as a
    lift, which leaves popularity to the seasonal head.
    """

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.log_shrinkage, self.weight = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.tensor([0.3]))
        self.user = nn.Linear(N_USER_FEATURES, 1)
        nn.init.zeros_(self.user.weight)
        nn.init.zeros_(self.user.bias)

    def forward(self, batch: Batch, texts: Texts) -> Tensor:
        """[B, C]; users without history score 0."""
        of_user = self.weight * self.user(batch.history.user).exp() * batch.history.known[:, None]
        return over(torch.mul, lift(batch.similar, batch.usual, self.log_shrinkage.exp()), of_user)


class Factors(nn.Module):
    """Item id embeddings; a user is the decayed sum of what the user bought, so new users and new purchases need no training.

    Embeddings of what will be bought start at 0. An item that nobody has bought yet only ever is a negative of the softmax, which pushes
    its score down for the users of its batch, while weight decay draws it back towards 0: near 0 it stays.

    Args:
        d: width of the embeddings.
        history_dropout: share of purchases that training hides, so that a user is not known by single items.

    Reference: Kabbur, Ning and Karypis (2013), FISM, equation 3, with separate embeddings for what was and what will be bought.
    """

    def __init__(self, sizes: Sizes, d: int = 32, dropout: float = 0.2, history_dropout: float = 0.3):
        super().__init__()
        self.bought = nn.Embedding(sizes.n_items, d, _weight=torch.randn(sizes.n_items, d) * 0.1)
        self.item = nn.Embedding(sizes.n_items, d, _weight=torch.zeros(sizes.n_items, d))
        self.decay, self.centre = Decay(), Centre(d)
        self.dropout, self.history_dropout = nn.Dropout(dropout), history_dropout

    def forward(self, batch: Batch, texts: Texts) -> Tensor:
        """[B, C]."""
        h = batch.history
        user = user_vectors(h, self.bought.weight, h.item, self.decay(h), self.history_dropout if self.training else 0)
        user = self.centre(user, h.known)
        return self.dropout(user) @ batch.of_candidates(self.item.weight).T


class MatrixFactorization(nn.Module):
    """Biased matrix factorisation: mean + user bias + item bias + user . item; for ratings with squared error.

    Args:
        d: number of factors.
        mean: of all ratings; start value of a learnt constant.

    Reference: Koren, Bell and Volinsky (2009), Matrix factorization techniques for recommender systems, equation 4.
    """

    def __init__(self, sizes: Sizes, d: int = 32, mean: float = 0.0):
        super().__init__()
        # The last user is row -1, of whom nothing is known: it is never trained, so it stays at the mean.
        self.user, self.item = nn.Embedding(sizes.n_users + 1, d), nn.Embedding(sizes.n_items, d)
        self.user_bias, self.item_bias = nn.Embedding(sizes.n_users + 1, 1), nn.Embedding(sizes.n_items, 1)
        self.mean = nn.Parameter(torch.tensor([float(mean)]))
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.1)
        for bias in (self.user_bias, self.item_bias):
            nn.init.zeros_(bias.weight)
        nn.init.zeros_(self.user.weight[-1])

    def forward(self, batch: Batch, texts: Texts) -> Tensor:
        """[B, C]."""
        bias = self.mean + self.user_bias.weight[batch.user] + batch.of_candidates(self.item_bias.weight).T
        return bias + self.user.weight[batch.user] @ batch.of_candidates(self.item.weight).T
