"""User and item as one pair of texts: what is scored, by what, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from encoders.conftest import WORDS, tiny_bert  # noqa: F401
from torch.nn import functional as F

from seasonrec.data.candidates import Candidates
from seasonrec.encoders.encoder import TextEncoder
from seasonrec.encoders.finetune import Full
from seasonrec.errors import ConfigError
from seasonrec.heads.pair_text import PairText
from seasonrec.joint.module import truth_of
from seasonrec.losses import squared_error

USER_WORDS = ("red candle", "large", "", "green apple tree", "box")


@pytest.fixture
def encoder(tiny_bert):  # noqa: F811
    return TextEncoder.load(str(tiny_bert), max_length=24, dropout=0.0)


@pytest.fixture
def texts(small_shop, encoder):
    """The shop's texts, read by a real encoder."""
    return lambda batch: replace(small_shop.texts(batch.moment.context), encoder=encoder)


@pytest.fixture
def head(small_shop, encoder):
    torch.manual_seed(3)
    return PairText(replace(small_shop.sizes, d_text=encoder.d_model), mean=4.0)


def with_words(batch):
    """Each user has a word of the user's own."""
    return replace(batch, user_words=[f"red {WORDS.split()[user]}" for user in batch.user.tolist()])


def rated(shop, week=100):
    """A training batch that asks for its truth alone."""
    items = shop.timeline.queries(range(week, week + 1)).truth_item
    return with_words(shop.training_batch(week, Candidates.of_truth(items)))


def by_itself(head, encoder, user, item):
    pooled = encoder.pooled(encoder.tokenize_pairs([user], [item]))
    return (pooled @ head.rating.weight.T + head.rating.bias)[0, 0]


def test_ratings_are_no_coarser_in_a_training_with_half_the_bits(small_shop, head, texts):
    batch = replace(small_shop.batch(), user_words=USER_WORDS)
    with torch.autocast("cpu", torch.bfloat16):
        scores = head(batch, texts(batch))
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())
    assert len(scores.unique()) > 40


def test_each_pair_is_rated_by_its_two_texts_alone(small_shop, head, texts, encoder):
    batch = replace(small_shop.batch(), user_words=USER_WORDS)
    scores, words = head(batch, texts(batch)), small_shop.texts.item_words()
    assert scores.shape == (5, 32)
    for query, item in ((0, 0), (1, 31), (2, 3), (4, 17)):
        torch.testing.assert_close(scores[query, item], by_itself(head, encoder, USER_WORDS[query], words[item]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scores[:, 4], scores[:, 5], atol=1e-5, rtol=1e-4)  # which share a text
    assert scores[:, 0].unique().numel() == 5


def test_only_the_truth_is_scored_where_only_it_is_asked_for(small_shop, head, texts, encoder):
    batch, words = rated(small_shop), small_shop.texts.item_words()
    scores = head(batch, texts(batch))
    asked = torch.zeros(scores.shape, dtype=torch.bool)
    asked[batch.truth_query, batch.truth_column] = True
    assert 0 < asked.sum() < asked.numel()
    assert scores[~asked].eq(0).all()
    items = batch.truth_items()
    for at in (0, len(items) - 1):
        wanted = by_itself(head, encoder, batch.user_words[batch.truth_query[at]], words[items[at]])
        torch.testing.assert_close(scores[batch.truth_query[at], batch.truth_column[at]], wanted, atol=1e-5, rtol=1e-4)


def test_squared_error_on_float_ratings_teaches_head_and_encoder(small_shop, head, texts, encoder):
    Full().apply(encoder)
    batch = rated(small_shop)
    assert batch.truth_rating.dtype == torch.float32
    loss = squared_error(head(batch, texts(batch)), truth_of(batch))
    predicted = head(batch, texts(batch))[batch.truth_query, batch.truth_column]
    torch.testing.assert_close(loss, F.mse_loss(predicted, batch.truth_rating))
    assert predicted.mean().item() == pytest.approx(4, abs=1)  # where the constant begins
    loss.backward()
    assert head.rating.weight.grad.ne(0).any()
    read = encoder.backbone.get_input_embeddings().weight.grad.abs().sum(1)
    assert read[encoder.tokenizer.convert_tokens_to_ids(["red", "mug"])].gt(0).all()


def test_ratings_are_learnt(small_shop, head, texts, encoder):
    Full().apply(encoder)
    batch = rated(small_shop)
    optimizer = torch.optim.AdamW([*head.parameters(), *encoder.parameters()], 3e-3)
    errors = []
    for _ in range(80):
        optimizer.zero_grad()
        loss = squared_error(head(batch, texts(batch)), truth_of(batch))
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < errors[0] / 4


def test_a_whole_catalogue_beyond_the_limit_is_refused_with_ways_out(small_shop, head, texts):
    head.max_pairs, batch = 5 * 32, with_words(small_shop.batch())
    assert head(batch, texts(batch)).shape == (5, 32)
    head.max_pairs -= 1
    with pytest.raises(ConfigError, match=r"5 queries x 32 candidates are more than 159 pairs.*stage=ratings.*eval\.batch_size"):
        head(batch, texts(batch))
    assert head(rated(small_shop), texts(batch)).any()  # the truth alone never is


def test_without_the_users_words_it_is_refused(small_shop, head, texts):
    batch = replace(small_shop.batch(), user_words=None)
    with pytest.raises(ConfigError, match="the batch has no user_words"):
        head(batch, texts(batch))


def test_a_batch_of_pairs_asks_for_one_item_of_each_user(small_shop):
    users, items, now = np.array([4, -1, 4]), np.array([31, 2, 2]), small_shop.timeline.at_week(90)
    batch = small_shop.batcher.of_pairs(users, items, now)
    assert batch.truth_alone
    assert batch.truth_items().tolist() == items.tolist()
    assert batch.truth_query.tolist() == [0, 1, 2]
    assert batch.truth_rating is None
    assert not small_shop.batch().truth_alone
    assert not small_shop.training_batch(candidates=Candidates(np.arange(32), np.zeros(32, np.float32))).truth_alone
