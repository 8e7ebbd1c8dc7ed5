"""The source article's own collaborative model: a user and an item as one pair of texts."""

import torch
from torch import Tensor, nn

from seasonrec.data.batches import Batch
from seasonrec.encoders.catalogue import Texts
from seasonrec.errors import ConfigError
from seasonrec.heads.head import Sizes


class PairText(nn.Module):
    """The rating of an item by a user: both texts go through the shared encoder as one pair, and a linear map reads the pooled vector.

    Where a batch asks for its truth alone, as for ratings, only those pairs are scored and all others are 0.

    Args:
        mean: of all ratings; start value of a learnt constant.
        max_pairs: that a batch may ask for beside its truth, each of which takes the whole encoder; a batch that asks for more is refused.

    Reference: Devlin et al. (2019), BERT, figure 4a, for the encoding of a pair of texts.
    """

    reads_user_words = True

    def __init__(self, sizes: Sizes, mean: float = 0.0, max_pairs: int = 1_000):
        super().__init__()
        self.rating, self.max_pairs = nn.Linear(sizes.d_text, 1), max_pairs
        nn.init.constant_(self.rating.bias, mean)

    def forward(self, batch: Batch, texts: Texts) -> Tensor:
        """[B, C].

        Raises:
            ConfigError: too many pairs, or a batch without the users' words.
        """
        if batch.user_words is None:
            raise ConfigError("head pair_text: the batch has no user_words; make it by a Batcher with UserWords")
        query, column = self._asked(batch)
        row = texts.of_item[column if batch.candidate is None else batch.candidate[column]]
        pairs = [batch.user_words[at] for at in query.tolist()], [texts.words[at] for at in row.tolist()]
        pooled = texts.encoder.pooled(texts.encoder.tokenize_pairs(*pairs))
        with torch.autocast(pooled.device.type, enabled=False):  # bfloat16 knows ratings of 4 to 5 in steps of 1/32 only
            score = self.rating(pooled).squeeze(1)
        return score.new_zeros(len(batch.user), batch.n_candidates).index_put_((query, column), score)

    def _asked(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Query and column of each pair to score, [n] each."""
        if batch.truth_alone:
            return batch.truth_query, batch.truth_column
        shape = len(batch.user), batch.n_candidates
        if shape[0] * shape[1] > self.max_pairs:
            raise ConfigError(
                f"head pair_text: {shape[0]} queries x {shape[1]:,} candidates are more than {self.max_pairs:,} pairs, and each takes the"
                " whole encoder; predict ratings (stage=ratings sampling.candidates=null loss=ratings_alone), rank fewer users at a time"
                " (eval.batch_size), raise max_pairs of the head, or take another head"
            )
        query, column = torch.ones(shape, device=batch.user.device).nonzero(as_tuple=True)
        return query, column
