"""An encoder of which two processes keep a part each learns from unequal shares what one process learns from both."""

from datetime import timedelta

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from seasonrec.encoders.encoder import TextEncoder

# Batches of eight tokens: four for the first process, one for the second, none for the third.
SHARES = (["red", "red blue", "red blue green red", "red blue green red blue"], ["blue"], [" "])
BATCH_TOKENS = 8


def loss_of(encoder, texts):
    """Each number of the vectors by a weight of its own."""
    vectors = encoder(encoder.tokenize(texts), BATCH_TOKENS)
    return (vectors * torch.arange(vectors.numel()).view_as(vectors)).sum()


def learn(rank, folder, model):
    """The gradients that the first process finds, in a file."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=len(SHARES), timeout=timedelta(seconds=60)
    )
    torch.set_num_threads(1)
    encoder = TextEncoder.load(str(model))
    mesh = init_device_mesh("cpu", (len(SHARES),))
    for module in (*encoder.blocks, encoder.backbone):
        fully_shard(module, mesh=mesh)
    loss_of(encoder, SHARES[rank]).backward()
    gradients = {name: p.grad.full_tensor() for name, p in encoder.named_parameters() if p.grad is not None}
    if rank == 0:
        save_file(gradients, folder / "gradients.safetensors")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def gradients(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    torch.multiprocessing.spawn(learn, (folder, tiny_bert), nprocs=len(SHARES))
    return load_file(folder / "gradients.safetensors")


def test_processes_whose_texts_make_more_or_fewer_batches_wait_for_each_other_and_learn_the_mean(gradients, tiny_bert):
    encoder = TextEncoder.load(str(tiny_bert))
    assert [len(list(encoder.tokenize(texts).batches(BATCH_TOKENS))) for texts in SHARES] == [4, 1, 0]
    (sum(loss_of(encoder, texts) for texts in SHARES) / len(SHARES)).backward()
    expected = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-3, atol=1e-3, msg=lambda text, name=name: f"{name}: {text}")
    assert max(gradient.abs().max() for gradient in gradients.values()) > 1e-2
