"""What the measurement of a GPU counts, and that it runs where there is none."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return import_module("gpu")


@pytest.mark.parametrize(("name", "slack"), [("bert_base", 0.001), ("qwen3_lora", 0.2)])
def test_the_arithmetic_of_a_step_is_what_torch_counts(gpu, name, slack):
    # Of two blocks, the lower one's first maps of a frozen model need no gradient of their input: up to a fifth of so small a model.
    model, n_texts, n_tokens = getattr(gpu, name)(True), 4, 8
    model.set_attn_implementation("eager")
    tokens = torch.randint(100, (n_texts, n_tokens))
    with FlopCounterMode(display=False) as counter, torch.autocast("cpu", torch.bfloat16):
        model(input_ids=tokens).last_hidden_state.float().square().sum().backward()
    expected = gpu.flops(model, n_texts, n_tokens)
    assert counter.get_total_flops() == pytest.approx(expected, rel=slack)
    assert counter.get_total_flops() <= expected


def test_lora_begins_as_the_model_and_learns_little(gpu):
    layer = torch.nn.Linear(6, 4)
    x = torch.randn(3, 6)
    assert torch.equal(gpu.LowRank(layer, 2)(x), layer(x))
    model = gpu.qwen3_lora(True)
    learns = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learns
    assert all(name.endswith((".down.weight", ".up.weight")) for name in learns)


def test_weights_in_float32_learn_from_arithmetic_in_bfloat16(gpu):
    torch.manual_seed(0)
    model = gpu.bert_base(True).eval()
    tokens = torch.randint(100, (4, 8))
    found = gpu.InBfloat16(model)(tokens).last_hidden_state
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), model(input_ids=tokens).last_hidden_state, atol=0.05)  # of values around 1
    found.float().square().sum().backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)
    assert sum(p.grad is not None for p in model.parameters()) == len(list(model.parameters()))


@pytest.mark.parametrize("words", [[], ["--precision", "bf16"]])
def test_a_dry_run_gives_a_row_for_each_case(gpu, monkeypatch, capsys, words):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--tiny", "--steps", "1", *words])
    gpu.main()
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["case"] for row in said["rows"]] == ["BERT, full", "Qwen3, LoRA"]
    assert all(0 < row["utilisation"] < 1.5 and row["texts_per_s"] > 0 for row in said["rows"])
    assert said["machine"]["date"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_a_gpu_it_says_so(gpu, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="no GPU here"):
        gpu.main()
