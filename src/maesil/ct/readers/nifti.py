"""NIfTI-1 and NIfTI-2 (.nii, .nii.gz): nibabel reads the header, voxels are streamed slab by slab."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
from isal import igzip, igzip_lib

from maesil.ct.geometry import Geometry, GeometryWarning
from maesil.ct.readers.base import Facts, Reader
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.readers.soundness import (
    Slabs,
    array_shape,
    collect,
    located,
    planes_per_slab,
    require_sound,
    require_whole,
)
from maesil.ct.volume import Volume
from maesil.errors import ScanError
from maesil.shapes import Shape3

DISAGREEMENT_MM = 0.1
"""Distance between a voxel's positions under sform and qform above which a warning is issued."""

MOST_WHOLE = 2**14
"""Slopes and intercepts below this keep scaled 16-bit voxels within int32."""

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
_CannotUnpack: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]  # its stubs declare an instance


@final
class Nifti(Reader):
    """NIfTI-1 and NIfTI-2; array axes are (k, j, i), so that the file's fastest axis stays the fastest.

    Warns:
        GeometryWarning: sform and qform disagree (the sform is used), or neither is set.
    """

    name = "NIfTI"
    endings = (".nii.gz", ".nii")

    def read(self, files: Sequence[Path], options: ReadOptions = STRICT) -> Volume:
        """Reads a file; raises ScanError if it is damaged, cut short or RGB, or has several frames or NaN values."""
        from nibabel.filebasedimages import ImageFileError
        from nibabel.spatialimages import HeaderDataError

        path = files[0]
        broken = (OSError, EOFError, ValueError, KeyError, zlib.error, _CannotUnpack, HeaderDataError, ImageFileError)
        with located(path, broken):
            image, geometry = _opened(path)
            return Volume(collect(geometry.shape, lambda: _slabs(image, geometry.shape, path)), geometry)

    def facts(self, files: Sequence[Path], options: ReadOptions = STRICT) -> Facts:
        """The facts in the header; slices are along Superior-Inferior."""
        image, geometry = _opened(files[0])
        require_whole(files[0], image.dataobj.offset + math.prod(image.shape) * image.get_data_dtype().itemsize)
        slices = next(axis for axis, letter in enumerate(geometry.orientation) if letter in "SI")
        return Facts.of(geometry.shape, geometry.spacing_mm, slices)


def volume_of_nibabel(image: Any) -> Volume:
    """The volume of a nibabel image in memory; array axes are (k, j, i).

    Raises:
        ScanError: The image is flat, sheared or RGB, has several frames, or has voxels that are NaN.
    """
    shape = array_shape(image.shape, " (nibabel.four_to_three)")
    _require_numbers(image)
    geometry = Geometry(
        shape, _lps(image.header, np.asarray(image.affine, dtype=np.float64), Path("the nibabel image"))
    )
    require_sound(geometry)
    voxels = np.asanyarray(image.dataobj).reshape(shape[::-1]).transpose(2, 1, 0)
    return Volume(collect(shape, lambda: iter([(0, voxels)])), geometry)


def _opened(path: Path) -> tuple[Any, Geometry]:
    """The image, without its voxels, and its geometry."""
    import nibabel

    image: Any = nibabel.load(path, mmap=False)
    shape = array_shape(image.shape, " (nibabel.four_to_three)")
    _require_numbers(image)
    geometry = Geometry(shape, _affine(image.header, shape, path))
    require_sound(geometry)
    return image, geometry


def _require_numbers(image: Any) -> None:
    dtype = image.header.get_data_dtype()
    if dtype.kind not in "iuf":
        kind = "RGB" if dtype.fields else f"of type {dtype}"
        raise ScanError(f"the voxels are {kind}, not HU", fix="export the scan as grey values")


def _affine(header: Any, shape: Shape3, path: Path) -> npt.NDArray[np.float64]:
    """The affine of the array axes (k, j, i), in LPS mm."""
    to_mm = np.diag([_mm_per_unit(header, path)] * 3 + [1.0])
    _warn_of_ambiguity(header, shape, to_mm, path)
    return _lps(header, np.asarray(header.get_best_affine(), dtype=np.float64), path)


def _lps(header: Any, ras: npt.NDArray[np.float64], path: Path) -> npt.NDArray[np.float64]:
    """The affine of the array axes (k, j, i) in LPS mm, from nibabel's: of (i, j, k), in RAS and the header's unit."""
    to_mm = np.diag([_mm_per_unit(header, path)] * 3 + [1.0])
    affine: npt.NDArray[np.float64] = (RAS_TO_LPS @ to_mm @ ras)[:, [2, 1, 0, 3]]
    return affine


def _mm_per_unit(header: Any, path: Path) -> float:
    if not hasattr(header, "get_xyzt_units"):  # another format that nibabel holds in memory: millimetres
        return 1.0
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
    corners = np.array([(*index, 1.0) for index in product(*((0.0, n - 1.0) for n in shape[::-1]))])
    apart = np.linalg.norm((corners @ (to_mm @ (sform - qform)).T)[:, :3], axis=1).max()
    if apart > DISAGREEMENT_MM:
        _warn(f"{path}: sform and qform place the same voxel up to {apart:.1f} mm apart; the sform was used")


def _qform(header: Any, path: Path) -> npt.NDArray[np.float64] | None:
    from nibabel.spatialimages import HeaderDataError

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
    with _unpacked(path) as stream:
        stream.seek(proxy.offset)
        for start in range(0, shape[0], planes):
            count = min(planes, shape[0] - start)
            raw = stream.read(count * plane_bytes)
            if len(raw) < count * plane_bytes:
                raise ScanError("the file is cut short")
            yield start, _scaled(np.frombuffer(raw, dtype=dtype).reshape(count, shape[1], shape[2]), slope, inter)
        while stream.read(2**20):
            pass


def _unpacked(path: Path) -> Any:
    """The decompressed bytes of a file: gzip through ISA-L, at three times zlib's speed, the rest through nibabel."""
    from nibabel.openers import ImageOpener

    return igzip.open(path, "rb") if path.suffix == ".gz" else ImageOpener(str(path))


def _scaled(voxels: npt.NDArray[Any], slope: float, inter: float) -> npt.NDArray[Any]:
    if (slope, inter) == (1.0, 0.0):
        return voxels
    small = voxels.dtype.kind in "iu" and voxels.dtype.itemsize <= 2
    if small and slope.is_integer() and inter.is_integer() and max(abs(slope), abs(inter)) < MOST_WHOLE:
        # The usual "stored value - 1024": whole numbers stay whole, at a fraction of the cost of float64.
        return voxels.astype(np.int32) * int(slope) + int(inter)
    return voxels * slope + inter
