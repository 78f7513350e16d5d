from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from maesil.errors import StoreError
from maesil.store.lock import locked

HOLD = (
    "import sys, time; from pathlib import Path; from maesil.store.lock import locked\n"
    "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
)


def test_locked__one_writer_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / "store"):
        with pytest.raises(StoreError, match="another `maesil prepare`"), locked(tmp_path / "store"):
            raise AssertionError("two writers")
        assert (tmp_path / "store" / ".lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}"
    assert (tmp_path / "store" / ".lock").read_bytes() == b""
    with locked(tmp_path / "store"):
        pass


def test_locked__a_killed_writer_leaves_no_lock(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=f"another `maesil prepare`.*process {holder.pid} on"), locked(tmp_path):
            raise AssertionError("two writers")
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(timeout=10)
    with locked(tmp_path):
        pass


def test_locked__a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"), locked(tmp_path / "file" / "store"):
        raise AssertionError("a store within a file")
