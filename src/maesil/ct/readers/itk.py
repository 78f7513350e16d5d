"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd), read by SimpleITK."""

from __future__ import annotations

import re
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

HEADER_BYTES = 2**16
"""Bytes of a MetaImage file that are searched for its compression flag; headers are a few hundred bytes of text."""
WIDEST_BYTES = 8
"""Size of a voxel in the widest type."""


def read_itk(path: Path) -> Volume:
    """Reads a file with SimpleITK; array axes are (k, j, i), so the file's fastest axis comes last.

    Uncompressed MetaImage is streamed slab by slab; other files are also held in memory once, in their own type.

    Raises:
        ScanError: The file is damaged or RGB, has several frames or NaN values, or no sound geometry.

    Warns:
        GeometryWarning: An NRRD file does not name a patient space.
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
        pieces = _streamed if _can_stream(path) else _whole
        return Volume(collect(shape, lambda: pieces(reader, shape)), geometry)


def _shape(reader: Any) -> Shape3:
    sizes = [int(n) for n in reader.GetSize()]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) > 3:
        raise ScanError(
            f"the image has {len(sizes)} dimensions {tuple(sizes)}, but a scan has 3",
            fix="split it into one file per frame, and read each of them",
        )
    sizes += [1] * (3 - len(sizes))
    return (sizes[2], sizes[1], sizes[0])


def _require_numbers(reader: Any) -> None:
    components = int(reader.GetNumberOfComponents())
    if components != 1:
        kind = "RGB" if components in (3, 4) else f"vectors of {components}"
        raise ScanError(f"the voxels are {kind}, not HU", fix="export the scan as grey values")


def _geometry(reader: Any, shape: Shape3) -> Geometry:
    dims = int(reader.GetDimension())
    if dims < 3:  # refused later as flat; its position does not matter
        return Geometry.from_parts(shape, (1.0, 1.0, 1.0))
    direction = np.array(reader.GetDirection()).reshape(dims, dims)[:3, 2::-1]
    return Geometry.from_parts(shape, reader.GetSpacing()[2::-1], reader.GetOrigin()[:3], direction)


def _warn_of_missing_space(reader: Any, path: Path) -> None:
    if path.suffix.lower() in (".nrrd", ".nhdr") and not reader.HasMetaDataKey("NRRD_space"):
        message = f"{path}: the header does not name a patient space; left-posterior-superior was assumed"
        warnings.warn(message, GeometryWarning, stacklevel=2)


def _can_stream(path: Path) -> bool:
    """Whether ITK can read part of a file without the rest: only uncompressed MetaImage, among these formats."""
    if path.suffix.lower() not in (".mha", ".mhd"):
        return False
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES).partition(b"ElementDataFile")[0]
    return re.search(rb"^CompressedData\s*=\s*True", header, re.MULTILINE | re.IGNORECASE) is None


def _streamed(reader: Any, shape: Shape3) -> Slabs:
    """Slabs read one by one: at most one is in memory in the file's own type."""
    further = int(reader.GetDimension()) - 3  # axes of length 1
    planes = planes_per_slab(shape, WIDEST_BYTES)
    for start in range(0, shape[0], planes):
        count = min(planes, shape[0] - start)
        reader.SetExtractIndex([0, 0, start] + [0] * further)
        reader.SetExtractSize([shape[2], shape[1], count] + [1] * further)
        image = reader.Execute()
        yield start, _view(image).reshape(count, *shape[1:])


def _whole(reader: Any, shape: Shape3) -> Slabs:
    """Slabs of a volume that is read at once, in the file's own type."""
    image = reader.Execute()
    voxels = _view(image).reshape(shape)
    planes = planes_per_slab(shape, voxels.itemsize)
    for start in range(0, shape[0], planes):
        yield start, voxels[start : start + planes]


def _view(image: Any) -> Any:
    """The voxels of the image without a copy: the image must outlive them."""
    return SimpleITK.GetArrayViewFromImage(image)
