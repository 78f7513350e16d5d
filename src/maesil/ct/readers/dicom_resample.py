"""Moves tilted slices sideways into a box, and resamples unevenly spaced slices, one plane after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from maesil.ct.readers.dicom_stack import Stack
from maesil.ct.readers.soundness import Slabs
from maesil.ct.volume import AIR_HU

Plane = npt.NDArray[Any]


def volume_planes(planes: Iterator[Plane], stacked: Stack) -> Slabs:
    """The planes of the volume that a stack makes; they are the slices themselves, unless it is tilted or uneven.

    Linear interpolation; voxels that no slice covers are air. Whole numbers stay whole.

    Args:
        planes: Pixels of the slices in HU, in the order of the stack.
        stacked: The stack.
    """
    moved = (_moved(plane, shift, stacked) for plane, shift in zip(planes, stacked.shifts, strict=True))
    for index, plane in enumerate(_evenly_spaced(moved, stacked)):
        yield index, plane[None]


def _moved(plane: Plane, shift: npt.NDArray[np.float64], stacked: Stack) -> Plane:
    """A slice at its place in a plane of the volume."""
    from scipy import ndimage

    shape = stacked.geometry.shape[1:]
    if plane.shape == shape and not shift.any():
        return plane
    whole = np.floor(shift).astype(int)
    placed = np.full(shape, AIR_HU, dtype=np.float64)
    rows, columns = plane.shape
    placed[whole[0] : whole[0] + rows, whole[1] : whole[1] + columns] = plane
    moved = ndimage.shift(placed, shift - whole, order=1, mode="grid-constant", cval=AIR_HU)
    return _as(plane, moved)


def _evenly_spaced(planes: Iterator[Plane], stacked: Stack) -> Iterator[Plane]:
    if not stacked.uneven:
        yield from planes
        return
    along = stacked.along_mm
    below, above, place = next(planes), next(planes), 0
    for position in np.arange(stacked.geometry.shape[0]) * stacked.geometry.spacing_mm[0]:
        while place + 2 < len(along) and position > along[place + 1]:
            below, above, place = above, next(planes), place + 1
        share = float(np.clip((position - along[place]) / (along[place + 1] - along[place]), 0.0, 1.0))
        yield _as(below, below * (1 - share) + above * share)


def _as(plane: Plane, values: Plane) -> Plane:
    """Values in the type of a plane, rounded if that is an integer type."""
    return np.rint(values).astype(plane.dtype) if plane.dtype.kind in "iu" else values
