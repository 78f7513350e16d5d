"""Checks that every reader makes before it returns a scan: all voxels are there, finite, and on a rectangular grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maesil.counts import count_of
from maesil.ct.geometry import MAX_SHEAR, Geometry
from maesil.ct.volume import cast_voxels
from maesil.errors import ScanError
from maesil.shapes import Shape3

SLAB_BYTES = 4 * 2**20
"""Bytes of a file's voxels held at a time in addition to the result: float64 files need no float64 volume."""

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


def require_whole(path: Path, expected: int, named: str = "the file") -> None:
    """Refuses a file with fewer bytes than `expected`, which counts them before compression with gzip.

    Raises:
        ScanError: The file is cut short.
    """
    packed = path.suffix.lower() == ".gz"
    with path.open("rb") as file:
        if packed:
            file.seek(-4, 2)  # gzip ends with the size modulo 2^32
            held, expected = int.from_bytes(file.read(4), "little"), expected % 2**32
        else:
            held = file.seek(0, 2)
    if held < expected or (packed and held != expected):
        raise ScanError(f"{named} is cut short", where=path, fix=AGAIN)


def collect(shape: Shape3, slabs: Callable[[], Slabs]) -> npt.NDArray[Any]:
    """Puts slabs of any numeric type together: int16 if all values are whole numbers, else float32.

    Args:
        shape: Shape of the volume.
        slabs: Function that starts reading; called again if a value turns out not to be a whole number.

    Raises:
        ScanError: A value is NaN or infinite.
    """
    array: npt.NDArray[Any] = np.empty(shape, dtype=np.int16)
    for start, slab in slabs():
        _require_finite(slab)
        if not _is_whole(slab):
            break
        array[start : start + len(slab)] = cast_voxels(slab, array.dtype)
    else:
        return array
    array = np.empty(shape, dtype=np.float32)
    for start, slab in slabs():
        _require_finite(slab)
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


def _is_whole(slab: npt.NDArray[Any]) -> bool:
    return slab.dtype.kind != "f" or bool((slab == np.rint(slab)).all())
