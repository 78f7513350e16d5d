"""Headers of DICOM files: which series they form, and where each slice lies. No patient identity is kept."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from maesil.errors import ScanError

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
TAGS = [
    "SOPClassUID", "SeriesInstanceUID", "Modality", "ImageType", "Rows", "Columns", "NumberOfFrames", "PixelSpacing",
    "ImageOrientationPatient", "ImagePositionPatient", "RescaleSlope", "RescaleIntercept", "GantryDetectorTilt",
    "SamplesPerPixel", "BitsAllocated", "SpacingBetweenSlices", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Slice:
    """One image plane of a series.

    Attributes:
        path: File that holds it.
        frame: Index of its frame in the file; 0 in a single-frame file.
        rows: Number of voxels along the column direction.
        columns: Number of voxels along the row direction.
        spacing_mm: Distance between rows, distance between columns.
        row_direction: Unit vector in LPS along which the column index grows.
        column_direction: Unit vector in LPS along which the row index grows.
        position_mm: Centre of the first voxel, LPS.
        slope: HU per stored unit.
        intercept: HU of a stored 0.
    """

    path: Path
    frame: int
    rows: int
    columns: int
    spacing_mm: tuple[float, float]
    row_direction: tuple[float, float, float]
    column_direction: tuple[float, float, float]
    position_mm: tuple[float, float, float]
    slope: float
    intercept: float

    @property
    def normal(self) -> Vector:
        """Unit vector perpendicular to the plane."""
        return np.cross(self.row_direction, self.column_direction)


@dataclass(frozen=True)
class Series:
    """The files of one series.

    Attributes:
        uid: SeriesInstanceUID; it identifies a patient's examination, so it is kept in memory only.
        modality: Modality, such as CT.
        paths: Image files without localizers, sorted by name.
        localizers: Number of localizer images that were left out.
    """

    uid: str
    modality: str
    paths: tuple[Path, ...]
    localizers: int = 0

    @property
    def short_uid(self) -> str:
        """The last digits of the UID, enough to tell the series of a folder apart."""
        return f"...{self.uid[-8:]}"


def find_series(folder: Path) -> tuple[Series, ...]:
    """All series in a folder and its subfolders, of any modality; files that are not DICOM are skipped."""
    files: dict[str, list[Path]] = {}
    modality: dict[str, str] = {}
    localizers: dict[str, int] = {}
    for path in dicom_files(folder):
        header = read_header(path)
        if header is None:
            continue
        uid = str(header.get("SeriesInstanceUID", ""))
        modality[uid] = str(header.get("Modality", ""))
        files.setdefault(uid, [])
        localizers.setdefault(uid, 0)
        if is_localizer(header):
            localizers[uid] += 1
        else:
            files[uid].append(path)
    return tuple(Series(uid, modality[uid], tuple(paths), localizers[uid]) for uid, paths in sorted(files.items()))


def dicom_files(folder: Path) -> Iterable[Path]:
    """Files that may be DICOM, in a stable order."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        yield from (Path(parent) / name for name in sorted(names) if not name.startswith("."))


def read_header(file: Path | BinaryIO, tags: Sequence[str] = TAGS) -> Any | None:
    """Some tags of a DICOM file, as a pydicom `Dataset`; None for any other file.

    An open file is left at the start of its pixels.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values in unused tags do not matter
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(tags))
    except Exception:  # pydicom may raise anything for damaged files
        return None
    return header if "SOPClassUID" in header or "SeriesInstanceUID" in header else None


def is_localizer(header: Any) -> bool:
    """Whether an image is a scout view for planning."""
    return any("LOCALIZER" in str(value).upper() for value in header.get("ImageType", None) or ())


def slices_of(paths: Sequence[Path]) -> list[Slice]:
    """The image planes of the files of one series.

    Raises:
        ScanError: A file is not grey-scale CT, or a geometry tag is missing.
    """
    planes: list[Slice] = []
    for path in paths:
        header = read_header(path)
        if header is None:
            raise ScanError("the file cannot be read as DICOM", where=path, fix="copy or export it again")
        if int(header.get("SamplesPerPixel", 1) or 1) != 1:
            raise ScanError("the image is in colour", where=path, fix="only grey-scale CT is read")
        planes.extend(_frames(header, path) if _is_multi_frame(header) else [_plane(header, path)])
    return planes


def _is_multi_frame(header: Any) -> bool:
    return header.get("SOPClassUID") == ENHANCED_CT or "PerFrameFunctionalGroupsSequence" in header


def _plane(header: Any, path: Path) -> Slice:
    return _slice(
        header,
        path,
        0,
        orientation=_required(header, "ImageOrientationPatient", path),
        position=_required(header, "ImagePositionPatient", path),
        spacing=_required(header, "PixelSpacing", path),
        slope=header.get("RescaleSlope", 1),
        intercept=header.get("RescaleIntercept", 0),
    )


def _frames(header: Any, path: Path) -> list[Slice]:
    """The frames of an enhanced multi-frame image: each tag per frame, or shared by all."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    frames = header.get("PerFrameFunctionalGroupsSequence") or []
    if not frames:
        raise ScanError("the multi-frame image has no per-frame positions", where=path, fix="export it again")

    def find(frame: Any, group: str, name: str, default: Any = None) -> Any:
        for item in (frame, shared):
            sequence = item.get(group)
            if sequence and name in sequence[0]:
                return sequence[0].get(name)
        if default is None:
            raise ScanError(f"the tag {name} is missing", where=path, fix="export the series again")
        return default

    return [
        _slice(
            header,
            path,
            index,
            orientation=find(frame, "PlaneOrientationSequence", "ImageOrientationPatient"),
            position=find(frame, "PlanePositionSequence", "ImagePositionPatient"),
            spacing=find(frame, "PixelMeasuresSequence", "PixelSpacing"),
            slope=find(frame, "PixelValueTransformationSequence", "RescaleSlope", 1),
            intercept=find(frame, "PixelValueTransformationSequence", "RescaleIntercept", 0),
        )
        for index, frame in enumerate(frames)
    ]


def _slice(
    header: Any,
    path: Path,
    frame: int,
    *,
    orientation: Any,
    position: Any,
    spacing: Any,
    slope: Any,
    intercept: Any,
) -> Slice:
    try:
        directions = np.asarray(orientation, dtype=np.float64).reshape(2, 3)
        x, y, z = (float(value) for value in position)
        between_rows, between_columns = (float(value) for value in spacing)
        scale, shift = float(slope), float(intercept)
        rows, columns = int(header.Rows), int(header.Columns)
    except (TypeError, ValueError, AttributeError) as error:
        raise ScanError("a geometry tag of the image is damaged", where=path, fix="export it again") from error
    if min(between_rows, between_columns) <= 0 or not np.isfinite([x, y, z, scale, shift, *directions.flat]).all():
        raise ScanError("the geometry tags of the image have impossible values", where=path, fix="export it again")
    lengths = np.linalg.norm(directions, axis=1)
    if np.abs(lengths - 1).max() > 1e-2 or abs(directions[0] @ directions[1]) > 1e-2:
        raise ScanError("the row and column directions are not at right angles", where=path, fix="export it again")
    along_row, along_column = directions / lengths[:, None]
    return Slice(
        path=path,
        frame=frame,
        rows=rows,
        columns=columns,
        spacing_mm=(between_rows, between_columns),
        row_direction=(float(along_row[0]), float(along_row[1]), float(along_row[2])),
        column_direction=(float(along_column[0]), float(along_column[1]), float(along_column[2])),
        position_mm=(x, y, z),
        slope=scale,
        intercept=shift,
    )


def _required(header: Any, name: str, path: Path) -> Any:
    value = header.get(name)
    if value is None or value == "":
        raise ScanError(f"the tag {name} is missing", where=path, fix="export the series again, with its geometry")
    return value
