"""Turns image planes in any order into a sound stack: sorted along the normal, evenly spaced, at right angles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from maesil.counts import count_of
from maesil.ct.geometry import Geometry
from maesil.ct.readers.dicom_headers import SETTINGS
from maesil.ct.readers.dicom_planes import Slice
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.errors import ScanError

SAME_DIRECTION = 1e-3
SAME_PLACE_MM = 1e-2
SPACING_TOLERANCE = 0.05
"""Slices may be off an even grid by this share of their distance, or by `ROUNDING_MM` if that is more."""
ROUNDING_MM = 0.1 + 1e-6
"""How far positions that were rounded to 0.1 mm can be off a line or a grid through the first and the last of them."""
TILT_TOLERANCE_DEGREES = 0.2
MOST_GAP_MM = 15.0
"""Widest gap between slices that `resample_uneven` fills."""
MOST_SETTINGS = 4
"""A tag with more values than this differs by its nature, such as the number of each step of a table."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order, and the volume that they make.

    Attributes:
        slices: Slices in order along the normal of their planes.
        geometry: Geometry of the volume (slices, rows, columns); axis 0 is the normal of the planes.
        along_mm: Position of each slice along the normal, from the first one.
        shifts: (n, 2) Row and column of the volume at which the first voxel of each slice lies; zeros without tilt.
        uneven: Whether the slices are unevenly spaced, so that the planes of the volume lie between them.
        remarks: What was done to slices that are tilted or uneven, in words; empty if they are neither.
    """

    slices: tuple[Slice, ...]
    geometry: Geometry
    along_mm: Array
    shifts: Array
    uneven: bool = False
    remarks: tuple[str, ...] = ()


def stack(planes: Sequence[Slice], options: ReadOptions = STRICT) -> Stack:
    """Sorts planes and checks that they fill a box.

    Args:
        planes: Planes in any order.
        options: Whether slices that are tilted or uneven may be resampled, and which tolerance they have.

    Raises:
        ScanError: Too few planes, different sizes or directions, duplicates, gaps, uneven spacing, gantry tilt, or
            slices beside the line of the others.
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
    along = along[order] - along[order[0]]
    _require_no_duplicates(ordered, along)
    lean = _lean(ordered, along, options)
    uneven = _is_uneven(along, options)
    remarks = (*_tilt(along, lean, uneven, options), *(_unevenness(ordered, along, options) if uneven else ()))
    shifts = np.outer(along, lean / first.spacing_mm) if _is_tilted(along, lean) else np.zeros((len(along), 2))
    low = np.floor(shifts.min(axis=0) + 1e-9)
    return Stack(ordered, _geometry(ordered[0], along, shifts, uneven), along, shifts - low, uneven, remarks)


def without_copies(planes: Sequence[Slice], same_pixels: Callable[[Slice, Slice], bool]) -> list[Slice]:
    """The planes without those that are a copy of another one: at the same place, with the same pixels.

    Args:
        planes: Planes in any order.
        same_pixels: Whether two planes at one place have the same pixels.
    """
    kept: dict[object, Slice] = {}
    for plane in planes:
        place = (plane.position_mm, plane.row_direction, plane.column_direction, plane.rows, plane.columns)
        if not same_pixels(kept.setdefault(place, plane), plane):
            return list(planes)  # they will be refused: their places are not their own
    return list(kept.values())


def mixed_settings(planes: Sequence[Slice], names: Iterable[str] = SETTINGS, most: int = MOST_SETTINGS) -> list[str]:
    """Which tags of `SETTINGS` tell the planes apart, in words such as "2 acquisitions"; at most with `most` values."""
    values = {name: {plane.settings.get(name, "") for plane in planes} for name in names}
    return [f"{len(found)} {SETTINGS[name]}" for name, found in values.items() if 1 < len(found) <= most]


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


def _require_no_duplicates(ordered: Sequence[Slice], along: Array) -> None:
    close = np.diff(along) < SAME_PLACE_MM
    doubled = int(close.sum())
    if not doubled:
        return
    colliding = [int(index) for index in np.flatnonzero(close)]
    pairs = [mixed_settings((ordered[index], ordered[index + 1])) for index in colliding]
    mixed = mixed_settings(ordered, most=len(ordered)) if all(pairs) else []
    kinds = f": the series mixes {' and '.join(mixed)}" if mixed else ""
    raise ScanError(
        f"{doubled} of {len(along)} slices {'has' if doubled == 1 else 'have'} the position of another slice{kinds}",
        fix="put the files of each phase, acquisition or reconstruction into a folder of its own; remove duplicates",
    )


def _aside(ordered: Sequence[Slice]) -> Array:
    """(n, 2) Millimetres of each slice along the columns and rows of the first one, from its place."""
    first = ordered[0]
    shift = np.array([plane.position_mm for plane in ordered]) - np.asarray(first.position_mm)
    aside: Array = shift @ np.stack([first.column_direction, first.row_direction], axis=1)
    return aside


def _lean(ordered: Sequence[Slice], along: Array, options: ReadOptions) -> Array:
    """(2,) Millimetres sideways per millimetre along the normal.

    Raises:
        ScanError: The slices do not lie on a line.
    """
    aside = _aside(ordered)
    centred = along - along.mean()
    lean: Array = centred @ aside / (centred @ centred)
    beside = np.linalg.norm(aside - aside.mean(axis=0) - np.outer(centred, lean), axis=1)
    tolerance = ROUNDING_MM if options.slice_tolerance_mm is None else options.slice_tolerance_mm
    if beside.max() > tolerance:
        raise _not_on_a_line(aside, along, tolerance)
    return lean


def _not_on_a_line(aside: Array, along: Array, tolerance: float) -> ScanError:
    from scipy.stats import theilslopes

    lines = [theilslopes(side, along) for side in aside.T]  # few slices aside do not move this line
    beside = np.linalg.norm(
        [side - line[1] - line[0] * along for side, line in zip(aside.T, lines, strict=True)], axis=0
    )
    count = count_of(max(1, int((beside > tolerance).sum())), "slice lies", "slices lie")
    return ScanError(
        f"{count} beside the line of the others, by up to {beside.max():.1f} mm",
        fix="find out whether their positions are wrong, or whether they belong to another series",
    )


def _is_tilted(along: Array, lean: Array) -> bool:
    drift = float(np.linalg.norm(lean))
    return bool(np.degrees(np.arctan(drift)) > TILT_TOLERANCE_DEGREES and drift * along[-1] > ROUNDING_MM)


def _tilt(along: Array, lean: Array, uneven: bool, options: ReadOptions) -> tuple[str, ...]:
    if not _is_tilted(along, lean):
        return ()
    degrees = float(np.degrees(np.arctan(np.linalg.norm(lean))))
    if options.resample_tilt:
        return (f"the gantry tilt of {degrees:.1f} degrees was undone by moving the slices sideways",)
    what = f"gantry tilt: the slices are shifted sideways, and the stack leans by {degrees:.1f} degrees"
    if uneven:
        raise ScanError(
            f"{what} and its slices are unevenly spaced",
            fix="undo the tilt by moving the slices, and resample them by their positions: "
            f"--resample-tilt --resample-uneven (gaps up to {MOST_GAP_MM:g} mm)",
        )
    raise ScanError(what, fix="undo the tilt by moving the slices: --resample-tilt")


def _even(along: Array) -> Array:
    """The positions of as many evenly spaced slices, from the first to the last."""
    return np.linspace(0.0, float(along[-1]), len(along))


def _tolerance(along: Array, options: ReadOptions) -> float:
    """How far a slice may be off an even grid, in mm."""
    if options.slice_tolerance_mm is not None:
        return float(options.slice_tolerance_mm)
    return max(ROUNDING_MM, SPACING_TOLERANCE * float(np.median(np.diff(along))))


def _is_uneven(along: Array, options: ReadOptions) -> bool:
    return bool(np.abs(along - _even(along)).max() > _tolerance(along, options))


def _unevenness(ordered: Sequence[Slice], along: Array, options: ReadOptions) -> tuple[str, ...]:
    gaps = np.diff(along)
    spread = f"gaps of {gaps.min():.2f} to {gaps.max():.2f} mm"
    if options.resample_uneven and gaps.max() <= MOST_GAP_MM:
        return (f"the slices are unevenly spaced ({spread}); they were resampled to every {np.median(gaps):.2f} mm",)
    # With an undone tilt, the flag alone would be refused for the tilt.
    flags = "--resample-tilt --resample-uneven" if options.resample_tilt else "--resample-uneven"
    missing = _missing(along, flags)
    if missing is not None:
        raise missing
    mixed = mixed_settings(ordered)
    kinds = f"; the series mixes {' and '.join(mixed)}" if mixed else ""
    off = float(np.abs(along - _even(along)).max())
    raise ScanError(
        f"the slices are unevenly spaced: {spread}, up to {off:.2f} mm off an even grid{kinds}",
        fix=f"resample them by their positions: {flags} (gaps up to {MOST_GAP_MM:g} mm); or accept more: "
        "--slice-tolerance-mm",
    )


def _missing(along: Array, flags: str) -> ScanError | None:
    """The error that says how many slices are missing; None if the gaps are not multiples of one distance."""
    gaps = np.diff(along)
    usual = float(np.median(gaps[gaps < 1.5 * gaps.min()]))
    whole = np.rint(gaps / usual)
    if np.abs(gaps - whole * usual).max() > SPACING_TOLERANCE * usual or whole.max() < 2:
        return None
    count = count_of(int((whole - 1).sum()), "slice is", "slices are")
    return ScanError(
        f"{count} missing: gaps of up to {gaps.max():.2f} mm where {usual:.2f} mm is usual, "
        f"the widest {along[int(np.argmax(gaps))]:.1f} mm after the first slice",
        fix=f"export the whole series again, or fill gaps up to {MOST_GAP_MM:g} mm with {flags}",
    )


def _geometry(first: Slice, along: Array, shifts: Array, uneven: bool) -> Geometry:
    """The geometry of the volume that slices make, wide enough for all of them at their shifts."""
    gaps = np.diff(along)
    step = float(np.median(gaps)) if uneven else float(along[-1]) / len(gaps)
    count = int(along[-1] / step + 1e-6) + 1
    low, high = np.floor(shifts.min(axis=0) + 1e-9), np.ceil(shifts.max(axis=0) - 1e-9)
    rows, columns = (int(size) for size in np.array([first.rows, first.columns]) + high - low)
    axes = np.stack([first.normal, first.column_direction, first.row_direction], axis=1)
    origin = np.asarray(first.position_mm) + axes[:, 1:] @ (low * first.spacing_mm)
    return Geometry.from_parts((count, rows, columns), (step, *first.spacing_mm), origin.tolist(), axes)
