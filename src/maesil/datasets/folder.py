"""Scans in files and folders of any arrangement: volume files, and series of DICOM files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from maesil.datasets.dicom_files import dicom_scans
from maesil.datasets.names import ending_of, holds_labels
from maesil.datasets.naming import Naming
from maesil.datasets.scan import FoundScans, Problem, Scan
from maesil.datasets.volume_files import volume_scan
from maesil.errors import ConfigError

READABLE = "readable: NIfTI, NRRD, MetaImage, DICOM series"


def find_scans(
    sources: Sequence[Path],
    dataset: str | None = None,
    salt: str | Callable[[], str] = "",
    *,
    hash_names: bool = False,
    patient_pattern: str | None = None,
) -> FoundScans:
    """Finds every scan in files and folders.

    Volume files are known by dataset and public case name; DICOM series and their patients by salted hashes. A scan's
    name depends on its own place in its source alone, not on what else is found. Label files (by their name or folder)
    are counted and passed over; hidden files and prepared stores are not looked at.

    Args:
        sources: Volume files, DICOM folders, or trees of these.
        dataset: The collection's name; None: each source's own folder name, where that can be no patient's.
        salt: Makes the hashes; a function is asked only where a hash is made.
        hash_names: Hash the names of volume files, too.
        patient_pattern: Regular expression that finds the patient in a volume file's path below its source.

    Raises:
        ConfigError: A source does not exist, there is no scan in any, or the pattern does not fit.
    """
    naming = Naming(dataset, salt, hash_names, patient_pattern)
    found = [_find_in(source, naming) for source in _existing(sources)]
    scans, twice = _distinct(scan for one in found for scan in one.scans)
    problems = (*(problem for one in found for problem in one.problems), *twice)
    if not scans and all(problem.reason == _empty(Path()).reason for problem in problems):
        raise ConfigError("no scan was found", where=", ".join(map(str, sources)), fix=READABLE)
    return FoundScans(scans, problems, sum(one.labels for one in found))


def _existing(sources: Sequence[Path]) -> list[Path]:
    if not sources:
        raise ConfigError("no source is given", fix="name files or folders with scans")
    for source in sources:
        if not source.exists():
            raise ConfigError("this source does not exist", where=source, fix="give existing files or folders")
    # Not resolve(): a link's own name is the name that was chosen. But "." and ".." name nothing.
    return [Path(os.path.normpath(source.absolute())) for source in sources]


def _find_in(source: Path, naming: Naming) -> FoundScans:
    root = source if source.is_dir() else source.parent
    files = sorted(_files(source))
    volumes = [path for path in files if ending_of(path.name)]
    # What was named itself is meant, whatever it is called.
    kept = [path for path in volumes if path == source or not holds_labels(path.relative_to(root))]
    series, problems, derived = dicom_scans([path for path in files if not ending_of(path.name)], root, naming)
    scans = (*(volume_scan(path, root, naming) for path in kept), *series)
    if not scans and not problems:
        problems = [_empty(source)]
    return FoundScans(scans, tuple(problems), len(volumes) - len(kept) + derived)


def _empty(source: Path) -> Problem:
    return Problem(".", "a source holds no scan", READABLE, source)


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
        return
    seen = set[str]()
    for folder, folders, names in os.walk(source, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen or "zarr.json" in names:  # a link to a folder above, or a prepared store
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in names if not name.startswith("."))


def _distinct(scans: Iterable[Scan]) -> tuple[tuple[Scan, ...], list[Problem]]:
    """One scan per name, on file systems that ignore case, too; a source that was given twice is no problem."""
    first: dict[str, Scan] = {}
    twice: list[Problem] = []
    for scan in sorted(scans, key=lambda scan: (scan.scan_id, scan.files)):
        known = first.setdefault(scan.scan_id.lower(), scan)
        if known.files != scan.files:
            reason = f"another scan has the name {known.scan_id} already"
            fix = "rename the file, or give it another --dataset; copies of one series are prepared once"
            twice.append(Problem(scan.shown, reason, fix, scan.path))
    return tuple(sorted(first.values(), key=lambda scan: scan.scan_id)), twice
