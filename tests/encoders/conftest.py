"""Random language models small enough to check by hand, written to disk as a user's folder would be."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, PreTrainedTokenizerFast

WORDS = "red green blue apple candle lights christmas egg pumpkin barbecue garden gift wrap box mug card tree small large of"


def tokenizer_of(specials, marked):
    """One token a word, lower case kept apart from upper case; `marked` adds [CLS] and [SEP] around a text."""
    vocabulary = {word: number for number, word in enumerate([*specials, *WORDS.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=specials[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if marked:
        marks = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
    return tokenizer


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> Path:
    """Four blocks, 16 wide, with strong dropout; the tokenizer marks beginning and end."""
    folder = tmp_path_factory.mktemp("tiny_bert")
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=40,
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            pad_token_id=1,
            hidden_dropout_prob=0.5,
            initializer_range=0.5,
        )
    ).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of(["[UNK]", "[PAD]", "[CLS]", "[SEP]"], marked=True),
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory) -> Path:
    """Three causal blocks, 16 wide, with strong dropout; the tokenizer has no padding token and marks nothing."""
    folder = tmp_path_factory.mktemp("tiny_gpt2")
    torch.manual_seed(1)
    shape = {"vocab_size": 40, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 1}
    GPT2Model(GPT2Config(**shape, embd_pdrop=0.5, resid_pdrop=0.5, initializer_range=0.5)).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of(["[UNK]", "<end>"], marked=False), unk_token="[UNK]", eos_token="<end>", model_max_length=64
    ).save_pretrained(folder)
    return folder
