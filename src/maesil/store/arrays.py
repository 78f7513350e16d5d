"""A scan's arrays on disk: three resolutions and the tissue map, written block by block."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from jaxtyping import Int16, UInt8
from numcodecs import Blosc
from zarr.codecs import BloscCodec

from maesil.ct.volume import AIR_HU
from maesil.shapes import Shape3
from maesil.store.layout import LEVELS, OCCUPANCY, OCCUPANCY_BLOCK, TISSUE_HU, level_shape
from maesil.store.settings import Codec
from maesil.store.shards import ShardLayout, layout_of, write_shard

Block = Int16[np.ndarray, "d h w"]

# Shuffling separates the upper and lower bytes of HU: most upper ones are alike. LZ4 with a longer search (hc) is as
# small as bit-shuffled LZ4 and reads in less than half the time; an even longer search saves 5 % for twice the time.
_COMPRESSORS: dict[Codec, dict[str, Any] | None] = {
    "lz4": {"cname": "lz4hc", "clevel": 2, "shuffle": Blosc.SHUFFLE},
    "zstd": {"cname": "zstd", "clevel": 3, "shuffle": Blosc.BITSHUFFLE},
    "none": None,
}
_SHUFFLES = {Blosc.SHUFFLE: "shuffle", Blosc.BITSHUFFLE: "bitshuffle"}


@dataclass(frozen=True)
class ScanWriter:
    """Writes a scan's volume block by block.

    Args:
        path: Folder of the scan.
        group: Zarr group of the scan, in that folder.
        levels: Arrays of its resolutions, each half the size of the previous one.
        occupancy: Array with the share of tissue per block.
        layout: Layout of the first level.
        codec: Codec of its chunks.
    """

    path: Path
    group: zarr.Group
    levels: tuple[zarr.Array[Any], ...]
    occupancy: zarr.Array[Any]
    layout: ShardLayout
    codec: Codec

    @staticmethod
    def create(path: Path, shape: Shape3, chunk: int, shard: int, codec: Codec = "lz4") -> ScanWriter:
        """Creates the empty arrays."""
        group = zarr.open_group(path, mode="w", zarr_format=3)
        levels = tuple(_make_level(group, level, shape, chunk, shard, codec) for level in range(LEVELS))
        blocks = tuple(-(-size // OCCUPANCY_BLOCK) for size in shape)
        occupancy = group.create_array(OCCUPANCY, shape=blocks, chunks=blocks, dtype=np.uint8, fill_value=0)
        layout = layout_of(json.loads((path / "0" / "zarr.json").read_text(encoding="utf-8")))
        assert layout is not None, "shards are written in this layout"
        return ScanWriter(path, group, levels, occupancy, layout, codec)

    def write(self, first: tuple[int, int], block: Block) -> None:
        """Writes a block to all levels and to the tissue map.

        Args:
            first: First plane and first row of the block, multiples of the shard.
            block: Voxels over the scan's full width; a multiple of the shard along each axis, except at the far ends.
        """
        _assign(self.occupancy, first, OCCUPANCY_BLOCK, _piecewise(tissue_blocks, block))
        self._write_shards(first, block)
        for level, array in enumerate(self.levels[1:], start=1):
            block = _piecewise(halved, block)
            _assign(array, first, 2**level, block)

    def _write_shards(self, first: tuple[int, int], block: Block) -> None:
        settings = _COMPRESSORS[self.codec]
        compress = np.ndarray.tobytes if settings is None else Blosc(**settings).encode
        starts = (range(0, size, edge) for size, edge in zip(block.shape, self.layout.shard, strict=True))
        for start in product(*starts):
            part = block[tuple(slice(at, at + edge) for at, edge in zip(start, self.layout.shard, strict=True))]
            place = (first[0] + start[0], first[1] + start[1], start[2])
            name = "/".join(str(at // edge) for at, edge in zip(place, self.layout.shard, strict=True))
            write_shard(self.path / "0" / "c" / name, part, self.layout, compress)


def _assign(array: zarr.Array[Any], first: tuple[int, int], scale: int, block: npt.NDArray[Any]) -> None:
    start = (first[0] // scale, first[1] // scale, 0)
    array[tuple(slice(at, at + size) for at, size in zip(start, block.shape, strict=True))] = block


def _piecewise(reduce: Callable[[Block], npt.NDArray[Any]], block: Block) -> npt.NDArray[Any]:
    """Reduces blocks, one layer of them at a time, so that intermediate copies stay small."""
    edge = OCCUPANCY_BLOCK
    return np.concatenate([reduce(block[start : start + edge]) for start in range(0, len(block), edge)])


def _make_level(group: zarr.Group, level: int, shape: Shape3, chunk: int, shard: int, codec: Codec) -> zarr.Array[Any]:
    """Level 0 has shards of chunks that divide a superpatch; the viewers' levels have chunks as deep as a slab."""
    edge = chunk if level == 0 else shard // 2**level
    settings = _COMPRESSORS[codec]
    blosc = settings and BloscCodec(**{**settings, "shuffle": _SHUFFLES[settings["shuffle"]]}, typesize=2)
    return group.create_array(
        str(level),
        shape=level_shape(shape, level),
        chunks=(edge,) * 3,
        shards=(shard,) * 3 if level == 0 else None,
        dtype=np.int16,
        fill_value=AIR_HU,
        compressors=blosc,
        dimension_names=("z", "y", "x"),
    )


def tissue_blocks(voxels: Block) -> UInt8[np.ndarray, "bd bh bw"]:
    """Share of tissue per block of 16^3 voxels, 0 to 255; voxels that a block lacks at the far ends count as air."""
    padding = [(0, -size % OCCUPANCY_BLOCK) for size in voxels.shape]
    tissue = np.pad(voxels > TISSUE_HU, padding)
    d, h, w = (size // OCCUPANCY_BLOCK for size in tissue.shape)
    edge = OCCUPANCY_BLOCK
    share = tissue.reshape(d, edge, h, edge, w, edge).mean(axis=(1, 3, 5), dtype=np.float32)
    blocks: npt.NDArray[Any] = np.rint(share * 255).astype(np.uint8)
    return blocks


def halved(voxels: Block) -> Int16[np.ndarray, "half_d half_h half_w"]:
    """The mean of every 2^3 voxels; the last voxel of an odd axis is repeated."""
    pairs: npt.NDArray[Any] = np.pad(voxels, [(0, size % 2) for size in voxels.shape], mode="edge")
    pairs = np.add(pairs[::2], pairs[1::2], dtype=np.int32)
    pairs = pairs[:, ::2] + pairs[:, 1::2]
    pairs = pairs[:, :, ::2] + pairs[:, :, 1::2]
    coarse: npt.NDArray[Any] = np.rint(pairs * np.float32(0.125)).astype(np.int16)
    return coarse
