"""NRRD (.nrrd, .nhdr): the header is parsed here, and voxels are read slab by slab."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np
import numpy.typing as npt

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

_MAGIC = re.compile(rb"NRRD000[1-9]\r?\n")
_END = re.compile(rb"\r?\n\r?\n")
_VECTOR = re.compile(r"none|\([^()]*\)", re.IGNORECASE)
_QUOTED = re.compile(r'"([^"]*)"')
_LINE_LIMIT = 2**20

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_TYPE = {name: code for code, names in _TYPES.items() for name in names}
_ENCODINGS: dict[str, Encoding] = {
    "raw": "raw",
    "gz": "gzip",
    "gzip": "gzip",
    "bz2": "bzip2",
    "bzip2": "bzip2",
    "txt": "text",
    "text": "text",
    "ascii": "text",
    "hex": "hex",
}
_SAME_FIELD = {
    "datafile": "data file",
    "lineskip": "line skip",
    "byteskip": "byte skip",
    "axismins": "axis mins",
    "centers": "centerings",
}
_TO_LPS = {
    "left-posterior-superior": (1.0, 1.0, 1.0),
    "lps": (1.0, 1.0, 1.0),
    "right-anterior-superior": (-1.0, -1.0, 1.0),
    "ras": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0),
    "las": (1.0, -1.0, 1.0),
}
"""The patient spaces that NRRD defines, and the signs that turn their axes to left, posterior and superior."""
_OF_THE_SCANNER = {"scanner-xyz": "of the scanner", "3d-right-handed": "without relation to the patient"}
_LEFT_HANDED = {"3d-left-handed": " (3D-left-handed)"}
_MM_PER_UNIT = {
    **dict.fromkeys(("mm", "millimeter", "millimetre", "millimeters", "millimetres"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimetre", "centimeters", "centimetres"), 10.0),
    **dict.fromkeys(("m", "meter", "metre", "meters", "metres"), 1000.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre"), 0.001),
    **dict.fromkeys(("", "none", "unknown", "?", "???"), 1.0),
}

Fields = Mapping[str, str]


@final
class Nrrd(VolumeFileReader):
    """NRRD with its voxels in the same file or in others; array axes are (k, j, i), so the fastest axis comes last.

    Warns:
        GeometryWarning: The header does not name a patient space.
    """

    name = "NRRD"
    endings = (".nrrd", ".nhdr")

    def parsed(self, path: Path, options: ReadOptions) -> VolumeFile:
        """What the header says; raises ScanError if that is not a volume of grey values."""
        fields, listed, start = _fields(path)
        dims = dimensions("dimension", _required(fields, "dimension"))
        lengths = sizes("sizes", _required(fields, "sizes"), dims)
        _require_numbers(fields, lengths)
        shape = array_shape(lengths)
        notes: list[str] = []
        stored = _stored(path, fields, listed, start, shape)
        return VolumeFile(path, stored, lambda: _geometry(fields, dims, shape, options, notes), notes)

    def data_files(self, path: Path) -> tuple[Path, ...]:
        """The data files that the header names."""
        fields, listed, _ = _fields(path)
        return _data_files(path, fields.get("data file"), listed)


def _fields(path: Path) -> tuple[dict[str, str], list[str], int]:
    """The fields of a header, the lines after a list of data files, and where the header ends."""
    text = head(path)
    if _MAGIC.match(text) is None:
        raise ScanError("the file is damaged or has another format: it does not begin with NRRD")
    end = _END.search(text)
    lines = text[: end.start() if end else len(text)].decode("utf-8", errors="replace").splitlines()[1:]
    fields: dict[str, str] = {}
    for number, line in enumerate(lines):
        name, colon, value = line.partition(":")
        if line.startswith("#") or not colon or value.startswith("="):
            continue
        name = name.strip().lower()
        name = _SAME_FIELD.get(name, name)
        if name in fields:
            raise ScanError(f"its header gives the field '{name}' twice", fix="correct the header")
        fields[name] = value.strip()
        if name == "data file" and value.split()[:1] == ["LIST"]:
            return fields, lines[number + 1 :], len(text)
    return fields, [], end.end() if end else len(text)


def _required(fields: Fields, name: str) -> str:
    if name not in fields:
        raise missing(name)
    return fields[name]


def _require_numbers(fields: Fields, lengths: Sequence[int]) -> None:
    """Refuses colours and vectors, which NRRD stores along an axis of their own."""
    kinds = fields.get("kinds", "").lower().split()
    components = [
        (kind, length)
        for kind, length in zip(kinds, lengths, strict=False)
        if kind not in ("domain", "space", "none", "???", "time", "list")
    ]
    if components and components[0][1] > 1:
        named = "RGB" if components[0][1] in (3, 4) else f"vectors of {components[0][1]}"
        raise ScanError(f"the voxels are {named}, not HU", fix="export the scan as grey values")


def _stored(path: Path, fields: Fields, listed: Sequence[str], start: int, shape: tuple[int, int, int]) -> Stored:
    named = _required(fields, "type").lower()
    if named not in _TYPE:
        raise ScanError("the voxels are of a type that is not read", fix="export the scan as int16")
    packing = _required(fields, "encoding").lower()
    if packing not in _ENCODINGS:
        raise ScanError(
            "the voxels have an encoding that is not read", fix=f"write it as one of {', '.join(_ENCODINGS)}"
        )
    encoding = _ENCODINGS[packing]
    dtype = np.dtype(_TYPE[named])
    if dtype.itemsize > 1 and encoding != "text":
        order = {"little": "<", "big": ">"}.get(_required(fields, "endian").lower())
        if order is None:
            raise invalid("endian", fields["endian"])
        dtype = np.dtype(order + _TYPE[named])
    files = _data_files(path, fields.get("data file"), listed)
    start = start if files == (path,) else 0
    skip = offset("byte skip", fields.get("byte skip", "0"))
    start += _length_of_lines(files[0], start, integer("line skip", fields.get("line skip", "0")))
    if skip < 0:
        if encoding != "raw":
            raise invalid("byte skip", "-1 with compressed voxels")
        return Stored(shape, dtype, files, encoding, start=-1)
    if encoding == "raw":
        return Stored(shape, dtype, files, encoding, start=start + skip)
    return Stored(shape, dtype, files, encoding, start=start, skip=skip)


def _data_files(path: Path, named: str | None, listed: Sequence[str]) -> tuple[Path, ...]:
    if named is None or named == "LOCAL":
        return (path,)
    words = named.split()
    if words[:1] == ["LIST"]:
        return listed_files(path.parent, listed)
    if "%" in words[0] and len(words) >= 4:
        first, last, step = integers("data file", " ".join(words[1:4]))
        return numbered_files(path.parent, words[0], first, last, step)
    return (path.parent / named,)


def _length_of_lines(path: Path, start: int, count: int) -> int:
    """The size of the lines to be skipped before the voxels."""
    if not count:
        return 0
    if not 0 < count <= _LINE_LIMIT:
        raise invalid("line skip", str(count))
    with path.open("rb") as file:
        file.seek(start)
        for _ in range(count):
            if not file.readline(_LINE_LIMIT):
                raise ScanError("the file is cut short: it has fewer lines than its header skips")
        return file.tell() - start


def _geometry(
    fields: Fields, dims: int, shape: tuple[int, int, int], options: ReadOptions, notes: list[str]
) -> Geometry:
    if dims < 3:  # refused later as flat; its position does not matter
        return Geometry.from_parts(shape, (1.0, 1.0, 1.0))
    to_lps = np.array(_signs(fields.get("space"), notes))
    axes = _axes(fields, dims, options)  # a row per axis i, j, k
    affine = np.eye(4)
    affine[:3, :3] = (axes * to_lps)[::-1].T
    affine[:3, 3] = _origin(fields, axes) * to_lps
    return Geometry(shape, affine)


def _signs(space: str | None, notes: list[str]) -> tuple[float, float, float]:
    named = (space or "").lower().removesuffix("-time")
    if named in _TO_LPS:
        return _TO_LPS[named]
    if named and named not in _OF_THE_SCANNER:
        raise ScanError(
            f"the header's space{_LEFT_HANDED.get(named, '')} does not say which side of the patient is left",
            fix="write the file again in the space left-posterior-superior, after you have checked the sides",
        )
    what = f"names a space {_OF_THE_SCANNER[named]} ({space})" if named else "does not name a patient space"
    notes.append(f"the header {what}; left-posterior-superior was assumed")
    return (1.0, 1.0, 1.0)


def _axes(fields: Fields, dims: int, options: ReadOptions) -> npt.NDArray[np.float64]:
    """The step along each axis i, j, k, in mm of the file's space."""
    if "space directions" in fields:
        return _directions(fields, dims, options)
    spacing = numbers("spacings", fields["spacings"]) if "spacings" in fields else ()
    if spacing and len(spacing) != dims:
        raise invalid("spacings", fields["spacings"])
    units = _units(fields.get("units"), dims)
    steps = [step * unit for step, unit in zip(spacing, units, strict=False)][:3] or [0.0] * 3
    if not all(step > 0 for step in steps):  # NaN stands for "unknown"
        steps = list(without_spacing("no spacings and no space directions", options, steps))
    return np.diag(finite("spacings", steps))


def _directions(fields: Fields, dims: int, options: ReadOptions) -> npt.NDArray[np.float64]:
    text = fields["space directions"]
    vectors = [_vector("space directions", word) for word in _VECTOR.findall(text)]
    if len(vectors) != dims:
        raise invalid("space directions", text)
    units = _units(fields.get("space units"), 3)
    axes = np.array([np.zeros(3) if vector is None else vector * units for vector in vectors[:3]])
    unknown = [axis for axis in range(3) if vectors[axis] is None]
    if not unknown:
        return axes
    given = without_spacing(f"no direction for its axis {'ijk'[unknown[0]]}", options)
    if len(unknown) > 1:
        return np.diag(given)
    (axis,) = unknown
    others = [axes[(axis + 1) % 3], axes[(axis + 2) % 3]]
    normal = np.cross(*others)
    axes[axis] = normal / max(float(np.linalg.norm(normal)), 1e-9) * given[axis]
    return axes


def _units(text: str | None, count: int) -> npt.NDArray[np.float64]:
    """Millimetres per unit of each axis."""
    if text is None:
        return np.ones(count)
    named = [unit.strip() for unit in _QUOTED.findall(text)]
    unknown = next((unit for unit in named if unit.lower() not in _MM_PER_UNIT), None)
    if unknown is not None:
        raise ScanError("the header's unit of length is not known", fix="write lengths in mm, and say so in the header")
    factors = [_MM_PER_UNIT[unit.lower()] for unit in named][:count]
    return np.array([*factors, *[1.0] * (count - len(factors))])


def _origin(fields: Fields, axes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if "space origin" in fields:
        origin = _vector("space origin", fields["space origin"])
        if origin is None:
            raise invalid("space origin", fields["space origin"])
        return origin * _units(fields.get("space units"), 3)
    if "axis mins" in fields and "space directions" not in fields:
        least = numbers("axis mins", fields["axis mins"])
        if len(least) >= 3 and all(np.isfinite(least[:3])):
            cells = "cell" in fields.get("centerings", "").lower()
            return np.array(least[:3]) + (np.diag(axes) / 2 if cells else 0.0)
    return np.zeros(3)


def _vector(field: str, word: str) -> npt.NDArray[np.float64] | None:
    """Three numbers in brackets; None for "none"."""
    if word.lower() == "none":
        return None
    found = numbers(field, word.strip("() \t").replace(",", " "))
    if len(found) != 3:
        raise invalid(field, word)
    return finite(field, found)
