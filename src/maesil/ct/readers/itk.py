"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd), read by SimpleITK."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from maesil.ct.geometry import Geometry, GeometryWarning
from maesil.ct.readers.soundness import Slabs, collect, located, planes_per_slab, require_sound
from maesil.ct.volume import Volume
from maesil.errors import ScanError
from maesil.shapes import Shape3


def read_itk(path: Path) -> Volume:
    """Reads what SimpleITK reads; array axes are (k, j, i), the file's fastest axis last.

    Raises:
        ScanError: The file is damaged, RGB, has several frames, NaN, or no sound geometry.

    Warns:
        GeometryWarning: An NRRD file names no patient space.
    """
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    with located(path, (RuntimeError,)):
        reader.ReadImageInformation()
        shape = _shape(reader)
        _require_numbers(reader)
        geometry = _geometry(reader, shape)
        require_sound(geometry)
        _warn_of_missing_space(reader, path)
        # A view saves a second volume, but `image` owns the voxels and has to outlive it.
        image = reader.Execute()
        view = SimpleITK.GetArrayViewFromImage(image).reshape(shape)
        return Volume(collect(shape, lambda: _slabs(view)), geometry)


def _shape(reader: Any) -> Shape3:
    sizes = [int(n) for n in reader.GetSize()]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) > 3:
        raise ScanError(
            f"the image has {len(sizes)} dimensions {tuple(sizes)}, a scan has 3",
            fix="split it into one file per frame, and read each",
        )
    sizes += [1] * (3 - len(sizes))
    return (sizes[2], sizes[1], sizes[0])


def _require_numbers(reader: Any) -> None:
    components = int(reader.GetNumberOfComponents())
    if components != 1:
        kind = "RGB" if components in (3, 4) else f"vectors of {components}"
        raise ScanError(f"the voxels are {kind}, not HU", fix="export the scan in grey values")


def _geometry(reader: Any, shape: Shape3) -> Geometry:
    dims = int(reader.GetDimension())
    if dims < 3:  # refused as flat; its place does not matter
        return Geometry.from_parts(shape, (1.0, 1.0, 1.0))
    direction = np.array(reader.GetDirection()).reshape(dims, dims)[:3, 2::-1]
    return Geometry.from_parts(shape, reader.GetSpacing()[2::-1], reader.GetOrigin()[:3], direction)


def _warn_of_missing_space(reader: Any, path: Path) -> None:
    if path.suffix.lower() in (".nrrd", ".nhdr") and not reader.HasMetaDataKey("NRRD_space"):
        message = f"{path}: the header names no patient space; left-posterior-superior was assumed"
        warnings.warn(message, GeometryWarning, stacklevel=2)


def _slabs(array: Any) -> Slabs:
    planes = planes_per_slab(array.shape, array.dtype.itemsize)
    for start in range(0, len(array), planes):
        yield start, array[start : start + planes]
