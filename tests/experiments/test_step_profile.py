"""Where the time of a step goes, as one table."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from hydra.utils import instantiate

from seasonrec.experiments.fit import Fit
from seasonrec.experiments.step_profile import ForwardParts, StepProfiler

PARTS = ["encoder", "seasonal", "cf", "content", "mixer"]


@pytest.mark.parametrize("strategy", ["SingleDeviceStrategy", "DDPStrategy"])
def test_the_parts_of_a_step_add_up(strategy):
    profiler = StepProfiler()
    profiler.recorded_durations |= {
        "run_training_epoch": [10.0, 12.0],
        "run_training_batch": [4.0, 3.0, 5.0, 4.0],
        f"[Strategy]{strategy}.training_step": [2.0, 2.0, 2.0, 2.0],
        f"[Strategy]{strategy}.backward": [1.0, 1.0, 1.5, 1.0],
        "[_TrainingEpochLoop].train_dataloader_next": [1.0, 1.0, 0.5, 0.5],
        f"[Strategy]{strategy}.batch_to_device": [0.25, 0.25, 0.25, 0.25],
        "forward: encoder": [1.0, 1.0, 1.0, 1.0],
        "forward: cf": [0.5, 0.5, 0.5, 0.5],
        "[Callback]Selection.on_train_epoch_end": [100.0],
    }
    seconds = profiler.seconds()
    assert seconds == {
        "whole step": 22.0,
        "model arithmetic": 16.0,
        "  forward: encoder": 4.0,
        "  forward: cf": 2.0,
        "  losses and mixing": 2.0,
        "  backward": 4.5,
        "  clipping and optimiser": 3.5,
        "data loading": 4.0,
        "the rest": 2.0,
    }
    table = profiler.summary().splitlines()
    assert table[0] == "4 training steps, one of them on average:"
    assert [line.split()[-1] for line in table[1:3]] == ["100.0%", "72.7%"]
    assert "5500.0 ms" in table[1]


def test_without_a_step_there_is_no_table():
    assert StepProfiler().summary() == ""


def test_a_profiled_fit_ends_with_a_table_of_all_parts(composed, joint, dataset, tmp_path, caplog):
    overrides = ("debug=profile", "finetune=frozen_bottom", "sampling.n_weeks=4", "trainer.limit_train_batches=3")
    cfg = composed(*overrides)
    assert cfg.stage == "selection"
    caplog.set_level(logging.INFO)
    made = joint(*overrides)
    Fit("final", dataset, made, dataset.split.validation[0], tmp_path).run(cfg)
    table = caplog.text[caplog.text.index("9 training steps") :].splitlines()  # three epochs
    words = [line[:32].strip() for line in table[1 : 1 + 7 + len(PARTS)]]
    forward = [f"forward: {part}" for part in PARTS]
    assert words[:2] == ["whole step", "model arithmetic"]
    assert set(words[2 : 2 + len(PARTS)]) == set(forward)
    assert words[2 + len(PARTS) :] == ["losses and mixing", "backward", "clipping and optimiser", "data loading", "the rest"]
    assert not any(module._forward_hooks for module in made.model.modules())


@pytest.mark.parametrize("name", ["simple", "pytorch"])
def test_lightning_s_own_profilers_are_one_word(composed, name):
    trainer = instantiate(composed(f"trainer.profiler={name}").trainer)(logger=False)
    assert type(trainer.profiler).__name__.lower() == f"{name}profiler"


def test_parts_are_seen_in_training_alone(joint, dataset):
    made, profiler, parts = joint("sampling.n_weeks=4"), StepProfiler(), ForwardParts()
    parts.on_fit_start(SimpleNamespace(profiler=profiler), SimpleNamespace(model=made.model))
    made.scorer.scores(np.array([0, 1]), dataset.timeline.at_week(60))
    assert not profiler.recorded_durations
    batch = made.batcher.with_truth(dataset.timeline.queries(range(60, 61)), dataset.timeline.at_week(60))
    made.model.train()(batch)
    assert set(profiler.recorded_durations) == {f"forward: {part}" for part in PARTS}
