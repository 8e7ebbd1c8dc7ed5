"""Random language models small enough to check by hand, written to disk as a user's folder would be."""

import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    ElectraConfig,
    Gemma3TextConfig,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    RobertaConfig,
    XLMRobertaConfig,
)

WORDS = "red green blue apple candle lights christmas egg pumpkin barbecue garden gift wrap box mug card tree small large of"
SHAPE = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CAUSAL = SHAPE | {"num_key_value_heads": 1, "head_dim": 8, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
# Two blocks, 16 wide, of each family, and whether it is causal.
FAMILIES = [
    (BertConfig(**SHAPE), False),
    (RobertaConfig(**SHAPE), False),
    (XLMRobertaConfig(**SHAPE), False),
    (MPNetConfig(**SHAPE), False),
    (ElectraConfig(**SHAPE, embedding_size=8), False),
    (DistilBertConfig(vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=32), False),
    (ModernBertConfig(**SHAPE, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2), False),
    (GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=1), True),
    (LlamaConfig(**CAUSAL), True),
    (Qwen3Config(**CAUSAL), True),
    (Gemma3TextConfig(**CAUSAL), True),
]


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


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, tiny_bert):
    """The folder of a random model of a config, with the tokenizer of `tiny_bert`."""

    @cache
    def make(model_type: str) -> Path:
        folder = tmp_path_factory.mktemp(model_type)
        torch.manual_seed(2)
        AutoModel.from_config(next(config for config, _ in FAMILIES if config.model_type == model_type)).save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny_bert / name, folder)
        return folder

    return make


@pytest.fixture(params=[config.model_type for config, _ in FAMILIES])
def family(request, tiny_model) -> Path:
    """A random model of each family."""
    return tiny_model(request.param)
