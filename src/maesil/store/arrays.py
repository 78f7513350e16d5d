"""A scan's arrays on disk: three resolutions and the map of tissue, written shard by shard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from jaxtyping import Int16, UInt8
from zarr.codecs import BloscCodec

from maesil.ct.volume import AIR_HU
from maesil.shapes import Shape3
from maesil.store.layout import LEVELS, OCCUPANCY, OCCUPANCY_BLOCK, TISSUE_HU, level_shape
from maesil.store.settings import Codec

Block = Int16[np.ndarray, "d h w"]

# Upper and lower bytes of HU apart: most of the upper ones are alike. LZ4 that searches longer (hc) writes at a seventh
# of the speed, once; it takes the room of LZ4 with bits shuffled, and less than half of the time to read.
_COMPRESSORS: dict[Codec, BloscCodec | None] = {
    "lz4": BloscCodec(cname="lz4hc", clevel=4, shuffle="shuffle", typesize=2),
    "zstd": BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=2),
    "none": None,
}


@dataclass(frozen=True)
class ScanWriter:
    """Writes a scan's volume block by block.

    Args:
        group: The scan's Zarr group.
        levels: Its resolutions, each half of the one before.
        occupancy: Share of tissue per block.
        shard: Edge of a file's block.
    """

    group: zarr.Group
    levels: tuple[zarr.Array[Any], ...]
    occupancy: zarr.Array[Any]
    shard: int

    @staticmethod
    def create(path: Path, shape: Shape3, chunk: int, shard: int, codec: Codec = "lz4") -> ScanWriter:
        """Makes the arrays, empty."""
        group = zarr.open_group(path, mode="w", zarr_format=3)
        levels = tuple(_make_level(group, level, shape, chunk, shard, codec) for level in range(LEVELS))
        blocks = tuple(-(-size // OCCUPANCY_BLOCK) for size in shape)
        occupancy = group.create_array(OCCUPANCY, shape=blocks, chunks=blocks, dtype=np.uint8, fill_value=0)
        return ScanWriter(group, levels, occupancy, shard)

    def write(self, first: tuple[int, int], block: Block) -> None:
        """Writes a block to all levels and the map.

        Args:
            first: The block's first plane and first row, multiples of the shard.
            block: Voxels of the scan's whole width; of a multiple of the shard along each axis but at the far ends.
        """
        _assign(self.occupancy, first, OCCUPANCY_BLOCK, _piecewise(tissue_blocks, block))
        for level, array in enumerate(self.levels):
            edge = self.shard // 2**level
            for column in range(0, block.shape[2], edge):
                # Assigning shard by shard keeps what the codecs hold at a time to a shard.
                _assign(array, first, 2**level, block[:, :, column : column + edge], column)
            block = _piecewise(halved, block) if level + 1 < LEVELS else block


def _assign(
    array: zarr.Array[Any], first: tuple[int, int], scale: int, block: npt.NDArray[Any], column: int = 0
) -> None:
    start = (first[0] // scale, first[1] // scale, column)
    array[tuple(slice(at, at + size) for at, size in zip(start, block.shape, strict=True))] = block


def _piecewise(reduce: Callable[[Block], npt.NDArray[Any]], block: Block) -> npt.NDArray[Any]:
    """A reduction of blocks, a layer of blocks at a time: its intermediate copies stay small."""
    edge = OCCUPANCY_BLOCK
    return np.concatenate([reduce(block[start : start + edge]) for start in range(0, len(block), edge)])


def _make_level(group: zarr.Group, level: int, shape: Shape3, chunk: int, shard: int, codec: Codec) -> zarr.Array[Any]:
    """Level 0 in shards of chunks that divide a superpatch; the viewers' levels in chunks as deep as a slab."""
    edge = chunk if level == 0 else shard // 2**level
    return group.create_array(
        str(level),
        shape=level_shape(shape, level),
        chunks=(edge,) * 3,
        shards=(shard,) * 3 if level == 0 else None,
        dtype=np.int16,
        fill_value=AIR_HU,
        compressors=_COMPRESSORS[codec],
        dimension_names=("z", "y", "x"),
    )


def tissue_blocks(voxels: Block) -> UInt8[np.ndarray, "bd bh bw"]:
    """Share of tissue per block of 16^3 voxels, 0 to 255; what a block lacks at the far ends counts as air."""
    padding = [(0, -size % OCCUPANCY_BLOCK) for size in voxels.shape]
    tissue = np.pad(voxels > TISSUE_HU, padding)
    d, h, w = (size // OCCUPANCY_BLOCK for size in tissue.shape)
    edge = OCCUPANCY_BLOCK
    share = tissue.reshape(d, edge, h, edge, w, edge).mean(axis=(1, 3, 5), dtype=np.float32)
    blocks: npt.NDArray[Any] = np.rint(share * 255).astype(np.uint8)
    return blocks


def halved(voxels: Block) -> Int16[np.ndarray, "half_d half_h half_w"]:
    """The mean of every 2^3 voxels; an odd last one is repeated."""
    padded = np.pad(voxels, [(0, size % 2) for size in voxels.shape], mode="edge")
    d, h, w = (size // 2 for size in padded.shape)
    mean = padded.reshape(d, 2, h, 2, w, 2).mean(axis=(1, 3, 5), dtype=np.float32)
    coarse: npt.NDArray[Any] = np.rint(mean).astype(np.int16)
    return coarse
