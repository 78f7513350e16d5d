"""A CT in memory: Hounsfield units and their geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Shaped

from maesil.ct.geometry import Geometry, Number
from maesil.ct.orientation import CANONICAL
from maesil.errors import ScanError
from maesil.shapes import Shape3
from maesil.tiling import box

AIR_HU = -1024
"""HU outside a scan: the lowest value of a scanner's usual range."""
TISSUE_HU = -500
"""Threshold of tissue: voxels below it are air or lung."""

_DTYPES = ("int16", "float32", "uint8", "uint16")


@dataclass(frozen=True, eq=False)
class Volume:
    """An array of HU with its geometry; operations return new volumes and leave this one unchanged.

    `crop` and `reorient` return views: the voxels are shared, not copied. Labels are volumes too (uint8
    or uint16).

    Args:
        array: Voxels (d, h, w): HU as int16 or float32, or labels as uint8 or uint16.
        geometry: Position in the patient; `geometry.shape` is the shape of the array.

    Raises:
        ScanError: The dtype of the array is not supported, or its shape differs from the geometry's.
    """

    array: Shaped[np.ndarray, "d h w"]
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            raise ScanError(f"an array of {self.array.shape} voxels does not match a geometry of {self.geometry.shape}")
        if self.array.dtype.name not in _DTYPES:
            raise ScanError(
                f"voxels of type {self.array.dtype} are not supported",
                fix=f"convert them to one of {', '.join(_DTYPES)}",
            )

    @property
    def shape(self) -> Shape3:
        """Number of voxels along the array's axes."""
        return self.geometry.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along the array's axes."""
        return self.geometry.spacing_mm

    def crop(self, start: Shape3, shape: Shape3) -> Volume:
        """The box of `shape` voxels that starts at voxel `start` (a view).

        Raises:
            ConfigError: The box is empty or extends outside the volume.
        """
        geometry = self.geometry.crop(start, shape)
        return Volume(self.array[box(start, shape)], geometry)

    def pad(self, before: Shape3, after: Shape3, fill: Number = AIR_HU) -> Volume:
        """The volume with voxels of value `fill` (clipped to the type's range) added at both ends of each axis.

        Raises:
            ConfigError: A number of voxels is negative.
        """
        geometry = self.geometry.pad(before, after)
        array = np.full(geometry.shape, cast_voxels(np.array([fill]), self.array.dtype))
        array[box(before, self.shape)] = self.array
        return Volume(array, geometry)

    def reorient(self, orientation: str = CANONICAL) -> Volume:
        """The volume with its axes swapped and flipped to the nearest `orientation` (a view); no voxel changes.

        Raises:
            ConfigError: `orientation` is not one of the 48 triples such as "SPL".
        """
        permutation, flips = self.geometry.axes_to(orientation)
        array = self.array.transpose(permutation)
        array = array[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
        return Volume(array, self.geometry.reorient(orientation))

    def astype(self, dtype: npt.DTypeLike) -> Volume:
        """The volume with voxels of another type: rounded and clipped to its range if it is an integer type."""
        return Volume(cast_voxels(self.array, np.dtype(dtype)), self.geometry)


def cast_voxels(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Values converted to another type: rounded and clipped, never wrapped, if it is an integer type.

    Returns:
        `array` itself if it already has the type, else a new array.
    """
    if array.dtype == dtype or dtype.kind == "f":
        return array.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    if array.dtype.kind == "f":
        array = np.rint(array)
    # NumPy refuses bounds outside an integer array's own range.
    own = np.iinfo(array.dtype) if array.dtype.kind in "iu" else limits
    return array.clip(max(limits.min, own.min), min(limits.max, own.max)).astype(dtype)
