"""The most memory a model has needed."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path

import torch

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def forget_peak(device: torch.device) -> None:
    """Count from here on; outside CUDA and Linux it cannot be forgotten."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        _CLEAR.write_text("5")  # sets the high-water mark back to what is in use now


def peak_bytes(device: torch.device) -> int:
    """On CUDA what tensors took; else what the process had in memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    return resident_peak()


def resident_peak(of_children: bool = False) -> int:
    """The most that this process, or the largest that it started and waited for, ever had in
    memory, in bytes; a child's begins with what its parent had."""
    import resource  # not on every system

    whose = resource.RUSAGE_CHILDREN if of_children else resource.RUSAGE_SELF
    usage = resource.getrusage(whose).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024
