"""What learns moves, what is frozen does not by a single bit, and has no dropout."""

import pytest
import torch

from seasonrec.encoders.encoder import TextEncoder
from seasonrec.encoders.finetune import FineTuning, Frozen, FrozenBottom
from seasonrec.errors import ConfigError

TEXTS = ["red apple", "christmas tree lights small box", "egg", "garden barbecue large"]


@pytest.fixture(params=["tiny_bert", "tiny_gpt2"])
def encoder(request):
    return TextEncoder.load(str(request.getfixturevalue(request.param)))


def step(encoder):
    """Trains once on something arbitrary and names the parameters that moved."""
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    head = torch.nn.Linear(encoder.d_model, 3)
    learning = [p for p in [*encoder.parameters(), *head.parameters()] if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=1e-2, weight_decay=0.1)
    head(encoder(encoder.tokenize(TEXTS))).square().sum().backward()
    optimiser.step()
    return {name for name, p in encoder.named_parameters() if not torch.equal(p, before[name])}


def names_in(encoder, modules):
    inside = {id(p) for module in modules for p in module.parameters()}
    return {name for name, p in encoder.named_parameters() if id(p) in inside}


def test_frozen_moves_nothing_and_gives_the_same_vectors_in_training(encoder):
    expected = encoder.encode(TEXTS)
    Frozen().apply(encoder)
    assert step(encoder) == set()
    encoder.train()
    assert not any(module.training for module in encoder.backbone.modules())
    with torch.inference_mode():
        assert torch.equal(encoder(encoder.tokenize(TEXTS)), encoder(encoder.tokenize(TEXTS)))
    assert (encoder.encode(TEXTS) == expected).all()
    assert encoder.trainable_share() == 0


@pytest.mark.parametrize("k", [1, 2, 3])
def test_frozen_bottom_moves_the_top_k_blocks_and_what_follows_them_only(encoder, k):
    FrozenBottom(k).apply(encoder)
    expected = names_in(encoder, [*encoder.blocks[-k:], *encoder.final])
    moved = step(encoder)
    # A key's bias shifts all attention scores of a query alike, so its gradient is rounding noise around 0: decay alone moves it, from 0.
    assert moved <= expected
    assert all(name.endswith("key.bias") for name in expected - moved)
    learns = sum(p.numel() for name, p in encoder.named_parameters() if name in expected)
    assert encoder.trainable_share() == learns / sum(p.numel() for p in encoder.parameters())


def test_frozen_blocks_and_embeddings_have_no_dropout_after_train_and_the_others_do(encoder):
    FrozenBottom(1).apply(encoder)
    for _ in range(2):
        frozen = [m for part in (*encoder.embeddings, *encoder.blocks[:-1]) for m in part.modules()]
        assert not any(module.training for module in frozen)
        assert all(module.training for module in encoder.blocks[-1].modules())
        encoder.eval()
        assert not any(module.training for module in encoder.modules())
        encoder.train()


def test_the_frozen_bottom_is_the_same_function_in_training(encoder):
    """A hook on the first block that learns sees the same input twice, though dropout makes the vectors differ."""
    FrozenBottom(1).apply(encoder)
    seen = []
    encoder.blocks[-1].register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    one, other = (encoder(encoder.tokenize(TEXTS)) for _ in range(2))
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(one, other)


def test_all_blocks_may_learn_and_embeddings_stay(encoder):
    FrozenBottom(encoder.n_blocks).apply(encoder)
    assert step(encoder).isdisjoint(names_in(encoder, encoder.embeddings))


def test_more_blocks_than_there_are_is_an_error(encoder):
    with pytest.raises(ConfigError, match=f"finetune.k is 5, but the encoder has {encoder.n_blocks} blocks"):
        FrozenBottom(5).apply(encoder)


def test_no_block_that_learns_is_an_error():
    with pytest.raises(ConfigError, match=r"finetune.k is 0.*finetune=frozen"):
        FrozenBottom(0)


def test_modes_tell_whether_the_encoder_learns():
    modes: list[FineTuning] = [Frozen(), FrozenBottom()]
    assert [mode.trainable for mode in modes] == [False, True]
