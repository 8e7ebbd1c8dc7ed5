"""Which devices a trainer's config means, for what runs outside of Lightning's fits: encoding and ranking."""

import os

import torch
from omegaconf import DictConfig, ListConfig

from seasonrec.errors import ConfigError


def named(trainer: DictConfig) -> list[str] | None:
    """The devices that `trainer.devices` names, e.g. [0, 2] or "0,2", as Lightning reads it; None where it says how many."""
    devices = trainer.get("devices", 1)
    if isinstance(devices, str) and "," in devices:
        return [each.strip() for each in devices.split(",") if each.strip()]
    return [str(each) for each in devices] if isinstance(devices, ListConfig) else None


def is_sharded(trainer: DictConfig) -> bool:
    """Whether each process keeps a part of the model alone."""
    return "ModelParallel" in str(trainer.get("strategy"))


def refuse_missing_gpu(trainer: DictConfig) -> None:
    """Nothing, unless a GPU is asked for and there is none: said before anything is read.

    Raises:
        ConfigError: so it is.
    """
    known = {"cuda": (torch.cuda,), "gpu": (torch.cuda, torch.backends.mps)}.get(str(trainer.get("accelerator")), ())
    if known and not any(kind.is_available() for kind in known):
        raise ConfigError(
            f"trainer.accelerator={trainer.accelerator}: PyTorch {torch.__version__} sees no GPU here; leave trainer=... out, which takes a"
            " GPU where there is one, or install a PyTorch for it"
        )


def device_of(trainer: DictConfig | None) -> torch.device:
    """Where this process encodes and ranks: on the GPU that the trainer gives it, or on the CPU.

    Args:
        trainer: None, for what has no trainer: the first GPU, if there is one.
    """
    accelerator = trainer.get("accelerator", "auto") if trainer else "auto"
    if accelerator not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
        return torch.device("cpu")
    place = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0)))
    of_trainer = named(trainer) if trainer else None
    index = int(of_trainer[place]) if of_trainer else place
    return torch.device("cuda", index if index < torch.cuda.device_count() else 0)  # a run may be loaded where there are fewer
