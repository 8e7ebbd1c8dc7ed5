"""How far texts lie from a model's language, counted by hand."""

import math

import numpy as np
import pytest
import torch
from encoders.conftest import SHAPE, tokenizer_of
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from seasonrec.encoders.encoder import TextEncoder
from seasonrec.encoders.language_fit import language_fit

SPECIALS = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
NAMES = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}


def saved(model, folder, tokenizer=None):
    model.save_pretrained(folder)
    tokenizer = tokenizer or tokenizer_of(SPECIALS, marked=True)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **NAMES).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def pieces(tmp_path):
    """A tokenizer that knows `red` whole, `candle` in pieces and no other letter."""
    vocabulary = {token: n for n, token in enumerate([*SPECIALS, "red", "can", "##dle", "##s", "-"])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return TextEncoder.load(saved(BertForMaskedLM(BertConfig(**SHAPE)).bert, tmp_path, tokenizer), max_length=4)


def test_tokens_words_and_pieces_are_counted(pieces):
    # red | red - can ##dle | can ##dle ##s [UNK]: 9 tokens, 5 words of 1, 1, 2, 3 and 1 of them; the hyphen is no word.
    fit = language_fit(pieces, ["red", "red-candle", "candles zebra", " "])
    assert (fit.n_texts, fit.tokens_per_text, fit.unknown_tokens) == (3, 9 / 3, 1 / 9)
    assert (fit.split_words, fit.pieces_per_word) == (2 / 5, 8 / 5)
    assert fit.cut_texts == 0  # the encoder reads 4 tokens, and this tokenizer adds none
    assert language_fit(pieces, ["red", "red-candles"]).cut_texts == 1 / 2


def test_words_are_counted_as_the_encoder_spells_them(pieces, tmp_path):
    assert language_fit(pieces, ["RED"]).unknown_tokens == 1
    lowered = TextEncoder.load(str(tmp_path), lowercase=True)
    assert language_fit(lowered, ["RED"]).unknown_tokens == 0


def test_a_checkpoint_without_a_head_has_no_loss(pieces):
    fit = language_fit(pieces, ["red"])
    assert (fit.loss, fit.loss_of) == (None, None)


def test_texts_without_a_word_give_nothing_to_count(pieces):
    fit = language_fit(pieces, ["", " "])
    assert (fit.n_texts, fit.tokens_per_text, fit.split_words, fit.loss) == (0, 0.0, None, None)
    assert language_fit(pieces, ["-"]).pieces_per_word is None


def test_a_head_that_knows_nothing_loses_the_logarithm_of_its_vocabulary(tmp_path):
    model = BertForMaskedLM(BertConfig(**SHAPE))
    with torch.no_grad():
        model.cls.predictions.decoder.weight.zero_()
        model.cls.predictions.decoder.bias.zero_()
    fit = language_fit(TextEncoder.load(saved(model, tmp_path)), [f"red apple {word}" for word in ("egg", "mug", "tree", "box")])
    assert fit.loss_of == "masked token"
    assert fit.loss == pytest.approx(math.log(40))


def test_a_masked_head_is_asked_for_words_behind_masks_alone(tmp_path):
    """A head that always says `red` is right where `red` stands, and a mask hides no mark of beginning or end."""
    model = BertForMaskedLM(BertConfig(**SHAPE))
    red = tokenizer_of(SPECIALS, marked=True).token_to_id("red")
    with torch.no_grad():
        model.cls.predictions.decoder.weight.zero_()
        model.cls.predictions.decoder.bias.copy_(20.0 * torch.nn.functional.one_hot(torch.tensor(red), 40))
    encoder = TextEncoder.load(saved(model, tmp_path))
    assert language_fit(encoder, [" ".join(["red"] * n) for n in range(5, 15)]).loss == pytest.approx(0, abs=1e-6)
    assert language_fit(encoder, [" ".join(["egg"] * n) for n in range(5, 15)]).loss == pytest.approx(20, abs=1e-6)


def test_a_causal_head_is_asked_for_the_next_token_of_each_text(tmp_path):
    torch.manual_seed(0)
    shape = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "bos_token_id": 2, "eos_token_id": 3}
    model = GPT2LMHeadModel(GPT2Config(**shape, initializer_range=0.5)).eval()
    encoder = TextEncoder.load(saved(model, tmp_path))
    texts = ["red apple tree", "egg", "christmas candle lights of red"]
    losses = []
    for text in texts:
        ids = encoder.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            log_p = model(input_ids=ids).logits[0].log_softmax(-1)
        losses += [-log_p[place, ids[0, place + 1]].item() for place in range(len(ids[0]) - 2)]  # the last one is the mark of the end
    fit = language_fit(encoder, texts)
    assert fit.loss_of == "next token"
    assert fit.loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_loss_is_that_before_training(tmp_path):
    encoder = TextEncoder.load(saved(BertForMaskedLM(BertConfig(**SHAPE)), tmp_path))
    before = language_fit(encoder, ["red apple", "egg mug"] * 5)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.normal_()
    assert language_fit(encoder, ["red apple", "egg mug"] * 5) == before


def test_weights_drawn_at_random_belong_to_no_head(tmp_path):
    folder = saved(BertForMaskedLM(BertConfig(**SHAPE)), tmp_path)
    fit = language_fit(TextEncoder.load(folder, random_seed=0), ["red apple", "egg mug"] * 5)
    assert (fit.loss, fit.loss_of) == (None, None)


def test_what_is_put_before_a_text_takes_part_of_what_is_read(tmp_path):
    folder = saved(BertForMaskedLM(BertConfig(**SHAPE)), tmp_path)
    shares = [language_fit(TextEncoder.load(folder, max_length=6, prefix=prefix), ["red apple egg"]).cut_texts for prefix in ("", "mug ")]
    assert shares == [0, 0]  # 3 tokens, or 4, and the marks of beginning and end
    assert language_fit(TextEncoder.load(folder, max_length=5, prefix="mug "), ["red apple egg"]).cut_texts == 1


def test_a_sample_is_drawn_by_the_seed(pieces):
    texts = ["red"] * 50 + ["zebra"] * 50
    shares = [language_fit(pieces, texts, n=20, seed=seed).unknown_tokens for seed in (0, 0, 1, 2, 3)]
    assert shares[0] == shares[1]
    assert len(set(shares)) > 1
    assert language_fit(pieces, texts, n=20).n_texts == 20
