"""The voxels of a volume file as they are stored: in one file or several, raw, compressed or as text.

They are read in order and in pieces, so that one slab is in memory at a time, and to the very end of a compressed file,
where its checksum is.
"""

from __future__ import annotations

import bz2
import math
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
from isal import igzip, igzip_lib

from maesil.counts import count_of
from maesil.ct.readers.soundness import AGAIN, Slabs, planes_per_slab
from maesil.errors import ScanError
from maesil.shapes import Shape3

Encoding = Literal["raw", "gzip", "zlib", "bzip2", "text", "hex"]

_CannotUnpack: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]  # its stubs declare an instance
BROKEN: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, OverflowError, zlib.error, _CannotUnpack)
"""What opening, unpacking and decoding of damaged files raises."""

MAX_FILES = 2**16
"""Most files of one volume: one per slice."""

_BLOCK = 2**20


@dataclass(frozen=True)
class Stored:
    """Where the voxels of a volume are, and how they are packed.

    Attributes:
        shape: Shape of the volume (k, j, i); voxels are stored with the last axis fastest.
        dtype: Type of a stored voxel, with its byte order.
        files: Files with the voxels, in order; each holds an equal share.
        encoding: How the bytes of each file are packed.
        start: First byte of each file that belongs to its voxels, before unpacking; -1: they are at the end of it.
        skip: Number of unpacked bytes before the first voxel.
        packed_bytes: Size of the packed voxels, if the header states it.
    """

    shape: Shape3
    dtype: np.dtype[Any]
    files: tuple[Path, ...]
    encoding: Encoding = "raw"
    start: int = 0
    skip: int = 0
    packed_bytes: int | None = None

    @property
    def bytes(self) -> int:
        """Size of all voxels, unpacked."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def share(self) -> int:
        """Size of the voxels in one of the files, unpacked.

        Raises:
            ScanError: The files cannot hold equal shares.
        """
        voxels, rest = divmod(math.prod(self.shape), len(self.files))
        if rest:
            raise ScanError(f"{len(self.files)} data files cannot hold equal parts of {self.shape} voxels")
        return voxels * self.dtype.itemsize


def require_regular(path: Path) -> None:
    """Refuses what is not a plain file: opening a pipe or a device may never end.

    Raises:
        ScanError: There is no such file, or it is a folder, a pipe or a device.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ScanError("a data file that its header names is missing", fix="copy it too") from error
    if not stat.S_ISREG(mode):
        raise ScanError("it is not a regular file", fix="leave out pipes, devices and links to them")


def slabs(stored: Stored) -> Slabs:
    """The voxels, slab by slab.

    Raises:
        ScanError: A file is missing, cut short or damaged.
    """
    planes = planes_per_slab(stored.shape, stored.dtype.itemsize)
    _, rows, columns = stored.shape
    plane_bytes = rows * columns * stored.dtype.itemsize
    source = _unpacked_blocks(stored)
    held = b""
    for first in range(0, stored.shape[0], planes):
        count = min(planes, stored.shape[0] - first)
        wanted = count * plane_bytes
        parts, size = [held], len(held)
        while size < wanted:
            block = next(source)
            parts.append(block)
            size += len(block)
        joined = b"".join(parts)
        held = joined[wanted:]
        yield first, np.frombuffer(joined, stored.dtype, count * rows * columns).reshape(count, rows, columns)
    for _ in source:  # the checksum comes last
        pass


def require_complete(stored: Stored) -> None:
    """Refuses voxels that are not all there, without unpacking them where the file's size tells.

    Raises:
        ScanError: A file is missing or cut short.
    """
    for path in stored.files:
        require_regular(path)
        size = path.stat().st_size
        if stored.encoding == "raw":
            start = max(stored.start, 0)
            if size < start + stored.skip + stored.share:
                raise _cut_short(stored)
        elif stored.packed_bytes is not None:
            if size < max(stored.start, 0) + stored.packed_bytes:
                raise _cut_short(stored)
        elif stored.encoding != "gzip" or _gzip_size(path) != (stored.skip + stored.share) % 2**32:
            for _ in _file_blocks(stored, path):
                pass


def gunzipped(path: Path) -> Any:
    """The unpacked bytes of a gzip file, read through ISA-L at three times zlib's speed; members are joined."""
    return igzip.open(path, "rb")


def _gzip_size(path: Path) -> int:
    """The unpacked size modulo 2^32 that a gzip file of one member ends with."""
    with path.open("rb") as file:
        if file.seek(0, 2) < 4:
            return -1
        file.seek(-4, 2)
        return int.from_bytes(file.read(4), "little")


def _unpacked_blocks(stored: Stored) -> Iterator[bytes]:
    for path in stored.files:
        require_regular(path)
        yield from _file_blocks(stored, path)


def _file_blocks(stored: Stored, path: Path) -> Iterator[bytes]:
    """The unpacked bytes of one file's share of the voxels; then reads on to the end of what is packed."""
    left, skip = stored.share, stored.skip
    for block in _unpacked(stored, path):
        inner = block[skip : skip + left]
        skip -= min(skip, len(block))
        left -= len(inner)
        if inner:
            yield inner
        if not left and stored.encoding == "raw":
            return
    if left:
        raise _cut_short(stored)


def _cut_short(stored: Stored) -> ScanError:
    named = "the file" if len(stored.files) == 1 and stored.start else "a data file of it"
    return ScanError(f"{named} is cut short: it holds fewer voxels than its header declares", fix=AGAIN)


def _unpacked(stored: Stored, path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        if stored.start < 0:
            size = file.seek(0, 2)
            if size < stored.share:
                raise _cut_short(stored)
            file.seek(size - stored.share)
        else:
            file.seek(stored.start)
        if stored.encoding == "raw":
            yield from _blocks(file)
        elif stored.encoding == "zlib":
            yield from _inflated(file, stored.packed_bytes)
        elif stored.encoding == "gzip":
            with igzip.open(file, "rb") as unpacked:
                yield from _blocks(unpacked)
        elif stored.encoding == "bzip2":
            with bz2.open(file, "rb") as unpacked:
                yield from _blocks(unpacked)
        elif stored.encoding == "hex":
            yield bytes.fromhex(file.read().decode("ascii"))
        else:
            yield _numbers(file.read(), stored).tobytes()


def _blocks(file: Any) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _inflated(file: IO[bytes], size: int | None) -> Iterator[bytes]:
    """A zlib stream, unpacked with a bound on memory, and verified by the checksum at its end."""
    unpacker = zlib.decompressobj()
    left = size if size is not None else math.inf
    while not unpacker.eof:
        packed = unpacker.unconsumed_tail
        if not packed:
            packed = file.read(int(min(_BLOCK, left)))
            left -= len(packed)
            if not packed:
                raise ScanError("the file is cut short: its compressed voxels have no end", fix=AGAIN)
        yield unpacker.decompress(packed, _BLOCK)


def _numbers(text: bytes, stored: Stored) -> npt.NDArray[Any]:
    """Voxels that are stored as decimal numbers."""
    words = text.replace(b",", b" ").split()
    wanted = stored.share // stored.dtype.itemsize
    if len(words) < wanted:
        raise ScanError(f"the file is cut short: {count_of(len(words), 'number')} of {wanted}", fix=AGAIN)
    values = np.array(words[:wanted], dtype=np.float64)
    limits = np.iinfo(stored.dtype) if stored.dtype.kind in "iu" else None
    if limits is not None and (values.min() < limits.min or values.max() > limits.max):
        raise ScanError("a number does not fit the type of voxel that the header declares", fix=AGAIN)
    return values.astype(stored.dtype)
