"""A GGUF file is read like any other model: the same weights, and LoRA on top."""

import gguf
import pytest
import torch
from peft import LoraConfig
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Config, Qwen2Model

from seasonrec.encoders import backbone as backbones
from seasonrec.encoders.encoder import TextEncoder
from seasonrec.encoders.finetune import Frozen, Peft
from seasonrec.errors import ConfigError

TOKENS = [*sorted(ByteLevel.alphabet()), "re", "red", "Ġred", "<|endoftext|>"]
# What llama.cpp calls the parts of a model.
PARTS = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


@pytest.fixture(scope="module")
def model():
    """Two causal blocks, 16 wide."""
    torch.manual_seed(0)
    shape = {"vocab_size": len(TOKENS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    return Qwen2Model(Qwen2Config(**shape, intermediate_size=32, max_position_embeddings=64, tie_word_embeddings=True))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """The model and a byte-level tokenizer in one file."""
    folder = tmp_path_factory.mktemp("gguf")
    writer = gguf.GGUFWriter(str(folder / "tiny.gguf"), "qwen2")
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(16)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([gguf.TokenType.NORMAL] * (len(TOKENS) - 1) + [gguf.TokenType.CONTROL])
    writer.add_token_merges(["r e", "re d", "Ġ red"])
    writer.add_eos_token_id(len(TOKENS) - 1)
    for name, weight in model.state_dict().items():
        part, _, kind = name.rpartition(".")
        block, _, inner = part.removeprefix("layers.").partition(".")
        writer.add_tensor(f"blk.{block}.{PARTS[inner]}.{kind}" if inner else f"{PARTS[part]}.{kind}", weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder


def test_weights_and_words_are_those_of_the_file(folder, model):
    encoder = TextEncoder.load(str(folder), gguf_file="tiny.gguf", pooling="last", normalize=False, dropout=0.1)
    assert {name: value.tolist() for name, value in encoder.backbone.state_dict().items()} == {
        name: value.tolist() for name, value in model.state_dict().items()
    }
    ids = encoder.tokenize(["a red"]).ids
    assert [TOKENS[n] for n in ids] == ["a", "Ġred"]
    with torch.no_grad():
        expected = model.eval()(input_ids=torch.from_numpy(ids).long()[None]).last_hidden_state[0, -1]
    torch.testing.assert_close(torch.from_numpy(encoder.encode(["a red"])[0]), expected)


@pytest.mark.parametrize("mode", [Frozen(), Peft(LoraConfig(r=2))], ids=["frozen", "lora"])
def test_it_takes_a_step_frozen_or_with_lora(folder, mode):
    encoder = TextEncoder.load(str(folder), gguf_file="tiny.gguf", pooling="last")
    mode.apply(encoder)
    before = encoder.encode(["red", "a red"])
    head = torch.nn.Linear(16, 1)
    optimiser = torch.optim.SGD([p for p in [*encoder.parameters(), *head.parameters()] if p.requires_grad], lr=1.0)
    head(encoder(encoder.tokenize(["red", "a red"]))).sum().backward()
    optimiser.step()
    assert (encoder.encode(["red", "a red"]) != before).any() == mode.trainable


def test_without_the_package_the_error_names_the_extra(folder, monkeypatch):
    monkeypatch.setattr(backbones, "is_gguf_available", lambda: False)
    with pytest.raises(ConfigError, match=r"encoder.gguf_file=tiny.gguf: .* pip install 'seasonrec\[gguf\]'"):
        TextEncoder.load(str(folder), gguf_file="tiny.gguf")


def test_a_file_that_is_not_there_is_an_error(folder):
    with pytest.raises(ConfigError, match=r"not loaded: .*other.gguf"):
        TextEncoder.load(str(folder), gguf_file="other.gguf")
