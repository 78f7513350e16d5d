"""One scan on disk: where it lies, and the names under which it may be known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HASHED = "scan "
"""What `Scan.shown` begins with where even the relative path is withheld."""


@dataclass(frozen=True)
class Scan:
    """One acquisition that `find_scans` found.

    `path`, `series` and `files` may hold a patient's identity (a folder's name, a DICOM UID): they stay in memory. The
    other names are the ones a store keeps.

    Args:
        scan_id: Unique name, safe as a folder's name: a salted hash, or dataset and public case name.
        dataset: The collection it is of.
        patient: What splits go by: a salted hash, or the public case name.
        path: The file, or the folder of a DICOM series.
        series: Which series of the folder; None for anything but DICOM.
        files: All files that the scan is made of; their bytes are its fingerprint.
        shown: How a store names the source: a path relative to the source's root, or a hash.
        labels: Files with its labels: segmentations, or the readers' XML.
        label_names: Number and structure, where its collection names the numbers of its one label file.
        split: Where the collection itself puts it: "train", "val" or "test"; None where it does not say.
    """

    scan_id: str
    dataset: str
    patient: str
    path: Path
    series: str | None = None
    files: tuple[Path, ...] = ()
    shown: str = ""
    labels: tuple[Path, ...] = ()
    split: str | None = None
    label_names: tuple[tuple[int, str], ...] = ()

    @property
    def hashed(self) -> bool:
        """Whether the names are salted hashes, so that another salt would give other names."""
        return self.shown.startswith(HASHED)


@dataclass(frozen=True)
class Problem:
    """Something found that is no scan.

    Attributes:
        source: How a store may name it: relative to the source's root, or a hash.
        reason: Why it is left out.
        fix: What to do about it.
        path: Where it lies; stays in memory.
    """

    source: str
    reason: str
    fix: str = ""
    path: Path | None = None


@dataclass(frozen=True)
class FoundScans:
    """What `find_scans` found.

    Attributes:
        scans: The scans, sorted by name.
        problems: What looks like a scan and cannot be one.
        labels: Number of label files that were passed over.
        notices: What a user of the labels should know, such as a scan without them; it keeps no scan out.
        matched: What each source was taken for, and why.
    """

    scans: tuple[Scan, ...]
    problems: tuple[Problem, ...]
    labels: int
    notices: tuple[Problem, ...] = ()
    matched: tuple[Match, ...] = ()


@dataclass(frozen=True)
class Match:
    """What a source was taken for.

    Attributes:
        source: The file or folder.
        layout: Name of the layout.
        because: What was seen.
    """

    source: Path
    layout: str
    because: str
