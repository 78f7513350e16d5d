"""MetaImage (.mha, .mhd): the header is parsed here, and voxels are read slab by slab."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np

from maesil.ct.geometry import Geometry
from maesil.ct.readers.header_text import (
    dimensions,
    finite,
    head,
    integer,
    integers,
    invalid,
    listed_files,
    missing,
    numbered_files,
    numbers,
    offset,
    sizes,
)
from maesil.ct.readers.options import ReadOptions
from maesil.ct.readers.soundness import array_shape, without_spacing
from maesil.ct.readers.stored import Encoding, Stored
from maesil.ct.readers.volume_file import VolumeFile, VolumeFileReader
from maesil.errors import ScanError

_LAST_FIELD = re.compile(rb"^[ \t]*ElementDataFile[ \t]*=[^\r\n]*(\r?\n|\Z)", re.MULTILINE | re.IGNORECASE)
_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_SAME_FIELD = {
    "position": "offset",
    "origin": "offset",
    "rotation": "transformmatrix",
    "orientation": "transformmatrix",
    "elementbyteordermsb": "binarydatabyteordermsb",
}
_MM_PER_UNIT = {"": 1.0, "?": 1.0, "mm": 1.0, "cm": 10.0, "um": 0.001, "m": 1000.0}

Fields = Mapping[str, str]


@final
class MetaImage(VolumeFileReader):
    """MetaImage with its voxels in the same file or in others; array axes are (k, j, i): the fastest comes last."""

    name = "MetaImage"
    endings = (".mha", ".mhd")

    def parsed(self, path: Path, options: ReadOptions) -> VolumeFile:
        """What the header says; raises ScanError if that is not a volume of grey values."""
        fields, listed, start = _fields(path)
        dims = dimensions("NDims", _required(fields, "NDims"))
        lengths = sizes("DimSize", _required(fields, "DimSize"), dims)
        _require_numbers(fields)
        shape = array_shape(lengths)
        stored = _stored(path, fields, listed, start, shape)
        return VolumeFile(path, stored, lambda: _geometry(fields, dims, shape, options))

    def data_files(self, path: Path) -> tuple[Path, ...]:
        """The data files that the header names."""
        fields, listed, _ = _fields(path)
        return _data_files(path, fields, listed)


def _fields(path: Path) -> tuple[dict[str, str], list[str], int]:
    """The fields of a header, the lines after a list of data files, and where the header ends."""
    text = head(path)
    last = _LAST_FIELD.search(text)
    if last is None:
        raise ScanError("the file is damaged or has another format: its header has no ElementDataFile")
    fields: dict[str, str] = {}
    for line in text[: last.end()].decode("utf-8", errors="replace").splitlines():
        name, equals, value = line.partition("=")
        name = name.strip().lower()
        name = _SAME_FIELD.get(name, name)
        if equals:
            if name in fields and fields[name] != value.strip():
                raise ScanError(f"its header gives the field '{name}' twice", fix="correct the header")
            fields[name] = value.strip()
    is_list = fields["elementdatafile"].split()[:1] == ["LIST"]
    listed = text[last.end() :].decode("utf-8", errors="replace").splitlines() if is_list else []
    return fields, listed, last.end()


def _required(fields: Fields, name: str) -> str:
    if name.lower() not in fields:
        raise missing(name)
    return fields[name.lower()]


def _flag(fields: Fields, name: str, default: bool) -> bool:
    text = fields.get(name.lower())
    if text is None:
        return default
    if text.lower() not in ("true", "false", "1", "0", "t", "f"):
        raise invalid(name, text)
    return text.lower() in ("true", "1", "t")


def _require_numbers(fields: Fields) -> None:
    channels = integer("ElementNumberOfChannels", fields.get("elementnumberofchannels", "1"))
    if channels != 1:
        kind = "RGB" if channels in (3, 4) else f"vectors of {channels}"
        raise ScanError(f"the voxels are {kind}, not HU", fix="export the scan as grey values")
    scale = [fields.get(f"elementtointensityfunction{part}", default) for part, default in _UNSCALED]
    if [numbers("ElementToIntensityFunction", value) for value in scale] != [(1.0,), (0.0,)]:
        raise ScanError(
            "its header asks for a scale and an offset (ElementToIntensityFunction), which not all programs apply",
            fix="write the file again with the scaled values",
        )


_UNSCALED = (("slope", "1"), ("offset", "0"))


def _stored(path: Path, fields: Fields, listed: Sequence[str], start: int, shape: tuple[int, int, int]) -> Stored:
    named = _required(fields, "ElementType").upper()
    if named not in _TYPES:
        raise ScanError("the voxels are of a type that is not read", fix="export the scan as MET_SHORT")
    order = ">" if _flag(fields, "BinaryDataByteOrderMSB", default=False) else "<"
    dtype = np.dtype(order + _TYPES[named])
    encoding: Encoding = "raw" if _flag(fields, "BinaryData", default=True) else "text"
    packed = None
    if _flag(fields, "CompressedData", default=False):
        if encoding == "text":
            raise invalid("CompressedData", "True with BinaryData = False")
        encoding = "zlib"
        packed = offset("CompressedDataSize", fields.get("compresseddatasize", "-1"))
    files = _data_files(path, fields, listed)
    first = offset("HeaderSize", fields.get("headersize", "0"))
    if first < 0 and encoding != "raw":
        raise invalid("HeaderSize", "-1 with compressed voxels or text")
    begins = -1 if first < 0 else first + (start if files == (path,) else 0)
    one_file = len(files) == 1 and packed is not None and packed >= 0
    return Stored(shape, dtype, files, encoding, start=begins, packed_bytes=packed if one_file else None)


def _data_files(path: Path, fields: Fields, listed: Sequence[str]) -> tuple[Path, ...]:
    named = fields["elementdatafile"]
    words = named.split()
    if not words:
        raise invalid("ElementDataFile", named)
    if named.upper() == "LOCAL":
        return (path,)
    if words[0] == "LIST":
        return listed_files(path.parent, listed)
    if "%" in words[0]:
        slices = integers("DimSize", _required(fields, "DimSize"))[-1:] or (1,)
        bounds = integers("ElementDataFile", " ".join(words[1:4]))
        first, last, step = (*bounds, *(1, *slices, 1)[len(bounds) :])
        return numbered_files(path.parent, words[0], first, last, step)
    return (path.parent / named,)


def _geometry(fields: Fields, dims: int, shape: tuple[int, int, int], options: ReadOptions) -> Geometry:
    if dims < 3:  # refused later as flat; its position does not matter
        return Geometry.from_parts(shape, (1.0, 1.0, 1.0))
    unit = fields.get("distanceunits", "")
    if unit.lower() not in _MM_PER_UNIT:
        raise invalid("DistanceUnits", unit)
    spacing = numbers("ElementSpacing", fields["elementspacing"]) if "elementspacing" in fields else ()
    if spacing and len(spacing) != dims:
        raise invalid("ElementSpacing", fields["elementspacing"])
    if any(step < 0 for step in spacing):
        raise invalid("ElementSpacing", fields["elementspacing"])
    mm = [step * _MM_PER_UNIT[unit.lower()] for step in spacing[:3]] or [0.0] * 3
    if not all(step > 0 for step in mm):
        mm = list(without_spacing("no ElementSpacing above 0", options, mm))
    rows = _matrix(fields, dims)
    origin = np.zeros(3)
    if "offset" in fields:
        given = numbers("Offset", fields["offset"])
        if len(given) != dims:
            raise invalid("Offset", fields["offset"])
        origin = finite("Offset", given[:3]) * _MM_PER_UNIT[unit.lower()]
    steps = finite("ElementSpacing", mm)
    return Geometry.from_parts(shape, steps[::-1].tolist(), origin.tolist(), rows[::-1].T)


def _matrix(fields: Fields, dims: int) -> np.ndarray:
    """The unit vectors of the axes i, j, k, a row each."""
    if "transformmatrix" not in fields:
        return np.eye(3)
    given = numbers("TransformMatrix", fields["transformmatrix"])
    if len(given) != dims * dims:
        raise invalid("TransformMatrix", fields["transformmatrix"])
    matrix = finite("TransformMatrix", given).reshape(dims, dims)[:3, :3]
    lengths = np.linalg.norm(matrix, axis=1)
    if not (lengths > 0).all():
        raise invalid("TransformMatrix", fields["transformmatrix"])
    rows: np.ndarray = matrix / lengths[:, None]
    return rows
