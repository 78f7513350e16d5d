"""Scans that are in memory already: SimpleITK and nibabel images, arrays and tensors with their affine."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maesil.ct.geometry import Geometry, GeometryWarning
from maesil.ct.readers import read
from maesil.ct.readers.nifti import RAS_TO_LPS, to_mm
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.readers.soundness import array_shape, collect, require_sound
from maesil.ct.volume import Volume
from maesil.errors import ConfigError, ScanError

ACCEPTED = "a path, a SimpleITK or nibabel image, or an array or tensor of voxels with affine=..."


def volume_of(scan: Any, *, affine: Any = None, series: str | None = None, options: ReadOptions = STRICT) -> Volume:
    """One scan as a volume in HU, from a file or from what other libraries hold in memory.

    Args:
        scan: A path (a file of any readable format, or a DICOM folder), a SimpleITK image, a nibabel image, or an array
            or tensor (d, h, w) or (1, d, h, w) of voxels, with its affine.
        affine: (4, 4); maps an index along the array's own axes to millimetres in RAS, as nibabel and MONAI have it.
            Only for arrays and tensors; tensors of MONAI carry their own.
        series: Series of a DICOM folder; required if the folder has several.
        options: How to read a file that is refused otherwise.

    Raises:
        NoScanError: The path does not exist.
        ScanError: The scan is not a sound 3D scan.
        ConfigError: The object is of another kind, an array has no affine, or only a file could be read with options.
    """
    if isinstance(scan, (str, Path)):
        _require_none(affine, "a file")
        return read(scan, series=series, options=options)
    if series is not None:
        raise ConfigError("only a DICOM folder has series", fix="leave series out")
    if options != STRICT:
        raise ConfigError("only files are read with options", fix="leave options out, or give the file itself")
    if isinstance(scan, Volume):
        _require_none(affine, "a volume")
        return scan
    if hasattr(scan, "GetDirection"):
        _require_none(affine, "a SimpleITK image")
        return _of_itk(scan)
    if hasattr(scan, "dataobj"):
        _require_none(affine, "a nibabel image")
        return _of_nibabel(scan)
    if isinstance(scan, np.ndarray) or hasattr(scan, "detach"):
        return _placed(_as_numpy(scan), getattr(scan, "affine", None) if affine is None else affine)
    raise ConfigError(f"a {type(scan).__name__} is not a scan", fix=f"give {ACCEPTED}")


def _require_none(affine: Any, what: str) -> None:
    if affine is not None:
        raise ConfigError(f"{what} has its own affine", fix="leave affine out; it is for arrays and tensors")


def _of_itk(image: Any) -> Volume:
    """The volume of a SimpleITK image; array axes are (k, j, i)."""
    import SimpleITK

    shape, dims = array_shape(image.GetSize()), int(image.GetDimension())
    components = int(image.GetNumberOfComponentsPerPixel())
    if components != 1:
        raise _not_numbers("RGB" if components in (3, 4) else f"vectors of {components}")
    geometry = Geometry.from_parts(shape, (1.0, 1.0, 1.0))  # a flat image is refused, wherever it lies
    if dims >= 3:
        direction = np.array(image.GetDirection()).reshape(dims, dims)[:3, 2::-1]
        geometry = Geometry.from_parts(shape, image.GetSpacing()[2::-1], image.GetOrigin()[:3], direction)
    require_sound(geometry)
    voxels = SimpleITK.GetArrayViewFromImage(image).reshape(shape)
    return Volume(collect(shape, lambda: iter([(0, voxels)])), geometry)


def _of_nibabel(image: Any) -> Volume:
    """The volume of a nibabel image; array axes are (k, j, i)."""
    shape, dtype = array_shape(image.shape, " (nibabel.four_to_three)"), image.get_data_dtype()
    if dtype.kind not in "iuf":
        raise _not_numbers("RGB" if dtype.fields else f"of type {dtype}")
    notes: list[str] = []
    has_unit = "xyzt_units" in (image.header.keys() if hasattr(image.header, "keys") else ())
    unit = to_mm(image.header, notes) if has_unit else np.eye(4)  # another format: millimetres
    for note in notes:
        warnings.warn(f"the nibabel image: {note}", GeometryWarning, stacklevel=3)
    affine = (RAS_TO_LPS @ unit @ np.asarray(image.affine, dtype=np.float64))[:, [2, 1, 0, 3]]
    geometry = Geometry(shape, affine)
    require_sound(geometry)
    voxels = np.asanyarray(image.dataobj).reshape(shape[::-1]).transpose(2, 1, 0)
    return Volume(collect(shape, lambda: iter([(0, voxels)])), geometry)


def _not_numbers(kind: str) -> ScanError:
    return ScanError(f"the voxels are {kind}, not HU", fix="give grey values")


def _as_numpy(voxels: Any) -> npt.NDArray[Any]:
    """An array, or a tensor of torch, without importing torch."""
    if isinstance(voxels, np.ndarray):
        return voxels
    tensor = voxels.detach().cpu()
    array: npt.NDArray[Any] = np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())
    return array


def _placed(voxels: npt.NDArray[Any], affine: Any) -> Volume:
    if affine is None:
        fix = "give affine=..., (4, 4): index to mm in RAS, such as nibabel.load(FILE).affine; or give the file itself"
        raise ConfigError("an array has no spacing and no orientation of its own", fix=fix)
    if voxels.ndim == 4 and len(voxels) == 1:
        voxels = voxels[0]
    if voxels.ndim != 3 or voxels.dtype.kind not in "iuf":
        what = f"an array of shape {voxels.shape} and type {voxels.dtype} is not one scan"
        raise ScanError(what, fix="give (d, h, w), or (1, d, h, w), of numbers: one scan at a time")
    ras = _as_numpy(affine) if hasattr(affine, "detach") else np.asarray(affine)
    if ras.shape != (4, 4):
        raise ScanError(f"the affine has shape {ras.shape}, not (4, 4)", fix="give nibabel's, index to mm in RAS")
    geometry = Geometry((voxels.shape[0], voxels.shape[1], voxels.shape[2]), RAS_TO_LPS @ ras.astype(np.float64))
    require_sound(geometry)
    return Volume(collect(geometry.shape, lambda: iter([(0, voxels)])), geometry)
