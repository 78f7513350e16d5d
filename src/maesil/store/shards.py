"""Writes shards and reads boxes of arrays in Zarr v3's sharding layout, without zarr-python's overhead per chunk.

zarr-python reads what this writes, and makes its metadata. Its bookkeeping per chunk costs several times as much as
decompression for a random box, and as much as compression for a shard. Only one layout is supported: see `layout_of`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path
from typing import Any, NamedTuple, final

import google_crc32c
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
_CHECKSUM_BYTES = 4
_INDEX_CODECS = ["bytes", "crc32c"]

Voxels = npt.NDArray[Any]
Indices = Recent[str, "npt.NDArray[np.uint64] | None"]
"""Map from a shard's file to offset and length of its chunks (n, n, n, 2); None: there is no file, all is fill."""


class DamagedChunkError(ValueError):
    """The bytes of a chunk are not those that were written."""


@dataclass(frozen=True)
class ShardLayout:
    """How an array is stored in files.

    Attributes:
        shape: Shape of the array in voxels.
        dtype: Type of the voxels, little-endian.
        fill: Value of voxels that are not stored.
        shard: Shape in voxels of a shard, which is one file.
        chunk: Shape in voxels of the smallest readable block.
        compressed: Whether chunks are compressed with Blosc.
    """

    shape: Shape3
    dtype: np.dtype[Any]
    fill: int
    shard: Shape3
    chunk: Shape3
    compressed: bool


def layout_of(metadata: Mapping[str, Any]) -> ShardLayout | None:
    """The layout described by an array's zarr.json; None if it is not the one that `ScanWriter` writes."""
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


def write_shard(path: Path, voxels: Voxels, layout: ShardLayout, compress: Callable[[Voxels], bytes]) -> None:
    """Writes a shard's file: its chunks one after the other, then their index; no file if all voxels are fill.

    Args:
        path: Path of the file.
        voxels: Voxels of the shard; fewer than a whole shard at the far ends of the array.
        layout: Layout of the array.
        compress: Function from a chunk to its bytes; must not compress if the layout does not.
    """
    counts = tuple(a // b for a, b in zip(layout.shard, layout.chunk, strict=True))
    index = np.full((*counts, 2), _EMPTY, dtype="<u8")
    stored: list[bytes] = []
    end = 0
    for place in np.ndindex(*counts):
        part = voxels[tuple(slice(at * edge, (at + 1) * edge) for at, edge in zip(place, layout.chunk, strict=True))]
        if (part == layout.fill).all():  # also true of a chunk that lies outside
            continue
        stored.append(compress(_padded(part, layout)))
        index[place] = end, len(stored[-1])
        end += len(stored[-1])
    if stored:
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = index.tobytes()
        path.write_bytes(b"".join([*stored, raw, google_crc32c.value(raw).to_bytes(_CHECKSUM_BYTES, "little")]))


def _padded(part: Voxels, layout: ShardLayout) -> Voxels:
    """A whole, contiguous chunk."""
    if part.shape == layout.chunk:
        return np.ascontiguousarray(part, dtype=layout.dtype)
    chunk = np.full(layout.chunk, layout.fill, dtype=layout.dtype)
    chunk[tuple(slice(size) for size in part.shape)] = part
    return chunk


class _Span(NamedTuple):
    """The overlap of a chunk and a box along one axis.

    Attributes:
        shard: Number of the shard.
        place: Position of the chunk in its shard.
        inside: Voxels of the overlap, in the coordinates of the box.
        own: The same voxels, in the coordinates of the chunk.
    """

    shard: int
    place: int
    inside: slice
    own: slice


class _Piece(NamedTuple):
    """The overlap of a chunk and a box: where its bytes are (None if all of it is fill), and the shared voxels."""

    part: Part | None
    inside: tuple[slice, slice, slice]
    own: tuple[slice, slice, slice]


@final
class ShardedArray:
    """An array that is read in boxes.

    Args:
        files: Files of the store.
        name: Folder of the array below the store.
        layout: Layout from its zarr.json.
        indices: Indices of shards that were read, shared by the arrays of a store.
    """

    def __init__(self, files: Files, name: str, layout: ShardLayout, indices: Indices) -> None:
        self._files, self._name, self._layout, self._indices = files, name, layout, indices
        self._chunks = tuple(a // b for a, b in zip(layout.shard, layout.chunk, strict=True))
        self.shape, self.dtype = layout.shape, layout.dtype

    def __getitem__(self, box: tuple[slice, ...]) -> Voxels:
        """The voxels of a box within the array, given by explicit bounds."""
        found = np.empty([part.stop - part.start for part in box], dtype=self.dtype)
        self.read_into(found, box)
        return found

    def read_into(self, found: Voxels, box: tuple[slice, ...]) -> None:
        """Reads a box into an array of the same shape, or a view of one."""
        pieces = list(self._pieces(box))
        stored = self._files.parts([piece.part for piece in pieces if piece.part is not None])
        chunk = np.empty(self._layout.chunk, dtype=self.dtype)
        raws = iter(stored)
        for part, inside, own in pieces:
            found[inside] = self._layout.fill if part is None else self._decoded(next(raws), chunk)[own]

    def _pieces(self, box: tuple[slice, ...]) -> Iterator[_Piece]:
        """The pieces of a box, shard by shard: a box has a hundred chunks, so work is done per shard where possible."""
        along = [
            [(shard, list(spans)) for shard, spans in groupby(_spans(part, edge, chunks), key=lambda span: span.shard)]
            for part, edge, chunks in zip(box, self._layout.chunk, self._chunks, strict=True)
        ]
        for (i, above), (j, rows), (k, columns) in product(*along):
            shard = f"{self._name}/c/{i}/{j}/{k}"
            index = self._indices.get(shard, lambda shard=shard: self._read_index(shard))  # type: ignore[misc]
            entries = None if index is None else index.tolist()
            for a, b, c in product(above, rows, columns):
                start, length = (_EMPTY, 0) if entries is None else entries[a.place][b.place][c.place]
                part = None if start == _EMPTY else Part(shard, start, length)
                yield _Piece(part, (a.inside, b.inside, c.inside), (a.own, b.own, c.own))

    def _read_index(self, shard: str) -> npt.NDArray[np.uint64] | None:
        length = 16 * self._chunks[0] * self._chunks[1] * self._chunks[2] + _CHECKSUM_BYTES
        try:
            (raw,) = self._files.parts([Part(shard, -length, length)])
        except FileNotFoundError:
            return None
        if len(raw) != length:
            raise DamagedChunkError(f"the index of {shard} is cut off")
        if google_crc32c.value(raw[:-_CHECKSUM_BYTES]) != int.from_bytes(raw[-_CHECKSUM_BYTES:], "little"):
            raise DamagedChunkError(f"the index of {shard} is damaged")
        return np.frombuffer(raw, dtype="<u8", count=length // 8).reshape(*self._chunks, 2)

    def _decoded(self, raw: bytes, into: Voxels) -> Voxels:
        """The voxels of a chunk: decoded into `into`, which the next chunk overwrites, or a view of the bytes."""
        if not self._layout.compressed:
            if len(raw) != into.nbytes:
                raise DamagedChunkError(f"a chunk has {len(raw)} bytes, not {into.nbytes}")
            return np.frombuffer(raw, dtype=self.dtype).reshape(into.shape)
        # Blosc trusts the lengths in its header.
        if len(raw) < _HEADER_BYTES or _lengths(raw) != (into.nbytes, len(raw)):
            raise DamagedChunkError("a chunk is cut off, or is not a Blosc chunk")
        try:
            blosc.decompress(raw, into)
        except RuntimeError as error:
            raise DamagedChunkError(str(error)) from error
        return into


def _lengths(raw: bytes) -> tuple[int, int]:
    """Size of a Blosc chunk in bytes, decompressed and compressed."""
    whole, _, packed = struct.unpack_from("<III", raw, 4)
    return whole, packed


def _spans(part: slice, edge: int, chunks: int) -> Iterator[_Span]:
    """The chunks that cover a slice of one axis: `edge` voxels each, `chunks` of them per shard."""
    for number in range(part.start // edge, -(-part.stop // edge)):
        first = number * edge
        low, high = max(part.start, first), min(part.stop, first + edge)
        yield _Span(
            *divmod(number, chunks), slice(low - part.start, high - part.start), slice(low - first, high - first)
        )


def read_metadata(files: Files, name: str) -> dict[str, Any]:
    """An array's zarr.json; raises FileNotFoundError, or ValueError if it is not JSON."""
    found: dict[str, Any] = json.loads(files.whole(f"{name}/zarr.json"))
    return found
