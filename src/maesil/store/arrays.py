"""A scan's arrays on disk: three resolutions and the map of tissue, written shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from maesil.tiling import Tiling

Slab = Int16[np.ndarray, "d h w"]


@dataclass(frozen=True)
class ScanWriter:
    """Writes a scan's volume from its first plane to its last.

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
    def create(path: Path, shape: Shape3, chunk: int, shard: int) -> ScanWriter:
        """Makes the arrays, empty."""
        group = zarr.open_group(path, mode="w", zarr_format=3)
        levels = tuple(_make_level(group, level, shape, chunk, shard) for level in range(LEVELS))
        blocks = tuple(-(-size // OCCUPANCY_BLOCK) for size in shape)
        occupancy = group.create_array(OCCUPANCY, shape=blocks, chunks=blocks, dtype=np.uint8, fill_value=0)
        return ScanWriter(group, levels, occupancy, shard)

    def write(self, start: int, slab: Slab) -> None:
        """Writes planes from `start`, a multiple of the shard, to all levels and the map."""
        first_block = start // OCCUPANCY_BLOCK
        shares = _piecewise(tissue_blocks, slab)
        self.occupancy[first_block : first_block + len(shares)] = shares
        for level, array in enumerate(self.levels):
            edge = self.shard // 2**level
            for inside in _tiles(slab.shape, edge):
                # Assigning shard by shard keeps what the codecs hold at a time to a shard.
                place = (slice(inside[0].start + start // 2**level, inside[0].stop + start // 2**level), *inside[1:])
                array[place] = slab[inside]
            slab = _piecewise(halved, slab) if level + 1 < LEVELS else slab


def _piecewise(reduce: Callable[[Slab], npt.NDArray[Any]], slab: Slab) -> npt.NDArray[Any]:
    """A reduction of blocks, a layer of blocks at a time: its intermediate copies stay small."""
    edge = OCCUPANCY_BLOCK
    return np.concatenate([reduce(slab[start : start + edge]) for start in range(0, len(slab), edge)])


def _tiles(shape: tuple[int, ...], edge: int) -> Iterator[tuple[slice, slice, slice]]:
    return (tile.inside for tile in Tiling((shape[0], shape[1], shape[2]), (edge, edge, edge)))


def _make_level(group: zarr.Group, level: int, shape: Shape3, chunk: int, shard: int) -> zarr.Array[Any]:
    """Level 0 in shards of chunks that divide a superpatch; the viewers' levels in chunks as deep as a slab."""
    edge = chunk if level == 0 else shard // 2**level
    return group.create_array(
        str(level),
        shape=level_shape(shape, level),
        chunks=(edge,) * 3,
        shards=(shard,) * 3 if level == 0 else None,
        dtype=np.int16,
        fill_value=AIR_HU,
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=2),
        dimension_names=("z", "y", "x"),
    )


def tissue_blocks(voxels: Slab) -> UInt8[np.ndarray, "bd bh bw"]:
    """Share of tissue per block of 16^3 voxels, 0 to 255; what a block lacks at the far ends counts as air."""
    padding = [(0, -size % OCCUPANCY_BLOCK) for size in voxels.shape]
    tissue = np.pad(voxels > TISSUE_HU, padding)
    d, h, w = (size // OCCUPANCY_BLOCK for size in tissue.shape)
    edge = OCCUPANCY_BLOCK
    share = tissue.reshape(d, edge, h, edge, w, edge).mean(axis=(1, 3, 5), dtype=np.float32)
    blocks: npt.NDArray[Any] = np.rint(share * 255).astype(np.uint8)
    return blocks


def halved(voxels: Slab) -> Int16[np.ndarray, "half_d half_h half_w"]:
    """The mean of every 2^3 voxels; an odd last one is repeated."""
    padded = np.pad(voxels, [(0, size % 2) for size in voxels.shape], mode="edge")
    d, h, w = (size // 2 for size in padded.shape)
    mean = padded.reshape(d, 2, h, 2, w, 2).mean(axis=(1, 3, 5), dtype=np.float32)
    coarse: npt.NDArray[Any] = np.rint(mean).astype(np.int16)
    return coarse
