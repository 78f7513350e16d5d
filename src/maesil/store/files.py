"""Reads a store's files, whole or in part, from a folder or through fsspec."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, final, runtime_checkable

from maesil.errors import MissingExtraError, StoreError
from maesil.store.location import EXTRAS, address_of
from maesil.store.recent import Recent

OPEN_FILES = 256
"""Number of shards kept open per process; systems commonly allow a process 1,024 files."""

PAUSES_S = (0.5, 1.0, 2.0, 4.0)
"""Waits before a remote read is retried; after the last one, it fails."""

T = TypeVar("T")


class Part(NamedTuple):
    """A byte range of a file.

    Attributes:
        name: Path of the file below the store.
        start: First byte; if negative, counted from the end of the file, to which the range then extends.
        length: Number of bytes.
    """

    name: str
    start: int
    length: int


@runtime_checkable
class Files(Protocol):
    """Reader of a store's files, which can be sent to other processes."""

    def whole(self, name: str) -> bytes:
        """The bytes of a file; raises FileNotFoundError."""

    def parts(self, parts: Sequence[Part]) -> Iterable[bytes]:
        """The bytes of ranges, in order, possibly one at a time; raises FileNotFoundError."""


def files_of(store: Path | str) -> Files:
    """The files of a store, wherever it is."""
    address = address_of(store)
    return LocalFiles(Path(store)) if address is None else RemoteFiles(address)


class _Descriptor:
    """An open file that closes with its last reference: threads may still read one that left the cache."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self.number)
        self.size = os.fstat(self.number).st_size
        self._seek = threading.Lock()

    def expect(self, start: int, length: int) -> None:
        """Lets the disk fetch a range while others are being decoded."""
        if hasattr(os, "posix_fadvise") and start >= 0:
            os.posix_fadvise(self.number, start, length, os.POSIX_FADV_WILLNEED)

    def read(self, start: int, length: int) -> bytes:
        at = start if start >= 0 else max(0, self.size + start)
        if hasattr(os, "pread"):
            return os.pread(self.number, length, at)
        with self._seek:  # Windows
            os.lseek(self.number, at, os.SEEK_SET)
            return os.read(self.number, length)


@final
class LocalFiles:
    """Files of a folder. Uses positioned reads, not memory maps: a disk fault is then an error rather than a signal.

    Args:
        folder: Folder of the store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: Recent[str, _Descriptor] = Recent(OPEN_FILES)

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalFiles, (self._folder,)

    def whole(self, name: str) -> bytes:
        """The bytes of a file."""
        return (self._folder / name).read_bytes()

    def parts(self, parts: Sequence[Part]) -> Iterator[bytes]:
        """The bytes of ranges, in order, each read on demand; the system is told about all of them in advance."""
        found = {name: self._descriptor(name) for name in {part.name for part in parts}}
        opened = [found[part.name] for part in parts]
        for part, descriptor in zip(parts, opened, strict=True):
            descriptor.expect(part.start, part.length)
        for part, descriptor in zip(parts, opened, strict=True):
            yield descriptor.read(part.start, part.length)

    def _descriptor(self, name: str) -> _Descriptor:
        return self._open.get(name, lambda: _Descriptor(self._folder / name))


@final
class RemoteFiles:
    """Files behind an address, read through fsspec; lost connections are retried.

    Args:
        address: Address of the store, such as https://host/store or s3://bucket/store.
        pauses_s: Waits between tries; None: `PAUSES_S`.

    Raises:
        MissingExtraError: The protocol's package is not installed.
    """

    def __init__(self, address: str, pauses_s: Sequence[float] | None = None) -> None:
        self._address = address.rstrip("/")
        self._pauses_s = tuple(PAUSES_S if pauses_s is None else pauses_s)
        self._system: Any = None
        self._process = 0
        self._connect()

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteFiles, (self._address, self._pauses_s)

    def whole(self, name: str) -> bytes:
        """The bytes of a file."""
        whole: bytes = self._patiently(lambda: self._connect().cat_file(self._url(name)), name)
        return whole

    def parts(self, parts: Sequence[Part]) -> list[bytes]:
        """The bytes of ranges, all requested at once."""
        if not parts:
            return []
        first = parts[0].name
        return self._patiently(lambda: self._ranges(parts), first if len(parts) == 1 else f"{first} and others")

    def _ranges(self, parts: Sequence[Part]) -> list[bytes]:
        found: list[bytes] = self._connect().cat_ranges(
            [self._url(part.name) for part in parts],
            [part.start for part in parts],
            [part.start + part.length if part.start >= 0 else None for part in parts],
            on_error="raise",
        )
        for part, piece in zip(parts, found, strict=True):
            if len(piece) > part.length:
                fix = "use a server that supports range requests, or copy the store to a disk"
                raise StoreError("the server sends whole files instead of parts", where=self._url(part.name), fix=fix)
            if len(piece) < part.length:
                raise ConnectionError(f"{len(piece)} of {part.length} bytes arrived")
        return found

    def _url(self, name: str) -> str:
        return f"{self._address}/{name}"

    def _connect(self) -> Any:
        """fsspec's file system; a forked process makes its own, because connections cannot be shared."""
        if self._system is None or self._process != os.getpid():
            self._system = _file_system(self._address)
            self._process = os.getpid()
        return self._system

    def _patiently(self, read: Callable[[], T], name: str) -> T:
        for pause_s in (*self._pauses_s, None):
            try:
                return read()
            except FileNotFoundError:
                raise
            except Exception as error:
                if not _may_pass(error):
                    raise
                if pause_s is None:
                    raise self._lost(name, error) from error
                time.sleep(pause_s)
        raise AssertionError

    def _lost(self, name: str, error: Exception) -> StoreError:
        tries = len(self._pauses_s) + 1
        reason = str(error) or type(error).__name__
        return StoreError(
            f"the store cannot be reached: {reason} ({tries} tries in {sum(self._pauses_s):g} s)",
            where=self._url(name),
            fix="check the network and the server, then run the same command again; training resumes where it stopped",
        )


def _may_pass(error: Exception) -> bool:
    """Whether a retry may help: failed connections, timeouts, busy servers."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status in (408, 429) or status >= 500
    return isinstance(error, OSError | TimeoutError | EOFError) or type(error).__module__.partition(".")[0] in (
        "aiohttp",
        "botocore",
    )


def _file_system(address: str) -> Any:
    protocol = address.partition("://")[0]
    try:
        import fsspec

        import_module(EXTRAS[protocol])
    except ImportError as error:
        what = f"a store at {protocol}:// needs the package '{EXTRAS[protocol]}', which cannot be imported: {error}"
        raise MissingExtraError(what, fix="pip install 'maesil[remote]'") from error
    return fsspec.filesystem(protocol, use_listings_cache=False, skip_instance_cache=True)
