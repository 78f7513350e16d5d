"""What is freed stays with the process: seen by the page faults of making the same array again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from maesil.allocator import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from maesil.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    np.zeros(2**22, dtype=np.uint8).fill(1)
before = faults()
for _ in range(20):
    np.empty(2**22, dtype=np.uint8).fill(1)
print(faults() - before)
"""


def faults(mode: str) -> int:
    environment = {"MALLOC_TRIM_THRESHOLD_": "65536"}  # as Dask starts its workers
    words = [sys.executable, "-c", FAULTS, mode]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60, env=environment)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_keep_freed_memory__the_same_memory_is_used_again() -> None:
    assert faults("keep") * 20 < faults("leave")


def test_keep_freed_memory__leaves_windows_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert not keep_freed_memory()
