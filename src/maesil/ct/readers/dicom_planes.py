"""The image planes of DICOM files: where each lies, and how its stored values become HU. No identity is kept."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maesil.counts import count_of
from maesil.ct.geometry import GeometryWarning
from maesil.ct.readers.dicom_headers import SETTINGS, frames_of, image_type, is_localizer, words_of
from maesil.ct.readers.modality import modality_text
from maesil.errors import ScanError

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""Start of the SOP classes of screenshots."""
NOT_HU = frozenset({"MAT_SPECIFIC", "MAT_FRACTIONAL", "MAT_VALUE_BASED", "EFF_ATOMIC_NUM", "ELECTRON_DENSITY"})
"""Values of ImageType and FrameType for maps of a spectral CT, unless their unit is stated to be HU."""
MAPS = frozenset({"IODINE", "IODINE_MAP", "Z_EFF", "ZEFF", "CBF", "CBV", "MTT", "TTP", "TMAX"})
"""Values of ImageType that scanners give to maps of iodine, atomic numbers and perfusion, whatever unit they state."""
MOST_SCALE = 1e6
"""Greatest slope and intercept: stored values and HU both have a few thousand steps."""

_EXPORT = "export the series again"
_DAMAGED = (TypeError, ValueError, AttributeError, IndexError, KeyError, OverflowError)
Vector = npt.NDArray[np.float64]
Float3 = tuple[float, float, float]


@dataclass(frozen=True)
class Padding:
    """Stored values that fill the image outside the field of view.

    Attributes:
        first: PixelPaddingValue, as the bits of an unsigned number.
        last: PixelPaddingRangeLimit likewise, or the same value.
    """

    first: int
    last: int


@dataclass(frozen=True)
class Slice:
    """One image plane of a series.

    Attributes:
        path: File that holds it.
        frame: Index of its frame in the file; 0 in a single-frame file.
        frames: Number of frames in the file.
        rows: Number of voxels along the column direction.
        columns: Number of voxels along the row direction.
        spacing_mm: Distance between rows, distance between columns.
        row_direction: Unit vector in LPS along which the column index grows.
        column_direction: Unit vector in LPS along which the row index grows.
        position_mm: Centre of the first voxel, LPS.
        slope: HU per stored unit.
        intercept: HU of a stored 0.
        scaled: Whether the header states slope and intercept; if not, they are 1 and 0.
        unit: RescaleType, "" if the header has none.
        padding: Stored values outside the field of view; None if the header names none.
        uid: SOPInstanceUID, which a copy of the file shares.
        frame_of_reference: FrameOfReferenceUID; positions can be compared only within one.
        settings: Values of the tags in `SETTINGS`, as text.
        kinds: Values of ImageType, and of the frame's FrameType.
    """

    path: Path
    frame: int
    frames: int
    rows: int
    columns: int
    spacing_mm: tuple[float, float]
    row_direction: Float3
    column_direction: Float3
    position_mm: Float3
    slope: float
    intercept: float
    scaled: bool = True
    unit: str = ""
    padding: Padding | None = None
    uid: str = ""
    frame_of_reference: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    kinds: frozenset[str] = frozenset()

    @property
    def normal(self) -> Vector:
        """Unit vector perpendicular to the plane."""
        return np.cross(self.row_direction, self.column_direction)


def slices_of(headers: Iterable[tuple[Path, Any]]) -> list[Slice]:
    """The image planes of the files of one series; localizers and screenshots are left out, with a warning.

    Args:
        headers: Files, and what `read_header` says about each.

    Raises:
        ScanError: A file is not grey-scale CT in HU, a geometry tag is missing or damaged, there is no image, or
            patients are mixed.
    """
    planes: list[Slice] = []
    patients, localizers, screenshots = set[str](), 0, 0
    for path, header in headers:
        require_ct(header, path)
        if is_localizer(header):
            localizers += 1
        elif _is_screenshot(header):
            screenshots += 1
        else:
            patients.add(str(header.get("PatientID") or ""))
            planes += planes_of(header, path)
    if not planes:
        what = "the series has only localizers" if localizers else "the series has only screenshots, without positions"
        raise ScanError(what, fix="leave it out")
    if len(patients) > 1:
        raise ScanError(
            f"the series has slices of {len(patients)} patients (PatientID)",
            fix="put the files of each patient into a folder and a series of their own",
        )
    if localizers:
        warn_of_localizers(localizers)
    if screenshots:
        count = count_of(screenshots, "screenshot without a position was", "screenshots without positions were")
        warn(f"{count} left out")
    return planes


def warn(message: str) -> None:
    """Tells the caller of a reader what had to be assumed."""
    warnings.warn(message, GeometryWarning, stacklevel=2)


def warn_of_localizers(count: int) -> None:
    """Tells how many localizers were left out of a series."""
    warn(f"{count_of(count, 'localizer was', 'localizers were')} left out")


def require_ct(header: Any, path: Path) -> None:
    """Refuses a file of another modality.

    Raises:
        ScanError: It is not CT.
    """
    require_modality(str(header.get("Modality") or ""), path)


def require_modality(modality: str, path: Path) -> None:
    """Refuses another modality than CT.

    Raises:
        ScanError: It is not CT.
    """
    if modality != "CT":
        named = f"of {modality_text(modality)}" if modality else "without a modality"
        raise ScanError(f"the images are {named}, not CT", where=path, fix="only CT is read: its values are HU")


def _is_screenshot(header: Any) -> bool:
    """Whether an image is a secondary capture without a place, such as a dose report."""
    secondary = str(header.get("SOPClassUID") or "").startswith(SECONDARY_CAPTURE)
    return secondary and _is_empty(header.get("ImagePositionPatient")) and not _is_multi_frame(header)


def planes_of(header: Any, path: Path) -> list[Slice]:
    """The image planes of one file.

    Args:
        header: Header from `read_header`.
        path: Path of the file.

    Raises:
        ScanError: It is not grey-scale CT in HU, or a geometry tag is missing or damaged.
    """
    try:
        _require_grey(header, path)
        planes = _frames(header, path) if _is_multi_frame(header) else [_plane(header, path)]
    except _DAMAGED as error:
        raise ScanError("a tag of the image is damaged", where=path, fix=_EXPORT) from error
    for plane in planes:
        _require_hu(plane)
    return planes


def _require_grey(header: Any, path: Path) -> None:
    """Refuses images whose stored values are colours, or become HU in another way than by slope and intercept."""
    photometric = str(header.get("PhotometricInterpretation") or "MONOCHROME2").upper()
    if int(header.get("SamplesPerPixel") or 1) != 1 or not photometric.startswith("MONOCHROME"):
        raise ScanError("the image is in colour", where=path, fix="only grey-scale CT is read")
    if header.get("ModalityLUTSequence"):
        what = "the stored values become HU by a table (ModalityLUTSequence), which is not read"
        raise ScanError(what, where=path, fix=f"{_EXPORT}, with RescaleSlope and RescaleIntercept")
    stored, high = int(header.get("BitsStored") or 0), int(header.get("HighBit") or 0)
    if stored and high >= stored:
        what = f"the pixels do not fill the lowest bits: BitsStored is {stored}, but HighBit is {high}"
        raise ScanError(what, where=path, fix=_EXPORT)


def _is_multi_frame(header: Any) -> bool:
    return header.get("SOPClassUID") == ENHANCED_CT or "PerFrameFunctionalGroupsSequence" in header


def _plane(header: Any, path: Path) -> Slice:
    if frames_of(header) > 1:
        what = f"the file has {frames_of(header)} frames, but no positions for them"
        raise ScanError(what, where=path, fix=f"{_EXPORT}, as single slices or as enhanced CT")
    return _slice(
        header,
        path,
        0,
        orientation=_required(header, "ImageOrientationPatient", path),
        position=_required(header, "ImagePositionPatient", path),
        spacing=_required(header, "PixelSpacing", path),
        slope=header.get("RescaleSlope"),
        intercept=header.get("RescaleIntercept"),
        unit=header.get("RescaleType"),
        settings={name: str(header[name].value) for name in SETTINGS if name in header},
        kinds=image_type(header),
    )


def _frames(header: Any, path: Path) -> list[Slice]:
    """The frames of an enhanced multi-frame image: each tag per frame, or shared by all."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    groups = header.get("PerFrameFunctionalGroupsSequence") or []
    if not groups:
        raise ScanError("the multi-frame image has no per-frame positions", where=path, fix=_EXPORT)
    if len(groups) != frames_of(header):
        counts = f"{count_of(frames_of(header), 'frame')}, but positions for {len(groups)}"
        raise ScanError(f"the multi-frame image has {counts}", where=path, fix=_EXPORT)

    def find(frame: Any, group: str, name: str) -> Any:
        for item in (frame, shared):
            sequence = item.get(group)
            if sequence and sequence[0].get(name) is not None:
                return sequence[0].get(name)
        return None

    def required(frame: Any, group: str, name: str) -> Any:
        value = find(frame, group, name)
        if value is None:
            raise ScanError(f"the tag {name} is missing", where=path, fix=f"{_EXPORT}, with its geometry")
        return value

    return [
        _slice(
            header,
            path,
            index,
            orientation=required(frame, "PlaneOrientationSequence", "ImageOrientationPatient"),
            position=required(frame, "PlanePositionSequence", "ImagePositionPatient"),
            spacing=required(frame, "PixelMeasuresSequence", "PixelSpacing"),
            slope=find(frame, "PixelValueTransformationSequence", "RescaleSlope"),
            intercept=find(frame, "PixelValueTransformationSequence", "RescaleIntercept"),
            unit=find(frame, "PixelValueTransformationSequence", "RescaleType"),
            settings=_settings(find, frame),
            kinds=(*image_type(header), *words_of(find(frame, "CTImageFrameTypeSequence", "FrameType"))),
        )
        for index, frame in enumerate(groups)
    ]


def _settings(find: Any, frame: Any) -> dict[str, str]:
    found = {
        "AcquisitionNumber": find(frame, "FrameContentSequence", "FrameAcquisitionNumber"),
        "ConvolutionKernel": find(frame, "CTReconstructionSequence", "ConvolutionKernel"),
        "SliceThickness": find(frame, "PixelMeasuresSequence", "SliceThickness"),
    }
    return {name: str(value) for name, value in found.items() if value is not None}


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
    unit: Any,
    settings: dict[str, str],
    kinds: Iterable[str],
) -> Slice:
    directions = np.asarray(orientation, dtype=np.float64).reshape(2, 3)
    x, y, z = (float(value) for value in position)
    between_rows, between_columns = (float(value) for value in spacing)
    scaled = not (_is_empty(slope) or _is_empty(intercept))
    scale = 1.0 if _is_empty(slope) else float(slope)
    shift = 0.0 if _is_empty(intercept) else float(intercept)
    sizes = [between_rows, between_columns]
    if max(abs(scale), abs(shift)) > MOST_SCALE:
        raise ScanError("RescaleSlope or RescaleIntercept has an impossible value", where=path, fix=_EXPORT)
    if min(sizes) <= 0 or not np.isfinite([x, y, z, scale, shift, *sizes, *directions.flat]).all():
        raise ScanError("the geometry tags of the image have impossible values", where=path, fix=_EXPORT)
    lengths = np.linalg.norm(directions, axis=1)
    if np.abs(lengths - 1).max() > 1e-2 or abs(directions[0] @ directions[1]) > 1e-2:
        raise ScanError("the row and column directions are not at right angles", where=path, fix=_EXPORT)
    along_row, along_column = directions / lengths[:, None]
    return Slice(
        path=path,
        frame=frame,
        frames=frames_of(header),
        rows=int(header.Rows),
        columns=int(header.Columns),
        spacing_mm=(between_rows, between_columns),
        row_direction=(float(along_row[0]), float(along_row[1]), float(along_row[2])),
        column_direction=(float(along_column[0]), float(along_column[1]), float(along_column[2])),
        position_mm=(x, y, z),
        slope=scale,
        intercept=shift,
        scaled=scaled,
        unit=str(unit or "").strip().upper(),
        padding=_padding(header),
        uid=str(header.get("SOPInstanceUID") or ""),
        frame_of_reference=str(header.get("FrameOfReferenceUID") or ""),
        settings=settings,
        kinds=frozenset(kinds),
    )


def _is_empty(value: Any) -> bool:
    return value is None or value == ""


def _padding(header: Any) -> Padding | None:
    """The padding of an image; its tags may be of either sign, whatever the sign of the pixels is."""
    first = header.get("PixelPaddingValue")
    if not isinstance(first, int):
        return None
    last = header.get("PixelPaddingRangeLimit")
    bits = (1 << int(header.get("BitsAllocated") or 16)) - 1
    low, high = sorted((first, last if isinstance(last, int) else first))
    return Padding(low & bits, high & bits)


def _require_hu(plane: Slice) -> None:
    """Refuses maps of other quantities: of iodine, of atomic numbers, of perfusion."""
    material = plane.kinds & (MAPS if plane.unit == "HU" else MAPS | NOT_HU)
    if plane.unit not in ("", "HU", "US") or material:
        named = "by RescaleType" if plane.unit not in ("", "US") else f"by ImageType {', '.join(sorted(material))}"
        raise ScanError(
            f"the values are not Hounsfield units, {named}: they map another quantity, such as iodine or perfusion",
            where=plane.path,
            fix="leave such maps out, and give the series in HU",
        )
    if plane.slope < 0:
        what = "RescaleSlope is negative, so that air would be the densest: the values are not Hounsfield units"
        raise ScanError(what, where=plane.path, fix=_EXPORT)
    if plane.slope == 0:
        what = "RescaleSlope is 0, so that every voxel has one value: the values are not Hounsfield units"
        raise ScanError(what, where=plane.path, fix=_EXPORT)


def _required(header: Any, name: str, path: Path) -> Any:
    value = header.get(name)
    if _is_empty(value):
        raise ScanError(f"the tag {name} is missing", where=path, fix=f"{_EXPORT}, with its geometry")
    return value
