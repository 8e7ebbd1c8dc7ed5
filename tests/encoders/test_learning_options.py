"""Dropout and gradient checkpointing: how an encoder computes while it learns, and that its vectors do not depend on it."""

import pytest
import torch

from seasonrec.encoders.encoder import TextEncoder
from seasonrec.encoders.finetune import Adapter, FrozenBottom, Full
from seasonrec.errors import ConfigError

TEXTS = ["red apple", "christmas tree lights small box", "egg"]


def learning(folder, mode=Full, **options):
    encoder = TextEncoder.load(str(folder), **options)
    torch.manual_seed(0)
    mode().apply(encoder)
    return encoder


def trained_vectors(encoder):
    return encoder(encoder.tokenize(TEXTS)).detach()


def test_dropout_is_as_told_in_every_family_while_it_learns_and_off_otherwise(family):
    expected = torch.from_numpy(TextEncoder.load(str(family)).encode(TEXTS))
    without, much = (learning(family, dropout=p) for p in (0.0, 0.5))
    torch.testing.assert_close(trained_vectors(without), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(trained_vectors(much), expected, atol=1e-4)
    torch.testing.assert_close(torch.from_numpy(much.encode(TEXTS)), expected, rtol=0, atol=0)


def test_dropout_is_the_model_s_own_unless_told(tiny_bert):
    assert learning(tiny_bert).backbone.config.hidden_dropout_prob == 0.5
    assert {m.p for m in learning(tiny_bert, dropout=0.25).modules() if isinstance(m, torch.nn.Dropout)} == {0.25}


@pytest.mark.parametrize("wrong", [-0.1, 1.0])
def test_an_impossible_dropout_is_an_error(tiny_bert, wrong):
    with pytest.raises(ConfigError, match=f"encoder.dropout is {wrong}"):
        TextEncoder.load(str(tiny_bert), dropout=wrong)


def test_neither_changes_the_name_of_the_encoder_s_vectors_on_disk(tiny_bert):
    digests = {TextEncoder.load(str(tiny_bert), **options).digest() for options in ({}, {"dropout": 0.3}, {"gradient_checkpointing": True})}
    assert len(digests) == 1


def gradients(encoder):
    encoder(encoder.tokenize(TEXTS))[:, 0].sum().backward()
    return {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("mode", [Full, lambda: FrozenBottom(1), lambda: Adapter(size=2)], ids=["full", "frozen_bottom", "adapter"])
@pytest.mark.parametrize("model_type", ["bert", "distilbert", "gpt2", "llama", "gemma3_text"])
def test_checkpointed_gradients_are_those_that_keep_everything(tiny_model, model_type, mode):
    kept, again = (learning(tiny_model(model_type), mode, dropout=0.0, gradient_checkpointing=on) for on in (False, True))
    expected, found = gradients(kept), gradients(again)
    assert found.keys() == expected.keys() != set()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def test_only_blocks_that_learn_compute_twice(tiny_bert):
    encoder = learning(tiny_bert, lambda: FrozenBottom(2), gradient_checkpointing=True)
    counts = [0] * encoder.n_blocks
    for place, block in enumerate(encoder.blocks):
        block.intermediate.register_forward_hook(lambda *_, place=place: counts.__setitem__(place, counts[place] + 1))
    gradients(encoder)
    assert counts == [1, 1, 2, 2]


def test_a_family_that_cannot_checkpoint_is_an_error(tiny_model):
    with pytest.raises(ConfigError, match=r"encoder.gradient_checkpointing: MPNetModel does not support .* Leave it false"):
        TextEncoder.load(str(tiny_model("mpnet")), gradient_checkpointing=True)
