"""Current and peak memory of this process."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import psutil

try:
    import resource
except ImportError:  # pragma: no cover (Windows)
    resource = None  # type: ignore[assignment]

GIB = 2**30
STATUS = Path("/proc/self/status")
"""Linux's status file of this process."""
CLEAR = Path("/proc/self/clear_refs")
"""Linux's file that resets the peak, when a 5 is written to it."""


def resident_gib() -> float:
    """Resident memory of this process, in GiB."""
    return float(psutil.Process().memory_info().rss) / GIB


def peak_resident_gib() -> float:
    """Peak resident memory of this process since its program started, in GiB.

    On Linux this is VmHWM, which is reset for every program. `getrusage` is not reset there: a process starts with the
    peak of its parent. It is used only where VmHWM is not available.
    """
    status = _status_bytes("VmHWM")
    if status is not None:
        return status / GIB
    if resource is None:  # Windows reports the peak under another name
        memory = psutil.Process().memory_info()
        return float(getattr(memory, "peak_wset", memory.rss)) / GIB
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit) / GIB


def reset_peak() -> None:
    """Makes the peak that of now, on Linux; elsewhere, or where it is not allowed, it stays."""
    with suppress(OSError):
        CLEAR.write_text("5")


def _status_bytes(field: str) -> int | None:
    """A field of this process's status file on Linux, in bytes; None if it is not available."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith(f"{field}:")), None)
    return None if found is None else int(found) * 1024
