"""Where the time of a training step goes: `debug=profile`."""

import logging
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytorch_lightning as lightning
import torch
from pytorch_lightning.profilers import SimpleProfiler
from torch import nn
from torch.utils.hooks import RemovableHandle

log = logging.getLogger(__name__)
# How Lightning calls what it measures, whatever the strategy.
STRATEGY: Final = re.compile(r"(?<=^\[Strategy\])\w+\.")
EPOCH: Final = "run_training_epoch"
BATCH: Final = "run_training_batch"
STEP: Final = "[Strategy]training_step"
BACKWARD: Final = "[Strategy]backward"
LOADING: Final = ("[_TrainingEpochLoop].train_dataloader_next", "[Strategy]batch_to_device")
FORWARD: Final = "forward: "


class StepProfiler(SimpleProfiler):
    """Lightning's simple profiler, which sums up the steps of a fit instead of listing every action.

    `model arithmetic` is forward, losses, backward and optimiser; `data loading` makes batches and moves them; `the rest` is loggers,
    callbacks and Lightning itself. What happens between epochs is no part of a step.
    """

    def stop(self, action_name: str) -> None:
        """Ends an action, on a GPU when its work is done and not when it is ordered."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        super().stop(action_name)

    def seconds(self) -> dict[str, float]:
        """Seconds of all steps together by part; the parts of a part begin with two spaces."""
        took = {STRATEGY.sub("", name): math.fsum(durations) for name, durations in self.recorded_durations.items()}
        total, batch, step, backward = (took.get(name, 0.0) for name in (EPOCH, BATCH, STEP, BACKWARD))
        loading = sum(took.get(name, 0.0) for name in LOADING)
        forward = {f"  {name}": seconds for name, seconds in took.items() if name.startswith(FORWARD)}
        return {
            "whole step": total,
            "model arithmetic": batch,
            **forward,
            "  losses and mixing": step - sum(forward.values()),
            "  backward": backward,
            "  clipping and optimiser": batch - step - backward,
            "data loading": loading,
            "the rest": total - batch - loading,
        }

    def summary(self) -> str:
        """A short table: milliseconds a step and share of each part; nothing if there was no step."""
        n, seconds = len(self.recorded_durations[BATCH]), self.seconds()
        if not n:
            return ""
        whole = seconds["whole step"]
        rows = [f"{part:<32}{1e3 * took / n:>10.1f} ms{took / whole:>9.1%}" for part, took in seconds.items()]
        return "\n".join([f"{n} training steps, one of them on average:", *rows])

    def describe(self) -> None:
        """Logs the table when the fit has ended."""
        if table := self.summary():
            log.info("%s", table)


class ForwardParts(lightning.Callback):
    """Lets the trainer's profiler see encoder, heads and mixer of the model one by one while it learns."""

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begins to watch."""
        model: Any = pl_module.model
        profiler: Any = trainer.profiler  # type: ignore[attr-defined]
        parts: Mapping[str, nn.Module] = {"encoder": model.texts, **dict(model.heads.items()), "mixer": model.mixer}
        for name, module in parts.items():
            before, after = (_in_training(act, f"{FORWARD}{name}") for act in (profiler.start, profiler.stop))
            self._handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leaves the model as it was."""
        for handle in self._handles:
            handle.remove()


def _in_training(act: Callable[[str], None], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, *_: object) -> None:
        if module.training:
            act(name)

    return hook
