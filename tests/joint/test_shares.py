"""Three processes that learn from shares of a batch against one that learns from the whole."""

import runpy
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed

from seasonrec.data.batches import TrainingBatches
from seasonrec.data.candidates import CandidateSampler
from seasonrec.heads.cf import Factors, Neighbours, Repeat
from seasonrec.heads.content import ProfileText
from seasonrec.heads.head import Sum
from seasonrec.heads.seasonal import AsOfDemand, ContextText, HarmonicText
from seasonrec.joint.mixer import Gated
from seasonrec.joint.model import JointModel
from seasonrec.joint.module import JointModule
from seasonrec.joint.optimisation import Optimisation
from seasonrec.losses import CrossEntropy, JointLoss
from seasonrec.shares import Share, mean_gradients
from seasonrec.weighting import Fixed, GradNorm, PCGrad

N = 3
CONFTEST = Path(__file__).parents[1] / "conftest.py"
WEIGHTINGS = {"fixed": Fixed, "gradnorm": GradNorm, "pcgrad": PCGrad}


@cache
def shop():
    return runpy.run_path(str(CONFTEST))["small_shop_of"](runpy.run_path(str(CONFTEST))["WordEncoder"](learns=True))


def module_of(weighting):
    """A model whose tasks share an encoder that learns; nothing is dropped, and nothing begins at 0."""
    heads = {
        "seasonal": partial(
            Sum, parts={"demand": AsOfDemand, "text": partial(HarmonicText, dropout=0), "context": partial(ContextText, dropout=0)}
        ),
        "cf": partial(Sum, parts={"repeat": Repeat, "factors": partial(Factors, dropout=0, history_dropout=0), "users": Neighbours}),
        "content": partial(ProfileText, dropout=0, history_dropout=0),
    }
    torch.manual_seed(0)
    model = JointModel(shop().texts, shop().sizes, heads, Gated)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    loss = JointLoss({"seasonal": 1.0, "cf": 0.5, "content": 0.25}, dict.fromkeys(heads, CrossEntropy(0.5, 0.25)), weighting=weighting)
    module = JointModule(model, loss, Optimisation())
    module.log = lambda *args, **kwargs: None
    return module


def batches(n):
    """Those of ten weeks, of one to seven queries each: three processes have unequal shares of them, or too few."""
    past = shop().timeline.at_week(100)
    sampler = CandidateSampler(n=12)
    return list(TrainingBatches(past, range(90, 100), shop().batcher, batch_size=7, sampler=sampler, seed=3, n_queries=n, in_season=2.0))


def learn(rank, n, folder):
    """Losses, gradients and running figures of each batch, in the file of a process that is one of n."""
    if n > 1:
        distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=n)
    torch.set_num_threads(1)
    kept = {}
    for name, weighting in WEIGHTINGS.items():
        module = module_of(weighting)
        for number, batch in enumerate([*batches(40)[:4], *batches(15)[:3]]):
            module.zero_grad()
            loss = module.training_step(batch, number)
            loss.backward()
            names, parameters = zip(*module.named_parameters(), strict=True)
            gradients = mean_gradients(tuple(p.grad for p in parameters))  # as distributed training does
            kept |= {f"{name}/{number}/gradient/{each}": g for each, g in zip(names, gradients, strict=True) if g is not None}
            kept[f"{name}/{number}/loss"] = loss.detach()
        kept |= {f"{name}/buffer/{each}": value.float().clone() for each, value in module.named_buffers()}
    save_file({name: value.contiguous() for name, value in kept.items()}, f"{folder}/{n}_{rank}.safetensors")
    if n > 1:
        distributed.destroy_process_group()


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """What one process found, and what each of three did."""
    folder = tmp_path_factory.mktemp("shares")
    learn(0, 1, folder)
    torch.multiprocessing.spawn(learn, (N, folder), nprocs=N)
    return load_file(folder / "1_0.safetensors"), [load_file(folder / f"{N}_{rank}.safetensors") for rank in range(N)]


def test_of_what_was_bought_some_counts_more():
    assert {1, 3} == {count for batch in batches(40)[:4] for count in batch.truth_weight.tolist()}


def test_some_batches_have_fewer_queries_than_there_are_processes():
    lengths = [len(batch.user) for batch in [*batches(40)[:4], *batches(15)[:3]]]
    assert min(lengths) < N < max(lengths)
    assert any(length % N for length in lengths if length > N)


def test_losses_gradients_and_running_figures_are_those_of_one_process(learnt):
    one, several = learnt
    for found in several:
        assert found.keys() == one.keys()
        for name, expected in one.items():
            torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}")
    reached = [name for name, value in one.items() if "/gradient/" in name and value.abs().max() > 1e-4]
    assert any("texts.encoder" in name for name in reached)
    assert any("gradnorm/6/gradient/weighting" in name for name in one)
    assert one["fixed/buffer/model.seen.user.highest"].isfinite().all()


def test_all_processes_agree_to_the_last_bit(learnt):
    _, (first, *others) = learnt
    for found in others:
        assert all(torch.equal(found[name], value) for name, value in first.items())


@pytest.mark.parametrize("n", [1, 2, 3, 7, 9])
def test_every_row_is_counted_once_and_nobody_has_nothing_to_do(monkeypatch, n):
    shares = []
    for rank in range(N):
        monkeypatch.setattr("seasonrec.shares.n_processes", lambda: N)
        monkeypatch.setattr("seasonrec.shares.rank", lambda rank=rank: rank)
        shares.append(Share.of(n))
    assert sorted(np.concatenate([share.row for share in shares if share.counts]).tolist()) == list(range(n))
    assert all(len(share.row) for share in shares)


def test_one_process_has_the_whole():
    share, rows = Share.of(5), torch.randn(5, 2)
    assert share.row.tolist() == [0, 1, 2, 3, 4]
    assert share.whole(rows) is rows
