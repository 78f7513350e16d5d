"""Volume <-> superpatches: pure index arithmetic that reads no voxels (§III-A, Fig. 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from maesil.errors import ConfigError
from maesil.shapes import Shape3, product

Slices3 = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Tile:
    """Position of one superpatch in a volume.

    Attributes:
        index: Number of the tile in the tiling, row-major.
        origin: First voxel in the volume; the tile may extend past the end of the volume.
        inside: Voxels of the volume that the tile covers.
        local: The same voxels in the coordinates of the tile; the rest of the tile is padding.
    """

    index: int
    origin: Shape3
    inside: Slices3
    local: Slices3


def box(start: Shape3, shape: Shape3) -> Slices3:
    """The slices of a box of `shape` voxels that starts at `start`."""
    return (
        slice(start[0], start[0] + shape[0]),
        slice(start[1], start[1] + shape[1]),
        slice(start[2], start[2] + shape[2]),
    )


@dataclass(frozen=True)
class Tiling:
    """Superpatches that cover a volume, padded at its far ends where its size is not a multiple of the stride.

    A volume of 512^3 voxels in tiles of 128^3 without overlap has the paper's 64 superpatches.

    Args:
        shape: Shape of the volume in voxels, along (S, P, L).
        tile: Shape of a superpatch in voxels.
        overlap: Number of voxels that neighbouring tiles share along each axis, smaller than the tile.

    Raises:
        ConfigError: A size is not positive, or the overlap does not leave a positive stride.
    """

    shape: Shape3
    tile: Shape3 = (128, 128, 128)
    overlap: Shape3 = (0, 0, 0)

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or min(self.tile) < 1:
            raise ConfigError(f"sizes must be positive: volume {self.shape}, tile {self.tile}")
        if min(self.overlap) < 0 or any(o >= t for o, t in zip(self.overlap, self.tile, strict=True)):
            raise ConfigError(f"overlap {self.overlap} must be at least 0 and smaller than the tile {self.tile}")

    @property
    def counts(self) -> Shape3:
        """Number of tiles along each axis."""
        per_axis = [
            1 + max(0, -(-(size - tile) // (tile - overlap)))
            for size, tile, overlap in zip(self.shape, self.tile, self.overlap, strict=True)
        ]
        return (per_axis[0], per_axis[1], per_axis[2])

    @property
    def padded_shape(self) -> Shape3:
        """Shape of the volume after padding to whole tiles."""
        padded = [
            (count - 1) * (tile - overlap) + tile
            for count, tile, overlap in zip(self.counts, self.tile, self.overlap, strict=True)
        ]
        return (padded[0], padded[1], padded[2])

    def __len__(self) -> int:
        return product(self.counts)

    def __iter__(self) -> Iterator[Tile]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Tile:
        if not 0 <= index < len(self):
            raise IndexError(f"tile {index} of {len(self)}")
        i, j, k = np.unravel_index(index, self.counts)
        stride = [tile - overlap for tile, overlap in zip(self.tile, self.overlap, strict=True)]
        origin = (int(i) * stride[0], int(j) * stride[1], int(k) * stride[2])
        return self.at(origin, index)

    def at(self, origin: Shape3, index: int = -1) -> Tile:
        """The tile that starts at any voxel `origin` (used for random crops)."""
        extent = [
            min(start + tile, size) - start for start, tile, size in zip(origin, self.tile, self.shape, strict=True)
        ]
        shape = (extent[0], extent[1], extent[2])
        return Tile(index, origin, box(origin, shape), box((0, 0, 0), shape))

    def within(self) -> Iterator[Tile]:
        """The same number of tiles, with the last one along each axis moved back to the end of the volume.

        Only a volume smaller than a tile is padded; the last tiles share voxels with the ones before them. Meant
        for networks that were trained on crops inside a volume and never saw half a tile of padding.
        """
        return (self.pushed_back(tile) for tile in self)

    def pushed_back(self, tile: Tile) -> Tile:
        """The tile moved inside the volume, where the volume is large enough."""
        i, j, k = (
            max(0, min(start, size - edge))
            for start, size, edge in zip(tile.origin, self.shape, self.tile, strict=True)
        )
        return self.at((i, j, k), tile.index)

    def origins(self) -> list[Shape3]:
        """First voxels of all tiles, row-major."""
        return [tile.origin for tile in self]


@dataclass(frozen=True)
class Tiles(Sequence[Tile]):
    """A selection of a tiling's tiles, stored by number: the tiles of a million scans have to fit in memory.

    Args:
        tiling: Tiling that they are selected from.
        numbers: Numbers of the selected tiles, in order.
    """

    tiling: Tiling
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, at: int) -> Tile: ...

    @overload
    def __getitem__(self, at: slice) -> Tiles: ...

    def __getitem__(self, at: int | slice) -> Tile | Tiles:
        if isinstance(at, slice):
            return Tiles(self.tiling, self.numbers[at])
        return self.tiling[self.numbers[at]]
