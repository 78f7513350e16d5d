"""Walks a folder tree once: its regular files, and what cannot be read in it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

PREPARED = "zarr.json"
"""A file of this name marks a prepared store, which is not walked into."""


@dataclass(frozen=True)
class Unreadable:
    """A file or folder that cannot be read.

    Attributes:
        path: Path of it.
        reason: Reason in the words of the operating system, without the path.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class Walked:
    """The content of a folder tree.

    Attributes:
        files: Regular files in a stable order.
        unreadable: Links without a target, and folders that cannot be listed.
    """

    files: tuple[Path, ...]
    unreadable: tuple[Unreadable, ...]


def walk(source: Path) -> Walked:
    """Every regular file of a file or folder.

    Links are followed, but no folder is entered twice, however it is reached. Hidden files and folders and prepared
    stores are left out; so are pipes, sockets and devices, which may never end.
    """
    files, unreadable = list[Path](), list[Unreadable]()
    seen = set[str]()
    waiting = [source]
    while waiting:
        path = waiting.pop()
        try:
            kind = path.stat().st_mode
            if stat.S_ISREG(kind):
                files.append(path)
            elif stat.S_ISDIR(kind) and (real := os.path.realpath(path)) not in seen:
                seen.add(real)
                waiting += _entries(path)
        except OSError as error:
            unreadable.append(Unreadable(path, _reason(path, error)))
    return Walked(tuple(sorted(files)), tuple(sorted(unreadable, key=lambda one: one.path)))


def files_in(folder: Path) -> list[Path]:
    """The regular files directly in a folder, hidden ones too, sorted; none if it cannot be listed."""
    return [path for path in _listed(folder) if path.is_file()]


def names_in(folder: Path) -> list[str]:
    """The names of everything directly in a folder, sorted; none if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:  # faster than a `Path` of each
            return sorted(entry.name for entry in entries)
    except OSError:  # the folder of a file that is given may be hidden from this user
        return []


def folders_in(folder: Path) -> list[Path]:
    """The folders directly in a folder, sorted; none if it cannot be listed."""
    return [path for path in _listed(folder) if path.is_dir()]


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # `walk` tells the reason
        return []


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, in reverse order; nothing of a prepared store."""
    paths = sorted(folder.iterdir(), reverse=True)
    if any(path.name == PREPARED for path in paths):
        return []
    return [path for path in paths if not path.name.startswith(".")]


def _reason(path: Path, error: OSError) -> str:
    if path.is_symlink() and not path.exists():
        return "its target does not exist"
    return (error.strerror or type(error).__name__).lower()
