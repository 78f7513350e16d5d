"""What every reader asks of a scan before it hands it over: whole voxels, finite values, a rectangular grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maesil.ct.geometry import MAX_SHEAR, Geometry
from maesil.ct.volume import cast_voxels
from maesil.errors import ScanError
from maesil.shapes import Shape3

SLAB_BYTES = 4 * 2**20
"""Of a file's voxels held at a time beside the result, so that float64 files need no float64 volume."""

Slabs = Iterator[tuple[int, npt.NDArray[Any]]]
"""Pieces (n, h, w) of a volume with their first index along axis 0, in order."""


def require_sound(geometry: Geometry, where: Path) -> None:
    """Refuses flat and sheared volumes.

    Raises:
        ScanError: An axis has fewer than 2 voxels, or two axes are not at right angles.
    """
    if min(geometry.shape) < 2:
        raise ScanError(
            f"a volume needs at least 2 voxels along each axis, this one has {geometry.shape}",
            where=where,
            fix="leave single slices, localizers and projections out",
        )
    if geometry.shear > MAX_SHEAR:
        degrees = np.degrees(np.arcsin(min(1.0, geometry.shear)))
        raise ScanError(
            f"the voxel grid is sheared: its axes are {degrees:.2f} degrees off right angles",
            where=where,
            fix="undo the gantry tilt when converting from DICOM, or resample the scan onto a rectangular grid",
        )


def collect(shape: Shape3, slabs: Callable[[], Slabs], where: Path) -> npt.NDArray[Any]:
    """Puts slabs of any numeric type together: int16 where all values are whole numbers, else float32.

    Args:
        shape: Of the volume.
        slabs: Starts reading; called a second time where a value turns out to be no whole number.
        where: The file, for errors.

    Raises:
        ScanError: A value is NaN or infinite.
    """
    array: npt.NDArray[Any] = np.empty(shape, dtype=np.int16)
    for start, slab in slabs():
        _require_finite(slab, where)
        if not _is_whole(slab):
            break
        array[start : start + len(slab)] = cast_voxels(slab, array.dtype)
    else:
        return array
    array = np.empty(shape, dtype=np.float32)
    for start, slab in slabs():
        _require_finite(slab, where)
        array[start : start + len(slab)] = slab
    return array


def planes_per_slab(shape: Shape3, itemsize: int) -> int:
    """Planes along axis 0 that make about `SLAB_BYTES` of voxels of `itemsize` bytes."""
    return max(1, SLAB_BYTES // (shape[1] * shape[2] * itemsize))


def _require_finite(slab: npt.NDArray[Any], where: Path) -> None:
    if slab.dtype.kind != "f" or np.isfinite(slab).all():
        return
    bad = int(slab.size - np.isfinite(slab).sum())
    raise ScanError(
        f"{bad} or more voxels are NaN or infinite",
        where=where,
        fix="find out why; if they only mark the outside of the scan, write them as -1024",
    )


def _is_whole(slab: npt.NDArray[Any]) -> bool:
    return slab.dtype.kind != "f" or bool((slab == np.rint(slab)).all())
