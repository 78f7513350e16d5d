"""DICOM files as scans: one per CT series, identified only by salted hashes."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from maesil.counts import count_of
from maesil.ct.readers import READERS
from maesil.ct.readers.dicom_headers import read_header
from maesil.ct.readers.modality import modality_text
from maesil.datasets.identity import IDENTITY_TAGS, Identities, identities_of
from maesil.datasets.names import safe_name
from maesil.datasets.naming import UNNAMED, Naming
from maesil.datasets.scan import HASHED, Problem, Scan
from maesil.errors import ScanError

DERIVED = frozenset({"SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "SR", "PR", "KO", "REG", "DOC"})
"""Modalities of files that describe scans: they count as labels."""

_TAGS = ["SOPClassUID", "Modality", *IDENTITY_TAGS]


@dataclass(frozen=True)
class _File:
    path: Path
    series: str
    modality: str
    patient: str
    identities: Identities


def dicom_scans(paths: Sequence[Path], root: Path, naming: Naming) -> tuple[list[Scan], list[Problem], int]:
    """The CT series among files of any kind.

    Args:
        paths: Files; those that are not DICOM are skipped.
        root: Source that they were found in.
        naming: Rules for their names.

    Returns:
        The scans; other modalities and damaged files, as problems; the number of files that describe scans
        (segmentations, structure sets, reports), which are skipped.
    """
    series: dict[str, list[_File]] = defaultdict(list)
    damaged: dict[Path, int] = defaultdict(int)
    for path in filter(looks_like_dicom, paths):
        file = _read(path)
        if file is None:
            damaged[path.parent] += 1
        else:
            series[file.series].append(file)
    scans, derived = list[Scan](), 0
    problems = [_damaged(folder, count, root, naming) for folder, count in damaged.items()]
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
        return READERS["DICOM"].takes(path)
    except ScanError:
        return False


def _read(path: Path) -> _File | None:
    header = read_header(path, _TAGS)
    if header is None:
        return None
    try:
        series = str(header.get("SeriesInstanceUID", "") or path.parent)
        identities = identities_of(header)
        modality, patient = str(header.get("Modality", "")), str(header.get("PatientID", "") or "")
    except Exception:  # pydicom decodes values when they are asked for; the caller lists damaged files
        return None
    return _File(path, series, modality, patient, identities)


def _damaged(folder: Path, count: int, root: Path, naming: Naming) -> Problem:
    name = naming.hashed("folder", folder.relative_to(root).as_posix())
    reason = f"{count_of(count, 'DICOM file')} in a folder cannot be read"
    return Problem(f"{HASHED}{name}", reason, "copy or export them again", folder)


def _not_ct(files: Sequence[_File], naming: Naming) -> Problem:
    source = f"{HASHED}{naming.hashed('scan', files[0].series)}"
    reason = f"{count_of(len(files), 'DICOM file')} of {modality_text(files[0].modality)}, not CT"
    return Problem(source, reason, "only CT is prepared", files[0].path.parent)
