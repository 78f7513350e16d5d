"""A geometry with voxels of another size over the same box.

Convention: the outer corner of the first new voxel is the outer corner of the first old one (not its centre),
directions are kept, and every new voxel's centre lies within the scan.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from maesil.ct.geometry import Geometry, Number
from maesil.errors import ConfigError
from maesil.shapes import Shape3

Spacing = Number | tuple[Number, Number, Number]


def respace(geometry: Geometry, spacing_mm: Spacing) -> Geometry:
    """The geometry with as many voxels of the new size as have their centre within the scan.

    Raises:
        ConfigError: A spacing is not a positive number.
    """
    spacing = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), (3,))
    if not (np.isfinite(spacing).all() and spacing.min() > 0):
        raise ConfigError(f"spacing_mm must be positive, not {spacing_mm}")
    # The tolerance excludes a centre that would lie exactly on the outer face.
    counts = np.maximum(1, np.ceil(np.asarray(geometry.extent_mm) / spacing - 0.5 - 1e-6)).astype(int)
    return _same_corner(geometry, (int(counts[0]), int(counts[1]), int(counts[2])), spacing)


def respace_cube(geometry: Geometry, size: int) -> Geometry:
    """The geometry with size^3 voxels that fill the scan's box exactly, whatever their shape in mm.

    Raises:
        ConfigError: The size is not positive.
    """
    if size < 1:
        raise ConfigError(f"the size of a cube must be positive, not {size}")
    return _same_corner(geometry, (size, size, size), np.asarray(geometry.extent_mm) / size)


def _same_corner(geometry: Geometry, shape: Shape3, spacing: npt.NDArray[np.float64]) -> Geometry:
    corner = geometry.index_to_mm(np.full((1, 3), -0.5))[0]
    step = geometry.direction * spacing
    return Geometry.from_parts(shape, spacing.tolist(), (corner + step.sum(axis=1) / 2).tolist(), geometry.direction)
