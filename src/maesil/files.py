"""Writes files atomically: a reader finds the old content or the new one, never a part of either."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maesil.errors import ConfigError, OutputError, reason

AnyPath = str | Path
"""A path as a caller of a public function may give it."""


def as_paths(given: AnyPath | Sequence[AnyPath]) -> list[Path]:
    """One path, or several, as a list."""
    return [Path(given)] if isinstance(given, (str, Path)) else [Path(each) for each in given]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path next to a file, and then moves what was written there to the file's name.

    The temporary name is unique, so several processes may write the same file at once. If the block raises, the file
    is unchanged.

    Args:
        path: Path of the file; its folder is created if missing.

    Raises:
        ConfigError: The folder cannot be created.
        OutputError: The file cannot be written.
    """
    make_folder(path.parent)
    fresh = path.with_name(f".{path.stem}-{secrets.token_hex(8)}{path.suffix}")
    try:
        yield fresh
        fresh.replace(path)
    except OSError as error:
        fix = "make room on the disk, or choose another folder"
        raise OutputError(f"the file cannot be written: {reason(error)}", where=path, fix=fix) from error
    finally:
        fresh.unlink(missing_ok=True)


def require_output(path: Path) -> Path:
    """Checks, before the work, that a file can be written; returns its path.

    Raises:
        ConfigError: A folder has its name, or its folder cannot be created or written.
    """
    other = "choose another folder"
    try:
        is_folder = path.is_dir()
        above = next((each for each in path.absolute().parents if each.exists()), None)
    except OSError as error:
        raise ConfigError(f"this cannot be a file: {reason(error)}", where=path, fix=other) from error
    if is_folder:
        raise ConfigError("this is a folder, and a file would be written", where=path, fix="give the name of a file")
    if above is None or not above.is_dir():
        raise ConfigError("the folder cannot be created: a file has its name", where=path.parent, fix=other)
    if not os.access(above, os.W_OK | os.X_OK):
        raise ConfigError("its folder cannot be written", where=path, fix=other)
    return path


def require_json(path: Path) -> Path:
    """Checks, before the work, that a JSON file can be written; returns its path.

    Raises:
        ConfigError: As `require_output`, or its name is that of another kind of file, which it could replace.
    """
    require_output(path)
    if path.suffix != ".json":
        raise ConfigError(f"a JSON file can't be a '{path.suffix}' file", where=path, fix="end its name in .json")
    return path


def require_own(path: Path, wrote: Callable[[Path], bool], command: str) -> Path:
    """Checks, before the work, that a file is new, empty or an earlier one of the command; returns its path.

    Args:
        path: The file that would be replaced.
        wrote: Whether the content of a file shows that the command wrote it; an error of reading means no.
        command: The command's name.

    Raises:
        ConfigError: It is another file.
    """
    try:
        is_own = not path.is_file() or not path.stat().st_size or wrote(path)
    except (OSError, ValueError):
        is_own = False
    if not is_own:
        what = f"this file is there already, and `maesil {command}` did not write it"
        raise ConfigError(what, where=path, fix="give another name, or remove the file")
    return path


def make_folder(path: Path) -> Path:
    """Creates a folder if missing, with those above it; returns the path.

    Raises:
        ConfigError: It cannot be created, for example because a file has its name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the folder cannot be created: {error.strerror}", where=path, fix="give another") from error
    return path


def as_umask_allows(path: Path) -> Path:
    """Gives a file the mode of a new file, as safetensors makes files that only their owner can read; returns the path.

    The mode is copied from a new file: the umask can only be read by changing it, which other threads would see.
    """
    new = path.with_name(f".{path.stem}-{secrets.token_hex(8)}.new")
    new.touch()
    try:
        path.chmod(stat.S_IMODE(new.stat().st_mode))
    finally:
        new.unlink()
    return path


def write_text(path: Path, text: str) -> Path:
    """Writes UTF-8 text atomically; returns the path."""
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, value: Any) -> Path:
    """Writes a value as indented JSON atomically; returns the path."""
    return write_text(path, json.dumps(value, indent=1) + "\n")


def write_json_lines(path: Path, rows: Iterable[Any]) -> Path:
    """Writes values as JSON, one in a line, atomically; returns the path."""
    return write_text(path, "".join(f"{json.dumps(finite(row), allow_nan=False)}\n" for row in rows))


def finite(value: Any) -> Any:
    """A plain value with the names of numbers that JSON does not have in their places: "inf", "-inf" and "nan"."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return str(float(value)) if isinstance(value, float) and not math.isfinite(value) else value


def sha256_of(path: Path) -> str | None:
    """SHA-256 of a file's content, in hexadecimal; None if there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not JSON.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings of a YAML file.

    Raises:
        ConfigError: It cannot be read, is not YAML, or is not a mapping.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration: {error.strerror}", where=path) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}", where=path) from error
    if not isinstance(values, dict):
        raise ConfigError("a configuration must be a mapping of sections", where=path)
    return values


def quoted(path: Path | str) -> str:
    """A path as a shell reads it, for commands in advice: in quotes if it has spaces."""
    return shlex.quote(str(path))
