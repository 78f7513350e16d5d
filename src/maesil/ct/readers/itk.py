"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd), read by SimpleITK."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

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
from maesil.shapes import Shape3, product

HEADER_BYTES = 2**16
"""Bytes of a file that are searched for its header, which is a few hundred bytes of text."""
WIDEST_BYTES = 8
"""Size of a voxel in the widest type."""

_COMPRESSED = re.compile(
    rb"^(?:CompressedData\s*=\s*True|BinaryData\s*=\s*False|encoding:\s*(?!raw\b)\S)", re.IGNORECASE | re.MULTILINE
)
_DATA_FILE = re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)\s*(\S.*?)\s*$", re.IGNORECASE | re.MULTILINE)
_END_OF_HEADER = re.compile(rb"^ElementDataFile\s*=\s*LOCAL[ \t]*\r?\n|\r?\n\r?\n", re.IGNORECASE | re.MULTILINE)


@final
@dataclass(frozen=True)
class Itk(Reader):
    """A format that SimpleITK reads; array axes are (k, j, i), so the file's fastest axis comes last.

    Uncompressed MetaImage is streamed slab by slab; other files are also held in memory once, in their own type.

    Warns:
        GeometryWarning: An NRRD file does not name a patient space.
    """

    name: str
    endings: tuple[str, ...]

    def files(self, path: Path, series: str | None = None) -> tuple[Path, ...]:
        """The file, and the data file that a detached header (.mhd, .nhdr) names."""
        data = _data_file(path)
        return (path, data) if data is not None and data != path and data.is_file() else (path,)

    def read(self, files: Sequence[Path], options: ReadOptions = STRICT) -> Volume:
        """Reads a file; raises ScanError if it is damaged or RGB, or has several frames or NaN values."""
        path = files[0]
        with located(path, (RuntimeError,)):
            reader, geometry = _opened(path)
            _warn_of_missing_space(reader, path)
            pieces = _streamed if _can_stream(path) else _whole
            return Volume(collect(geometry.shape, lambda: pieces(reader, geometry.shape)), geometry)

    def facts(self, files: Sequence[Path], options: ReadOptions = STRICT) -> Facts:
        """The facts in the header; slices are along the file's slowest axis."""
        import SimpleITK

        path = files[0]
        data = _data_file(path)
        if data is not None and not data.is_file():
            raise ScanError(f"its data file {data.name} is missing", fix="copy it too")
        reader, geometry = _opened(path)
        head = _head(path)
        if data is not None and not _COMPRESSED.search(head):
            voxel = SimpleITK.Image([1] * 3, reader.GetPixelID()).GetSizeOfPixelComponent()
            end = _END_OF_HEADER.search(head) if data == path else None
            named = "the file" if data == path else f"its data file {data.name}"
            require_whole(data, product(geometry.shape) * voxel + (end.end() if end is not None else 0), named)
        return Facts.of(geometry.shape, geometry.spacing_mm)


def volume_of_itk(image: Any) -> Volume:
    """The volume of a SimpleITK image in memory; array axes are (k, j, i).

    Raises:
        ScanError: The image is flat, sheared or RGB, has several frames, or has voxels that are NaN.
    """
    shape = array_shape(image.GetSize())
    _require_numbers(image.GetNumberOfComponentsPerPixel())
    geometry = _geometry(image, shape)
    require_sound(geometry)
    voxels = _view(image).reshape(shape)
    return Volume(collect(shape, lambda: iter([(0, voxels)])), geometry)


def _opened(path: Path) -> tuple[Any, Geometry]:
    """The reader of a file, with its header read, and the geometry."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    shape = array_shape(reader.GetSize())
    _require_numbers(reader.GetNumberOfComponents())
    geometry = _geometry(reader, shape)
    require_sound(geometry)
    return reader, geometry


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEADER_BYTES)


def _data_file(path: Path) -> Path | None:
    """The file with the voxels: the one that a detached header names, whether it exists or not, or the file itself.

    None if the header cannot be read, or names several files.
    """
    if path.suffix.lower() not in (".mhd", ".nhdr"):
        return path
    try:
        match = _DATA_FILE.search(_head(path))
    except OSError:
        return None  # reading the scan will say what is wrong
    named = match.group(1).decode(errors="replace") if match else "LOCAL"
    if named.startswith("LIST") or "%" in named:
        return None
    return path if named == "LOCAL" else path.parent / named


def _require_numbers(components: int) -> None:
    if components != 1:
        kind = "RGB" if components in (3, 4) else f"vectors of {components}"
        raise ScanError(f"the voxels are {kind}, not HU", fix="export the scan as grey values")


def _geometry(reader: Any, shape: Shape3) -> Geometry:
    """The geometry of an image, or of the reader of its file: both have the same methods."""
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
    return path.suffix.lower() in (".mha", ".mhd") and not _COMPRESSED.search(_head(path))


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
    import SimpleITK

    return SimpleITK.GetArrayViewFromImage(image)
