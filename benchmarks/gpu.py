"""How much of a GPU fine-tuning uses: python benchmarks/gpu.py, on any machine with torch, transformers and pytorch-lightning

Two trainings of random weights on random tokens, each in bf16 by Lightning, with a loss that tells the two halves of a batch apart pair by
pair, as contrastive training of product texts does:

- full fine-tuning of an encoder of BERT-base's size;
- LoRA on a causal model of 0.6 billion parameters (the shape of Qwen3-0.6B).

Model FLOP utilisation is the arithmetic that a step needs over what the same card does in plain bf16 matrix products in the same time; both
are measured here, nothing is taken from a data sheet. The arithmetic is worked out from shapes: what is computed twice does not count.
--profile prints beside each case which kernels took its time. Without a GPU it says so; --tiny runs everything on whatever there is, to
see that it works, and its figures mean nothing.
"""

import argparse
import json
import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytorch_lightning as lightning
import torch
import transformers
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.profiler import profile
from torch.utils.data import DataLoader, IterableDataset
from transformers import BertConfig, BertModel, PreTrainedModel, Qwen3Config, Qwen3Model

TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}


class LowRank(nn.Module):
    """A frozen linear map and a trainable one of low rank beside it, which begins at 0.

    Reference: Hu et al. (2022), LoRA: low-rank adaptation of large language models, equation 3.
    """

    def __init__(self, base: nn.Linear, rank: int):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down, self.up = nn.Linear(base.in_features, rank, bias=False), nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[..., d_out]."""
        return self.base(x) + self.up(self.down(x))


def bert_base(tiny: bool) -> PreTrainedModel:
    """An encoder that learns whole; 110 M parameters less the pooling layer."""
    return BertModel(BertConfig(**(TINY if tiny else {})), add_pooling_layer=False)


def qwen3_lora(tiny: bool, rank: int = 16) -> PreTrainedModel:
    """A causal model of which LoRA on every linear map learns; what is frozen is in bf16."""
    shape = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16}
    heads = {"num_key_value_heads": 2, "head_dim": 16} if tiny else {"num_key_value_heads": 8, "head_dim": 128}
    model = Qwen3Model(Qwen3Config(**((TINY if tiny else shape) | heads))).to(torch.bfloat16).requires_grad_(False)
    for parent in [module for module in model.modules() if not isinstance(module, LowRank)]:
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, LowRank(child, rank))
    return model


class InBfloat16(nn.Module):
    """A model whose weights are in float32 and whose arithmetic is in bfloat16, what flows from block to block too.

    Autocast keeps the output of normalisation, and so every residual, in float32, and casts it again for each map that reads it.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Any:
        """The model's output."""
        weights = {name: weight.to(torch.bfloat16) for name, weight in self.model.named_parameters()}
        return functional_call(self.model, weights, (), {"input_ids": input_ids})


def flops(model: PreTrainedModel, n_texts: int, n_tokens: int) -> float:
    """The arithmetic of one training step, in multiplications and additions.

    A linear map of a token takes 2 for each weight on the way forward, 2 for the gradient of its input, and 2 for that of the weight if
    the weight learns. Attention takes 4 for each pair of tokens and width of a block forward, and 8 backward.
    """
    linear = sum(
        (6 if layer.weight.requires_grad else 4) * layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Linear)
    )
    config = model.config
    width = config.num_attention_heads * (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    return n_texts * n_tokens * (linear + 12.0 * config.num_hidden_layers * n_tokens * width)


class Pairs(IterableDataset):
    """Random tokens, two texts of a pair n_texts / 2 apart."""

    def __init__(self, n_steps: int, n_texts: int, n_tokens: int, n_words: int):
        self._n, self._shape, self._n_words = n_steps, (n_texts, n_tokens), n_words

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(self._n):
            yield torch.randint(self._n_words, self._shape, generator=generator)


class Contrast(lightning.LightningModule):
    """Tells for each text of the first half which one of the second half is its pair."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def training_step(self, tokens: Tensor, batch_idx: int) -> Tensor:
        """Cross-entropy over the pairs of the batch."""
        vectors = F.normalize(self.model(input_ids=tokens).last_hidden_state.mean(1).float(), dim=-1)
        left, right = vectors.chunk(2)
        return F.cross_entropy(20 * left @ right.T, torch.arange(len(left), device=tokens.device))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW on what learns."""
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=1e-5, fused=True)


class Clock(lightning.Callback):
    """Seconds from the end of some first steps to the end of the last one."""

    def __init__(self, n_first: int):
        self._n_first, self.seconds = n_first, math.nan

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Begins once everything has been compiled, chosen and allocated."""
        if batch_idx + 1 == self._n_first:
            wait()
            self.seconds = -time.perf_counter()

    def on_train_end(self, trainer, pl_module) -> None:
        """Ends."""
        wait()
        self.seconds += time.perf_counter()


def wait() -> None:
    """Until the GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matmul_rate(n: int, n_times: int) -> float:
    """FLOP/s of bf16 products of square matrices [n, n], the best of three runs."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = math.inf
    for _ in range(4):  # the first warms up
        wait()
        start = time.perf_counter()
        for _ in range(n_times):
            a @ b
        wait()
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 * n_times / best


@dataclass(frozen=True)
class Case:
    """A training to measure.

    Args:
        n_texts, n_tokens: of a batch; every text is as long as the longest.
    """

    name: str
    make: Callable[[bool], PreTrainedModel]
    n_texts: int
    n_tokens: int

    def measured(self, rate: float, asked: argparse.Namespace) -> dict[str, Any]:
        """The case's row.

        Args:
            rate: of plain matrix products, FLOP/s.
            asked: the command line; its n_steps are timed, after as many steps again that are not.
        """
        torch.manual_seed(0)
        model, n_steps = self.make(asked.tiny), asked.n_steps
        learner = InBfloat16(model) if asked.precision == "bf16" else model
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        clock, texts = Clock(n_steps), Pairs(2 * n_steps, self.n_texts, self.n_tokens, model.config.vocab_size)
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=1,
            precision="32-true" if asked.precision == "bf16" else "bf16-mixed",
            max_epochs=1,
            callbacks=[clock],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        if asked.compiled:  # by block: traced whole, the model gets a mask which only float32 attention can take
            for block in model.encoder.layer if hasattr(model, "encoder") else model.layers:
                block.compile()
        with profile() if asked.profile else nullcontext() as kernels:
            trainer.fit(Contrast(learner), DataLoader(texts, batch_size=None))
        if kernels:
            print(kernels.key_averages().table(sort_by="self_device_time_total", row_limit=25, max_name_column_width=90))
        done = flops(model, self.n_texts, self.n_tokens) * n_steps / clock.seconds
        return {
            "case": self.name,
            "parameters": sum(p.numel() for p in model.parameters()),
            "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "texts": self.n_texts,
            "tokens": self.n_tokens,
            "ms_per_step": 1e3 * clock.seconds / n_steps,
            "texts_per_s": self.n_texts * n_steps / clock.seconds,
            "tflops": done / 1e12,
            "utilisation": done / rate,
            "peak_memory_gb": torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None,
        }


def cases(tiny: bool, n_tokens: int) -> list[Case]:
    """Full fine-tuning and LoRA."""
    if tiny:
        return [Case("BERT, full", bert_base, 4, 8), Case("Qwen3, LoRA", qwen3_lora, 4, 8)]
    return [Case("BERT-base, full", bert_base, 512, n_tokens), Case("Qwen3-0.6B, LoRA", qwen3_lora, 128, n_tokens)]


def machine() -> dict[str, str]:
    """What it ran on, and when."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else f"no GPU, {platform.processor() or platform.machine()}",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "lightning": lightning.__version__,
    }


def options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="very small models, on the CPU too: a dry run")
    parser.add_argument("--compile", dest="compiled", action="store_true", help="every block through torch.compile")
    parser.add_argument("--precision", choices=("autocast", "bf16"), default="autocast", help="bf16: residuals too, weights in float32")
    parser.add_argument("--only", default="", help="cases whose names begin so")
    parser.add_argument("--profile", action="store_true", help="which kernels took the time; slower")
    parser.add_argument("--tokens", dest="n_tokens", type=int, default=128, help="of each text")
    parser.add_argument("--steps", dest="n_steps", type=int, default=20, help="timed ones, after as many that are not")
    return parser.parse_args()


def main() -> None:
    """Prints a table, and the same as JSON with the machine, to be kept.

    Raises:
        SystemExit: there is no GPU.
    """
    asked = options()
    if not torch.cuda.is_available() and not asked.tiny:
        raise SystemExit("no GPU here, so there is nothing to measure; --tiny runs very small models on the CPU to see that it works")
    rate = matmul_rate(*((256, 2) if asked.tiny else (8192, 20)))
    rows = [case.measured(rate, asked) for case in cases(asked.tiny, asked.n_tokens) if case.name.startswith(asked.only)]
    print(f"bf16 matrix products: {rate / 1e12:.3g} TFLOP/s on {machine()['card']}\n")
    print("| case | learns | texts x tokens | ms a step | texts/s | TFLOP/s | utilisation | peak GB |\n|---|--:|--:|--:|--:|--:|--:|--:|")
    for row in rows:
        shown = f"{row['trainable']:,} of {row['parameters']:,} | {row['texts']} x {row['tokens']} | {row['ms_per_step']:.1f} |"
        print(f"| {row['case']} | {shown} {row['texts_per_s']:,.0f} | {row['tflops']:.3g} | {row['utilisation']:.1%} |", end="")
        print(f" {row['peak_memory_gb'] or math.nan:.1f} |")
    print("\n" + json.dumps({"machine": machine(), "options": vars(asked), "matmul_flops": rate, "rows": rows}))


if __name__ == "__main__":
    main()
