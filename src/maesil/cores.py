"""CPU cores of this process, and how many of them other programs use."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import final

STAT = Path("/proc/stat")
"""Where Linux says how long each core has been busy."""
BUSY = (1, 2, 3, 6, 7)
"""The fields of a core's line with the time of programs, nice programs, the system and interrupts."""


def available_cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@final
class OtherLoad:
    """Measures how many of this process's cores other programs use, from when it is made."""

    def __init__(self) -> None:
        self._began, self._busy_s, self._own_s = time.monotonic(), _busy_s(), time.process_time()

    def cores(self) -> float | None:
        """Number of cores that others have used, on average; None: the system does not say."""
        busy_s, elapsed_s = _busy_s(), time.monotonic() - self._began
        if busy_s is None or self._busy_s is None or elapsed_s <= 0:
            return None
        return max(0.0, (busy_s - self._busy_s - (time.process_time() - self._own_s)) / elapsed_s)


def _busy_s() -> float | None:
    """Seconds for which the cores of this process have been busy since the system started, added up."""
    try:
        names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = [words for line in STAT.read_text(encoding="ascii").splitlines() if (words := line.split())[0] in names]
        return sum(int(words[field]) for words in lines for field in BUSY) / os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError, ValueError, IndexError):  # not Linux, or nothing to read
        return None
