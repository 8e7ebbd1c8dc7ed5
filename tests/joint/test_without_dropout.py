"""Dropout while a debug run learns."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from seasonrec.joint.without_dropout import WithoutDropout


class Module(pl.LightningModule):
    """Notes whether its one head drops anything."""

    def __init__(self):
        super().__init__()
        self.model = nn.ModuleDict(
            {"heads": nn.ModuleDict({"cf": nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5))}), "mixer": nn.Linear(50, 1)}
        )
        self.model.heads, self.model.mixer = self.model["heads"], self.model["mixer"]
        self.dropped = []

    def training_step(self, batch, batch_idx):
        hidden = self.model.heads["cf"](torch.ones(8, 4))
        self.dropped.append(bool((hidden == 0).any()))
        return self.model.mixer(hidden).mean()

    def on_train_epoch_end(self):
        self.train()  # as after ranking

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def dropped(tmp_path, callbacks):
    module = Module()
    plain = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=2, accelerator="cpu", callbacks=callbacks, default_root_dir=tmp_path, **plain)
    trainer.fit(module, DataLoader(torch.zeros(2, 1)))
    return module.dropped


def test_nothing_is_dropped_in_any_epoch(tmp_path):
    assert dropped(tmp_path, []) == [True] * 4
    assert dropped(tmp_path, [WithoutDropout()]) == [False] * 4
