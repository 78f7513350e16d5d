"""What is freed stays with the process: seen by the page faults of making the same array again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from maesil.allocator import EVERYTHING, KEPT_BYTES, keep_freed_memory

on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
FAULTS = """
import resource, sys
import numpy as np
from maesil.allocator import keep_freed_memory
if sys.argv[1] != "leave":
    assert keep_freed_memory(int(sys.argv[1]))
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    arrays = [np.empty(2**22, dtype=np.uint8) for _ in range(int(sys.argv[2]))]
    for array in arrays:
        array.fill(1)
for _ in range(3):
    work()
before = faults()
for _ in range(20):
    work()
print(faults() - before)
"""


def faults(kept_bytes: int | None, arrays: int = 1) -> int:
    """Page faults of making some arrays of 4 MiB again and again; None: what is kept is left as it is."""
    environment = {"MALLOC_TRIM_THRESHOLD_": "65536"}  # as Dask starts its workers
    words = [sys.executable, "-c", FAULTS, "leave" if kept_bytes is None else str(kept_bytes), str(arrays)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60, env=environment)
    return int(done.stdout)


@on_glibc
def test_keep_freed_memory__the_same_memory_is_used_again() -> None:
    assert faults(KEPT_BYTES) * 20 < faults(None)


@on_glibc
def test_keep_freed_memory__more_than_the_usual_where_everything_is_asked_for() -> None:
    arrays = 100  # 400 MiB
    assert faults(EVERYTHING, arrays) * 20 < faults(KEPT_BYTES, arrays)


def test_keep_freed_memory__leaves_windows_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert not keep_freed_memory()
