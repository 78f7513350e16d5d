"""NIfTI-1 and NIfTI-2 (.nii, .nii.gz): nibabel reads the header, voxels are streamed slab by slab."""

from __future__ import annotations

import warnings
import zlib
from itertools import product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from isal import igzip, igzip_lib
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError

from maesil.ct.geometry import Geometry, GeometryWarning
from maesil.ct.readers.soundness import Slabs, collect, located, planes_per_slab, require_sound
from maesil.ct.volume import Volume
from maesil.errors import ScanError
from maesil.shapes import Shape3

DISAGREEMENT_MM = 0.1
"""Distance between a voxel's positions under sform and qform above which a warning is issued."""

MOST_WHOLE = 2**14
"""Slopes and intercepts below this keep scaled 16-bit voxels within int32."""

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
_CannotUnpack: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]  # its stubs declare an instance
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    zlib.error,
    _CannotUnpack,
    HeaderDataError,
    nibabel.filebasedimages.ImageFileError,
)


def read_nifti(path: Path) -> Volume:
    """Reads a NIfTI file; array axes are (k, j, i), so that the file's fastest axis stays the fastest.

    Raises:
        ScanError: The file is damaged, cut short or RGB, has several frames or NaN values, or no sound geometry.

    Warns:
        GeometryWarning: sform and qform disagree (the sform is used), or neither is set.
    """
    with located(path, _DAMAGED):
        image: Any = nibabel.load(path, mmap=False)
        shape = _shape(image)
        _require_numbers(image)
        geometry = Geometry((shape[2], shape[1], shape[0]), _affine(image.header, shape, path))
        require_sound(geometry)
        return Volume(collect(geometry.shape, lambda: _slabs(image, geometry.shape, path)), geometry)


def _shape(image: Any) -> Shape3:
    shape = [int(n) for n in image.shape]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) > 3:
        raise ScanError(
            f"the image has {len(shape)} dimensions {tuple(shape)}, but a scan has 3",
            fix="split it into one file per frame (nibabel.four_to_three), and read each of them",
        )
    shape += [1] * (3 - len(shape))
    return (shape[0], shape[1], shape[2])


def _require_numbers(image: Any) -> None:
    dtype = image.header.get_data_dtype()
    if dtype.kind not in "iuf":
        kind = "RGB" if dtype.fields else f"of type {dtype}"
        raise ScanError(f"the voxels are {kind}, not HU", fix="export the scan as grey values")


def _affine(header: Any, shape: Shape3, path: Path) -> npt.NDArray[np.float64]:
    """The affine of the array axes (k, j, i), in LPS mm."""
    ras = np.asarray(header.get_best_affine(), dtype=np.float64)
    to_mm = np.diag([_mm_per_unit(header, path)] * 3 + [1.0])
    _warn_of_ambiguity(header, shape, to_mm, path)
    affine: npt.NDArray[np.float64] = (_RAS_TO_LPS @ to_mm @ ras)[:, [2, 1, 0, 3]]
    return affine


def _mm_per_unit(header: Any, path: Path) -> float:
    try:
        return _MM_PER_UNIT[header.get_xyzt_units()[0]]
    except KeyError:
        _warn(f"{path}: the header's unit of length is invalid; millimetres were assumed")
        return 1.0


def _warn_of_ambiguity(header: Any, shape: Shape3, to_mm: npt.NDArray[np.float64], path: Path) -> None:
    sform, qform = header.get_sform(coded=True)[0], _qform(header, path)
    if sform is None and qform is None:
        _warn(f"{path}: neither sform nor qform is set; spacing is from pixdim, the directions of the axes are assumed")
    if sform is None or qform is None:
        return
    corners = np.array([(*index, 1.0) for index in product(*((0.0, n - 1.0) for n in shape))])
    apart = np.linalg.norm((corners @ (to_mm @ (sform - qform)).T)[:, :3], axis=1).max()
    if apart > DISAGREEMENT_MM:
        _warn(f"{path}: sform and qform place the same voxel up to {apart:.1f} mm apart; the sform was used")


def _qform(header: Any, path: Path) -> npt.NDArray[np.float64] | None:
    try:
        qform: npt.NDArray[np.float64] | None = header.get_qform(coded=True)[0]
    except (HeaderDataError, ValueError):
        _warn(f"{path}: the qform is invalid; the sform was used")
        return None
    return qform


def _warn(message: str) -> None:
    warnings.warn(message, GeometryWarning, stacklevel=2)


def _slabs(image: Any, shape: Shape3, path: Path) -> Slabs:
    """Scaled voxels in the file's order; reads to the very end of the file, where gzip stores its checksum."""
    proxy = image.dataobj
    dtype, slope, inter = proxy.dtype, float(proxy.slope), float(proxy.inter)
    planes, plane_bytes = planes_per_slab(shape, dtype.itemsize), shape[1] * shape[2] * dtype.itemsize
    with _opened(path) as stream:
        stream.seek(proxy.offset)
        for start in range(0, shape[0], planes):
            count = min(planes, shape[0] - start)
            raw = stream.read(count * plane_bytes)
            if len(raw) < count * plane_bytes:
                raise ScanError("the file is cut short")
            yield start, _scaled(np.frombuffer(raw, dtype=dtype).reshape(count, shape[1], shape[2]), slope, inter)
        while stream.read(2**20):
            pass


def _opened(path: Path) -> Any:
    """The decompressed bytes of a file: gzip through ISA-L, at three times zlib's speed, the rest through nibabel."""
    return igzip.open(path, "rb") if path.suffix == ".gz" else ImageOpener(str(path))


def _scaled(voxels: npt.NDArray[Any], slope: float, inter: float) -> npt.NDArray[Any]:
    if (slope, inter) == (1.0, 0.0):
        return voxels
    small = voxels.dtype.kind in "iu" and voxels.dtype.itemsize <= 2
    if small and slope.is_integer() and inter.is_integer() and max(abs(slope), abs(inter)) < MOST_WHOLE:
        # The usual "stored value - 1024": whole numbers stay whole, at a fraction of the cost of float64.
        return voxels.astype(np.int32) * int(slope) + int(inter)
    return voxels * slope + inter
