"""Fine-tuning in a run: what of an encoder is kept, read back, resumed, and told."""

import numpy as np
import polars as pl
import pytest
import pytorch_lightning as lightning
import torch
from omegaconf import open_dict
from safetensors.torch import load_file

from seasonrec.evaluation.lists import read_lists
from seasonrec.evaluation.selection import METRIC, Selection
from seasonrec.experiments.fit import ENCODER, LAST, LOSSES, WEIGHTS, learnt, load_weights
from seasonrec.experiments.record import read_record, read_table

SHORT = ("sampling.n_weeks=3", "optim.encoder_lr=0.01", "trainer.max_epochs=2")
MODES = {"frozen": (), "full": (), "frozen_bottom": (), "adapter": ("finetune.size=4",), "lora": ("finetune.config.r=2",), "ia3": ()}
# The names of what an encoder learns in modes that leave the pretrained weights as they are.
ADDED = {"adapter": ".adapter.", "lora": ".lora_", "ia3": ".ia3_l."}


class Scripted(Selection):
    """Says of each epoch what it is told to."""

    def __init__(self, *values):
        self.values, self.scores = values, []

    def on_train_epoch_end(self, trainer, pl_module):
        self.scores.append(self.values[len(self.scores)])
        pl_module.log(METRIC, self.scores[-1])


class Interruption(Exception):
    """Stands for the end of the process."""


class Watch(lightning.Callback):
    """Keeps the encoder as it is at the end of each epoch, and raises at the end of a batch, counted from 0 over all epochs."""

    encoders = ()

    def __init__(self, at=None):
        self.at = at

    def on_train_start(self, trainer, pl_module):
        type(self).encoders = [self._encoder(pl_module)]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step - 1 == self.at:
            raise Interruption

    def on_train_epoch_end(self, trainer, pl_module):
        type(self).encoders.append(self._encoder(pl_module))

    @staticmethod
    def _encoder(pl_module):
        return {name: p.detach().clone() for name, p in pl_module.model.texts.encoder.named_parameters()}


def watched(cfg, **options):
    with open_dict(cfg := cfg.copy()):
        cfg.callbacks.watch = {"_target_": f"{__name__}.Watch", **options}
    return cfg


def scores(joint, dataset):
    with torch.no_grad():
        return joint.scorer.scores(np.arange(-1, dataset.n_users), dataset.timeline.at_week(dataset.split.validation[0]))


@pytest.mark.parametrize("mode", MODES)
def test_what_a_mode_has_learnt_is_saved_alone_and_scores_the_same_when_it_is_loaded(
    composed, joint, selection_fit, dataset, tmp_path, mode
):
    overrides = (*SHORT, f"finetune={mode}", *MODES[mode])
    made = joint(*overrides)
    before = scores(made, dataset)
    selection_fit(made, tmp_path, Scripted(2.0, 1.0)).run(composed(*overrides))  # the first epoch is the best: best.ckpt is read
    again = joint(*overrides)
    load_weights(again.model, tmp_path / WEIGHTS)
    np.testing.assert_array_equal(scores(again, dataset), scores(made, dataset))
    assert not np.array_equal(scores(made, dataset), before)

    encoder = made.model.texts.encoder
    learning = {name for name, p in encoder.named_parameters() if p.requires_grad}
    files = {path.name: set(load_file(path)) for path in tmp_path.glob("*.safetensors")}
    assert files.get(ENCODER, set()) == learning
    assert (ENCODER in files) == (mode != "frozen")
    assert not any(name.startswith("texts.") for name in files[WEIGHTS])
    for checkpoint in ("best.ckpt", LAST):
        state = torch.load(tmp_path / checkpoint, weights_only=True)["state_dict"]
        assert {name.removeprefix("model.texts.encoder.") for name in state if name.startswith("model.texts.encoder.")} == learning
    if mode in ADDED:
        assert all(ADDED[mode] in name for name in learning)
        assert encoder.trainable_share() < 0.2


@pytest.mark.parametrize(
    ("overrides", "at"),  # a step of the second epoch, of 3 or 2 an epoch
    [
        (("finetune=lora",), 4),
        (("finetune=full", "callbacks=gradual_unfreezing"), 4),
        (("finetune=adapter", "trainer.accumulate_grad_batches=2"), 2),
    ],
    ids=["lora", "unfreezing", "accumulation"],
)
def test_an_interrupted_fit_ends_with_the_same_weights_and_losses(composed, joint, selection_fit, tmp_path, overrides, at):
    overrides = (*SHORT, *overrides)
    cfg = composed(*overrides)
    whole = joint(*overrides)
    selection_fit(whole, tmp_path / "whole", Scripted(1.0, 2.0)).run(cfg)
    with pytest.raises(Interruption):
        selection_fit(joint(*overrides), tmp_path / "parts", Scripted(1.0, 2.0)).run(watched(cfg, at=at))
    assert (tmp_path / "parts" / LAST).exists()
    parts = joint(*overrides)
    selection_fit(parts, tmp_path / "parts", Scripted(1.0, 2.0)).run(cfg)
    expected, found = learnt(whole.model), learnt(parts.model)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert (tmp_path / "parts" / LOSSES).read_text() == (tmp_path / "whole" / LOSSES).read_text()


def test_a_block_that_sleeps_does_not_move(composed, joint, selection_fit, tmp_path):
    overrides = (*SHORT, "finetune=full", "callbacks=gradual_unfreezing")
    selection_fit(joint(*overrides), tmp_path, Scripted(1.0, 2.0)).run(watched(composed(*overrides)))
    first, second = (
        {name.split(".")[3] for name, value in after.items() if not torch.equal(value, Watch.encoders[0][name])}
        for after in Watch.encoders[1:]
    )
    assert first == {"3"}  # of four blocks
    assert second == {"2", "3"}
    assert set(load_file(tmp_path / ENCODER)) == set(Watch.encoders[0]), "what may learn is saved, though some has not learnt yet"


def test_the_losses_of_a_step_of_several_batches_stand_there_once(composed, joint, selection_fit, tmp_path):
    overrides = (*SHORT, "trainer.accumulate_grad_batches=2")
    selection_fit(joint(*overrides), tmp_path, Scripted(1.0, 2.0)).run(composed(*overrides))
    rows = pl.read_csv(tmp_path / LOSSES)
    assert len(rows) == len(rows.unique(["fit", "step", "name"])) > 0


@pytest.fixture(scope="module")
def lora_run(words, command, tmp_path_factory):
    """A whole run with LoRA, and no baseline configured."""
    folder = tmp_path_factory.mktemp("lora_run")
    learning = ["finetune=lora", "optim.encoder_lr=0.01", "trainer.max_epochs=1", "sampling.n_weeks=4", "baseline=none"]
    command("train", *words, *learning, f"hydra.run.dir={folder}")
    return folder


def test_a_run_with_lora_gives_the_same_lists_after_it_is_loaded(lora_run, gives_its_lists):
    gives_its_lists(lora_run)


def test_a_run_whose_encoder_learns_shows_it_before_and_after_whatever_baselines_are_configured(lora_run):
    metrics = read_table(lora_run, "metrics")
    assert metrics["method"].unique(maintain_order=True).to_list() == ["personal_frequency", "text_profile", "joint", "text_profile_tuned"]
    profiles = metrics.filter(pl.col("method").str.starts_with("text_profile"))
    both = profiles.pivot("method", index=["split", "slice", "metric"], values="value")
    assert both["slice"].n_unique() > 10
    assert both.filter(slice="all", metric="ndcg@10").select((pl.col("text_profile") != pl.col("text_profile_tuned")).all()).item()


def test_the_profile_before_is_that_of_the_encoder_as_it_was_pretrained(lora_run, words, command, tmp_path, dataset):
    shared = [word for word in words if word.split("=")[0].split(".")[0] in ("data", "encoder", "eval", "paths", "n_threads")]
    profile = "+baseline.text_profile={_target_: seasonrec.baselines.text_profile.TextProfile, _partial_: true}"
    command("evaluate", *shared, "baseline=none", profile, f"hydra.run.dir={tmp_path}")
    frozen, before, after = (
        read_lists(folder / f"lists/{name}.parquet", dataset).items
        for folder, name in ((tmp_path, "text_profile"), (lora_run, "text_profile"), (lora_run, "text_profile_tuned"))
    )
    np.testing.assert_array_equal(before, frozen)
    assert not np.array_equal(after, before)


def test_the_record_tells_what_of_the_encoder_learns_and_how_well_it_knows_the_shop_s_words(lora_run, dataset):
    facts = read_record(lora_run)["facts"]
    counts = facts["parameters"]["encoder"]
    assert facts["encoder"]["trainable_share"] == counts["trainable"] / counts["total"] > 0
    language = facts["encoder"]["language"]
    assert language["n_texts"] == len({text for text in dataset.item_texts(dataset.start_of(62)) if text}) > 100
    assert language["unknown_tokens"] == 0  # the tiny tokenizer was made of this shop's words
    assert (language["tokens_per_text"], language["pieces_per_word"], language["loss"]) == (3, 1, None)


def test_the_report_shows_the_encoder_before_and_after_by_slice(lora_run):
    page = (lora_run / "report.html").read_text()
    section = page.partition("<h2>The text encoder</h2>")[2].partition("<section>")[0]
    share = read_record(lora_run)["facts"]["encoder"]["trainable_share"]
    assert f"<td>parameters that learn</td><td>{share:.2%}</td>" in section
    assert "<td>pieces a word</td><td>1.000</td>" in section
    assert "loss of" not in section  # the tiny model has no head to guess with
    by_slice = section.rpartition("<table")[2]
    assert by_slice.count("<tr>") == read_table(lora_run, "metrics").filter(split="test", method="text_profile")["slice"].n_unique() + 1
    for head in ("NDCG@10 before", "NDCG@10 after", "R@50 difference"):
        assert f"<th>{head}</th>" in section


def test_how_stale_the_texts_had_become_stands_in_the_record_and_is_logged(lora_run):
    for fit in ("selection", "final"):
        ((step, staleness),) = read_record(lora_run)["facts"][f"texts/staleness/{fit}"]
        assert step > 0
        assert 0 < staleness < 1
    heads = [path.open().readline() for path in lora_run.rglob("metrics.csv")]
    assert any("selection_fit/texts/staleness" in head and "final_fit/texts/staleness" in head for head in heads)


def test_a_run_whose_encoder_is_frozen_says_so(run):
    assert read_record(run)["facts"]["encoder"]["trainable_share"] == 0
    assert not any(name.startswith("texts/staleness") for name in read_record(run)["facts"])
    assert "It did not learn" in (run / "report.html").read_text()
