"""What a scan's header says, and whether its file is complete, without reading the voxels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maesil.datasets.names import ending_of
from maesil.datasets.scan import Scan
from maesil.datasets.whole import FIX, is_whole_dicom, require_data, require_whole, require_whole_image
from maesil.errors import MaesilError, ScanError
from maesil.shapes import Shape3
from maesil.tiling import Tiling

_TAGS: list[Any] = [
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices", "Rows", "Columns",
    "NumberOfFrames", "SamplesPerPixel", "BitsAllocated",
]  # fmt: skip

PREPARED_MM = 1.5
"""Default voxel size of `prepare`."""

READERS = 8
"""Number of threads that read files."""


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

    @property
    def slices(self) -> int:
        """Number of slices."""
        return self.shape[2]

    @property
    def size(self) -> str:
        """The shape as text, "512x512x133"."""
        return "x".join(map(str, self.shape))

    @property
    def superpatches(self) -> int:
        """Number of superpatches with the defaults of `prepare` and `pretrain`; some may be all air."""
        slice_mm = self.slice_mm if math.isfinite(self.slice_mm) else self.in_plane_mm
        edges = zip(self.shape, (self.in_plane_mm, self.in_plane_mm, slice_mm), strict=True)
        first, second, along = (max(1, round(voxels * size / PREPARED_MM)) for voxels, size in edges)
        return len(Tiling((along, first, second)))


def facts_of(scan: Scan) -> Facts:
    """The facts of a scan.

    Raises:
        ScanError: A header cannot be read, or the file is shorter than its header says.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if scan.series is not None or scan.path.is_dir():
                return _dicom(scan)
            if ending_of(scan.path.name) in (".nii", ".nii.gz"):
                return _nifti(scan.path)
            return _itk(scan.path)
    except MaesilError:
        raise
    except Exception as error:  # libraries may raise anything for damaged files
        raise ScanError(f"its header cannot be read: {error}", where=scan.path, fix="copy it again") from error


def facts_of_all(
    scans: Sequence[Scan], progress: Callable[[int, int, str], None] | None = None
) -> list[Facts | ScanError]:
    """The facts of each scan, or the error that prevented them, in the order of the scans."""
    found: list[Facts | ScanError] = []
    with ThreadPoolExecutor(READERS) as pool:
        for scan, facts in zip(scans, pool.map(_tried, scans), strict=True):
            found.append(facts)
            if progress is not None:
                progress(len(found), len(scans), scan.scan_id)
    return found


def _tried(scan: Scan) -> Facts | ScanError:
    try:
        return facts_of(scan)
    except ScanError as error:
        return error


def _nifti(path: Path) -> Facts:
    import nibabel

    image: Any = nibabel.load(path)
    header, shape = image.header, image.shape
    if len([size for size in shape if size > 1]) > 3:
        raise ScanError(f"it has {len(shape)} dimensions", where=path, fix="split it into volumes")
    voxels = int(np.prod(shape, dtype=np.int64)) * header.get_data_dtype().itemsize
    require_whole(path, int(image.dataobj.offset) + voxels)
    codes = nibabel.aff2axcodes(image.affine)
    return _facts(
        shape[:3],
        [float(size) for size in header.get_zooms()[:3]],
        next((i for i, code in enumerate(codes) if code in "SI"), 2),
    )


def _itk(path: Path) -> Facts:
    import SimpleITK

    require_data(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    voxel = SimpleITK.Image([1] * 3, reader.GetPixelID()).GetSizeOfPixelComponent() * reader.GetNumberOfComponents()
    require_whole_image(path, int(np.prod(reader.GetSize(), dtype=np.int64)) * voxel)
    return _facts(reader.GetSize()[:3], reader.GetSpacing()[:3], 2)


def _dicom(scan: Scan) -> Facts:
    read = [_dicom_header(path) for path in scan.files]
    headers = [header for header, _ in read]
    cut = sum(not whole for _, whole in read)
    if cut:
        reason = "the file is cut short" if len(read) == 1 else f"{cut} of its {len(read)} files are cut short"
        raise ScanError(reason, where=scan.path, fix=FIX)
    first = headers[0]
    rows, columns = int(first.Rows), int(first.Columns)
    frames = sum(int(header.get("NumberOfFrames", 1) or 1) for header in headers)
    pixel = [float(size) for size in first.get("PixelSpacing", (np.nan, np.nan))]
    return _facts((columns, rows, frames), (pixel[1], pixel[0], _slice_distance(headers)), 2)


def _dicom_header(path: Path) -> tuple[Any, bool]:
    """The header, and whether the file is complete."""
    import pydicom

    with path.open("rb") as file:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
        return header, is_whole_dicom(header, file)


def _slice_distance(headers: Sequence[Any]) -> float:
    """Median distance between neighbouring slices along their normal; nan if their positions are unknown."""
    placed = [header for header in headers if "ImagePositionPatient" in header and "ImageOrientationPatient" in header]
    if len(placed) < 2:
        return float(headers[0].get("SpacingBetweenSlices", np.nan))
    orientation = np.array(placed[0].ImageOrientationPatient, dtype=np.float64)
    normal = np.cross(orientation[:3], orientation[3:])
    along = np.sort(
        [float(np.dot(normal, np.array(header.ImagePositionPatient, dtype=np.float64))) for header in placed]
    )
    return float(np.median(np.diff(along)))


def _facts(size: Sequence[int], spacing: Sequence[float], axis: int) -> Facts:
    others = [index for index in range(3) if index != axis]
    return Facts(
        shape=(int(size[others[0]]), int(size[others[1]]), int(size[axis])),
        in_plane_mm=float(np.mean([float(spacing[index]) for index in others])),
        slice_mm=float(spacing[axis]),
    )
