"""The job on two processes, one of which is killed on the way, against the same on one: each keeps all of the model, or a part of it."""

import json
import os
import signal
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import pytorch_lightning as lightning
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import nn
from torch.distributed.tensor import DTensor

from seasonrec.encoders.encoder import TextEncoder
from seasonrec.errors import ConfigError
from seasonrec.evaluation.lists import read_lists
from seasonrec.experiments import ranks
from seasonrec.experiments.fit import DONE, ENCODER, WEIGHTS
from seasonrec.experiments.record import read_record, read_table
from seasonrec.joint import sharding
from seasonrec.joint.optimisation import Optimisation
from seasonrec.joint.sharding import ShardedModule
from seasonrec.weighting import GradNorm, PCGrad, Uncertainty

OPTIONS = "trainer.max_epochs=2 sampling.n_weeks=6 sampling.batch_size=25 eval.n_selection=100 encoder.dropout=0"


class NoDropout(lightning.Callback):
    """Nothing is dropped at random, which two processes would do otherwise than one."""

    def on_fit_start(self, trainer, pl_module):
        for module in pl_module.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if hasattr(module, "history_dropout"):
                module.history_dropout = 0.0


class Witness(lightning.Callback):
    """Notes which processes learn, and kills that of rank 1 once, early in the second epoch."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def on_train_epoch_end(self, trainer, pl_module):
        score = trainer.callback_metrics.get("validation/selection", torch.tensor(0.0))
        seen = pl_module.model.seen.user.highest.tolist()
        encoder = pl_module.model.texts.encoder
        held = sum((p.to_local() if isinstance(p, DTensor) else p).numel() for p in encoder.parameters())
        row = {"process": os.getpid(), "epoch": trainer.current_epoch, "score": float(score), "seen": seen, "held": held}
        with (self.folder / f"rank_{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.global_rank, trainer.current_epoch, batch_idx) == (1, 1, 2) and not (self.folder / "killed").exists():
            (self.folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def job(command, words, tmp_path_factory):
    """Runs the whole job in a folder of its own, with overrides; the folder, and that of the witness."""

    def call(*overrides):
        folder, seen = tmp_path_factory.mktemp("job"), tmp_path_factory.mktemp("seen")
        callbacks = f"+callbacks.plain._target_={__name__}.NoDropout +callbacks.witness._target_={__name__}.Witness"
        options = [*words, *f"{OPTIONS} {callbacks} +callbacks.witness.folder={seen}".split()]
        call = lambda: command("train", *options, *overrides, f"hydra.run.dir={folder}")
        return folder, seen, call

    return call


@pytest.fixture(scope="module")
def alone(job):
    """The job on one process."""
    folder, _, call = job("trainer=cpu")
    call()
    return folder


@pytest.fixture(scope="module")
def killed(job):
    """The job on two processes of which one is killed in its second epoch: folder, the witness's, record, and what it said."""
    folder, seen, call = job("trainer=ddp_sim")
    with redirect_stderr(StringIO()) as said, pytest.raises(SystemExit) as end:
        call()
    return folder, seen, read_record(folder), end.value.code, said.getvalue()


@pytest.fixture(scope="module")
def together(killed, command):
    """The same job, resumed and ended: the folder and the witness's."""
    folder, seen, *_ = killed
    command("train", f"resume={folder}")
    return folder, seen


def test_a_killed_process_ends_the_job_with_a_clear_message(killed):
    folder, seen, record, code, said = killed
    assert (seen / "killed").exists()
    assert (record["status"], record["error"]["type"], record["error"]["stage"], code) == ("failed", "TrainingError", "selection fit", 2)
    assert "the process of rank 1 of 2 was killed by signal 9" in said
    assert f"`seasonrec train resume={folder}` goes on after the last whole epoch" in said
    assert not (folder / "fits/selection" / DONE).exists()


def test_afterwards_the_process_is_alone_again(killed):
    assert not torch.distributed.is_initialized()
    assert not any(name in os.environ for name in ranks.PLACE)


def test_losses_of_two_processes_are_those_of_one(alone, together):
    one, two = read_table(alone, "losses"), read_table(together[0], "losses")
    keys = ["fit", "epoch", "step", "name"]
    assert one.select(keys).equals(two.select(keys))  # every step once
    assert one["epoch"].max() == 1
    # The first step's are equal to rounding; then AdamW, whose first steps hardly depend on a gradient's size, makes differences of it.
    first = one["step"] == 1
    np.testing.assert_allclose(two["value"].filter(first), one["value"].filter(first), rtol=1e-6)
    np.testing.assert_allclose(two["value"], one["value"], rtol=5e-4)


def test_so_are_the_selection_metric_the_chosen_epoch_and_the_test_metrics(alone, together):
    one, two = (json.loads((folder / "fits/selection" / DONE).read_text()) for folder in (alone, together[0]))
    assert one["n_epochs"] == two["n_epochs"]
    assert one["score"] == pytest.approx(two["score"], abs=2e-3)
    metrics = [
        read_table(folder, "metrics").filter(pl.col("slice") == "all", method="joint", metric="ndcg@10").sort("split")
        for folder in (alone, together[0])
    ]
    assert metrics[0]["n_queries"].equals(metrics[1]["n_queries"])
    np.testing.assert_allclose(metrics[1]["value"], metrics[0]["value"], atol=2e-3)


def test_no_query_is_lost_or_evaluated_twice(alone, together, dataset):
    for split, path in (("validation", "lists/validation/joint.parquet"), ("test", "lists/joint.parquet")):
        lists = read_lists(together[0] / path, dataset)  # which refuses a place that is given twice
        queries = dataset.timeline.queries(dataset.split.weeks[split])
        assert (lists.queries.user == queries.user).all()
        assert (lists.queries.week == queries.week).all()


def test_only_rank_0_writes(alone, together):
    files = [{str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} for folder in (alone, together[0])]
    assert {name for name in files[0] ^ files[1] if not name.startswith("logs/")} == set()
    assert {name.partition("/csv")[2] for name in files[1] if name.startswith("logs/")} >= {"/metrics.csv", "_1/metrics.csv"}  # resumed


def test_both_processes_learn_and_agree_on_what_each_epoch_was_worth(together):
    by_rank = [[json.loads(line) for line in (together[1] / f"rank_{rank}.jsonl").read_text().splitlines()] for rank in (0, 1)]
    # One epoch before the kill, one after it, and the final fit's.
    assert [row["epoch"] for row in by_rank[0]] == [row["epoch"] for row in by_rank[1]]
    assert {row["epoch"] for row in by_rank[0]} == {0, 1}
    for own, other in zip(*by_rank, strict=True):
        assert own["process"] != other["process"]
        assert (own["score"], own["seen"]) == (other["score"], other["seen"])
    assert all(row["score"] for row in by_rank[0][:2])


QUICK = ("finetune=full", "optim.encoder_lr=2e-4", "stage=selection", "baseline=none", "loss/weighting=uncertainty")
EXACT = "encoder.dtype=float32"  # in bfloat16 whole blocks are run fused, parts of them are not


@pytest.fixture(scope="module")
def whole_encoder(job):
    """The selection fit of an encoder that learns, on one process: folder and the witness's."""
    folder, seen, call = job("trainer=cpu", *QUICK, EXACT)
    call()
    return folder, seen


@pytest.fixture(scope="module")
def parts_of_encoder(job, command):
    """The same on two processes, each of which keeps a part of every parameter; one is killed in the second epoch, and they go on."""
    folder, seen, call = job("trainer=fsdp_sim", *QUICK, EXACT)
    with redirect_stderr(StringIO()) as said, pytest.raises(SystemExit):
        call()
    assert "the process of rank 1 of 2 was killed by signal 9" in said.getvalue()
    command("train", f"resume={folder}")
    return folder, seen


def test_parts_of_a_model_learn_what_the_whole_learns(whole_encoder, parts_of_encoder):
    one, two = (read_table(folder, "losses") for folder, _ in (whole_encoder, parts_of_encoder))
    keys = ["fit", "epoch", "step", "name"]
    assert one.select(keys).equals(two.select(keys))
    first = one["step"] == 1
    np.testing.assert_allclose(two["value"].filter(first), one["value"].filter(first), rtol=1e-5)
    np.testing.assert_allclose(two["value"], one["value"], rtol=5e-3)
    for name in (ENCODER, WEIGHTS):
        own, other = (load_file(folder / "fits/selection" / name) for folder, _ in (whole_encoder, parts_of_encoder))
        assert own.keys() == other.keys()
        if name == ENCODER:
            start = TextEncoder.load(read_record(whole_encoder[0])["config"]["encoder"]["model"]).state_dict()
        else:
            start = dict.fromkeys(own, torch.tensor(0.0))
        # AdamW moves a weight of no gradient as far as others, where rounding says: all are compared together, and without the biases of
        # keys, which attention does not see.
        seen = {key: value for key, value in own.items() if not key.endswith("key.bias")}
        moved, apart = (sum(float((value - of[key]).square().sum()) for key, value in seen.items()) ** 0.5 for of in (start, other))
        assert apart < 0.3 * moved


def test_each_epoch_of_theirs_is_measured_by_what_they_have_learnt_by_then(whole_encoder, parts_of_encoder):
    one, two = (
        [json.loads(line)["score"] for line in (seen / "rank_0.jsonl").read_text().splitlines()]
        for _, seen in (whole_encoder, parts_of_encoder)
    )
    assert len(one) == 2
    assert one[0] != pytest.approx(one[1], abs=5e-3)
    assert two == pytest.approx(one, abs=5e-3)


def test_each_process_has_the_mean_of_what_all_say_of_the_tasks_weights(monkeypatch):
    module = SimpleNamespace(weighting=Uncertainty({"seasonal": 1.0, "cf": 1.0}))
    module.weighting.log_weight.grad = torch.tensor([1.0, 3.0])
    monkeypatch.setattr(sharding, "mean_gradients", lambda own: tuple(each / 2 for each in own))
    ShardedModule.on_before_optimizer_step(module, None)
    assert module.weighting.log_weight.grad.tolist() == [0.5, 1.5]


def test_blocks_that_wake_one_after_the_other_are_refused_of_parts(command, words, tmp_path, capsys):
    options = ["trainer=fsdp_sim", "trainer.devices=1", "finetune=full", "callbacks=gradual_unfreezing", *QUICK[2:4]]
    with pytest.raises(SystemExit):
        command("train", *words, *OPTIONS.split(), *options, f"hydra.run.dir={tmp_path}")
    assert "callbacks=gradual_unfreezing: under trainer=fsdp a resumed training would not end" in capsys.readouterr().err


def test_each_process_keeps_half_of_the_encoder(whole_encoder, parts_of_encoder):
    alone, *parts = (
        json.loads((seen / f"rank_{rank}.jsonl").read_text().splitlines()[-1])["held"]
        for seen, rank in ((whole_encoder[1], 0), (parts_of_encoder[1], 0), (parts_of_encoder[1], 1))
    )
    assert sum(parts) == alone
    assert max(parts) < 0.51 * alone


def test_a_fit_that_was_killed_after_its_last_epoch_keeps_what_it_had_learnt(command, words, tmp_path):
    options = [*OPTIONS.split(), "trainer=fsdp_sim", "trainer.devices=1", "epochs=whole", "stage=selection", "baseline=none"]
    command("train", *words, *options, f"hydra.run.dir={tmp_path}")
    assert not torch.distributed.is_initialized()
    weights, learnt = tmp_path / "fits/selection" / WEIGHTS, load_file(tmp_path / "fits/selection" / WEIGHTS)
    for path in (weights, weights.with_name(DONE)):
        path.unlink()
    command("train", f"resume={tmp_path}")
    again = load_file(weights)
    assert again.keys() == learnt.keys()
    assert all(torch.equal(again[name], value) for name, value in learnt.items())


@pytest.mark.parametrize("strategy", [GradNorm, PCGrad])
def test_weightings_that_compare_gradients_of_whole_parameters_are_refused_of_parts(strategy):
    loss = SimpleNamespace(weighting=strategy({"seasonal": 1.0, "cf": 1.0}))
    with pytest.raises(ConfigError, match=rf"loss.weighting is {strategy.__name__}, .* take loss/weighting=uncertainty"):
        ShardedModule(nn.Linear(1, 1), loss, Optimisation())


@pytest.mark.parametrize(
    ("trainer", "n"),
    [
        ({}, 1),
        ({"devices": 1}, 1),
        ({"devices": 3, "num_nodes": 2}, 6),
        ({"devices": [0, 2]}, 2),
        ({"devices": "auto", "accelerator": "cpu"}, 1),
        ({"devices": "2"}, 2),
        ({"devices": "0,1"}, 2),
        ({"devices": "3,"}, 1),
    ],
)
def test_a_process_for_each_device_of_each_machine(trainer, n):
    assert ranks.n_wanted(OmegaConf.create(trainer)) == n


def test_several_machines_need_something_that_starts_their_processes():
    with pytest.raises(ConfigError, match=r"trainer.num_nodes: several machines need torchrun or srun"):
        ranks.follows(OmegaConf.create({"devices": 1, "num_nodes": 2}))


@pytest.mark.parametrize("strategy", ["fsdp", {"_target_": "pytorch_lightning.strategies.FSDPStrategy"}])
def test_processes_that_each_have_a_part_of_the_model_are_refused(strategy):
    with pytest.raises(ConfigError, match=r"trainer.strategy: under Lightning's FSDPStrategy .*take trainer=fsdp"):
        ranks.follows(OmegaConf.create({"devices": 2, "strategy": strategy}))
    assert not ranks.follows(OmegaConf.create({"devices": 1, "strategy": strategy}))


def test_processes_that_come_together_need_a_folder_by_name(words, command, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        command("train", *words, "trainer=ddp_sim")
    assert "name that of the run, e.g. hydra.run.dir=outputs/train/first" in capsys.readouterr().err
