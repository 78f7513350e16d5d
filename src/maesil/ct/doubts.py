"""Doubts about a scan that can be read: values that are not Hounsfield units, axes that seem to be exchanged."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from maesil.ct.geometry import GeometryWarning, Number
from maesil.ct.hounsfield import unlike_hounsfield
from maesil.ct.volume import TISSUE_HU, Volume
from maesil.errors import MaesilWarning, ScanError

AIR_FACE, CUT_FACE = 0.005, 0.03
"""Shares of tissue in an outer face: up to the first, the body ends before it; from the second, it is cut there."""
CLIPPED_SHARE = 0.05
"""Share of voxels with the lowest value from which a scan without air was clipped; noise rarely repeats a value."""
LONGEST_HEAD_MM = 280.0
"""No head is longer from front to back; of a trunk that long, the width is larger than the depth."""
DEEPER_THAN_WIDE = 1.15
"""Ratio of depth to width from which a trunk must be lying on its side."""

_SWAPPED = (
    "check the order of the axes: arrays from nibabel are (i, j, k), from SimpleITK (k, j, i), and the affine must "
    "have the same order"
)


class ValuesWarning(MaesilWarning):
    """The values of a scan are probably not Hounsfield units as measured; the message says what was seen."""


class Doubt(NamedTuple):
    """Something about a scan that is probably wrong.

    Attributes:
        what: Observation.
        fix: Advice.
        about: Subject: the scan's values, or its axes.
    """

    what: str
    fix: str
    about: Literal["values", "axes"] = "values"

    def __str__(self) -> str:
        return f"{self.what} ({self.fix})"

    @property
    def category(self) -> type[MaesilWarning]:
        """Category of the warning about it."""
        return GeometryWarning if self.about == "axes" else ValuesWarning


def doubts_about(volume: Volume) -> tuple[Doubt, ...]:
    """What is probably wrong with a scan that could be read; empty for a sound CT.

    A body in the machine is cut by the first and last slice, and lies in air in the other directions; a trunk is wider
    than deep; the distance between slices belongs to the axis of the slices. Whatever differs is named.

    Args:
        volume: HU of any orientation and spacing.
    """
    seen = unlike_hounsfield(volume.array)
    if seen is None:
        return doubts_about_hounsfield(volume)
    values, spacing = f"the values are not Hounsfield units: {seen}", _of_spacing(volume)
    return (Doubt(values, stored_as(volume.array)), *([] if spacing is None else [spacing]))


def doubts_about_hounsfield(volume: Volume) -> tuple[Doubt, ...]:
    """`doubts_about` a scan whose values are known to be possible Hounsfield units."""
    clipped, spacing = _of_clipping(volume.array), _of_spacing(volume)
    body = None if clipped or spacing else _of_body(volume)
    return tuple(doubt for doubt in (clipped, spacing, body) if doubt is not None)


def warn_of(doubts: Iterable[Doubt], where: object) -> None:
    """Warns of what is probably wrong with a scan.

    Args:
        doubts: The doubts about it.
        where: The scan, for the message; None: it has no name.

    Warns:
        ValuesWarning: The values cannot be Hounsfield units, or were clipped.
        GeometryWarning: The axes seem to be exchanged.
    """
    for doubt in doubts:
        warnings.warn(str(doubt) if where is None else f"{where}: {doubt}", doubt.category, stacklevel=2)


def require_hounsfield(array: npt.NDArray[Any], *, where: object = None, anyway: str) -> None:
    """Refuses values that cannot be Hounsfield units.

    Args:
        array: The voxels.
        where: The scan, for the error.
        anyway: How to accept the values as they are.

    Raises:
        ScanError: They cannot be; the message says what was seen and what to do.
    """
    if (seen := unlike_hounsfield(array)) is not None:
        raise not_hounsfield(array, seen, where=where, anyway=anyway)


def not_hounsfield(array: npt.NDArray[Any], seen: str, *, where: object, anyway: str) -> ScanError:
    """The error for values of which `unlike_hounsfield` said what was seen."""
    what = f"the values are not Hounsfield units: {seen}"
    return ScanError(what, where=where, fix=f"{stored_as(array)}; or {anyway}")


def stored_as(array: npt.NDArray[Any]) -> str:
    """What to do about values that are not HU, from their range."""
    low, high = float(array.min()), float(array.max())
    if low == high:
        return "a single value is left of a damaged export, or of a rescale slope of 0: export the scan again"
    if low >= 0 and high <= 1:
        return "values from 0 to 1 were mapped from a window: take the scan from before, in HU"
    if low >= 0 and high <= 255:
        return "values from 0 to 255 are labels or grey values of a window: take the scan itself, in HU"
    if low >= 0 and high >= 2**15 - 1:
        return "values around 32768 are unsigned: subtract 32768, and 1024 more if air is then at 0"
    if low >= 0 and high <= 2**13:
        return "values from 0 to a few thousand may have an offset, often 1024: subtract it"
    if low < 0 and high - low < 100:
        return "values around 0 were standardised (z-score): take the scan from before, in HU"
    return "take the scan in HU, as DICOM's rescale slope and intercept give it; leave out labels and other modalities"


def _of_clipping(array: npt.NDArray[Any]) -> Doubt | None:
    """A doubt about a scan without air whose lowest value is that of many voxels: it was clipped to a window."""
    low = float(array.min())
    if low <= TISSUE_HU or (share := float((array == array.min()).mean())) < CLIPPED_SHARE:
        return None
    what = f"no voxel is air, and {share:.0%} of the voxels are exactly {low:g} HU: the scan was clipped to a window"
    return Doubt(what, "take the scan from before, whose air is near -1000 HU")


def _of_spacing(volume: Volume) -> Doubt | None:
    sizes, steps = volume.shape, volume.spacing_mm
    across, slices = _odd_one(sizes, 0.0), _odd_one(steps, 1e-3)
    if across is None or slices is None or across == slices:
        return None
    what = (
        f"the array has {'x'.join(map(str, sizes))} voxels, but its spacing is {' x '.join(f'{s:.3g}' for s in steps)} "
        f"mm: axis {across} has the other size, axis {slices} the other spacing"
    )
    return Doubt(what, _SWAPPED, "axes")


def _odd_one(values: Sequence[Number], tolerance: float) -> int | None:
    """The axis whose value differs, where the other two are equal."""
    same = [abs(values[(a + 1) % 3] - values[(a + 2) % 3]) <= tolerance * values[(a + 1) % 3] for a in range(3)]
    return same.index(True) if sum(same) == 1 else None


def _of_body(volume: Volume) -> Doubt | None:
    body = volume.reorient("SPL")
    tissue = body.array > TISSUE_HU
    if not tissue.any():
        return Doubt("no voxel is tissue: the scan holds air alone", "leave it out, or check its rescale intercept")
    faces = [(float(tissue.take(0, axis).mean()), float(tissue.take(-1, axis).mean())) for axis in range(3)]
    cut = max(range(1, 3), key=lambda axis: max(faces[axis]))
    if max(faces[0]) <= AIR_FACE and max(faces[cut]) >= CUT_FACE:
        name = ("Posterior", "Left")[cut - 1]
        what = (
            f"the body is cut along {name} ({max(faces[cut]):.0%} of a face is tissue), yet lies in air along Superior"
        )
        return Doubt(what, _SWAPPED, "axes")
    depth, width = (_extent_mm(tissue, axis, body.spacing_mm[axis]) for axis in (1, 2))
    uncut = max(*faces[1], *faces[2]) < CUT_FACE
    if uncut and depth > LONGEST_HEAD_MM and depth > DEEPER_THAN_WIDE * width:
        what = f"the body is {depth:.0f} mm deep and {width:.0f} mm wide: Left and Posterior may be exchanged"
        return Doubt(what, _SWAPPED, "axes")
    return None


def _extent_mm(tissue: npt.NDArray[np.bool_], axis: int, spacing_mm: float) -> float:
    others = tuple(other for other in range(3) if other != axis)
    filled = np.flatnonzero(tissue.any(axis=others))
    return float(filled[-1] - filled[0] + 1) * spacing_mm
