"""DICOM series and enhanced multi-frame files, through pydicom."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from maesil.counts import count_of
from maesil.ct.readers.base import Facts, Reader
from maesil.ct.readers.dicom_headers import Series, Slice, find_series, is_localizer, read_header, slices_of
from maesil.ct.readers.dicom_stack import stack
from maesil.ct.readers.modality import modality_text
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.readers.soundness import AGAIN, Slabs, collect, require_sound
from maesil.ct.volume import Volume
from maesil.errors import MissingExtraError, ScanError


@final
class Dicom(Reader):
    """CT series in a folder, and enhanced multi-frame files; array axes are (slices, rows, columns).

    Slices are sorted by position along the slice normal, regardless of names and numbers; each is rescaled with its
    own slope and intercept. HU below air, which scanners use as padding, are kept.
    """

    name = "DICOM"
    endings = (".dcm", ".ima")
    has_series = True

    def takes(self, path: Path) -> bool:
        """Whether a path is a folder, or a file that has the ending or the preamble of a DICOM file."""
        return path.is_dir() or self.ending_of(path.name) is not None or _has_preamble(path)

    def read(self, path: Path, series: str | None = None, options: ReadOptions = STRICT) -> Volume:
        """Reads one CT series; `series` is its SeriesInstanceUID or the last digits.

        Raises:
            ScanError: There is no CT series, more than one, or it is not sound; the message says what to do.
            MissingExtraError: The files are compressed and no decoder is installed.
        """
        try:
            stacked = stack(slices_of(_series_files(path, series)))
        except ScanError as error:
            raise ScanError(error.what, where=error.where or path, fix=error.fix) from error
        require_sound(stacked.geometry)
        return Volume(collect(stacked.geometry.shape, lambda: _slabs(stacked.slices)), stacked.geometry)

    def facts(self, files: Sequence[Path], options: ReadOptions = STRICT) -> Facts:
        """The facts in the headers of a series; whether its slices form a sound volume is checked by `read`."""
        read = [_header_and_wholeness(path) for path in files]
        headers = [header for header, _ in read]
        cut = sum(not whole for _, whole in read)
        if cut:
            reason = (
                "the file is cut short"
                if len(read) == 1
                else f"{cut} of its {len(read)} files {'is' if cut == 1 else 'are'} cut short"
            )
            raise ScanError(reason, fix=AGAIN)
        first, frames = headers[0], sum(_frames(header) for header in headers)
        rows_mm, columns_mm = (float(size) for size in first.get("PixelSpacing", (np.nan, np.nan)))
        return Facts.of((frames, int(first.Rows), int(first.Columns)), (_slice_distance(headers), rows_mm, columns_mm))


def _has_preamble(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError as error:
        raise ScanError(f"the file cannot be opened: {error.strerror}", where=path) from error


def _header_and_wholeness(path: Path) -> tuple[Any, bool]:
    """The header, and whether the file has all pixels that it declares; compressed files are always taken for whole."""
    with path.open("rb") as file:
        header = read_header(file)
        if header is None:
            raise ScanError("the file cannot be read as DICOM", where=path, fix="copy or export it again")
        syntax = header.file_meta.get("TransferSyntaxUID")
        if syntax is None or syntax.is_compressed or syntax.is_deflated:
            return header, True
        start = file.tell()
        voxels = int(header.Rows) * int(header.Columns) * _frames(header)
        expected = voxels * int(header.get("SamplesPerPixel", 1)) * int(header.get("BitsAllocated", 16)) // 8
        tag_and_length = 8 if syntax.is_implicit_VR else 12
        return header, file.seek(0, 2) - start >= expected + tag_and_length


def _frames(header: Any) -> int:
    return int(header.get("NumberOfFrames", 1) or 1)


def _slice_distance(headers: Sequence[Any]) -> float:
    """Median distance between neighbouring slices along their normal; nan if their positions are unknown."""
    placed = [header for header in headers if "ImagePositionPatient" in header and "ImageOrientationPatient" in header]
    if len(placed) < 2:
        return float(headers[0].get("SpacingBetweenSlices", np.nan))
    orientation = np.array(placed[0].ImageOrientationPatient, dtype=np.float64)
    normal = np.cross(orientation[:3], orientation[3:])
    positions = np.array([header.ImagePositionPatient for header in placed], dtype=np.float64)
    return float(np.median(np.diff(np.sort(positions @ normal))))


def _series_files(path: Path, wanted: str | None) -> tuple[Path, ...]:
    if path.is_file():
        header = read_header(path)
        if header is None:
            raise ScanError("the file cannot be read as DICOM", where=path, fix="copy or export it again")
        _require_ct(str(header.get("Modality", "")), path)
        if is_localizer(header):
            raise ScanError("the image is a localizer, not a slice of a volume", where=path, fix="leave it out")
        if _frames(header) < 2:
            raise ScanError("this file is one slice of a series", where=path, fix="give the folder of the series")
        return (path,)
    found = find_series(path)
    if not found:
        raise ScanError("the folder has no DICOM files", where=path, fix="give the folder of a CT series")
    return _choose(found, path, wanted).paths


def _choose(found: Sequence[Series], path: Path, wanted: str | None) -> Series:
    if wanted is not None:
        found = [one for one in found if one.uid.endswith(wanted.lstrip("."))]
        if len(found) != 1:
            raise ScanError(
                f"{len(found)} series match the UID {wanted}",
                where=path,
                fix="give more of its last digits, or the whole UID",
            )
    ct = [one for one in found if one.modality == "CT"]
    if not ct:
        _require_ct(found[0].modality, path)
    imaged = [one for one in ct if one.paths]
    if not imaged:
        raise ScanError("the folder has only localizers", where=path, fix="give the folder of a CT series")
    if len(imaged) > 1:
        listed = ", ".join(f"{one.short_uid} ({count_of(len(one.paths), 'file')})" for one in imaged)
        fix = f"choose one, such as --series {imaged[0].short_uid}"
        raise ScanError(f"the folder has {len(imaged)} CT series: {listed}", where=path, fix=fix)
    return imaged[0]


def _require_ct(modality: str, path: Path) -> None:
    if modality != "CT":
        named = f"of {modality_text(modality)}" if modality else "without a modality"
        raise ScanError(f"the images are {named}, not CT", where=path, fix="only CT is read: its values are HU")


def _slabs(slices: Sequence[Slice]) -> Slabs:
    opened: tuple[Path, npt.NDArray[Any]] | None = None
    for index, one in enumerate(slices):
        if opened is None or opened[0] != one.path:
            opened = (one.path, _pixels(one.path))
        frames = opened[1]
        plane = frames[one.frame] if frames.ndim == 3 else frames
        if plane.shape != (one.rows, one.columns):
            raise ScanError(
                f"the image has {plane.shape} voxels, but its header declares {(one.rows, one.columns)}", where=one.path
            )
        yield index, _rescaled(plane, one)[None]


def _rescaled(plane: npt.NDArray[Any], one: Slice) -> npt.NDArray[Any]:
    if one.slope.is_integer() and one.intercept.is_integer():
        return plane.astype(np.int32) * int(one.slope) + int(one.intercept)
    return plane.astype(np.float64) * one.slope + one.intercept


def _pixels(path: Path) -> npt.NDArray[Any]:
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns about excess padding bytes and the like
            image = pydicom.dcmread(path)
            if "PixelData" not in image:
                raise ScanError("the file has no pixels", where=path, fix="export the images, not only their headers")
            pixels: npt.NDArray[Any] = image.pixel_array
            return pixels
    except (ScanError, MemoryError):
        raise
    except Exception as error:  # every decoder has its own exceptions
        if "missing" in str(error) and ("plugin" in str(error) or "dependenc" in str(error)):
            raise MissingExtraError(
                "the DICOM files are compressed, and no decoder for this compression is installed",
                where=path,
                fix="pip install 'maesil[dicom]'",
            ) from error
        raise ScanError("the pixels are damaged", where=path, fix="copy or export the file again") from error
