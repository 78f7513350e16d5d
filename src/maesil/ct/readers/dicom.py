"""DICOM series and enhanced multi-frame files, through pydicom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from maesil.counts import count_of
from maesil.ct.readers.base import Facts, Reader
from maesil.ct.readers.dicom_headers import (
    NO_UID,
    FoundSeries,
    Series,
    find_series,
    frames_of,
    is_dicom,
    is_directory,
    is_localizer,
    read_header,
)
from maesil.ct.readers.dicom_pixels import frame_of, pixel_bytes, planes_in_hu, stored_frames, syntax_of
from maesil.ct.readers.dicom_planes import (
    Slice,
    require_ct,
    require_modality,
    slices_of,
    warn,
    warn_of_localizers,
)
from maesil.ct.readers.dicom_resample import volume_planes
from maesil.ct.readers.dicom_stack import MOST_SETTINGS, mixed_settings, stack, without_copies
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.readers.soundness import AGAIN, collect, require_sound
from maesil.ct.volume import Volume
from maesil.errors import ScanError


@final
class Dicom(Reader):
    """CT series in a folder, and enhanced multi-frame files; array axes are (slices, rows, columns).

    Slices are sorted by position along the slice normal, regardless of names and numbers; each is rescaled with its
    own slope and intercept. HU below air, which scanners use as padding, are kept; padding above air becomes air.

    Warns:
        GeometryWarning: Files of the series were left out, or something about it had to be assumed or corrected.
    """

    name = "DICOM"
    endings = (".dcm", ".ima")
    has_series = True

    def takes(self, path: Path) -> bool:
        """Whether a path is a folder, or a file that has the ending or the first bytes of a DICOM file."""
        return path.is_dir() or is_dicom(path)

    def files(self, path: Path, series: str | None = None) -> tuple[Path, ...]:
        """The files of a CT series in a file or folder.

        Args:
            path: A folder, or an enhanced multi-frame file.
            series: SeriesInstanceUID of the series or its last digits; "none" for files without one.

        Raises:
            ScanError: There is no CT series, more than one, or no such series; the message says what to do.
        """
        if path.is_file():
            return _single_file(path)
        found = find_series(path)
        for damaged in found.damaged:
            warn(f"{damaged.where}: {damaged.what}; it was left out")
        if not found.series:
            raise _nothing_found(found, path)
        return _choose(found.series, path, series).paths

    def read(self, files: Sequence[Path], options: ReadOptions = STRICT) -> Volume:
        """Reads one CT series.

        Raises:
            ScanError: It is not sound; the message says what to do.
            MissingExtraError: The files are compressed and no decoder is installed.
        """
        planes = slices_of((path, read_header(path)) for path in files)
        distinct = without_copies(planes, _same_pixels)
        if copies := len(planes) - len(distinct):
            warn(f"{count_of(copies, 'slice is a copy', 'slices are copies')} of another one; each was read once")
        stacked = stack(distinct, options)
        require_sound(stacked.geometry)
        for remark in (*_assumptions(distinct), *stacked.remarks):
            warn(remark)
        geometry = stacked.geometry
        return Volume(collect(geometry.shape, lambda: volume_planes(planes_in_hu(stacked.slices), stacked)), geometry)

    def facts(self, files: Sequence[Path], options: ReadOptions = STRICT) -> Facts:
        """The facts in the headers of a series."""
        read = {path: _header_and_wholeness(path) for path in files}
        cut = sum(not whole for _, whole in read.values())
        if cut:
            of_files = f"{cut} of its {len(files)} files {'is' if cut == 1 else 'are'}"
            raise ScanError(f"{'the file is' if len(files) == 1 else of_files} cut short", fix=AGAIN)
        planes = slices_of((path, header) for path, (header, _) in read.items())
        geometry = stack(without_copies(planes, lambda one, other: one.uid == other.uid), options).geometry
        require_sound(geometry)
        return Facts.of(geometry.shape, geometry.spacing_mm)


def _header_and_wholeness(path: Path) -> tuple[Any, bool]:
    """The header, and whether the file has all pixels that it declares; compressed files are always taken for whole."""
    with path.open("rb") as file:
        header = read_header(file)
        syntax = syntax_of(header)
        if syntax.is_compressed or syntax.is_deflated:
            return header, True
        start = file.tell()
        tag_and_length = 8 if syntax.is_implicit_VR else 12
        return header, file.seek(0, 2) - start >= pixel_bytes(header) + tag_and_length


def _single_file(path: Path) -> tuple[Path, ...]:
    header = read_header(path)
    if is_directory(header):
        raise ScanError("this file is the table of contents of a CD", where=path, fix="give the folder of the CD")
    require_ct(header, path)
    if is_localizer(header):
        raise ScanError("the image is a localizer, not a slice of a volume", where=path, fix="leave it out")
    if frames_of(header) < 2:
        raise ScanError("this file is one slice of a series", where=path, fix="give the folder of the series")
    return (path,)


def _nothing_found(found: FoundSeries, path: Path) -> ScanError:
    if found.damaged:
        first = found.damaged[0]
        return ScanError(f"the folder has no DICOM files that can be read: {first.what}", where=path, fix=first.fix)
    fix = "give the folder of a CT series; scans of other formats one by one, as files"
    return ScanError("the folder has no DICOM files", where=path, fix=fix)


def _choose(found: Sequence[Series], path: Path, wanted: str | None) -> Series:
    if wanted is not None:
        found = _matching(found, wanted)
        if len(found) != 1:
            raise ScanError(
                f"{len(found)} series match the UID {wanted}",
                where=path,
                fix="give more of its last digits, or the whole UID",
            )
    ct = [one for one in found if one.modality == "CT"]
    if not ct:
        require_modality(found[0].modality, path)
    imaged = [one for one in ct if one.paths]
    if not imaged:
        raise ScanError("the folder has only localizers", where=path, fix="give the folder of a CT series")
    if len(imaged) > 1:
        listed = ", ".join(f"{one.short_uid} ({count_of(len(one.paths), 'file')})" for one in imaged)
        fix = f"choose one, such as --series {imaged[0].short_uid}"
        raise ScanError(f"the folder has {len(imaged)} CT series: {listed}", where=path, fix=fix)
    if imaged[0].localizers:
        warn_of_localizers(imaged[0].localizers)
    return imaged[0]


def _matching(found: Sequence[Series], wanted: str) -> list[Series]:
    """The series of this UID, or those that end with it."""
    if wanted == NO_UID:
        return [one for one in found if not one.uid]
    exact = [one for one in found if one.uid == wanted]
    return exact or [one for one in found if one.uid.endswith(wanted.lstrip("."))]


def _same_pixels(one: Slice, other: Slice) -> bool:
    """Whether two slices at one place have the same HU."""
    if one is other:
        return True
    if (one.slope, one.intercept, one.padding) != (other.slope, other.intercept, other.padding):
        return False
    return np.array_equal(frame_of(stored_frames(one.path), one), frame_of(stored_frames(other.path), other))


def _assumptions(planes: Sequence[Slice]) -> list[str]:
    """What has to be assumed about slices, in words."""
    unscaled = sum(not plane.scaled for plane in planes)
    remarks = []
    if unscaled:
        of_all = f"in {unscaled} of {count_of(len(planes), 'slice')}"
        remarks.append(f"RescaleSlope or RescaleIntercept is missing {of_all}: the stored values were taken for HU")
    if any(plane.unit == "US" for plane in planes):
        remarks.append("RescaleType leaves the unit of the values open: they were taken for HU")
    frames = len({plane.frame_of_reference for plane in planes})
    if 1 < frames <= MOST_SETTINGS:  # some tools that remove identities give each slice its own
        remarks.append(f"the slices have {frames} frames of reference: their positions were taken for comparable")
    mixed = mixed_settings(planes, ("ConvolutionKernel", "ReconstructionDiameter"))
    return [*remarks, *(f"the series consists of slices of {kinds}" for kinds in mixed)]
