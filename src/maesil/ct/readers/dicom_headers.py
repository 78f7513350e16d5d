"""Headers of DICOM files: whether a file is DICOM, what kind it is, and which series the files of a folder form."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from maesil.errors import ScanError
from maesil.walk import walk

MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
"""SOP class of a DICOMDIR, the table of contents of a CD."""

NO_UID = "none"
"""What to give for `series` to read the files that name no series."""

SETTINGS = {
    "AcquisitionNumber": "acquisitions",
    "ConvolutionKernel": "reconstructions (their kernels differ)",
    "SliceThickness": "reconstructions (their slice thicknesses differ)",
    "ReconstructionDiameter": "reconstructions (their diameters differ)",
}
"""Tags that tell images of one series apart, and what they then are."""

NEEDED = [
    "SOPClassUID", "SeriesInstanceUID", "Modality", "ImageType", "Rows", "Columns", "NumberOfFrames", "PixelSpacing",
    "ImageOrientationPatient", "ImagePositionPatient", "RescaleSlope", "RescaleIntercept", "RescaleType",
    "SamplesPerPixel", "BitsAllocated", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
"""Tags without which an image cannot be read; a file in which one of them is damaged is refused."""

OPTIONAL = [
    "SOPInstanceUID", "PatientID", "FrameOfReferenceUID", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "PhotometricInterpretation", "BitsStored", "HighBit", "ModalityLUTSequence", *SETTINGS,
]  # fmt: skip
"""Tags that are taken for absent if they are damaged."""

_FIRST_TAG = re.compile(rb"[\x02\x08]\x00.\x00(?:[A-Z]{2}|..\x00\x00)", re.DOTALL)
"""Start of a file without preamble: a tag of group 2 or 8, then its type, or a length below 2^16."""
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_AGAIN = "copy or export it again"


@dataclass(frozen=True)
class Series:
    """The files of one series.

    Attributes:
        uid: SeriesInstanceUID, "" if its files have none; it identifies an examination, so it is kept in memory only.
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
        return f"...{self.uid[-8:]}" if self.uid else NO_UID


@dataclass(frozen=True)
class FoundSeries:
    """The DICOM files of a folder.

    Attributes:
        series: Series of any modality, sorted by UID.
        damaged: Files that are DICOM but cannot be read, with an error that names each.
    """

    series: tuple[Series, ...]
    damaged: tuple[ScanError, ...]


def find_series(folder: Path) -> FoundSeries:
    """All series in a folder and its subfolders; files that are not DICOM are skipped, and so is a DICOMDIR."""
    headers: dict[str, dict[Path, Any]] = defaultdict(dict)
    damaged: list[ScanError] = []
    for path in walk(folder).files:
        try:
            header = read_header(path) if is_dicom(path) else None
        except ScanError as error:
            damaged.append(error)
        else:
            if header is not None and not is_directory(header):
                headers[str(header.get("SeriesInstanceUID") or "")][path] = header
    return FoundSeries(tuple(_series(uid, headers[uid]) for uid in sorted(headers)), tuple(damaged))


def _series(uid: str, headers: dict[Path, Any]) -> Series:
    images = tuple(path for path, header in headers.items() if not is_localizer(header))
    modality = str(next(iter(headers.values())).get("Modality") or "")
    return Series(uid, modality, images, len(headers) - len(images))


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, judging by its ending or its first bytes; a preamble is not required.

    Raises:
        ScanError: The file cannot be opened.
    """
    if path.suffix.lower() in (".dcm", ".ima"):
        return True
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError as error:
        raise _unopened(path, error) from error
    return start[128:] == b"DICM" or (_FIRST_TAG.match(start) is not None and _is_bare(path))


def _is_bare(path: Path) -> bool:
    """Whether a file without preamble is a DICOM object: its header names a class of stored objects."""
    try:
        return str(read_header(path, ["SOPClassUID"]).get("SOPClassUID", "")).startswith(_STORAGE)
    except ScanError:
        return False


def read_header(
    file: Path | BinaryIO, tags: Sequence[str] = (*NEEDED, *OPTIONAL), optional: Collection[str] = frozenset(OPTIONAL)
) -> Any:
    """Some tags of a DICOM file, as a pydicom `Dataset` whose values are decoded; `get` never raises.

    Args:
        file: File, or an open one, which is left at the start of its pixels.
        tags: Keywords of the tags to read.
        optional: Those of them that are left out if they are damaged.

    Raises:
        ScanError: The file cannot be opened, is empty, not DICOM, or damaged in a tag that is not optional.
    """
    import pydicom

    where = file if isinstance(file, Path) else getattr(file, "name", None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values in unused tags do not matter
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(tags), force=True)
            _decode(header, optional)
            directory = header.file_meta.get("MediaStorageSOPClassUID") == MEDIA_DIRECTORY
    except OSError as error:
        raise _unopened(where, error) from error
    except Exception as error:  # pydicom may raise anything for damaged files
        raise ScanError(_why_unread(where), where=where, fix=_AGAIN) from error
    if directory:
        header.SOPClassUID = MEDIA_DIRECTORY
    if "SOPClassUID" not in header and "SeriesInstanceUID" not in header:
        raise ScanError(_why_unread(where), where=where, fix=_AGAIN)
    return header


def _decode(header: Any, optional: Collection[str]) -> None:
    """Decodes all values, which pydicom does only when they are asked for."""
    from pydicom.datadict import keyword_for_tag

    for tag in list(header.keys()):
        try:
            element = header[tag]
            if element.VR == "SQ":
                for item in element.value:
                    for _ in item.iterall():
                        pass
        except Exception:
            if keyword_for_tag(tag) not in optional:
                raise
            del header[tag]


def _unopened(path: object, error: OSError) -> ScanError:
    reason = error.strerror or type(error).__name__
    return ScanError(f"the file cannot be opened: {reason}", where=path, fix="check its permissions, or copy it again")


def _why_unread(path: object) -> str:
    empty = isinstance(path, Path) and path.stat().st_size == 0
    return "the file is empty" if empty else "the file cannot be read as DICOM"


def is_directory(header: Any) -> bool:
    """Whether a file is the table of contents of a CD."""
    return bool(header.get("SOPClassUID") == MEDIA_DIRECTORY)


def is_localizer(header: Any) -> bool:
    """Whether an image is a scout view for planning."""
    return any("LOCALIZER" in word for word in image_type(header))


def image_type(header: Any) -> tuple[str, ...]:
    """The values of ImageType, in upper case."""
    return words_of(header.get("ImageType"))


def words_of(value: Any) -> tuple[str, ...]:
    """The values of a tag with one word or several, in upper case; none if it is absent."""
    return tuple(str(word).strip().upper() for word in ([value] if isinstance(value, str) else value or ()))


def frames_of(header: Any) -> int:
    """Number of frames in a file."""
    return int(header.get("NumberOfFrames") or 1)
