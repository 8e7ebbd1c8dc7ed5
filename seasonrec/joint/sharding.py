"""Training an encoder that is too large for one device: each process keeps a part of every parameter, its gradient and its moments.

Blocks come together one by one while they are run (fully sharded data parallel, FSDP2), so every forward pass needs all processes. Rank 0
alone measures, ranks and writes: it does so with the whole model, which gets at the end of each epoch what the parts have learnt.

Reference: Zhao et al. (2023), PyTorch FSDP: experiences on scaling fully sharded data parallel, arXiv:2304.11277.
"""

from copy import deepcopy
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from seasonrec.encoders.backbone import parts
from seasonrec.errors import ConfigError
from seasonrec.joint.model import JointModel, Scores
from seasonrec.joint.module import JointModule
from seasonrec.joint.unfreezing import GradualUnfreezing
from seasonrec.losses import JointLoss
from seasonrec.shares import mean_gradients, n_processes
from seasonrec.weighting import GradNorm, PCGrad

torch.export.register_dataclass(Scores)  # FSDP looks for what the backward pass begins with among the outputs


class ShardedModule(JointModule):
    """The joint module on a copy of a model, in parts.

    Args:
        model: stays whole, see `WholeModel`.
        loss, kwargs: as of `JointModule`.

    Raises:
        ConfigError: a weighting that compares gradients.
    """

    def __init__(self, model: JointModel, loss: JointLoss, *args: Any, **kwargs: Any):
        if isinstance(loss.weighting, GradNorm | PCGrad):
            raise ConfigError(
                f"loss.weighting is {type(loss.weighting).__name__}, which compares gradients of whole parameters, but under trainer=fsdp"
                " no process has any; take loss/weighting=uncertainty, dynamic_weight_average or fixed, or trainer=ddp"
            )
        super().__init__(deepcopy(model), loss, *args, **kwargs)
        self.model.texts.without_prefix()  # which is made by running blocks in part, as parts of parameters cannot be
        self._whole = (model,)  # in a tuple it is no part of this module

    def configure_model(self) -> None:
        """Spreads the parameters over the processes, once: block by block, the rest of the encoder, and the rest.

        Raises:
            ConfigError: blocks are to wake one after the other.
        """
        if isinstance(self.model, FSDPModule):
            return
        if any(isinstance(callback, GradualUnfreezing) for callback in self.trainer.callbacks):  # type: ignore[attr-defined]
            raise ConfigError(
                "callbacks=gradual_unfreezing: under trainer=fsdp a resumed training would not end with the weights of an uninterrupted"
                " one; leave it out, or take trainer=ddp"
            )
        device, backbone = self.trainer.strategy.root_device, self.model.texts.encoder.backbone
        mesh, found = init_device_mesh(device.type, (n_processes(),)), parts(backbone)
        for module in (*(found.blocks if found else ()), backbone, self.model):
            fully_shard(module, mesh=mesh)
        (whole,) = self._whole
        whole.to(device if self.trainer.is_global_zero else "cpu")  # the others ask nothing of theirs

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Takes the mean of what the processes say of the tasks' weights, which all of them keep whole."""
        learnt = list(self.weighting.parameters())
        for parameter, gradient in zip(learnt, mean_gradients(tuple(p.grad for p in learnt)), strict=True):
            parameter.grad = gradient

    def bring_together(self) -> None:
        """Gives rank 0's whole model what the parts have learnt; all processes take part."""
        learnt = get_model_state_dict(self.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        if self.trainer.is_global_zero:
            (whole,) = self._whole
            whole.load_state_dict(learnt)
            whole.texts.vectors.copy_(self.model.texts.vectors)


class WholeModel(pl.Callback):
    """Brings the parts together at the end of each epoch.

    A callback, since whatever measures the epoch must come later, and fresh texts must come before.
    """

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the epoch is measured."""
        cast(ShardedModule, pl_module).bring_together()
