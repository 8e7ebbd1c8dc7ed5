"""What the prefix cache saves when only the top block of all-MiniLM-L6-v2 learns: python benchmarks/finetuning.py

Joint training on The Complete Journey with `finetune=frozen_bottom finetune.k=1`, once from what the five frozen blocks made of the
texts and once through all six blocks: the same model, batches and random numbers, step by step in turn. Times are those of the CPU, in
which other programs do not count. Making the cache is timed where it is not on disk yet.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig

from seasonrec.data.batches import Batch
from seasonrec.data.dataset import Dataset
from seasonrec.encoders.tokens import Tokens
from seasonrec.experiments.build import dataset_of, joint_of, texts_of
from seasonrec.experiments.cli import conf_dir
from seasonrec.joint.datamodule import QueryData
from seasonrec.joint.module import JointModule

T = TypeVar("T")
UNBOUNDED = 1 << 40  # tokens of a batch: all texts of a step at once, padded to the longest
EVERY = 8  # of the catalogue's texts one in so many is encoded anew
FROM, THROUGH, PADDED = "from the cache", "through all blocks", "the same, padded to the longest text"


class Training:
    """One training by hand, so that two can go on step by step in turn."""

    def __init__(self, cfg: DictConfig, dataset: Dataset):
        week = dataset.split.validation[0]
        torch.manual_seed(cfg.seed)
        joint = joint_of(cfg, dataset, texts_of(cfg, dataset, week))
        self.batches = QueryData(dataset.timeline.at_week(week), joint.batcher, instantiate(cfg.sampling), cfg.seed)
        self.module = JointModule(joint.model, joint.loss, instantiate(cfg.optim))
        self.module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
        self.texts = joint.model.texts
        self.optimizer = torch.optim.AdamW(self.module.optimisation.groups(joint.model), fused=True)
        self.module.train()

    def step(self, batch: Batch, number: int) -> float:
        """Learns from a batch; the loss before."""
        torch.manual_seed(number)
        self.optimizer.zero_grad()
        loss = self.module.training_step(batch, number)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()

    def encode(self, tokens: Tokens, batch_tokens: int | None = None) -> None:
        """The encoder's part of a step: vectors of texts, and gradients of what made them."""
        self.texts.encoder(tokens, batch_tokens).sum(0).square().sum().backward()


def seconds(act: Callable[..., T], *args: object) -> tuple[float, T]:
    """How much CPU time something takes, and what comes out."""
    start = time.process_time()
    found = act(*args)
    return time.process_time() - start, found


def fresh_rows(training: Training, batch: Batch) -> NDArray[np.int64]:
    """The texts that a step learns from."""
    return training.texts._drawn(batch.truth_items(), batch.candidate)[0].numpy()


def trainings_of(overrides: Sequence[str]) -> dict[str, Training]:
    """Two trainings that differ in the cache alone."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        words = ["finetune=frozen_bottom", "finetune.k=1", *overrides]
        cfgs = {way: compose("train", [*words, f"model.prefix_cache_gb={gb}"]) for way, gb in ((FROM, 8.0), (THROUGH, 0.0))}
    dataset = dataset_of(cfgs[FROM])
    return {way: Training(cfg, dataset) for way, cfg in cfgs.items()}


def report(what: str, took: Mapping[str, Sequence[float]]) -> None:
    """A line for each way: median and best, and how many times as fast it is as going through all blocks, by the medians."""
    for way, values in took.items():
        ratio = np.median(took[THROUGH]) / np.median(values)
        print(f"{what:<32}{way:<36}{np.median(values):>9.3f}{min(values):>9.3f} s{ratio:>8.2f}x", flush=True)


def report_steps(trainings: Mapping[str, Training], tokens: Mapping[str, Tokens], n_steps: int) -> None:
    """The lines about steps, and whether the losses are the same."""
    whole, part, losses = (defaultdict[str, list[float]](list) for _ in range(3))
    making = []
    batches = iter(trainings[FROM].batches.train_dataloader())
    for number in range(n_steps + 1):
        took, batch = seconds(next, batches)
        making.append(took)
        for way, limit in ((FROM, None), (THROUGH, None), (PADDED, UNBOUNDED)):
            training = trainings.get(way, trainings[THROUGH])
            read = tokens[way].take(fresh_rows(training, batch))
            part[way].append(seconds(training.encode, read, limit)[0])
        for way, training in trainings.items():
            took, loss = seconds(training.step, batch, number)
            whole[way].append(took + making[-1])
            losses[way].append(loss)
    report("encoder's part of a step", {way: values[1:] for way, values in part.items()})  # the first step warms up
    report("whole step, its batch included", {way: values[1:] for way, values in whole.items()})
    print(f"{'making a batch':<68}{np.median(making[1:]):>9.3f}{min(making[1:]):>9.3f} s")
    apart = np.abs(np.array(losses[FROM]) / np.array(losses[THROUGH]) - 1).max()
    print(f"losses of {n_steps + 1} steps, from {losses[THROUGH][0]:.4f} to {losses[THROUGH][-1]:.4f}: apart by a share of {apart:.1e}")


def measure(n_steps: int, overrides: Sequence[str]) -> None:
    """Prints one table."""
    trainings = trainings_of(overrides)
    making, begun = seconds(lambda: trainings[FROM].texts._prefix.tokens)
    plain = trainings[THROUGH].texts._prefix.tokens
    gigabytes = len(begun.ids) * trainings[FROM].texts.d_text * 4 / 1e9
    print(f"{len(begun):,} texts, {len(begun.ids):,} tokens, {gigabytes:.2f} GB on disk; made or opened in {making:.1f} s\n")
    print(f"{'':<68}{'median':>9}{'best':>9}")
    report_steps(trainings, {FROM: begun, THROUGH: plain, PADDED: plain}, n_steps)
    sample, refresh = np.arange(0, len(begun), EVERY), defaultdict[str, list[float]](list)
    for _ in range(2):
        for way, tokens in ((FROM, begun), (THROUGH, plain)):
            refresh[way].append(seconds(trainings[way].texts.encoder.encode_tokens, tokens.take(sample))[0])
    report(f"one text in {EVERY} encoded anew", refresh)


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="of each training")
    parser.add_argument("overrides", nargs="*", help="of the configuration, e.g. encoder=bge_small")
    args = parser.parse_args()
    measure(args.steps, args.overrides)


if __name__ == "__main__":
    main()
