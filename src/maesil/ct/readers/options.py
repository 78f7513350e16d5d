"""Decisions of the user about scans whose headers leave something open; readers refuse such scans by default."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Literal

from pydantic import PositiveFloat
from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class ReadOptions:
    """How to read scans that are refused otherwise.

    Args:
        missing_spacing_mm: Distance between voxels along the file's axes (i, j, k), in mm, for volume files whose
            header gives none; None: they are refused.
        spacing_from: Field of a NIfTI header to believe if its sform and its pixdim disagree on the spacing; None: such
            files are refused.
        resample_tilt: Whether to undo the gantry tilt of a DICOM series by moving its slices sideways, with linear
            interpolation; by default, it is refused.
        resample_uneven: Whether to resample a DICOM series whose slices are unevenly spaced or missing, by their
            positions, linearly, across gaps of up to 15 mm; by default, it is refused.
        slice_tolerance_mm: How far a DICOM slice may be off an even grid, and off a straight line, in mm; None: 5 % of
            the distance between slices off the grid, but at least 0.1 mm, and 0.1 mm off the line.
    """

    missing_spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    spacing_from: Literal["sform", "pixdim"] | None = None
    resample_tilt: bool = False
    resample_uneven: bool = False
    slice_tolerance_mm: PositiveFloat | None = None

    def chosen(self) -> dict[str, Any]:
        """The options that differ from their defaults, for JSON."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen = {name: value for name, value in given.items() if value != getattr(STRICT, name)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()}


STRICT = ReadOptions()
"""The defaults: refuse whatever is not certain."""
