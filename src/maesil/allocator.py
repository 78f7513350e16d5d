"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt."""

KEPT_BYTES = 2**28
LARGEST_KEPT_BYTES = 2**25
"""glibc takes no larger one."""
EVERYTHING = -1
"""As a trim threshold: nothing is given back."""


def keep_freed_memory(most_bytes: int = KEPT_BYTES) -> bool:
    """From now on this process keeps what it frees, in pieces of up to 32 MiB, for what it needs next.

    Given back and taken anew for every temporary array, memory costs page after page: where the threshold is as low as
    in Dask's workers, half of a scan's time; of a network's step on a CPU, on some machines, a sixth.

    Args:
        most_bytes: How much is kept; EVERYTHING for a process whose every turn needs as much as the last.

    Returns:
        Whether this C library can be told so; others go on as they do.
    """
    if sys.platform == "win32":  # has no library of the process itself to ask
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, most_bytes)) and bool(mallopt(_MMAP_THRESHOLD, LARGEST_KEPT_BYTES))
