"""The interface of a reader: how a file format is recognised, read, and described without reading its voxels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.readers.soundness import collect_labels
from maesil.ct.volume import Volume
from maesil.shapes import Shape3


@dataclass(frozen=True)
class Facts:
    """Properties of one scan, as it is on disk.

    Attributes:
        shape: Shape in voxels, slices last: along Superior-Inferior, or along the acquisition.
        in_plane_mm: Mean voxel size within a slice.
        slice_mm: Distance between slices; nan for a single slice that does not state it.
    """

    shape: Shape3
    in_plane_mm: float
    slice_mm: float

    @classmethod
    def of(cls, shape: Shape3, spacing_mm: tuple[float, float, float], slices: int = 0) -> Facts:
        """The facts of an array; `slices` is the axis along which its slices are stacked."""
        rows, columns = (axis for axis in range(3) if axis != slices)
        in_plane_mm = (spacing_mm[rows] + spacing_mm[columns]) / 2
        return cls((shape[columns], shape[rows], shape[slices]), in_plane_mm, spacing_mm[slices])

    @property
    def slices(self) -> int:
        """Number of slices."""
        return self.shape[2]

    @property
    def size(self) -> str:
        """The shape as text, "512x512x133"."""
        return "x".join(map(str, self.shape))


class Reader(ABC):
    """A file format of scans.

    Subclasses are final, import their library only in the functions that use it, and keep these promises, which
    `tests/contracts/test_readers.py` checks for all of them:

    * `read` returns int16 if all values are whole numbers, else float32; voxel centres keep their millimetres.
    * `read` raises a `ScanError` for a file that is damaged or not a sound 3D scan.
    * `facts` reads no voxels; it agrees with the volume that `read` returns, and raises a `ScanError` for a file that
      is cut short; every format has to notice a missing last byte. Its caller names the file and converts the
      library's exceptions.
    """

    name: str
    """Name of the format, as messages show it."""
    endings: tuple[str, ...]
    """Endings of its file names, in lower case."""
    has_series: bool = False
    """Whether a scan is a series of files in a folder, found by their headers; otherwise a file is a scan."""

    def ending_of(self, name: str) -> str | None:
        """The ending of a file name, in lower case; None if the name has another format's ending."""
        return next((ending for ending in self.endings if name.lower().endswith(ending)), None)

    def takes(self, path: Path) -> bool:
        """Whether a file or folder has this format."""
        return self.ending_of(path.name) is not None and not path.is_dir()

    def files(self, path: Path, series: str | None = None) -> tuple[Path, ...]:
        """The files of the scan at `path`: the file itself first, then those that it refers to; or a series'."""
        return (path,)

    @abstractmethod
    def read(self, files: Sequence[Path], options: ReadOptions = STRICT) -> Volume:
        """Reads a scan, given its files: those that `files` lists."""

    def read_labels(self, files: Sequence[Path], options: ReadOptions = STRICT) -> Volume:
        """Reads a file of label numbers, as uint16; raises a `ScanError` if a value is not such a number.

        Formats whose `read` clips values beyond int16 override this, as another number is another structure.
        """
        volume = self.read(files, options)
        return Volume(collect_labels(volume.shape, lambda: iter([(0, volume.array)])), volume.geometry)

    @abstractmethod
    def facts(self, files: Sequence[Path], options: ReadOptions = STRICT) -> Facts:
        """The facts in the header of a scan, given its files: those that `files` lists."""
