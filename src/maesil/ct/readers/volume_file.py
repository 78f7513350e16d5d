"""A volume file whose header has been parsed: where its voxels are stored, and where they lie in the patient."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maesil.ct.geometry import Geometry, GeometryWarning
from maesil.ct.readers.base import Facts, Reader
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.readers.soundness import Slabs, collect, collect_labels, located, require_sound, squared
from maesil.ct.readers.stored import BROKEN, Stored, require_complete, slabs
from maesil.ct.volume import Volume
from maesil.errors import ScanError
from maesil.shapes import Shape3

_UNPARSED: tuple[type[Exception], ...] = (ScanError, *BROKEN)
MOST_WHOLE = 2**14
"""Slopes and intercepts below this keep scaled 16-bit voxels within int32."""


@dataclass(frozen=True)
class VolumeFile:
    """What a header says about a scan.

    Attributes:
        path: File with the header.
        stored: Place and packing of the voxels.
        place: Function that makes the geometry of (k, j, i) from the header, and adds to `notes` what it assumed.
        notes: Assumptions to warn of.
        scale: Slope and intercept that turn stored values into HU.
    """

    path: Path
    stored: Stored
    place: Callable[[], Geometry]
    notes: list[str] = field(default_factory=list)
    scale: tuple[float, float] = (1.0, 0.0)

    def geometry(self) -> Geometry:
        """The checked geometry.

        Raises:
            ScanError: The header gives no spacing, or the volume is flat or sheared.
        """
        geometry = self.place()
        require_sound(geometry)
        return squared(geometry)

    def volume(self) -> Volume:
        """The voxels and their geometry.

        Raises:
            ScanError: A file is missing or damaged, or the header does not describe a sound scan.

        Warns:
            GeometryWarning: Something about the geometry had to be assumed.
        """
        return self._collected(collect)

    def labels(self) -> Volume:
        """The voxels as label numbers, uint16, and their geometry.

        Raises:
            ScanError: As for `volume`, or a value is not the number of a label.

        Warns:
            GeometryWarning: Something about the geometry had to be assumed.
        """
        return self._collected(collect_labels)

    def facts(self, slices: int = 0) -> Facts:
        """Shape and spacing from the header; `slices` is the axis along which slices are stacked.

        Raises:
            ScanError: A file is missing or cut short, or the header does not describe a sound scan.
        """
        geometry = self.geometry()
        require_complete(self.stored)
        return Facts.of(geometry.shape, geometry.spacing_mm, slices)

    def _collected(self, together: Callable[[Shape3, Callable[[], Slabs]], npt.NDArray[Any]]) -> Volume:
        geometry = self.geometry()
        for note in self.notes:
            warnings.warn(f"{self.path}: {note}", GeometryWarning, stacklevel=4)
        require_complete(self.stored)
        return Volume(together(self.stored.shape, self._scaled), geometry)

    def _scaled(self) -> Slabs:
        for start, slab in slabs(self.stored):
            yield start, _rescaled(slab, *self.scale)


class VolumeFileReader(Reader):
    """A format in which a file with a header, and the data files that it names, are one scan; array axes are (k, j, i).

    Subclasses parse the header; the fastest axis of the file is the last one of the array.
    """

    @abstractmethod
    def parsed(self, path: Path, options: ReadOptions) -> VolumeFile:
        """What the header of a file says; raises ScanError if that is not a volume of grey values."""

    def data_files(self, path: Path) -> tuple[Path, ...]:
        """The data files that the header of a file names; none in formats without."""
        return ()

    def files(self, path: Path, series: str | None = None) -> tuple[Path, ...]:
        """The file, and its data files that exist; just the file if the header cannot be parsed."""
        try:
            data = self.data_files(path)
        except _UNPARSED:
            return (path,)  # reading the scan will say what is wrong
        return (path, *(file for file in data if file != path and file.is_file()))

    def read(self, files: Sequence[Path], options: ReadOptions = STRICT) -> Volume:
        """Reads a file; raises ScanError if it is damaged, cut short or RGB, or has several frames or NaN values."""
        with located(files[0], BROKEN):
            return self.parsed(files[0], options).volume()

    def read_labels(self, files: Sequence[Path], options: ReadOptions = STRICT) -> Volume:
        """Reads a file of label numbers; raises ScanError like `read`, or if a value is not such a number."""
        with located(files[0], BROKEN):
            return self.parsed(files[0], options).labels()

    def facts(self, files: Sequence[Path], options: ReadOptions = STRICT) -> Facts:
        """The facts in the header; slices are along the file's slowest axis."""
        return self.parsed(files[0], options).facts()


def _rescaled(voxels: npt.NDArray[Any], slope: float, inter: float) -> npt.NDArray[Any]:
    if (slope, inter) == (1.0, 0.0):
        return voxels
    small = voxels.dtype.kind in "iu" and voxels.dtype.itemsize <= 2
    if small and slope.is_integer() and inter.is_integer() and max(abs(slope), abs(inter)) < MOST_WHOLE:
        # The usual "stored value - 1024": whole numbers stay whole, at a fraction of the cost of float64.
        return voxels.astype(np.int32) * int(slope) + int(inter)
    return voxels * slope + inter
