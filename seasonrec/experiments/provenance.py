"""What a run came from: the commit of the code, the versions of its packages and the machine."""

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from seasonrec.experiments.cores import n_cores
from seasonrec.experiments.memory import gpu_torch


def asked(folder: Path) -> dict[str, Any]:
    """What the command line of a run asked for: its words as "overrides", and the choice from every config group as "choices".

    Args:
        folder: of the run; empty where Hydra does not run one there.
    """
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    # Of a program whose last command only printed, e.g. --help, Hydra still holds a configuration, which names no folder.
    if hydra is None or OmegaConf.is_missing(hydra.runtime, "output_dir") or Path(hydra.runtime.output_dir).resolve() != folder.resolve():
        return {"overrides": [], "choices": {}}
    choices = {group: choice for group, choice in hydra.runtime.choices.items() if not group.startswith("hydra/")}
    return {"overrides": list(hydra.overrides.task), "choices": choices}


def code_version() -> dict[str, Any]:
    """Commit of the code that runs and whether anything was changed since; null where it is in no git checkout.

    An installed package may lie inside somebody else's checkout, so the package itself must be tracked there.
    """
    if _git("ls-files", "--error-unmatch", "errors.py") is None:
        return {"commit": None, "dirty": None}
    return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain"))}


def _git(*arguments: str) -> str | None:
    package = Path(__file__).parents[1]
    try:
        done = subprocess.run(["git", *arguments], cwd=package, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def version(package: str) -> str | None:
    """The installed version of a package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def package_versions() -> dict[str, str]:
    """Versions of Python and of every package that seasonrec runs with, as far as this environment has them."""
    named = (metadata.requires("seasonrec") or []) if version("seasonrec") else []
    packages = sorted({re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in named if "extra == 'dev'" not in line})
    found = {package: version(package) for package in packages}
    return {"python": platform.python_version()} | {package: number for package, number in found.items() if number}


def machine() -> dict[str, Any]:
    """What the run ran on: system, processor, cores that it may use, memory in GiB, and the GPU once one is in use."""
    torch = gpu_torch()
    return {
        "system": platform.platform(terse=True),
        "processor": _processor(),
        "cores": n_cores(),
        "memory_gb": _memory_gb(),
        "gpu": torch.cuda.get_device_name() if torch else None,
    }


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):  # not a POSIX system
        return None
