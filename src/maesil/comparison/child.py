"""Running a training in a separate process: its memory is its own, and if it is killed, nothing else is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any

from maesil.errors import MaesilError

TAIL = 64
"""Number of the child's last output chunks that are kept, to report why it failed."""


class ChildFailedError(MaesilError):
    """A training ended before it was finished; the message is the child's own."""


def pretrain_apart(config: Path, run: Path) -> None:
    """Runs `maesil pretrain --config CONFIG --run RUN --json` and shows its progress.

    Ctrl-C and SIGTERM are passed on once, so that the child can save; then this process is interrupted, too.

    Raises:
        ChildFailedError: The training failed, or was killed.
        KeyboardInterrupt: The training was interrupted.
    """
    # With --json, it names no next command: the caller goes on by itself. Nobody reads the JSON.
    command = [sys.executable, "-m", "maesil", "pretrain", "--config", str(config), "--run", str(run), "--json"]
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    # In its own session: the terminal's Ctrl-C reaches only this process, and the child gets one signal, not two.
    with subprocess.Popen(command, **pipes, env=_environment(), start_new_session=True) as child:
        with _PassedOn(child) as passed:
            said = _relay(child.stderr)
            code = child.wait()
            said.join()
        if passed.requested:
            raise KeyboardInterrupt
        if code:
            raise ChildFailedError(_reason(code, b"".join(said.tail).decode(errors="replace")))


class _Relay(threading.Thread):
    """Copies a child's standard error to ours as it arrives, and keeps the end of it."""

    def __init__(self, source: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.source = source
        self.tail: deque[bytes] = deque(maxlen=TAIL)

    def run(self) -> None:
        """Copies until the child closes its end."""
        while chunk := os.read(self.source.fileno(), 65536):
            self.tail.append(chunk)
            with suppress(OSError, ValueError):
                sys.stderr.write(chunk.decode(errors="replace"))
                sys.stderr.flush()


def _relay(source: IO[bytes] | None) -> _Relay:
    assert source is not None
    relay = _Relay(source)
    relay.start()
    return relay


class _PassedOn:
    """Passes Ctrl-C and SIGTERM on to a child, once; a second one kills it."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.child = child
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _PassedOn:
        if threading.current_thread() is threading.main_thread():
            numbers = (signal.SIGINT, signal.SIGTERM)
            self._previous = {number: signal.signal(number, self._pass_on) for number in numbers}
        return self

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            if self.requested:
                self.child.kill()
            else:
                self.child.send_signal(signal.SIGINT)
        self.requested = True

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def _environment() -> dict[str, str]:
    """Our environment, with terminal settings: the child's output reaches the same terminal, but through a pipe."""
    environment = dict(os.environ)
    if sys.stderr.isatty():
        environment["FORCE_COLOR"] = "1"
        environment["COLUMNS"] = str(shutil.get_terminal_size().columns)
    return environment


def _reason(code: int, said: str) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        hint = ", probably out of memory" if -code == signal.SIGKILL else ""
        return f"its training was killed by {name}{hint}"
    _, found, message = said.rpartition("maesil: ")
    lines = [line.strip() for line in (message if found else said).splitlines() if line.strip()]
    return "; ".join(lines) if found else f"its training failed: {lines[-1] if lines else f'exit code {code}'}"
