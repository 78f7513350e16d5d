"""Scans in files and folders of any arrangement: volume files, and series of DICOM files."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from maesil.datasets.names import case_parts, ending_of, holds_labels, safe_name, stem_of
from maesil.datasets.salt import hashed
from maesil.datasets.scan import HASHED, Scan
from maesil.errors import ConfigError

DICOM_MAGIC = b"DICM"
DICOM_TAGS = ["SeriesInstanceUID", "PatientID", "Modality"]


@dataclass(frozen=True)
class Problem:
    """Something found that is no scan.

    Attributes:
        source: How it is named to the user: relative to the source, or hashed.
        reason: Why it is left out.
        fix: What to do about it.
    """

    source: str
    reason: str
    fix: str = ""


@dataclass(frozen=True)
class FoundScans:
    """What `find_scans` found.

    Attributes:
        scans: The scans, sorted by name.
        problems: What looks like a scan and cannot be one.
        labels: Number of label files that were passed over.
    """

    scans: tuple[Scan, ...]
    problems: tuple[Problem, ...]
    labels: int


def find_scans(
    sources: Sequence[Path], dataset: str | None = None, salt: str = "", *, hash_names: bool = False
) -> FoundScans:
    """Finds every scan in files and folders.

    Volume files keep their public case name; DICOM series and their patients are known by salted hashes. Label files
    (by their name or folder) are counted and passed over.

    Args:
        sources: Volume files, DICOM folders, or trees of these.
        dataset: The collection's name; None: each source's own folder name.
        salt: Makes the hashes.
        hash_names: Hash the names of volume files, too.

    Raises:
        ConfigError: A source does not exist, or there is no scan in any.
    """
    scans: list[Scan] = []
    problems: list[Problem] = []
    labels = 0
    for source in sources:
        if not source.exists():
            raise ConfigError("this source does not exist", where=source, fix="give existing files or folders")
        root = source if source.is_dir() else source.parent
        name = dataset or safe_name(root.resolve().name)
        files = sorted(_files(source))
        volumes = [path for path in files if ending_of(path.name)]
        kept = [path for path in volumes if path == source or not holds_labels(path.relative_to(root))]
        labels += len(volumes) - len(kept)
        scans += [_volume_scan(path, root, name, salt, hash_names) for path in kept]
        series, strays = _dicom_scans([path for path in files if not ending_of(path.name)], name, salt)
        scans += series
        problems += strays
    if not scans and not problems:
        listed = ", ".join(map(str, sources))
        raise ConfigError("no scan was found", where=listed, fix="readable: NIfTI, NRRD, MetaImage, DICOM series")
    unique = {(scan.path, scan.series): scan for scan in scans}
    return FoundScans(_distinct(unique.values()), tuple(problems), labels)


def _files(source: Path) -> Iterable[Path]:
    if source.is_file():
        yield source
        return
    for folder, folders, names in os.walk(source, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in names if not name.startswith("."))


def _volume_scan(path: Path, root: Path, dataset: str, salt: str, hash_names: bool) -> Scan:
    relative = path.relative_to(root)
    parts = case_parts(relative) or (stem_of(path.name),)
    if hash_names:
        scan_id = hashed(salt, "scan", "/".join(parts))
        return Scan(scan_id, dataset, hashed(salt, "patient", parts[0]), path, None, (path,), f"{HASHED}{scan_id}")
    scan_id = safe_name(parts[-1])
    return Scan(
        scan_id, dataset, safe_name(parts[0] if len(parts) > 1 else scan_id), path, None, (path,), str(relative)
    )


def _dicom_scans(paths: Sequence[Path], dataset: str, salt: str) -> tuple[list[Scan], list[Problem]]:
    series: dict[str, list[Path]] = {}
    patients: dict[str, str] = {}
    modalities: dict[str, str] = {}
    for path in paths:
        header = _dicom_header(path)
        if header is not None:
            uid, patient, modality = header
            series.setdefault(uid, []).append(path)
            patients[uid] = patient or str(path.parent)
            modalities[uid] = modality
    scans, problems = [], []
    for uid, files in series.items():
        scan_id = hashed(salt, "scan", uid)
        shown = f"{HASHED}{scan_id}"
        if modalities[uid] in ("CT", ""):
            patient = hashed(salt, "patient", patients[uid])
            folder = Path(os.path.commonpath([file.parent for file in files]))
            scans.append(Scan(scan_id, dataset, patient, folder, uid, tuple(sorted(files)), shown))
        else:
            kind = modalities[uid]
            problems.append(Problem(shown, f"{len(files)} files of modality {kind}, not CT", "only CT is prepared"))
    return scans, problems


def _dicom_header(path: Path) -> tuple[str, str, str] | None:
    """Series, patient and modality of a DICOM file; None for any other file."""
    try:
        with path.open("rb") as file:
            if file.read(132)[128:] != DICOM_MAGIC and path.suffix.lower() not in (".dcm", ".ima"):
                return None
        import pydicom

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=DICOM_TAGS)
        uid = str(header.get("SeriesInstanceUID", "") or path)
        return uid, str(header.get("PatientID", "")), str(header.get("Modality", ""))
    except Exception:  # anything may lie in a folder; what is no DICOM file is not ours
        return None


def _distinct(scans: Iterable[Scan]) -> tuple[Scan, ...]:
    """Gives scans of one name the dataset's, then their folders' names before it, then numbers: never two alike."""
    ordered = sorted(scans, key=lambda scan: (scan.scan_id, scan.dataset, str(scan.path)))
    taken = Counter(scan.scan_id for scan in ordered)
    longer = [
        scan if taken[scan.scan_id] == 1 else replace(scan, scan_id=safe_name(scan.dataset, *_without_ending(scan)))
        for scan in ordered
    ]
    seen: Counter[str] = Counter()
    result = []
    for scan in longer:
        seen[scan.scan_id] += 1
        count = seen[scan.scan_id]
        result.append(scan if count == 1 else replace(scan, scan_id=f"{scan.scan_id}-{count}"))
    return tuple(sorted(result, key=lambda scan: scan.scan_id))


def _without_ending(scan: Scan) -> tuple[str, ...]:
    return (scan.scan_id,) if scan.hashed else case_parts(PurePath(scan.shown)) or (scan.scan_id,)
