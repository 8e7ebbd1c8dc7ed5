"""Every shipped encoder and fine-tuning file is a call that its target accepts."""

import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_method, instantiate
from omegaconf import OmegaConf

from seasonrec.encoders.encoder import Options, TextEncoder

LOADING = ("gguf_file", "dropout", "gradient_checkpointing", "random_seed")  # how a model is read, not how it reads a text
CONF = Path(__file__).parents[2] / "conf"


def composed(group, name, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(overrides=[f"+{group}={name}", *overrides])[group]


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "encoder").glob("*.yaml")))
def test_encoder_files_give_every_option_a_legal_value(name):
    call = OmegaConf.to_container(composed("encoder", name))
    target = get_method(call.pop("_target_"))
    inspect.signature(target).bind(**call)
    assert target == TextEncoder.load
    assert call.pop("model")
    assert Options(**{key: value for key, value in call.items() if key not in LOADING})


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "finetune").glob("*.yaml")))
def test_fine_tuning_files_prepare_an_encoder(name, tiny_bert):
    encoder = instantiate(composed("encoder", "huggingface", f"encoder.model={tiny_bert}"))
    mode = instantiate(composed("finetune", name))
    mode.apply(encoder)
    assert (encoder.trainable_share() > 0) == mode.trainable
