"""Which shards an array has: recorded when it is written, and compared with its files when it is read or checked.

Zarr stores no file for a shard of air alone, so any reader takes a lost file for air. The record tells them apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from maesil.shapes import Shape3

Slices3 = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Shards:
    """The shards of an array.

    Attributes:
        edge: Edge of a shard in voxels.
        stored: Positions of the shards that have a file.
        size: Total size of the files in bytes.
        sha256: SHA-256 of the files' contents, in row-major order.
    """

    edge: int
    stored: frozenset[Shape3]
    size: int
    sha256: str

    @staticmethod
    def from_dict(record: Mapping[str, Any], shape: Shape3, edge: int) -> Shards:
        """The shards of an array of `shape` voxels, from the record in a scan's row."""
        d, h, w = (-(-size // edge) for size in shape)
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(record["shards"]), dtype=np.uint8), count=d * h * w)
        stored = {(int(i), int(j), int(k)) for i, j, k in np.argwhere(bits.reshape(d, h, w))}
        return Shards(edge, frozenset(stored), record["bytes"], record["sha256"])

    def touched(self, box: Slices3) -> Iterator[tuple[Shape3, Slices3]]:
        """The stored shards that share voxels with a box of the array, and these voxels in the box's coordinates."""
        ranges = (range(part.start // self.edge, -(-part.stop // self.edge)) for part in box)
        for i, j, k in product(*ranges):
            if (i, j, k) in self.stored:
                d, h, w = (
                    slice(max(0, at * self.edge - part.start), min(part.stop, (at + 1) * self.edge) - part.start)
                    for at, part in zip((i, j, k), box, strict=True)
                )
                yield (i, j, k), (d, h, w)

    def fault(self, array: Path, *, contents: bool = False) -> str | None:
        """What is wrong with the files of the array; None: nothing.

        Args:
            array: Folder of the array.
            contents: Whether to read the files and compare their contents, too.
        """
        if not (array / "zarr.json").is_file():
            return "zarr.json is missing"
        found = stored_shards(array)
        if lost := sorted(self.stored - found.keys()):
            return f"{len(lost)} of {len(self.stored)} files are missing, such as {shard_name(lost[0])}"
        size = sum(found[place].stat().st_size for place in self.stored)
        if size != self.size:
            return f"its files have {size} bytes, not {self.size}"
        if contents and _digest(found[place] for place in sorted(self.stored)) != self.sha256:
            return "the contents of its files have changed"
        return None


def record_shards(array: Path, shape: Shape3, edge: int) -> dict[str, Any]:
    """The record of an array's shards, after all of them were written.

    Args:
        array: Folder of the array.
        shape: Shape of the array in voxels.
        edge: Edge of a shard in voxels.
    """
    bits = np.zeros([-(-size // edge) for size in shape], dtype=np.bool_)
    found = stored_shards(array)
    for place in found:
        bits[place] = True
    return {
        "shards": np.packbits(bits).tobytes().hex(),
        "bytes": sum(path.stat().st_size for path in found.values()),
        "sha256": _digest(found[place] for place in sorted(found)),
    }


def stored_shards(array: Path) -> dict[Shape3, Path]:
    """Map from position to file, of all shards of an array that have a file."""
    found = {}
    for path in (array / "c").glob("*/*/*"):
        i, j, k = (int(part) for part in path.relative_to(array / "c").parts)
        found[i, j, k] = path
    return found


def shard_name(place: Shape3) -> str:
    """The file of a shard, below the array's folder."""
    return "/".join(["c", *map(str, place)])


def _digest(paths: Iterator[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()
