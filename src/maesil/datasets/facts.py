"""What a scan's header says, and whether its file is whole: without reading its voxels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maesil.datasets.names import ending_of
from maesil.datasets.scan import Scan
from maesil.errors import MaesilError, ScanError

READERS = 8
"""Threads that wait for files."""


@dataclass(frozen=True)
class Facts:
    """Of one scan, as it lies on disk.

    Attributes:
        slices: Along Superior-Inferior, or along the acquisition.
        in_plane_mm: Mean voxel size within a slice.
        slice_mm: Distance of slices; nan where one slice says nothing of it.
        size: Voxels of the whole scan, "512x512x133", slices last.
    """

    slices: int
    in_plane_mm: float
    slice_mm: float
    size: str


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
    except Exception as error:  # libraries raise anything on damaged files
        raise ScanError(f"its header cannot be read: {error}", where=scan.path, fix="copy it again") from error


def facts_of_all(
    scans: Sequence[Scan], progress: Callable[[int, int, str], None] | None = None
) -> list[Facts | ScanError]:
    """Facts, or why there are none, in the order of the scans."""
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
    _require_whole(path, int(image.dataobj.offset) + voxels)
    codes = nibabel.aff2axcodes(image.affine)
    return _facts(
        shape[:3],
        [float(size) for size in header.get_zooms()[:3]],
        next((i for i, code in enumerate(codes) if code in "SI"), 2),
    )


def _require_whole(path: Path, expected: int) -> None:
    """A plain file's size, or what gzip wrote last: the size of what it holds, modulo 2^32. Costs four bytes."""
    with path.open("rb") as file:
        if path.suffix == ".gz":
            file.seek(-4, 2)
            held, expected = int.from_bytes(file.read(4), "little"), expected % 2**32
        else:
            held = file.seek(0, 2)
    if held < expected or (path.suffix == ".gz" and held != expected):
        raise ScanError("the file is cut short", where=path, fix="copy or download it again")


def _itk(path: Path) -> Facts:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return _facts(reader.GetSize()[:3], reader.GetSpacing()[:3], 2)


def _dicom(scan: Scan) -> Facts:
    import pydicom

    tags = ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "NumberOfFrames"]
    tags.append("SpacingBetweenSlices")
    headers = [pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags) for path in scan.files]
    first = headers[0]
    rows, columns = int(first.Rows), int(first.Columns)
    frames = sum(int(header.get("NumberOfFrames", 1) or 1) for header in headers)
    pixel = [float(size) for size in first.get("PixelSpacing", (np.nan, np.nan))]
    return _facts((columns, rows, frames), (pixel[1], pixel[0], _slice_distance(headers)), 2)


def _slice_distance(headers: Sequence[Any]) -> float:
    """Median distance of neighbouring slices along their normal; nan where positions say nothing."""
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
    ordered = [*others, axis]
    return Facts(
        slices=int(size[axis]),
        in_plane_mm=float(np.mean([float(spacing[index]) for index in others])),
        slice_mm=float(spacing[axis]),
        size="x".join(str(int(size[index])) for index in ordered),
    )
