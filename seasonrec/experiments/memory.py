"""How much memory a stage needs: the largest resident set of this process and, where one is in use, of the GPU."""

import re
import sys
from pathlib import Path
from typing import Any, Final

_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_FORGET_PEAK: Final = "5"  # see proc(5), /proc/pid/clear_refs
_MB: Final = 2**20
_SLACK: Final = 16.0  # MiB: the kernel counts pages by thread, and adds them up now and then


def reset_peak() -> bool:
    """Forgets the peaks so far; false where the system keeps the resident set's, so that `peak` is that of the whole process."""
    if torch := gpu_torch():
        torch.cuda.reset_peak_memory_stats()
    try:
        _CLEAR_REFS.write_text(_FORGET_PEAK)
    except OSError:
        return False
    # Not every system that takes the word acts on it.
    found, now = _status("VmHWM"), _status("VmRSS")
    return found is not None and now is not None and found <= now + _SLACK


def peak() -> float:
    """The largest resident set since the last reset in MiB, without child processes; 0 where the system does not tell."""
    found = _status("VmHWM")
    return _peak_of_process() if found is None else found


def gpu_peak() -> float | None:
    """The most memory that tensors took on the GPU since the last reset, in MiB; None where no GPU is in use."""
    torch = gpu_torch()
    return torch.cuda.max_memory_allocated() / _MB if torch else None


def gpu_torch() -> Any:
    """The torch module once it uses a GPU, else None: asking must neither import torch nor wake the GPU."""
    torch = sys.modules.get("torch")
    return torch if torch and torch.cuda.is_initialized() else None


def _status(name: str) -> float | None:
    """A size from this process's status in MiB; None where the system does not tell."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 / _MB if found else None


def _peak_of_process() -> float:
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, others KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MB
