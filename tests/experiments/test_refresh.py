"""How a fit whose encoder learns keeps its texts: on what schedule, from where, and how stale they become."""

import json

import numpy as np
import polars as pl
import pytest
from omegaconf import open_dict

from seasonrec.errors import ConfigError
from seasonrec.experiments.config import check_config
from seasonrec.experiments.fit import DONE, LOSSES, Fit

SHORT = ("sampling.n_weeks=4", "finetune=frozen_bottom", "encoder.dtype=float32", "optim.encoder_lr=0.01", "trainer.max_epochs=2")


@pytest.fixture
def losses(composed, joint, dataset, tmp_path):
    """A fit of two epochs of four steps: its outcome and the course of its losses."""

    def run(*overrides):
        overrides, folder = (*SHORT, *overrides), tmp_path / str(len(list(tmp_path.iterdir())))
        fit = Fit("final", dataset, joint(*overrides), dataset.split.validation[0], folder)
        outcome = fit.run(composed(*overrides))
        assert json.loads((folder / DONE).read_text())["staleness"] == outcome.staleness
        return outcome, pl.read_csv(folder / LOSSES)["value"].to_numpy(), fit.joint.model.texts

    return run


def test_a_fit_learns_the_same_from_the_cache_of_its_frozen_blocks_and_without(losses, cache_folder):
    outcome, course, texts = losses()
    kept = list((cache_folder / "texts").glob("*-prefix/*.safetensors"))
    without, expected, plain = losses("model.prefix_cache_gb=0")
    assert kept
    assert texts._prefix.tokens.n_blocks == 3
    assert plain._prefix.tokens.hidden is None
    np.testing.assert_allclose(course, expected, rtol=1e-4)
    np.testing.assert_allclose(outcome.staleness, without.staleness, rtol=1e-2)
    np.testing.assert_allclose(texts.vectors, plain.vectors, atol=1e-4)


def test_texts_become_less_stale_where_they_are_encoded_anew_more_often(losses):
    by_epoch, *_ = losses()
    by_step, *_ = losses("model.refresh_texts.every_n_steps=1")
    assert [step for step, _ in by_epoch.staleness] == [4, 8]
    assert [step for step, _ in by_step.staleness] == list(range(1, 9))
    assert 0 < by_step.staleness[3][1] < by_epoch.staleness[0][1]
    at_the_end, *_ = losses("model.refresh_texts.every_n_epochs=5")
    assert [step for step, _ in at_the_end.staleness] == [8]
    assert at_the_end.staleness[0][1] > by_epoch.staleness[1][1]


def test_the_schedule_takes_no_other_key(composed):
    cfg = composed()
    with open_dict(cfg):
        cfg.model.refresh_texts.every_n_weeks = 1
    with pytest.raises(ConfigError, match=r"model\.refresh_texts\.every_n_weeks: there is no such key"):
        check_config(cfg)
