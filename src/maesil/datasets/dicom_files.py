"""DICOM files as scans: one per CT series, identified only by salted hashes."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maesil.counts import count_of
from maesil.ct.readers.dicom_headers import is_dicom, is_directory, is_localizer, read_header
from maesil.ct.readers.modality import modality_text
from maesil.datasets.identity import IDENTITY_TAGS, Identities, identities_of
from maesil.datasets.names import NAMED, safe_name
from maesil.datasets.naming import UNNAMED, Naming
from maesil.datasets.scan import HASHED, Problem, Scan
from maesil.errors import ScanError

DERIVED = frozenset({"SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "SR", "PR", "KO", "REG", "DOC"})
"""Modalities of files that describe scans: they count as labels."""

LEAST_SPLIT = 3
"""Number of series of one slice each, in one folder, that must be slices of one series."""

_TAGS = ["SOPClassUID", "Modality", "ImageType", "NumberOfFrames", *IDENTITY_TAGS]
_OPTIONAL = frozenset(_TAGS) - {"SOPClassUID", "SeriesInstanceUID", "Modality"}
_WORDY_ENDING = re.compile(r"\.[a-z]{2,}\w*$", re.IGNORECASE)


@dataclass(frozen=True)
class _File:
    path: Path
    series: str
    modality: str
    patient: str
    identities: Identities
    is_slice: bool


def dicom_scans(paths: Sequence[Path], root: Path, naming: Naming) -> tuple[list[Scan], list[Problem], int]:
    """The CT series among files of any kind.

    Args:
        paths: Files; those that are not DICOM are skipped.
        root: Source that they were found in.
        naming: Rules for their names.

    Returns:
        The scans; other modalities and damaged files, as problems; the number of files that describe scans
        (segmentations, structure sets, reports), which are skipped. Tables of contents (DICOMDIR) are ignored.
    """
    series: dict[str, list[_File]] = defaultdict(list)
    damaged: dict[Path, str] = {}
    others: list[Path] = []
    for path in paths:
        try:
            header = read_header(path, _TAGS, _OPTIONAL) if is_dicom(path) else None
        except ScanError as error:
            damaged[path] = error.what
            continue
        if header is None:
            others.append(path)
        elif not is_directory(header):
            file = _file(path, header)
            series[file.series].append(file)
    known = (file.path for files in series.values() for file in files)
    damaged |= _lost_slices(others, {*known, *damaged})
    scans, derived = list[Scan](), 0
    problems = _damaged(damaged, root, naming)
    for alone in _split_series(series):
        problems.append(_split(alone, naming))
        for file in alone:
            del series[file.series]
    for files in series.values():
        modality = files[0].modality
        if modality in DERIVED:
            derived += len(files)
        elif modality not in ("CT", ""):
            problems.append(_not_ct(files, naming))
        else:
            scans.append(_scan(files, root, naming))
    return scans, problems, derived


def _scan(files: Sequence[_File], root: Path, naming: Naming) -> Scan:
    first, paths = files[0], tuple(sorted(file.path for file in files))
    relative = first.path.relative_to(root)
    # Without a patient ID, the outermost folder is the best guess.
    patient = first.patient or (relative.parts[0] if len(relative.parts) > 1 else first.series)
    scan_id = naming.hashed("scan", first.series)
    has_uid = first.series != str(first.path.parent)
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    dataset = naming.dataset or _public_name(root, files, naming, scan_id)
    series = first.series if has_uid else None
    return Scan(scan_id, dataset, naming.hashed("patient", patient), folder, series, paths, f"{HASHED}{scan_id}")


def _public_name(root: Path, files: Iterable[_File], naming: Naming, scan_id: str) -> str:
    """The source folder's name, unless it may identify a patient.

    It may if it holds images, repeats a header's value, or is not recognisably harmless; a name that the store has
    already need not be.
    """
    name = safe_name(root.name)
    if any(file.path.parent == root or file.identities.told_by(root.name) for file in files):
        return UNNAMED
    return name if naming.shows(root.name) or naming.known(scan_id) == name else UNNAMED


def looks_like_dicom(path: Path) -> bool:
    """Whether a file is DICOM, judging by its ending or its first bytes."""
    try:
        return is_dicom(path)
    except ScanError:
        return False


def _file(path: Path, header: Any) -> _File:
    series = str(header.get("SeriesInstanceUID") or path.parent)
    modality, patient = str(header.get("Modality") or ""), str(header.get("PatientID") or "")
    frames = str(header.get("NumberOfFrames") or 1)
    is_slice = modality == "CT" and frames == "1" and not is_localizer(header)
    return _File(path, series, modality, patient, identities_of(header), is_slice)


def _lost_slices(others: Iterable[Path], known: Iterable[Path]) -> dict[Path, str]:
    """Files next to DICOM files that were slices, judging by their names: they are empty, or named like a slice.

    Without this, a series that has lost its last slice would be read as if it were whole.
    """
    shapes: dict[Path, set[str]] = defaultdict(set)
    for path in known:
        shapes[path.parent].add(_shape(path.name))
    lost: dict[Path, str] = {}
    for path in others:
        if _shape(path.name) in shapes.get(path.parent, ()):
            lost[path] = "the file is empty" if _is_empty(path) else "the file is named like a slice, but is not DICOM"
        elif path.parent in shapes and _is_empty(path) and not _WORDY_ENDING.search(path.name):
            lost[path] = "the file is empty"
    return lost


def _shape(name: str) -> str:
    """A name without its numbers: the slices of a series share it."""
    return re.sub(r"\d+", "#", name)


def _is_empty(path: Path) -> bool:
    return path.stat().st_size == 0


def _damaged(reasons: Mapping[Path, str], root: Path, naming: Naming) -> list[Problem]:
    """A problem for each damaged file, or one for all files of a folder that have the same fault, if they are many."""
    alike: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path, reason in reasons.items():
        alike[path.parent, reason].append(path)
    problems = list[Problem]()
    for (folder, reason), files in alike.items():
        if len(files) <= NAMED:
            problems += [_unread(path, reason, root, naming) for path in files]
        else:
            problems.append(_unread(folder, f"{len(files)} DICOM files in a folder: {reason}", root, naming))
    return problems


def _unread(path: Path, reason: str, root: Path, naming: Naming) -> Problem:
    name = naming.hashed("file", path.relative_to(root).as_posix())
    return Problem(f"{HASHED}{name}", reason, "copy or export it again", path, damaged=True)


def _split_series(series: Mapping[str, Sequence[_File]]) -> list[list[_File]]:
    """Slices of one folder and patient that are the only file of their series, where these are too many to be scans."""
    alike: dict[tuple[Path, str], list[_File]] = defaultdict(list)
    for files in series.values():
        if len(files) == 1 and files[0].is_slice:
            alike[files[0].path.parent, files[0].patient].append(files[0])
    return [alone for alone in alike.values() if len(alone) >= LEAST_SPLIT]


def _split(files: Sequence[_File], naming: Naming) -> Problem:
    source = f"{HASHED}{naming.hashed('scan', files[0].series)}"
    reason = f"{len(files)} CT series of one image each: perhaps the slices of one, each with its own SeriesInstanceUID"
    fix = "give the slices of a series the same SeriesInstanceUID"
    return Problem(source, reason, fix, files[0].path.parent, may_be_scan=True)


def _not_ct(files: Sequence[_File], naming: Naming) -> Problem:
    source = f"{HASHED}{naming.hashed('scan', files[0].series)}"
    reason = f"{count_of(len(files), 'DICOM file')} of {modality_text(files[0].modality)}, not CT"
    return Problem(source, reason, "only CT is prepared", files[0].path.parent)
