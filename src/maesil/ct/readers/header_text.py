"""Values in the text headers of NRRD and MetaImage: parsed and bounded here, before anything is allocated for them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from maesil.ct.readers.stored import MAX_FILES, require_regular
from maesil.errors import ScanError

HEADER_BYTES = 2**20
"""Bytes of a file that are searched for its header, which is a few hundred bytes of text."""
MAX_DIMENSIONS = 16
MAX_SIZE = 2**24
"""Most voxels along an axis; anything larger comes from a damaged header."""

_NUMBERS = re.compile(r"[-+.\d\s(),einfaINFA]{0,60}")
_FIX = "correct the header, or convert the scan again"


def head(path: Path) -> bytes:
    """The bytes in which the header must lie."""
    require_regular(path)
    with path.open("rb") as file:
        return file.read(HEADER_BYTES)


def integers(field: str, text: str) -> tuple[int, ...]:
    """Whole numbers separated by blanks."""
    try:
        return tuple(int(word) for word in text.split())
    except ValueError:
        raise invalid(field, text) from None


def integer(field: str, text: str) -> int:
    """One whole number."""
    found = integers(field, text)
    if len(found) != 1:
        raise invalid(field, text)
    return found[0]


def numbers(field: str, text: str) -> tuple[float, ...]:
    """Numbers separated by blanks."""
    try:
        return tuple(float(word) for word in text.split())
    except ValueError:
        raise invalid(field, text) from None


def dimensions(field: str, text: str) -> int:
    """A number of dimensions."""
    found = integer(field, text)
    if not 1 <= found <= MAX_DIMENSIONS:
        raise invalid(field, text)
    return found


def sizes(field: str, text: str, dims: int) -> tuple[int, ...]:
    """Voxels along each axis."""
    found = integers(field, text)
    if len(found) != dims or not all(1 <= size <= MAX_SIZE for size in found):
        raise invalid(field, text)
    return found


def offset(field: str, text: str) -> int:
    """A position in a file, or -1 for "at its end"."""
    found = integer(field, text)
    if not -1 <= found < 2**63:
        raise invalid(field, text)
    return found


def invalid(field: str, text: str) -> ScanError:
    """The error for a field that has no sensible value; only numbers are shown, as words may be a patient's."""
    shown = f" '{text}'" if _NUMBERS.fullmatch(text) else ""
    return ScanError(f"its header's field '{field}' has an invalid value{shown}", fix=_FIX)


def missing(field: str) -> ScanError:
    """The error for a required field that is not there."""
    return ScanError(f"its header has no field '{field}'", fix=_FIX)


def listed_files(folder: Path, lines: Sequence[str]) -> tuple[Path, ...]:
    """The data files that a header lists, one per line."""
    names = [line.strip() for line in lines if line.strip()]
    if not 1 <= len(names) <= MAX_FILES:
        raise ScanError(f"its header lists {len(names)} data files", fix=_FIX)
    return tuple(folder / name for name in names)


def numbered_files(folder: Path, pattern: str, first: int, last: int, step: int) -> tuple[Path, ...]:
    """The data files that a pattern such as slice%03d.raw and a range name."""
    if step == 0 or not 1 <= (count := (last - first) // step + 1) <= MAX_FILES:
        raise ScanError(f"its header names no data file from {first} to {last} by {step}", fix=_FIX)
    if re.fullmatch(r"[^%]*%0?\d{0,2}[di][^%]*", pattern) is None:
        raise invalid("data file", pattern)
    return tuple(folder / (pattern % number) for number in range(first, first + count * step, step))


def finite(field: str, values: Sequence[float]) -> npt.NDArray[np.float64]:
    """The values as an array; NaN and infinity are refused."""
    if not all(math.isfinite(value) for value in values):
        raise invalid(field, " ".join(map(str, values)))
    return np.array(values, dtype=np.float64)
