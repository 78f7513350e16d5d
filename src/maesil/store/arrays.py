"""A scan's arrays on disk: three resolutions and the tissue map, written block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorstore as ts
from jaxtyping import Int16, UInt8

from maesil.ct.volume import AIR_HU, TISSUE_HU
from maesil.shapes import Shape3
from maesil.store.format import LEVELS, OCCUPANCY, OCCUPANCY_BLOCK, level_shape
from maesil.store.settings import Codec
from maesil.store.zarr3 import array_metadata, create_array, write_box, writing_context

HuBlock = Int16[np.ndarray, "d h w"]

# Shuffling separates the upper and lower bytes of HU: most upper ones are alike. LZ4 with a longer search (hc) is as
# small as bit-shuffled LZ4 and reads in less than half the time; an even longer search saves 5 % for twice the time.
_COMPRESSORS: dict[Codec, dict[str, Any] | None] = {
    "lz4": {"cname": "lz4hc", "clevel": 2, "shuffle": "shuffle"},
    "zstd": {"cname": "zstd", "clevel": 3, "shuffle": "bitshuffle"},
    "none": None,
}


def blosc(cname: str, clevel: int, shuffle: str, typesize: int = 2) -> dict[str, Any]:
    """The Blosc codec of a chunk, as zarr.json names it."""
    settings = {"typesize": typesize, "cname": cname, "clevel": clevel, "shuffle": shuffle, "blocksize": 0}
    return {"name": "blosc", "configuration": settings}


@dataclass(frozen=True)
class ScanWriter:
    """Writes a scan's volume block by block.

    Args:
        levels: Arrays of its resolutions, each half the size of the previous one.
        occupancy: Array with the share of tissue per block.
    """

    levels: tuple[ts.TensorStore, ...]
    occupancy: ts.TensorStore

    @staticmethod
    def create(path: Path, shape: Shape3, chunk: int, shard: int, codec: Codec = "lz4") -> ScanWriter:
        """Creates the empty arrays in the folder of a scan."""
        context, settings = writing_context(), _COMPRESSORS[codec]
        packed = settings and blosc(**settings)
        # Level 0 has shards of chunks that divide a superpatch; the viewers' levels have chunks as deep as a slab.
        metadata = [array_metadata(shape, _cube(chunk), np.int16, AIR_HU, packed, shard=_cube(shard))]
        for level in range(1, LEVELS):
            coarse, edge = level_shape(shape, level), shard // 2**level
            metadata.append(array_metadata(coarse, _cube(edge), np.int16, AIR_HU, packed))
        levels = [create_array(path / str(level), one, context) for level, one in enumerate(metadata)]
        d, h, w = (-(-size // OCCUPANCY_BLOCK) for size in shape)
        zstd = {"name": "zstd", "configuration": {"level": 0, "checksum": False}}
        tissue = array_metadata((d, h, w), (d, h, w), np.uint8, 0, zstd, axes=None)
        return ScanWriter(tuple(levels), create_array(path / OCCUPANCY, tissue, context))

    def write(self, first: tuple[int, int], block: HuBlock) -> None:
        """Writes a block to all levels and to the tissue map.

        Args:
            first: First plane and first row of the block, multiples of the shard.
            block: Voxels over the scan's full width; a multiple of the shard along each axis, except at the far ends.
        """
        _assign(self.occupancy, first, OCCUPANCY_BLOCK, _piecewise(tissue_blocks, block))
        for level, array in enumerate(self.levels):
            if level:
                block = _piecewise(halved, block)
            _assign(array, first, 2**level, block)


def _cube(edge: int) -> Shape3:
    return edge, edge, edge


def _assign(array: ts.TensorStore, first: tuple[int, int], scale: int, block: npt.NDArray[Any]) -> None:
    write_box(array, (first[0] // scale, first[1] // scale, 0), block)


def _piecewise(reduce: Callable[[HuBlock], npt.NDArray[Any]], block: HuBlock) -> npt.NDArray[Any]:
    """Reduces blocks, one layer of them at a time, so that intermediate copies stay small."""
    edge = OCCUPANCY_BLOCK
    return np.concatenate([reduce(block[start : start + edge]) for start in range(0, len(block), edge)])


def tissue_blocks(voxels: HuBlock) -> UInt8[np.ndarray, "bd bh bw"]:
    """Share of tissue per block of 16^3 voxels, 0 to 255; voxels that a block lacks at the far ends count as air."""
    padding = [(0, -size % OCCUPANCY_BLOCK) for size in voxels.shape]
    tissue = np.pad(voxels > TISSUE_HU, padding)
    d, h, w = (size // OCCUPANCY_BLOCK for size in tissue.shape)
    edge = OCCUPANCY_BLOCK
    share = tissue.reshape(d, edge, h, edge, w, edge).mean(axis=(1, 3, 5), dtype=np.float32)
    blocks: npt.NDArray[Any] = np.rint(share * 255).astype(np.uint8)
    return blocks


def halved(voxels: HuBlock) -> Int16[np.ndarray, "half_d half_h half_w"]:
    """The mean of every 2^3 voxels; the last voxel of an odd axis is repeated."""
    pairs: npt.NDArray[Any] = np.pad(voxels, [(0, size % 2) for size in voxels.shape], mode="edge")
    pairs = np.add(pairs[::2], pairs[1::2], dtype=np.int32)
    pairs = pairs[:, ::2] + pairs[:, 1::2]
    pairs = pairs[:, :, ::2] + pairs[:, :, 1::2]
    coarse: npt.NDArray[Any] = np.rint(pairs * np.float32(0.125)).astype(np.int16)
    return coarse
