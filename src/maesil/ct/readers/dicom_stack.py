"""Turns image planes in any order into a sound stack: sorted along the normal, evenly spaced, at right angles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from maesil.counts import count_of
from maesil.ct.geometry import Geometry
from maesil.ct.readers.dicom_headers import Slice
from maesil.errors import ScanError

SAME_DIRECTION = 1e-3
SAME_PLACE_MM = 1e-2
SPACING_TOLERANCE = 0.05
"""Gaps may differ from their median by this share, or by `SAME_PLACE_MM` if that is more: scanners round positions."""
TILT_TOLERANCE_DEGREES = 0.2


@dataclass(frozen=True)
class Stack:
    """Slices in order, and where their voxels lie.

    Attributes:
        slices: Slices in order along axis 0.
        geometry: Geometry of (slices, rows, columns); axis 0 is the normal of the planes.
    """

    slices: tuple[Slice, ...]
    geometry: Geometry


def stack(planes: Sequence[Slice]) -> Stack:
    """Sorts planes and checks that they fill a box.

    Raises:
        ScanError: Too few planes, different sizes or directions, duplicates, gaps, uneven spacing, or gantry tilt.
    """
    if len(planes) < 2:
        raise ScanError(
            f"a volume needs 2 image planes or more, not {len(planes)}", fix="give the folder of the whole series"
        )
    _require_alike(planes)
    first = planes[0]
    along = np.array([first.normal @ np.asarray(plane.position_mm) for plane in planes])
    order = np.argsort(along, kind="stable")
    ordered = tuple(planes[index] for index in order)
    along = along[order]
    _require_no_duplicates(along)
    _require_no_tilt(ordered, along)
    _require_even(along)
    step = float(along[-1] - along[0]) / (len(ordered) - 1)
    axes = (first.normal, np.asarray(first.column_direction), np.asarray(first.row_direction))
    spacing = (step, *first.spacing_mm)
    shape = (len(ordered), first.rows, first.columns)
    return Stack(ordered, Geometry.from_parts(shape, spacing, ordered[0].position_mm, np.stack(axes, axis=1)))


def _require_alike(planes: Sequence[Slice]) -> None:
    first = planes[0]
    sizes = {(plane.rows, plane.columns) for plane in planes}
    if len(sizes) > 1:
        raise ScanError(f"the slices differ in size: {sorted(sizes)}", fix="split them into series of one size")
    for plane in planes:
        turned = max(
            np.abs(np.subtract(plane.row_direction, first.row_direction)).max(),
            np.abs(np.subtract(plane.column_direction, first.column_direction)).max(),
        )
        if turned > SAME_DIRECTION:
            raise ScanError("the slices differ in direction", fix="split them into series of one direction")
        if not np.allclose(plane.spacing_mm, first.spacing_mm, rtol=1e-3):
            raise ScanError("the slices differ in pixel spacing", fix="split them into series of one spacing")


def _require_no_duplicates(along: npt.NDArray[np.float64]) -> None:
    doubled = int((np.diff(along) < SAME_PLACE_MM).sum())
    if doubled:
        raise ScanError(
            f"{doubled} of {len(along)} slices {'has' if doubled == 1 else 'have'} the position of another slice",
            fix="remove duplicates; split a series of several phases into one folder per phase",
        )


def _require_no_tilt(ordered: Sequence[Slice], along: npt.NDArray[np.float64]) -> None:
    positions = np.array([plane.position_mm for plane in ordered])
    shift = positions - positions[0]
    sideways = shift - np.outer(along - along[0], ordered[0].normal)
    drift = float(np.linalg.norm(sideways[-1]))
    degrees = float(np.degrees(np.arctan2(drift, along[-1] - along[0])))
    if degrees > TILT_TOLERANCE_DEGREES and drift > SAME_PLACE_MM:
        raise ScanError(
            f"gantry tilt: the slices are shifted sideways, and the stack leans by {degrees:.1f} degrees"
            + (" and its slices are unevenly spaced" if _is_uneven(along) else ""),
            fix="undo the tilt when converting (dcm2niix does, as *_Tilt), then prepare the NIfTI file",
        )


def _is_uneven(along: npt.NDArray[np.float64]) -> bool:
    gaps = np.diff(along)
    middle = float(np.median(gaps))
    return bool(np.abs(gaps - middle).max() > max(SAME_PLACE_MM, SPACING_TOLERANCE * middle))


def _require_even(along: npt.NDArray[np.float64]) -> None:
    if not _is_uneven(along):
        return
    gaps = np.diff(along)
    middle = float(np.median(gaps))
    wide = gaps[gaps > middle * (1 + SPACING_TOLERANCE)]
    whole = np.rint(wide / middle)
    if (
        len(wide)
        and not (gaps < middle * (1 - SPACING_TOLERANCE)).any()
        and np.allclose(wide, whole * middle, rtol=0.05)
    ):
        missing = int((whole - 1).sum())
        where = float(along[int(np.argmax(gaps))] - along[0])
        raise ScanError(
            f"{count_of(missing, 'slice is', 'slices are')} missing: gaps of up to {gaps.max():.2f} mm where "
            f"{middle:.2f} mm is usual, "
            f"the widest {where:.1f} mm after the first slice",
            fix="export the whole series again",
        )
    raise ScanError(
        f"the slices are unevenly spaced: gaps of {gaps.min():.2f} to {gaps.max():.2f} mm",
        fix="reconstruct or resample the series at even spacing, or split it where the spacing changes",
    )
