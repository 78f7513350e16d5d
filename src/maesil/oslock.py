"""One process at a time in a folder, by a lock that the system releases with its process, even if that is killed."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from maesil.errors import MaesilError

HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
"""Errors of a lock that another process holds; others say that the file system has no locks."""
_PLACE = 1 << 30
"""Place in the file that Windows locks: behind the holder's name, which must remain readable."""


@contextmanager
def locked(path: Path, refused: Callable[[str], MaesilError]) -> Iterator[None]:
    """Holds the lock of a file, which names its holder meanwhile and is empty afterwards.

    Args:
        path: The lock file; its folder must exist.
        refused: Function that makes the error from the holder's name.

    Raises:
        OSError: The file cannot be opened.
        MaesilError: Another process holds the lock.
    """
    with path.open("a+b") as file:
        try:
            _lock(file)
        except OSError as error:
            if error.errno in HELD:
                raise refused(_holder(file)) from None
            logging.getLogger(__name__).warning(
                "%s: this file system has no locks, so do not start a second call on this folder", path.parent
            )
        _write(file, f"process {os.getpid()} on {socket.gethostname()}")
        try:
            yield
        finally:
            _write(file, "")


def _holder(file: IO[bytes]) -> str:
    try:
        file.seek(0)
        return file.read().decode(errors="replace").strip() or "another process"
    except OSError:
        return "another process"


def _write(file: IO[bytes], text: str) -> None:
    file.truncate(0)
    file.write(text.encode())
    file.flush()


def _lock(file: IO[bytes]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(_PLACE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
