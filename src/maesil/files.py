"""Writes files atomically: a reader finds the old content or the new one, never a part of either."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path next to a file, and then moves what was written there to the file's name.

    The temporary name is unique, so several processes may write the same file at once. If the block raises, the file
    is unchanged.

    Args:
        path: Path of the file; its folder is created if missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=path.suffix)
    os.close(number)
    fresh = Path(name)
    try:
        yield fresh
        fresh.chmod(0o666 & ~_umask())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Writes UTF-8 text atomically; returns the path."""
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, value: Any) -> Path:
    """Writes a value as indented JSON atomically; returns the path."""
    return write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not JSON.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def _umask() -> int:
    """The permissions that this process removes from new files; `mkstemp` ignores this mask and uses 0600."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
