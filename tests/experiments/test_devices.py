"""Which devices a trainer means, and that texts are encoded and lists are ranked there; elsewhere stands for a GPU."""

from dataclasses import replace

import elsewhere
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from polars.testing import assert_frame_equal

import seasonrec
from seasonrec.experiments import build, fit, recommender
from seasonrec.experiments.build import joint_of, texts_of
from seasonrec.experiments.devices import device_of
from seasonrec.experiments.fit import Fit


@pytest.mark.parametrize(
    ("trainer", "place", "device"),
    [
        (None, None, "cuda:0"),
        ({}, None, "cuda:0"),
        ({"accelerator": "auto", "devices": 1}, None, "cuda:0"),
        ({"accelerator": "gpu", "devices": [2, 3]}, None, "cuda:2"),
        ({"accelerator": "gpu", "devices": [2, 3]}, "1", "cuda:3"),
        ({"accelerator": "cuda", "devices": "3,"}, None, "cuda:3"),
        ({"accelerator": "gpu", "devices": "auto"}, "5", "cuda:5"),
        ({"accelerator": "gpu", "devices": [9]}, None, "cuda:0"),  # of a run that was trained on a larger machine
        ({"accelerator": "cpu", "devices": 2}, None, "cpu"),
    ],
)
def test_a_process_encodes_and_ranks_on_the_gpu_that_the_trainer_gives_it(monkeypatch, trainer, place, device):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if place:
        monkeypatch.setenv("LOCAL_RANK", place)
    trainer = None if trainer is None else OmegaConf.create(trainer)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert device_of(trainer) == torch.device(device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(trainer) == torch.device("cpu")


@pytest.mark.parametrize("accelerator", ["gpu", "cuda"])
def test_a_gpu_that_is_not_there_is_missed_before_anything_is_read(command, words, monkeypatch, tmp_path, capsys, accelerator):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        command("train", *words, f"trainer.accelerator={accelerator}", f"hydra.run.dir={tmp_path}")
    assert f"trainer.accelerator={accelerator}: PyTorch {torch.__version__} sees no GPU here; leave trainer=" in capsys.readouterr().err
    assert not (tmp_path / "run.json").exists()


def test_a_batch_system_says_which_gpu_is_whose(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("SLURM_LOCALID", "5")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert device_of(OmegaConf.create({"accelerator": "gpu", "devices": 8})) == torch.device("cuda:5")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # each task sees its own alone
    assert device_of(OmegaConf.create({"accelerator": "gpu", "devices": 8})) == torch.device("cuda:0")


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")  # elsewhere's have numbers
def test_a_fit_with_another_device_for_encoding_and_ranking_finds_the_same(composed, dataset, tmp_path, monkeypatch):
    week, users = dataset.split.validation[0], np.arange(20)
    encoded_on, made = [], build.CatalogueTexts

    def noted(encoder, *args, **options):
        encoded_on.append(encoder.device)
        return made(encoder, *args, **options)

    monkeypatch.setattr(build, "CatalogueTexts", noted)

    def fitted(name):
        words = ("sampling.n_weeks=4", "trainer.max_epochs=1", "epochs=whole", "finetune=frozen_bottom", "encoder.dtype=float32")
        cfg = composed(*words, f"paths.cache={tmp_path / name / 'cache'}")
        joint = joint_of(cfg, dataset, texts_of(cfg, dataset, week))
        Fit("final", dataset, joint, week, tmp_path / name).run(cfg)
        return joint.model.device, joint.scorer.scores(users, dataset.timeline.at_week(week))

    here, scores = fitted("here")
    with elsewhere.device() as device:
        for module in (build, fit):
            monkeypatch.setattr(module, "device_of", lambda trainer: device)
        there, scores_there = fitted("there")
    assert (here, there) == (torch.device("cpu"), device)
    assert encoded_on == [here, there]
    # Vectors differ in their last digits, and training from there on a little more.
    np.testing.assert_allclose(scores_there, scores, atol=5e-3)


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
def test_a_loaded_model_recommends_the_same_on_another_device(run, monkeypatch):
    asked = {"users": ["u00", "u07", "nobody"], "date": "2022-12-20", "k": 5}

    def recommended(shop):
        ranked = shop.recommend(**asked)
        assert (ranked["reranker"] > 0).any()
        shop.joint = replace(shop.joint, reranker=None)  # trees turn a last digit into steps
        return shop.recommend(**asked)

    here = recommended(seasonrec.load(run))
    with elsewhere.device() as device:
        for module in (build, recommender):
            monkeypatch.setattr(module, "device_of", lambda trainer: device)
        loaded = seasonrec.load(run)
        assert loaded.joint.model.device == device
        assert_frame_equal(recommended(loaded), here, abs_tol=0.05)  # bfloat16 is not known of elsewhere
