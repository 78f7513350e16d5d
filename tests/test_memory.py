"""The peak of a process is its own, whoever started it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from maesil import memory
from maesil.memory import peak_resident_gib
from soak import growth

MIB_OF_GIB = 1024
BALLAST_MIB = 300
CHILD = "from maesil.memory import peak_resident_gib; print(peak_resident_gib())"
PARENT = f"""
import subprocess, sys
import numpy as np
ballast = np.ones({BALLAST_MIB} * 2**17)
print(subprocess.run([sys.executable, "-c", {CHILD!r}], capture_output=True, text=True, check=True).stdout)
"""


def peak_mib(program: str) -> float:
    """What a program in a process of its own prints, in MiB."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return float(done.stdout) * MIB_OF_GIB


@pytest.mark.skipif(not memory.STATUS.exists(), reason="a peak of its own is read from /proc")
def test_peak_resident_gib__a_large_parent_is_not_counted() -> None:
    alone, of_large_parent = peak_mib(CHILD), peak_mib(PARENT)
    assert of_large_parent == pytest.approx(alone, rel=0.2)
    assert of_large_parent < BALLAST_MIB, "the parent's memory"


def test_peak_resident_gib__what_was_taken_and_given_back_counts() -> None:
    """In a fresh process: one that ran long may take the ballast from memory that it has kept."""
    program = (
        "import numpy as np; from maesil.memory import peak_resident_gib, resident_gib\n"
        "before = resident_gib(); ballast = np.ones(2**25); held = resident_gib(); del ballast\n"
        "print(before, held, peak_resident_gib())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    before, held, peak = map(float, done.stdout.split())
    assert held - before == pytest.approx(0.25, rel=0.2)
    assert peak >= held - 0.01


def test_peak_resident_gib__without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Elsewhere `getrusage` is asked; here it says no less, as it counts the parent's too."""
    of_status = peak_resident_gib()
    monkeypatch.setattr(memory, "STATUS", tmp_path / "absent")
    assert of_status * 0.9 < peak_resident_gib() < 1000
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t 5 kB\n")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert of_status * 0.9 < peak_resident_gib() < 1000


def test_peak_resident_gib__on_windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = SimpleNamespace(rss=2**20, peak_wset=3 * 2**30)
    monkeypatch.setattr(memory, "STATUS", tmp_path / "absent")
    monkeypatch.setattr(memory, "resource", None)
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: info))
    assert peak_resident_gib() == 3.0


def test_peak_resident_gib__reads_kibibytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "status").write_text("VmPeak:\t 99999999 kB\nVmHWM:\t  524288 kB\n")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert peak_resident_gib() == 0.5


def test_growth__of_a_stage_counts_no_sample_of_the_next() -> None:
    """Memory is sampled after a step was logged: at 40, the next stage has begun."""
    seen = [(10, 100.0), (20, 101.0), (30, 101.0), (40, 150.0), (50, 160.0), (60, 160.0)]
    assert growth(seen, 0, 40) == {"early_mib": 100.0, "late_mib": 101.0, "growth": 0.01}
    assert growth(seen, 40, 61) == {"early_mib": 160.0, "late_mib": 160.0, "growth": 0.0}
