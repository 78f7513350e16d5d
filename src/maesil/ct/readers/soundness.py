"""Checks that every reader makes before it returns a scan: all voxels are there, finite, and on a rectangular grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maesil.counts import count_of
from maesil.ct.geometry import MAX_SHEAR, Geometry
from maesil.ct.readers.options import ReadOptions
from maesil.ct.volume import cast_voxels
from maesil.errors import ScanError
from maesil.shapes import Shape3

NO_SHEAR = 1e-5
"""Cosine between two axes that rounding of a header in single precision or six digits explains."""
SMALLEST_MM = 10.0
"""Least length of a scan's longest edge: a part of a body has some centimetres."""
SMALLEST_VOXEL_MM = 0.01
"""Least edge of a voxel: a tenth of the finest that a CT of a body has."""
LARGEST_MM = 3000.0
"""Greatest length of a scan's edge: a body has 2 m."""

SLAB_BYTES = 4 * 2**20
"""Bytes of a file's voxels held at a time in addition to the result: float64 files need no float64 volume."""

MOST_CLIPPED = 0.05
"""Share of voxels outside the range of int16 up to which they are clipped."""

HIGHEST_LABEL = 65535
"""Highest number of a structure: a store holds labels as uint16."""

AGAIN = "copy, download or convert it again"
"""What to do about a file that is damaged."""

Slabs = Iterator[tuple[int, npt.NDArray[Any]]]
"""Pieces (n, h, w) of a volume with their first index along axis 0, in order."""


@contextmanager
def located(path: Path, damaged: tuple[type[Exception], ...]) -> Iterator[None]:
    """Adds the file to every `ScanError` raised inside, and converts a library's own errors to one.

    Args:
        path: The file being read.
        damaged: Exceptions that the library raises on files that are damaged or have another format.

    Raises:
        ScanError: Raised in place of any of these.
    """
    kinds: tuple[type[Exception], ...] = (*damaged, MemoryError)  # a header may declare any size
    try:
        yield
    except ScanError as error:
        raise ScanError(error.what, where=path, fix=error.fix or AGAIN) from error
    except EOFError as error:  # a compressed file without its end
        raise ScanError("the file is cut short", where=path, fix=AGAIN) from error
    except kinds as error:
        # The library's words may quote the header, and messages are kept in stores and logs.
        raise ScanError("the file is damaged or has another format", where=path, fix=AGAIN) from error


def array_shape(sizes: Sequence[int], splitter: str = "") -> Shape3:
    """The shape of the array (k, j, i) of a file with these sizes (i, j, k, ...).

    Raises:
        ScanError: There are more than 3 dimensions; `splitter` is added to the advice.
    """
    kept = [int(size) for size in sizes]
    while len(kept) > 3 and kept[-1] == 1:
        kept.pop()
    if len(kept) > 3:
        raise ScanError(
            f"the image has {len(kept)} dimensions {tuple(kept)}, but a scan has 3",
            fix=f"split it into one file per frame{splitter}, and read each of them",
        )
    i, j, k = kept + [1] * (3 - len(kept))
    return k, j, i


def require_sound(geometry: Geometry) -> None:
    """Refuses flat and sheared volumes.

    Raises:
        ScanError: An axis has fewer than 2 voxels, or two axes are not at right angles.
    """
    if min(geometry.shape) < 2:
        raise ScanError(
            f"a volume needs at least 2 voxels along each axis, this one has {geometry.shape}",
            fix="leave out single slices, localizers and projections",
        )
    if geometry.shear > MAX_SHEAR:
        degrees = np.degrees(np.arcsin(min(1.0, geometry.shear)))
        raise ScanError(
            f"the voxel grid is sheared: its axes are {degrees:.2f} degrees off right angles",
            fix="undo the gantry tilt when converting from DICOM, or resample the scan onto a rectangular grid",
        )


def squared(geometry: Geometry) -> Geometry:
    """The geometry with its axes exactly at right angles, turned about the volume's centre.

    Files with a residual shear below `MAX_SHEAR` come from corrected gantry tilts and rounded headers, and other
    programs refuse what is not exactly orthonormal.
    """
    if geometry.shear <= NO_SHEAR:
        return geometry
    left, _, right = np.linalg.svd(geometry.direction)
    middle = (np.asarray(geometry.shape, dtype=np.float64)[None] - 1) / 2
    turned = Geometry.from_parts(geometry.shape, geometry.spacing_mm, direction=left @ right)
    origin = geometry.index_to_mm(middle) - turned.index_to_mm(middle)
    return Geometry.from_parts(geometry.shape, geometry.spacing_mm, origin[0].tolist(), left @ right)


def without_spacing(
    what: str, options: ReadOptions, known: Sequence[float] = (0.0, 0.0, 0.0)
) -> tuple[float, float, float]:
    """The spacing (i, j, k) in mm of a file that does not state all of it: the rest is what the user gave.

    Args:
        what: What the header gives instead, for the message.
        options: Options with the user's spacing.
        known: Spacing along each axis; 0 or NaN where the header states none.

    Raises:
        ScanError: None was given: a file without spacing must not pass for one of 1 mm.
    """
    if options.missing_spacing_mm is None:
        raise ScanError(
            f"the spacing of the voxels is unknown: its header gives {what}",
            fix="correct the header, or give the spacing of such files with --missing-spacing-mm I J K (in mm, along "
            "the file's axes)",
        )
    i, j, k = (
        float(stated if 0 < stated < math.inf else given)
        for stated, given in zip(known, options.missing_spacing_mm, strict=True)
    )
    return i, j, k


def require_body_sized(shape: Sequence[int], spacing_mm: Sequence[float]) -> None:
    """Refuses volumes that are too small or too large for a part of a body: their unit of length is wrong.

    Raises:
        ScanError: The longest edge is not between `SMALLEST_MM` and `LARGEST_MM`, or a voxel is hardly there.
    """
    edges = [voxels * step for voxels, step in zip(shape, spacing_mm, strict=True)]
    steps = " x ".join(f"{step:.3g}" for step in spacing_mm)
    if max(edges) < SMALLEST_MM or min(spacing_mm) < SMALLEST_VOXEL_MM:
        what = f"smaller than any part of a body: {max(edges):.3g} mm along its longest edge"
    elif max(edges) > LARGEST_MM:
        what = f"larger than a body: {max(edges):.4g} mm along its longest edge"
    else:
        return
    raise ScanError(
        f"the scan would be {what}, with voxels of {steps} mm",
        fix="correct the spacing or the unit of length in its header, or convert the scan again",
    )


def collect(shape: Shape3, slabs: Callable[[], Slabs]) -> npt.NDArray[Any]:
    """Puts slabs of any numeric type together: int16 if all values are whole numbers, else float32.

    Whole numbers outside the range of int16 are clipped if they are few (metal, padding). If they are more than
    `MOST_CLIPPED`, they are kept as float32, as they are no HU, and the caller has to see them.

    Args:
        shape: Shape of the volume.
        slabs: Function that starts reading; called again if a value turns out not to be a whole number.

    Raises:
        ScanError: A value is NaN or infinite.
    """
    array: npt.NDArray[Any] = np.empty(shape, dtype=np.int16)
    clipped, most = 0, MOST_CLIPPED * array.size
    for start, slab in slabs():
        _require_finite(slab)
        clipped += _beyond(slab, array.dtype)
        if clipped > most or not _is_whole(slab):
            break
        array[start : start + len(slab)] = cast_voxels(slab, array.dtype)
    else:
        return array
    array = np.empty(shape, dtype=np.float32)
    for start, slab in slabs():
        _require_finite(slab)
        array[start : start + len(slab)] = slab
    return array


def collect_labels(shape: Shape3, slabs: Callable[[], Slabs]) -> npt.NDArray[Any]:
    """Puts slabs of label numbers together, as uint16; none is clipped, as another number is another structure.

    Args:
        shape: Shape of the volume.
        slabs: Function that starts reading.

    Raises:
        ScanError: A value is not a whole number from 0 to `HIGHEST_LABEL`.
    """
    array = np.empty(shape, dtype=np.uint16)
    for start, slab in slabs():
        _require_finite(slab)
        if not _is_whole(slab) or slab.min(initial=0) < 0:
            raise ScanError("the labels are not whole numbers from 0 upwards", fix="export them as integers")
        if (highest := slab.max(initial=0)) > HIGHEST_LABEL:
            raise ScanError(
                f"the label number {highest:.0f} is too high: a store holds up to {HIGHEST_LABEL}",
                fix="give the structures lower numbers",
            )
        array[start : start + len(slab)] = slab
    return array


def planes_per_slab(shape: Shape3, itemsize: int) -> int:
    """Number of planes along axis 0 that take about `SLAB_BYTES`, with voxels of `itemsize` bytes."""
    return max(1, SLAB_BYTES // (shape[1] * shape[2] * itemsize))


def _require_finite(slab: npt.NDArray[Any]) -> None:
    if slab.dtype.kind != "f" or np.isfinite(slab).all():
        return
    bad = int(slab.size - np.isfinite(slab).sum())
    raise ScanError(
        f"at least {count_of(bad, 'voxel is', 'voxels are')} NaN or infinite",
        fix="find out why; if they only mark the outside of the scan, write them as -1024",
    )


def _beyond(slab: npt.NDArray[Any], dtype: np.dtype[Any]) -> int:
    """Number of values outside the range of an integer type."""
    limits = np.iinfo(dtype)
    if slab.dtype.kind in "iu" and np.can_cast(slab.dtype, dtype):
        return 0
    return int(((slab < limits.min) | (slab > limits.max)).sum())


def _is_whole(slab: npt.NDArray[Any]) -> bool:
    return slab.dtype.kind != "f" or bool((slab == np.rint(slab)).all())
