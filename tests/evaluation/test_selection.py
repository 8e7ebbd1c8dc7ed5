"""The selection metric after each epoch, in a training of a model that learns nothing."""

import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from seasonrec.evaluation.evaluate import evaluate
from seasonrec.evaluation.labels import season_labels
from seasonrec.evaluation.ranking import rank
from seasonrec.evaluation.selection import METRIC, Selection
from seasonrec.evaluation.tables import SELECTION, selection_score


class Shifting:
    """Scores that differ from epoch to epoch, as those of a model that learns would."""

    def __init__(self, module):
        self.module = module

    def fit(self, past):
        raise AssertionError("a model in training is not fitted by its evaluation")

    def scores(self, users, now):
        mixed = users[:, None] * 31 + np.arange(now.n_items) * (17 + 2 * self.module.current_epoch) + now.week * 7
        return ((mixed * mixed // 11) % 50).astype(np.float32)


class Watch(pl.Callback):
    """What a monitoring callback finds after each epoch."""

    def __init__(self):
        self.found = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.found.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def table_of(scorer, shop, queries, labels):
    return evaluate(rank(scorer, shop.timeline, queries), shop.timeline, labels).table("any", "validation", n_resamples=1)


@pytest.fixture
def trained(shop, tied_scores, idle, tmp_path):
    """A training of two epochs with its selection callback and what another callback saw."""
    queries, labels = shop.timeline.queries(shop.split.weeks["validation"]), season_labels(shop)
    watch = Watch()
    reference = table_of(tied_scores, shop, queries, labels)
    selection = Selection(Shifting(idle), shop.timeline, queries, labels, reference, batch_size=7)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[selection, watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(idle, DataLoader(torch.zeros(1, 1)))
    return selection, watch, reference, queries, labels


def test_each_epoch_has_the_selection_score_of_its_lists(trained, shop):
    selection, watch, reference, queries, labels = trained
    for epoch in (0, 1):
        module = type("Module", (), {"current_epoch": epoch})
        table = table_of(Shifting(module), shop, queries, labels)
        assert selection.scores[epoch] == selection_score(table, reference)
        assert watch.found[epoch][METRIC] == pytest.approx(selection.scores[epoch])
        for name, metric in SELECTION:
            value = table.filter(slice=name, metric=metric)["value"][0]
            assert watch.found[epoch][f"validation/{metric}/{name}"] == pytest.approx(value)
    assert selection.scores[0] != selection.scores[1]


def test_a_resumed_training_takes_up_the_scores_so_far(trained, shop):
    selection, _, reference, queries, labels = trained
    resumed = Selection(Shifting(None), shop.timeline, queries, labels, reference)
    resumed.load_state_dict(selection.state_dict())
    resumed.scores.append(1.0)
    assert resumed.scores == [*selection.scores, 1.0]
    assert len(selection.scores) == 2
