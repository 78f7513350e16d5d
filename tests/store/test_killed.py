"""Killed at any point and run again, `prepare` ends with the bytes of an undisturbed call: real processes, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("prepare_script.py")
SCANS = 6
Hashes = Callable[[Path], dict[str, str]]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="process groups and signals of POSIX")


def start(source: Path, out: Path, workers: int, hold: int | None = None) -> subprocess.Popen[str]:
    words = [sys.executable, str(SCRIPT), str(source), str(out), str(workers), *([] if hold is None else [str(hold)])]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(source: Path, out: Path, workers: int) -> None:
    process = start(source, out, workers)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")


@pytest.fixture
def six(tmp_path: Path, make_scan: Callable[..., object]) -> Path:
    for seed in range(SCANS):
        make_scan(f"set/scan{seed}.nii.gz", seed, (40, 48, 48))
    return tmp_path / "set"


@pytest.fixture
def undisturbed(six: Path, tmp_path: Path, hashes: Hashes) -> dict[str, str]:
    finish(six, tmp_path / "undisturbed", 0)
    return hashes(tmp_path / "undisturbed")


def is_writing(out: Path, whole: int) -> bool:
    """Whether some scans are whole and another's voxels are being written."""
    return len(list(out.glob("scans/[!.]*/zarr.json"))) >= whole and any(
        True for _ in out.glob("scans/.draft-*/*/c/*/*/*")
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert process is None or process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.002)


@pytest.mark.parametrize("workers", [0, 2])
def test_prepare__killed_and_run_again_has_the_same_bytes(
    six: Path, tmp_path: Path, hashes: Hashes, undisturbed: dict[str, str], workers: int
) -> None:
    out = tmp_path / "store"
    for whole in (1, 3) if workers == 0 else (2,):  # the second time, a continuation is killed
        process = start(six, out, workers, hold=whole)
        wait_for(partial(is_writing, out, whole), process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)
        assert not (out / "manifest.json").exists()
    assert list(out.glob("scans/.draft-*"))
    finish(six, out, workers)
    assert hashes(out) == undisturbed


def test_prepare__the_number_of_workers_changes_no_byte(
    six: Path, tmp_path: Path, hashes: Hashes, undisturbed: dict[str, str]
) -> None:
    finish(six, tmp_path / "store", 3)
    assert hashes(tmp_path / "store") == undisturbed


@pytest.mark.parametrize("workers", [0, 2])
def test_prepare__interrupted_from_the_keyboard_leaves_nothing_half_done(
    six: Path, tmp_path: Path, hashes: Hashes, undisturbed: dict[str, str], workers: int
) -> None:
    out = tmp_path / "store"
    process = start(six, out, workers, hold=1)
    wait_for(partial(is_writing, out, 1), process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 1)
    assert errors.count("Traceback") <= 1, errors
    wait_for(lambda: not is_alive(process.pid))
    finish(six, out, workers)
    assert hashes(out) == undisturbed


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_prepare__a_disk_that_takes_no_more_is_named(six: Path, tmp_path: Path) -> None:
    limited = (
        "import resource, runpy, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    words = [sys.executable, "-c", limited, str(SCRIPT), str(six), str(tmp_path / "store"), "0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert "StoreError: the store cannot be written" in done.stderr
    assert "File too large" in done.stderr
    assert not (tmp_path / "store" / "manifest.json").exists()
    finish(six, tmp_path / "store", 0)
