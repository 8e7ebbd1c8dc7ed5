"""One fit of the small shop: which weights it ends with, and how it goes on after an interruption."""

import shutil
import signal
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import pytorch_lightning as lightning
import torch
from omegaconf import open_dict
from safetensors.torch import load_file, save_file
from torch import nn

from seasonrec.errors import DataError, TrainingError
from seasonrec.evaluation.evaluate import evaluate
from seasonrec.evaluation.ranking import rank
from seasonrec.evaluation.selection import METRIC, Selection
from seasonrec.evaluation.tables import selection_score
from seasonrec.experiments.fit import DONE, LAST, LOSSES, WEIGHTS, Fit, load_weights
from seasonrec.experiments.fit import learnt as all_learnt
from seasonrec.experiments.record import REFERENCE

SHORT = "sampling.n_weeks=4"


class Scripted(Selection):
    """Says of each epoch what it is told to, and keeps what the model had learnt by then."""

    def __init__(self, *values):
        self.values, self.scores, self.learnt = values, [], []

    def on_train_epoch_end(self, trainer, pl_module):
        self.scores.append(self.values[len(self.scores)])
        self.learnt.append(learnt(pl_module.model))
        pl_module.log(METRIC, self.scores[-1])


class Interruption(Exception):
    """Stands for the end of the process."""


class Interrupt(lightning.Callback):
    """Raises at the end of a batch (counted from 0 over all epochs), of an epoch's training, or of the training."""

    def __init__(self, at, ctrl_c=False):
        self.at, self.error = at, KeyboardInterrupt if ctrl_c else Interruption

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self._maybe(trainer.global_step - 1)

    def on_train_epoch_end(self, trainer, pl_module):
        self._maybe(f"epoch {trainer.current_epoch}")

    def on_train_end(self, trainer, pl_module):
        self._maybe("end")

    def _maybe(self, now):
        if now == self.at:
            raise self.error


class Rates(lightning.Callback):
    """Keeps the learning rates of each step."""

    seen = ()

    def on_train_start(self, trainer, pl_module):
        type(self).seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        type(self).seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])


def learnt(model):
    return {name: value.clone() for name, value in all_learnt(model).items()}


def same(some, other):
    assert some.keys() == other.keys()
    return all(torch.equal(some[name], other[name]) for name in some)


def interrupted(fit, cfg, at):
    """The fit, ended by an interruption."""
    with open_dict(cfg := cfg.copy()):
        cfg.callbacks.interrupt = {"_target_": f"{__name__}.Interrupt", "at": at}
    with pytest.raises(Interruption):
        fit.run(cfg)


@pytest.fixture
def cfg(composed):
    return composed(SHORT)


def test_the_best_epochs_weights_are_taken_not_the_last_ones(cfg, joint, selection_fit, tmp_path):
    model, scripted = joint(SHORT), Scripted(1.0, 3.0, 2.0)
    outcome = selection_fit(model, tmp_path, scripted).run(cfg)
    assert (outcome.n_epochs, outcome.score) == (2, 3.0)
    assert same(learnt(model.model), scripted.learnt[1])
    assert not same(learnt(model.model), scripted.learnt[2])
    assert same(load_file(tmp_path / WEIGHTS), scripted.learnt[1])


def test_without_callbacks_the_best_epochs_weights_are_taken_too(composed, joint, selection_fit, tmp_path):
    model, scripted = joint(SHORT), Scripted(1.0, 3.0, 2.0)
    outcome = selection_fit(model, tmp_path, scripted).run(composed(SHORT, "callbacks=none"))
    assert (outcome.n_epochs, len(scripted.scores)) == (2, 3)
    assert same(learnt(model.model), scripted.learnt[1])


def test_a_trainer_of_the_users_own_may_say_nothing_of_a_progress_bar(cfg, joint, selection_fit, tmp_path):
    with open_dict(cfg.trainer):
        del cfg.trainer["enable_progress_bar"]
    assert selection_fit(joint(SHORT), tmp_path, Scripted(1.0, 3.0, 2.0)).run(cfg).n_epochs == 2


def test_training_stops_after_as_many_epochs_without_a_new_best_as_configured(composed, joint, selection_fit, tmp_path):
    scripted = Scripted(1.0, 3.0, 2.0, 2.0, 9.0)
    outcome = selection_fit(joint(SHORT), tmp_path, scripted).run(
        composed(SHORT, "callbacks.early_stopping.patience=2", "trainer.max_epochs=5")
    )
    assert (scripted.scores, outcome.n_epochs) == ([1.0, 3.0, 2.0, 2.0], 2)


def test_a_fit_of_fewer_epochs_follows_the_schedule_of_all(composed, joint, dataset, tmp_path):
    cfg = composed(SHORT, f"+callbacks.rates._target_={__name__}.Rates", "optim.warmup=0.25", "trainer.max_epochs=5")
    week = dataset.split.validation[0]
    outcome = Fit("final", dataset, joint(SHORT), week, tmp_path, n_epochs=2).run(cfg)
    assert (outcome.n_epochs, outcome.score) == (2, None)
    n = len(Rates.seen) // 2
    warmup = 0.25 * 5 * n
    wanted = [(step + 1) / (warmup + 1) if step < warmup else (5 * n - step) / (5 * n - warmup) for step in range(2 * n)]
    assert n == 4  # weeks of up to 60 queries
    np.testing.assert_allclose(np.array(Rates.seen)[:, 0], cfg.optim.lr * np.array(wanted), rtol=1e-12)


def test_a_fit_that_had_ended_is_read_back(cfg, joint, selection_fit, tmp_path):
    first = selection_fit(model := joint(SHORT), tmp_path, Scripted(1.0, 3.0, 2.0)).run(cfg)
    again = joint(SHORT)
    assert selection_fit(again, tmp_path, Scripted()).run(cfg) == first  # a scripted selection without values would fail
    assert same(learnt(again.model), learnt(model.model))


LEARNING = (SHORT, "finetune=frozen_bottom", "optim.encoder_lr=0.01")


@pytest.fixture(scope="module")
def whole(composed, joint, selection_fit, tmp_path_factory):
    """A fit that nothing interrupts, with a given encoder."""

    @cache
    def make(*overrides):
        fit = selection_fit(joint(*overrides), tmp_path_factory.mktemp("whole"))
        return fit, fit.run(composed(*overrides))

    return make


@pytest.mark.parametrize(
    ("overrides", "at"),
    [
        ((SHORT,), 1),
        ((SHORT,), 5),
        ((SHORT,), "epoch 2"),
        (LEARNING, 5),
        *(((SHORT, f"loss/weighting={name}"), 9) for name in ("uncertainty", "gradnorm", "pcgrad", "dynamic_weight_average")),
    ],
    ids=["0", "1", "2", "learning encoder", "uncertainty", "gradnorm", "pcgrad", "dynamic weight average"],
)
def test_an_interrupted_fit_ends_with_the_same_weights_scores_and_losses(composed, joint, selection_fit, tmp_path, whole, overrides, at):
    uninterrupted, outcome = whole(*overrides)
    cfg = composed(*overrides)
    interrupted(selection_fit(joint(*overrides), tmp_path), cfg, at)
    assert (tmp_path / LAST).exists() == (at != 1)  # 4 batches an epoch
    parts = selection_fit(joint(*overrides), tmp_path)
    assert parts.run(cfg) == outcome
    assert parts.selection.scores == uninterrupted.selection.scores
    assert same(learnt(parts.joint.model), learnt(uninterrupted.joint.model))
    assert same(parts.joint.loss.weighting.state_dict(), uninterrupted.joint.loss.weighting.state_dict())
    assert (tmp_path / LOSSES).read_text() == (uninterrupted.folder / LOSSES).read_text()


def test_ctrl_c_leaves_a_fit_as_what_it_is(cfg, joint, selection_fit, tmp_path):
    with open_dict(cfg):
        cfg.callbacks.interrupt = {"_target_": f"{__name__}.Interrupt", "at": 2, "ctrl_c": True}
    handler = signal.getsignal(signal.SIGINT)  # which Lightning takes away while it ends
    try:
        with pytest.raises(KeyboardInterrupt):
            selection_fit(joint(SHORT), tmp_path).run(cfg)
    finally:
        signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty", "gradnorm", "pcgrad", "dynamic_weight_average"])
def test_every_weighting_learns_with_mixed_precision_clipping_and_several_batches_a_step(composed, joint, dataset, tmp_path, weighting):
    overrides = ("sampling.n_weeks=8", "finetune=frozen_bottom", "trainer.precision=bf16-mixed", f"loss/weighting={weighting}")
    fit = Fit("final", dataset, joint(*overrides), dataset.split.validation[0], tmp_path)
    before = learnt(fit.joint.model)
    fit.run(composed(*overrides, "trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=0.1"))
    after = learnt(fit.joint.model)
    assert all(value.isfinite().all() for value in after.values())
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("texts.encoder."))
    terms = pl.read_csv(tmp_path / LOSSES).filter(name="seasonal")["value"]
    assert terms[-1] < terms[0]


def test_a_resumed_fit_repeats_only_the_epoch_that_was_interrupted(cfg, joint, selection_fit, tmp_path):
    interrupted(selection_fit(joint(SHORT), tmp_path, Scripted(3.0, 1.0, 2.0)), cfg, "epoch 2")
    resumed = selection_fit(joint(SHORT), tmp_path, Scripted(3.0, 1.0, 2.0))
    resumed.run(cfg)
    assert len(resumed.selection.learnt) == 1
    assert resumed.selection.scores == [3.0, 1.0, 2.0]


def test_a_fit_that_is_resumed_from_another_folder_remembers_its_best_epoch(cfg, joint, selection_fit, tmp_path, monkeypatch):
    interrupted(selection_fit(joint(SHORT), tmp_path / "fit", scripted := Scripted(3.0, 1.0, 2.0)), cfg, "epoch 2")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resumed = selection_fit(joint(SHORT), Path("../fit"), Scripted(3.0, 1.0, 2.0))
    assert resumed.run(cfg).n_epochs == 1
    assert same(learnt(resumed.joint.model), scripted.learnt[0])


def test_a_fit_whose_folder_was_moved_remembers_its_best_epoch(cfg, joint, selection_fit, tmp_path):
    interrupted(selection_fit(joint(SHORT), tmp_path / "fit", scripted := Scripted(3.0, 1.0, 2.0)), cfg, "epoch 2")
    shutil.move(tmp_path / "fit", tmp_path / "moved")
    resumed = selection_fit(joint(SHORT), tmp_path / "moved", Scripted(3.0, 1.0, 2.0))
    assert resumed.run(cfg).n_epochs == 1
    assert same(learnt(resumed.joint.model), scripted.learnt[0])


@pytest.mark.parametrize(
    ("early_stopping", "scores"),
    [("callbacks.early_stopping.patience=1", (3.0, 1.0)), ("+callbacks.early_stopping.stopping_threshold=2.0", (3.0,))],
)
@pytest.mark.parametrize("moved", [False, True])
def test_a_fit_that_was_interrupted_after_it_had_stopped_early_stays_stopped(
    composed, joint, selection_fit, tmp_path, early_stopping, scores, moved
):
    cfg = composed(SHORT, early_stopping, "trainer.max_epochs=5")
    interrupted(selection_fit(joint(SHORT), folder := tmp_path / "fit", scripted := Scripted(*scores)), cfg, "end")
    if moved:
        folder = shutil.move(folder, tmp_path / "moved")
    resumed = selection_fit(joint(SHORT), folder, Scripted(*scores, 9.0, 9.0, 9.0, 9.0))
    assert resumed.run(cfg).n_epochs == 1
    assert resumed.selection.scores == [*scores]
    assert same(learnt(resumed.joint.model), scripted.learnt[0])


class OneTable(nn.Module):
    """What a user has had and what could be bought, in the same vectors under two names."""

    def __init__(self, sizes):
        super().__init__()
        self.had = self.candidate = nn.Embedding(sizes.n_items, 4)

    def forward(self, batch, texts):
        had = torch.zeros(len(batch.user), 4).index_add(0, batch.history.query, self.had(batch.history.item))
        return had @ batch.of_candidates(self.candidate.weight).T


def test_a_head_may_have_one_table_under_two_names(composed, joint, selection_fit, tmp_path):
    words = (SHORT, "~model.heads.cf", f"+model.heads.cf._target_={__name__}.OneTable", "+model.heads.cf._partial_=true")
    fit = selection_fit(joint(*words), tmp_path, scripted := Scripted(1.0, 3.0, 2.0))
    fit.run(composed(*words))
    again = joint(*words)
    load_weights(again.model, tmp_path / WEIGHTS)
    assert {"heads.cf.had.weight", "heads.cf.candidate.weight"} <= learnt(again.model).keys()
    assert same(learnt(again.model), scripted.learnt[1])
    assert again.model.heads["cf"].had is again.model.heads["cf"].candidate


def test_the_seed_decides_what_is_learnt(composed, joint, selection_fit, tmp_path, whole):
    def fitted(seed):
        fit = selection_fit(joint(SHORT, f"seed={seed}"), tmp_path / str(seed))
        return fit.run(composed(SHORT, f"seed={seed}")), learnt(fit.joint.model)

    (same_seed, weights), (other_seed, _) = fitted(0), fitted(1)
    first, outcome = whole(SHORT)
    assert same_seed == outcome
    assert same(weights, learnt(first.joint.model))
    assert other_seed.score != outcome.score


def test_a_frozen_encoder_does_not_move_and_is_not_saved(cfg, joint, selection_fit, tmp_path):
    model = joint(SHORT)
    before = {name: p.clone() for name, p in model.model.texts.encoder.state_dict().items()}
    vectors = model.model.texts.vectors.clone()
    selection_fit(model, tmp_path, Scripted(1.0, 2.0, 3.0)).run(cfg)
    assert same(before, model.model.texts.encoder.state_dict())
    assert torch.equal(vectors, model.model.texts.vectors)
    assert not any(name.startswith("texts.") for name in load_file(tmp_path / WEIGHTS))


def test_frozen_bottom_moves_exactly_the_top_block_and_its_texts(joint, whole):
    before, texts = joint(*LEARNING).model.texts, whole(*LEARNING)[0].joint.model.texts
    start = dict(before.encoder.named_parameters())
    moved = {name for name, p in texts.encoder.named_parameters() if not torch.equal(p, start[name])}
    assert moved == {name for name in start if name.startswith("backbone.encoder.layer.3.")}
    assert len(moved) == 16
    assert not torch.allclose(texts.vectors, before.vectors, atol=0.01)


@pytest.mark.parametrize("overrides", [(SHORT,), LEARNING], ids=["frozen", "learning encoder"])
def test_the_score_of_a_fit_is_what_its_model_gets_on_validation_weeks(judge, dataset, whole, overrides):
    fit, outcome = whole(*overrides)
    if overrides == LEARNING:
        fit.joint.model.texts.refresh()
    lists = rank(fit.joint.scorer, dataset.timeline, judge.queries["validation"])
    table = evaluate(lists, dataset.timeline, judge.labels).table("joint", "validation", n_resamples=1)
    assert selection_score(table, judge.of(REFERENCE, "validation")) == outcome.score == max(fit.selection.scores)


# Weights of seasonal, cf and content, and which heads are then left in the mix.
ZEROS = {
    (0, 1, 1): ["cf", "content"],
    (1, 0, 1): ["seasonal", "content"],
    (1, 1, 0): ["seasonal", "cf"],
    (0, 0, 1): ["content"],
    (0, 1, 0): ["cf"],
    (1, 0, 0): ["seasonal"],
}


def ranks_well(fit, cfg, judge):
    """Whether a fit ranks the validation weeks above popularity, which has an NDCG@10 of 0.19; a random order has 0.05."""
    fit.run(cfg)
    of = ("all", "ndcg@10")
    popular = judge.of("popular_4_weeks", "validation").filter(slice=of[0], metric=of[1])["value"][0]
    lists = rank(fit.joint.scorer, fit.dataset.timeline, judge.queries["validation"])
    return np.nanmean(evaluate(lists, fit.dataset.timeline, judge.labels).select([of])) > popular > 0.15


@pytest.mark.parametrize("weights", ZEROS)
def test_a_weight_of_0_takes_a_head_out_and_the_rest_ranks_above_popularity(composed, joint, judge, selection_fit, tmp_path, weights):
    # Alone, the content head has to tell apart what the user has bought before as well.
    overrides = "loss.weights={{seasonal: {}, cf: {}, content: {}}}".format(*weights), "model.heads.content.own=true"
    fit = selection_fit(joint(*overrides), tmp_path)
    assert list(fit.joint.model.heads) == ZEROS[weights]
    assert ranks_well(fit, composed(*overrides), judge)


def test_without_a_seasonal_head_its_loss_is_that_of_the_others_mix(composed, joint, judge, selection_fit, tmp_path):
    fit = selection_fit(joint("head/seasonal=none"), tmp_path)
    assert list(fit.joint.model.heads) == ["cf", "content"]
    assert ranks_well(fit, composed("head/seasonal=none"), judge)
    assert ",seasonal," in (tmp_path / LOSSES).read_text()


@pytest.mark.parametrize("task", ["cf", "content"])
def test_a_head_of_none_is_a_weight_of_0(joint, task):
    without, unweighted = joint(f"head/{task}=none"), joint(f"loss.weights.{task}=0")
    assert same(learnt(without.model), learnt(unweighted.model))
    assert task not in without.model.heads


def test_a_loss_that_is_not_finite_names_epoch_batch_and_queries(composed, joint, selection_fit, tmp_path):
    model = joint(SHORT)
    with torch.no_grad():
        model.model.mixer.own[0] = torch.nan
    with pytest.raises(
        TrainingError, match=r"epoch 0, batch 0 \(queries of \d{10} s UTC, user rows \[\d+(, \d+)*\]\.\.\.\): .*'total': nan.*optim\.lr"
    ):
        selection_fit(model, tmp_path).run(composed(SHORT))
    assert not (tmp_path / DONE).exists()


def test_weights_of_another_configuration_are_refused(cfg, joint, selection_fit, tmp_path):
    selection_fit(joint(SHORT), tmp_path, Scripted(1.0, 2.0, 3.0)).run(cfg)
    with pytest.raises(
        DataError, match=r"weights of another model; \d+ tensors differ, e\.g\. \['heads\.cf.*load it with the run's own config"
    ):
        load_weights(joint("head/cf=repeat").model, tmp_path / WEIGHTS)


def test_weights_of_runs_from_before_single_numbers_had_a_dimension_are_read(joint, tmp_path):
    model = joint().model
    old = {name: value.squeeze() + 1 if value.shape == (1,) else value for name, value in all_learnt(model).items()}
    assert any(not value.dim() for value in old.values())
    save_file({name: value.contiguous() for name, value in old.items()}, tmp_path / WEIGHTS)
    load_weights(model, tmp_path / WEIGHTS)
    for name, value in all_learnt(model).items():
        torch.testing.assert_close(value, old[name].view(value.shape))


def test_debug_overfit_learns_two_batches_by_heart(composed, joint, selection_fit, tmp_path):
    overrides = (SHORT, "debug=overfit", "callbacks=none", "trainer.max_epochs=30", "optim.lr=0.02")
    selection_fit(joint(*overrides), tmp_path, Scripted(*range(30))).run(composed(*overrides))
    losses = pl.read_csv(tmp_path / LOSSES).filter(name="seasonal")["value"]
    assert losses[-1] < 0.2 * losses[0]


def test_a_fit_of_whole_epochs_ends_with_the_schedule_whatever_the_best_epoch_was(composed, joint, selection_fit, tmp_path):
    cfg = composed("epochs=whole")
    fit = selection_fit(joint(), tmp_path)
    outcome = fit.run(cfg)
    assert outcome.n_epochs == cfg.trainer.max_epochs == len(fit.selection.scores)
    assert outcome.score == fit.selection.scores[-1]
    assert not (tmp_path / "best.ckpt").exists()
