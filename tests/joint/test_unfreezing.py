"""Blocks wake from the top, and only those that the fine-tuning mode lets learn."""

from types import SimpleNamespace

import pytest
import torch
from encoders.conftest import tiny_bert, tiny_gpt2  # noqa: F401

from seasonrec.encoders.encoder import TextEncoder
from seasonrec.encoders.finetune import Adapter, FrozenBottom, Full
from seasonrec.errors import ConfigError
from seasonrec.joint.unfreezing import GradualUnfreezing


@pytest.fixture(params=["tiny_bert", "tiny_gpt2"])
def encoder(request):
    return TextEncoder.load(str(request.getfixturevalue(request.param)))


def awake(encoder, callback, n_epochs, first=0):
    """What learns in each epoch: the rows of the layers from the text upwards, of those that have anything that learns."""
    module = SimpleNamespace(model=SimpleNamespace(texts=SimpleNamespace(encoder=encoder)))
    trainer = SimpleNamespace(current_epoch=first)
    callback.on_train_start(trainer, module)
    seen = []
    for epoch in range(first, n_epochs):
        trainer.current_epoch = epoch
        callback.on_train_epoch_start(trainer, module)
        seen.append([row for row, layer in enumerate(encoder.layers) if any(p.requires_grad for m in layer for p in m.parameters())])
    callback.on_train_end(trainer, module)
    return seen


def test_one_block_more_learns_in_each_epoch_and_the_embeddings_last(encoder):
    Full().apply(encoder)
    top = encoder.n_blocks  # the embeddings are layer 0
    wanted = [list(range(max(top - epoch, 0), top + 1)) for epoch in range(top + 2)]
    assert wanted[0] == [top]
    assert wanted[-1] == list(range(top + 1))
    assert awake(encoder, GradualUnfreezing(), top + 2) == wanted


@pytest.mark.parametrize(("epochs", "n_awake"), [(0.5, [1, 3, 4, 4]), (1.0, [1, 2, 3, 4]), (2.0, [1, 1, 2, 2])])
def test_the_pace_is_as_told(encoder, epochs, n_awake):
    Full().apply(encoder)
    encoder.backbone.get_input_embeddings().requires_grad_(False)
    seen = [len(layers) for layers in awake(encoder, GradualUnfreezing(epochs), 4)]
    assert [min(n, 4) for n in seen] == n_awake


def test_only_what_the_mode_lets_learn_wakes_and_all_of_it_is_left_awake(encoder):
    FrozenBottom(2).apply(encoder)
    learning = {name for name, p in encoder.named_parameters() if p.requires_grad}
    top = encoder.n_blocks
    assert awake(encoder, GradualUnfreezing(), 1) == [[top]]
    assert {name for name, p in encoder.named_parameters() if p.requires_grad} == learning
    assert awake(encoder, GradualUnfreezing(), 4) == [[top], [top - 1, top], [top - 1, top], [top - 1, top]]


def test_adapters_wake_with_their_blocks_and_pretrained_weights_never(encoder):
    Adapter(size=2).apply(encoder)
    top = encoder.n_blocks
    assert awake(encoder, GradualUnfreezing(), 2) == [[top], [top - 1, top]]
    assert all(".adapter." in name for name, p in encoder.named_parameters() if p.requires_grad)


def test_a_training_that_is_resumed_is_as_far_as_it_was(encoder):
    Full().apply(encoder)
    assert awake(encoder, GradualUnfreezing(), 4, first=2) == awake(encoder, GradualUnfreezing(), 4)[2:]


def test_a_sleeping_part_has_no_dropout_and_a_woken_one_has(encoder):
    Full().apply(encoder)
    module = SimpleNamespace(model=SimpleNamespace(texts=SimpleNamespace(encoder=encoder)))
    callback, trainer = GradualUnfreezing(), SimpleNamespace(current_epoch=1)
    callback.on_train_start(trainer, module)
    callback.on_train_epoch_start(trainer, module)
    assert [block.training for block in encoder.blocks[-3:]] == [False, True, True]
    assert not any(m.training for part in encoder.embeddings for m in part.modules())


def test_weights_that_no_block_holds_wake_with_the_embeddings(encoder):
    Full().apply(encoder)
    encoder.backbone.register_parameter("beside", torch.nn.Parameter(torch.zeros(3)))
    module = SimpleNamespace(model=SimpleNamespace(texts=SimpleNamespace(encoder=encoder)))
    callback, trainer = GradualUnfreezing(), SimpleNamespace(current_epoch=encoder.n_blocks - 1)
    callback.on_train_start(trainer, module)
    callback.on_train_epoch_start(trainer, module)
    assert not encoder.backbone.beside.requires_grad
    trainer.current_epoch += 1
    callback.on_train_epoch_start(trainer, module)
    assert encoder.backbone.beside.requires_grad


@pytest.mark.parametrize("wrong", [0, -1, float("nan")])
def test_an_impossible_pace_is_an_error(wrong):
    with pytest.raises(ConfigError, match=r"callbacks.unfreezing.epochs is .*, wanted a positive number of epochs"):
        GradualUnfreezing(wrong)
