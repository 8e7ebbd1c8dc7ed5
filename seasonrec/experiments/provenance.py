"""What a run came from: the commit of the code, the versions of its packages and the machine."""

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from seasonrec.experiments.memory import gpu_torch


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
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
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
