"""Which parameters learn how fast."""

import numpy as np
import pytest
import torch
from encoders.conftest import tiny_bert, tiny_gpt2  # noqa: F401
from torch import nn
from transformers import AlbertConfig, AlbertModel

from seasonrec.encoders.encoder import TextEncoder
from seasonrec.encoders.finetune import Adapter, Frozen, FrozenBottom, Full
from seasonrec.errors import ConfigError
from seasonrec.joint.optimisation import Optimisation


class Texts(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder


class Model(nn.Module):
    """Two heads with an id embedding each, a mixer, a single number, and an encoder."""

    def __init__(self, encoder):
        super().__init__()
        self.texts = Texts(encoder)
        self.heads = nn.ModuleDict({name: nn.Embedding(5, 1) for name in ("seasonal", "cf")})
        self.mixer = nn.Linear(2, 1)
        self.log_temperature = nn.Parameter(torch.zeros(()))


@pytest.fixture(params=["tiny_bert", "tiny_gpt2"])
def encoder(request):
    return TextEncoder.load(str(request.getfixturevalue(request.param)))


def grouped(model, **options):
    """The names of the parameters of each group, by rate and decay; a parameter in two groups is an error."""
    name_of = {id(p): name for name, p in model.named_parameters()}
    groups = Optimisation(**options).groups(model)
    names = [name_of[id(p)] for group in groups for p in group["params"]]
    assert len(names) == len(set(names))
    return {(group["lr"], group["weight_decay"]): {name_of[id(p)] for p in group["params"]} for group in groups}


def rates(model, **options):
    """The rate of each parameter by its name."""
    return {name: lr for (lr, _), names in grouped(model, **options).items() for name in names}


def test_groups_have_their_own_rates_and_decays(encoder):
    FrozenBottom(1).apply(encoder)
    learning = {f"texts.encoder.{name}": p.ndim for name, p in encoder.named_parameters() if p.requires_grad}
    assert grouped(Model(encoder), lr=0.1, encoder_lr=0.01, weight_decay=0.5, embedding_decay=0.7) == {
        (0.01, 0.5): {name for name, ndim in learning.items() if ndim > 1},
        (0.01, 0.0): {name for name, ndim in learning.items() if ndim == 1},
        (0.1, 0.5): {"mixer.weight"},
        (0.1, 0.0): {"mixer.bias", "log_temperature"},
        (0.1, 0.7): {"heads.seasonal.weight", "heads.cf.weight"},
    }


def test_what_is_frozen_is_in_no_group(encoder):
    Frozen().apply(encoder)
    model = Model(encoder)
    assert set(rates(model)) == {name for name, _ in model.named_parameters() if not name.startswith("texts.")}


def test_each_block_learns_at_a_share_of_the_rate_of_the_one_above_and_embeddings_below_all(encoder):
    Full().apply(encoder)
    found = rates(Model(encoder), lr=0.1, encoder_lr=1.0, encoder_layer_decay=0.5)
    n = encoder.n_blocks
    # Of four blocks the top one has 1, the others 1/2, 1/4, 1/8, embeddings 1/16; the final normalisation goes with the top block.
    wanted = {id(p): 0.5**n for module in encoder.embeddings for p in module.parameters()}
    wanted |= {id(p): 0.5 ** (n - 1 - place) for place, block in enumerate(encoder.blocks) for p in block.parameters()}
    wanted |= {id(p): 1.0 for module in encoder.final for p in module.parameters()}
    assert {name: found[f"texts.encoder.{name}"] for name, _ in encoder.named_parameters()} == {
        name: wanted[id(p)] for name, p in encoder.named_parameters()
    }
    assert found["mixer.weight"] == 0.1


def test_adapters_learn_at_the_rate_of_their_block(encoder):
    Adapter(size=2).apply(encoder)
    found = rates(Model(encoder), lr=0.1, encoder_lr=1.0, encoder_layer_decay=0.5)
    of_encoder = [rate for name, rate in found.items() if name.startswith("texts.encoder.")]
    # Two adapters a block, each with two weights and two biases.
    assert sorted(of_encoder) == sorted(8 * [0.5**place for place in range(encoder.n_blocks)])


def test_a_decay_from_block_to_block_wants_blocks(encoder):
    shape = {"vocab_size": 40, "hidden_size": 16, "embedding_size": 8, "num_attention_heads": 2, "intermediate_size": 32}
    shared = TextEncoder(AlbertModel(AlbertConfig(**shape)), encoder.tokenizer, encoder.options)
    Full().apply(shared)
    assert set(rates(Model(shared)).values()) == {4e-3, 2e-5}
    with pytest.raises(ConfigError, match="the blocks of AlbertModel are not at"):
        rates(Model(shared), encoder_layer_decay=0.9)


@pytest.mark.parametrize(
    "wrong", [{"lr": 0}, {"encoder_lr": -1}, {"weight_decay": -0.1}, {"embedding_decay": -0.1}, {"warmup": 1.0}, {"lr": float("nan")}]
)
def test_impossible_rates_are_an_error(wrong):
    with pytest.raises(ConfigError, match="wanted positive rates, decays of at least 0 and warmup in"):
        Optimisation(**wrong)


@pytest.mark.parametrize("wrong", [0, 1.1, float("nan")])
def test_an_impossible_decay_from_block_to_block_is_an_error(wrong):
    with pytest.raises(ConfigError, match=r"optim.encoder_layer_decay is .*, wanted a share in \(0, 1\]"):
        Optimisation(encoder_layer_decay=wrong)


def test_the_rate_rises_and_falls_linearly():
    # Of 10 steps 4 warm up: step 0 has 1/5 of the rate, step 3 has 4/5, step 4 all of it; the 6 steps left lose 1/6 each.
    rates = [Optimisation(warmup=0.4).rate(step, 10) for step in range(11)]
    np.testing.assert_allclose(rates, [1 / 5, 2 / 5, 3 / 5, 4 / 5, 6 / 6, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])


def test_without_a_warm_up_the_first_step_has_the_whole_rate():
    assert [Optimisation(warmup=0).rate(step, 4) for step in range(5)] == [1, 0.75, 0.5, 0.25, 0]


def test_the_rate_never_falls_below_0():
    assert Optimisation().rate(99, 10) == 0
