"""Boxes of an array in Zarr v3's sharding layout, chunk by chunk, without zarr's machinery around every chunk.

zarr-python reads any Zarr array and writes ours; for a random box, its bookkeeping per chunk costs several times what
the decompression does. This reads the layout that `ScanWriter` writes, and knows no other: see `layout_of`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, final

import numpy as np
import numpy.typing as npt
from numcodecs import blosc

from maesil.shapes import Shape3
from maesil.store.files import Files, Part
from maesil.store.recent import Recent

# A chunk is too small to share among threads, and Blosc's threads would not survive a fork.
blosc.use_threads = False

_EMPTY = 2**64 - 1
_HEADER_BYTES = 16
_LARGEST_FILE = 2**48
_CHECKSUM_BYTES = 4
_INDEX_CODECS = ["bytes", "crc32c"]

Voxels = npt.NDArray[Any]
Indices = Recent[str, "npt.NDArray[np.uint64] | None"]
"""Shard's file to offset and length of its chunks (n, n, n, 2); None: there is no such file, all is fill."""


class DamagedChunkError(ValueError):
    """A chunk's bytes are not what was written."""


@dataclass(frozen=True)
class ShardLayout:
    """How an array lies in its files.

    Attributes:
        shape: Voxels.
        dtype: Little-endian.
        fill: Value of what is not stored.
        shard: Voxels of a file.
        chunk: Voxels of the smallest readable block.
        compressed: Whether chunks went through Blosc.
    """

    shape: Shape3
    dtype: np.dtype[Any]
    fill: int
    shard: Shape3
    chunk: Shape3
    compressed: bool


def layout_of(metadata: Mapping[str, Any]) -> ShardLayout | None:
    """The layout that an array's zarr.json tells; None where it is another than `ScanWriter` writes."""
    codecs = metadata.get("codecs", [])
    keys = metadata.get("chunk_key_encoding", {})
    if [codec["name"] for codec in codecs] != ["sharding_indexed"] or keys.get("name") != "default":
        return None
    settings = codecs[0]["configuration"]
    inner = [codec["name"] for codec in settings["codecs"]]
    index = [codec["name"] for codec in settings["index_codecs"]]
    endian = settings["codecs"][0].get("configuration", {}).get("endian", "little")
    if inner not in (["bytes"], ["bytes", "blosc"]) or index != _INDEX_CODECS or endian != "little":
        return None
    if settings.get("index_location", "end") != "end" or len(metadata["shape"]) != 3:
        return None
    return ShardLayout(
        shape=tuple(metadata["shape"]),
        dtype=np.dtype(metadata["data_type"]).newbyteorder("<"),
        fill=metadata["fill_value"],
        shard=tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"]),
        chunk=tuple(settings["chunk_shape"]),
        compressed="blosc" in inner,
    )


@dataclass(frozen=True)
class _Piece:
    """What a chunk gives to a box: its place in the shard, and the voxels of both that are the same."""

    shard: str
    place: Shape3
    inside: tuple[slice, slice, slice]
    chunk: tuple[slice, slice, slice]


@final
class ShardedArray:
    """An array that is read by boxes.

    Args:
        files: The store's.
        name: The array's folder below the store.
        layout: From its zarr.json.
        indices: Of shards that were read, shared by a store's arrays.
    """

    def __init__(self, files: Files, name: str, layout: ShardLayout, indices: Indices) -> None:
        self._files, self._name, self._layout, self._indices = files, name, layout, indices
        self._chunks = tuple(a // b for a, b in zip(layout.shard, layout.chunk, strict=True))
        self.shape, self.dtype = layout.shape, layout.dtype

    def __getitem__(self, box: tuple[slice, ...]) -> Voxels:
        """The voxels of a box that lies within the array, its bounds given."""
        found = np.empty([part.stop - part.start for part in box], dtype=self.dtype)
        self.read_into(found, box)
        return found

    def read_into(self, found: Voxels, box: tuple[slice, ...]) -> None:
        """The same into an array of the box's shape, or a view of one."""
        stored, parts = [], []
        for piece in self._pieces(box):
            part = self._part(piece)
            if part is None:
                found[piece.inside] = self._layout.fill
            else:
                stored.append(piece)
                parts.append(part)
        chunk = np.empty(self._layout.chunk, dtype=self.dtype)
        for piece, raw in zip(stored, self._files.parts(parts), strict=True):
            found[piece.inside] = self._decoded(raw, chunk)[piece.chunk]

    def _pieces(self, box: tuple[slice, ...]) -> Iterator[_Piece]:
        along = [
            [(n, *_common(part, n * edge, edge)) for n in range(part.start // edge, -(-part.stop // edge))]
            for part, edge in zip(box, self._layout.chunk, strict=True)
        ]
        a, b, c = self._chunks
        for (i, in_i, own_i), (j, in_j, own_j), (k, in_k, own_k) in product(*along):
            shard = f"{self._name}/c/{i // a}/{j // b}/{k // c}"
            yield _Piece(shard, (i % a, j % b, k % c), (in_i, in_j, in_k), (own_i, own_j, own_k))

    def _part(self, piece: _Piece) -> Part | None:
        """Where a chunk's bytes are; None: it is not stored, as all of it is fill."""
        index = self._indices.get(piece.shard, lambda: self._read_index(piece.shard))
        if index is None:
            return None
        start, length = index[piece.place].tolist()
        return None if start == _EMPTY else Part(piece.shard, start, length)

    def _read_index(self, shard: str) -> npt.NDArray[np.uint64] | None:
        length = 16 * self._chunks[0] * self._chunks[1] * self._chunks[2] + _CHECKSUM_BYTES
        try:
            (raw,) = self._files.parts([Part(shard, -length, length)])
        except FileNotFoundError:
            return None
        if len(raw) != length:
            raise DamagedChunkError(f"the index of {shard} is cut off")
        index = np.frombuffer(raw, dtype="<u8", count=length // 8).reshape(*self._chunks, 2)
        starts, lengths = index[..., 0], index[..., 1]
        whole = int(np.prod(self._layout.chunk)) * self.dtype.itemsize
        if ((starts != _EMPTY) & ((starts > _LARGEST_FILE) | (lengths > whole + _HEADER_BYTES))).any():
            raise DamagedChunkError(f"the index of {shard} is none")
        return index

    def _decoded(self, raw: bytes, into: Voxels) -> Voxels:
        """A chunk's voxels: in `into`, which the next chunk overwrites, or in the bytes themselves."""
        if not self._layout.compressed:
            if len(raw) != into.nbytes:
                raise DamagedChunkError(f"a chunk has {len(raw)} bytes, not {into.nbytes}")
            return np.frombuffer(raw, dtype=self.dtype).reshape(into.shape)
        # Blosc trusts the lengths in its header.
        if len(raw) < _HEADER_BYTES or _lengths(raw) != (into.nbytes, len(raw)):
            raise DamagedChunkError("a chunk is cut off, or is no Blosc chunk")
        try:
            blosc.decompress(raw, into)
        except RuntimeError as error:
            raise DamagedChunkError(str(error)) from error
        return into


def _lengths(raw: bytes) -> tuple[int, int]:
    """Bytes of a Blosc chunk once decompressed, and as it is."""
    whole, _, packed = struct.unpack_from("<III", raw, 4)
    return whole, packed


def _common(part: slice, first: int, edge: int) -> tuple[slice, slice]:
    """The voxels that a box has in common with a chunk along one axis: in the box, and in the chunk."""
    low, high = max(part.start, first), min(part.stop, first + edge)
    return slice(low - part.start, high - part.start), slice(low - first, high - first)


def read_metadata(files: Files, name: str) -> dict[str, Any]:
    """An array's zarr.json; raises FileNotFoundError, or ValueError where it is no JSON."""
    found: dict[str, Any] = json.loads(files.whole(f"{name}/zarr.json"))
    return found
