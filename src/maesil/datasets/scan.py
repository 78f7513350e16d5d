"""One scan on disk: where it lies, and the names under which it may be known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Scan:
    """One acquisition that `find_scans` found.

    `path` and `series` may hold a patient's identity (a folder's name, a DICOM UID): they stay in memory. The other
    names are the ones a store keeps.

    Args:
        scan_id: Unique name, safe as a folder's name: a salted hash, or dataset and public case name.
        dataset: The collection it is of.
        patient: What splits go by: a salted hash, or the public case name.
        path: The file, or the folder of a DICOM series.
        series: Which series of the folder; None for anything but DICOM.
        files: All files that the scan is made of; their bytes are its fingerprint.
        shown: How a store names the source: a path relative to the source's root, or a hash.
    """

    scan_id: str
    dataset: str
    patient: str
    path: Path
    series: str | None = None
    files: tuple[Path, ...] = ()
    shown: str = ""

    @property
    def hashed(self) -> bool:
        """Whether the names are salted hashes, so that another salt would give other names."""
        return self.scan_id != self.shown and self.shown.startswith(HASHED)


HASHED = "scan "
"""What `Scan.shown` begins with where even the relative path is withheld."""
