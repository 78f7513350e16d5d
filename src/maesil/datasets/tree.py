"""Files and folders in any arrangement: volume files, and series of DICOM files.

Tree: anything. Volume files have the ending of a reader; any other file is checked for DICOM, and grouped by series.
Files with "label", "mask" or "segmentation" in their name or folder count as labels; those named like a scan in the
same folder plus a suffix (scan_labels.nii.gz) belong to that scan, also if the scan alone is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import final

from maesil.counts import count_of
from maesil.ct.readers import readable
from maesil.ct.readers.not_read import unread_format
from maesil.datasets.dicom_files import dicom_scans
from maesil.datasets.labels import LabelsBeside, label_key, labels_by_scan
from maesil.datasets.layout import Layout, case_scan
from maesil.datasets.names import case_parts, ending_of, holds_labels, patient_name
from maesil.datasets.naming import UNNAMED, Naming
from maesil.datasets.scan import FoundScans, Problem, Scan
from maesil.walk import walk

EMPTY = "the source holds no scan"


@final
class Tree(Layout):
    """Anything readable; every source matches, so this comes last."""

    name = "folder"
    dataset = None
    region = "not said"

    def match(self, root: Path) -> str | None:
        """Matches any file or folder."""
        if not root.exists():
            return None
        return "everything readable in it" if root.is_dir() else "one file"

    def find(self, root: Path, naming: Naming) -> FoundScans:
        """Every volume file and every DICOM series; a file has its labels from `with_labels_beside`."""
        home = root if root.is_dir() else root.parent
        walked = walk(root)
        files = walked.files
        volumes = [path for path in files if ending_of(path.name)]
        # The only file of a call is read, whatever its name; `find_scans` has sorted several.
        says_labels = {path for path in volumes if path != root and holds_labels(path.relative_to(home))}
        kept = [path for path in volumes if path not in says_labels]
        series, problems, derived = dicom_scans([path for path in files if not ending_of(path.name)], home, naming)
        others = sorted(says_labels) if root.is_dir() else []
        labels = labels_by_scan(others)
        own = [replace(_volume_scan(path, home, naming), labels=labels.get(label_key(path), ())) for path in kept]
        scans = (*own, *series)
        read = {file for scan in scans for file in (*scan.files, *scan.labels)}
        problems += _unread(path for path in files if path not in read)
        if not scans and not problems and not walked.unreadable:
            problems = [Problem(".", EMPTY, f"readable: {readable()}", root)]
        unclaimed = tuple(path for path in others if path not in read)
        return FoundScans(scans, tuple(problems), len(others) + derived, taken_for_labels=unclaimed)

    def owns(self, root: Path, path: Path) -> bool:
        """True for everything: a plain tree has no leftovers."""
        return True


def with_labels_beside(found: FoundScans, beside: LabelsBeside) -> FoundScans:
    """What was found in a file that is given by name, with its label files: nothing else of its folder was given."""
    scans = tuple(scan if scan.series else replace(scan, labels=beside(scan.path)) for scan in found.scans)
    return replace(found, scans=scans, labels=found.labels + sum(len(scan.labels) for scan in scans))


def _unread(files: Iterable[Path]) -> list[Problem]:
    """One problem for each format that is not read; their names may identify patients, so only the first is kept."""
    kinds: dict[tuple[str, str], list[Path]] = {}
    for path in files:
        if (kind := unread_format(path)) is not None:
            kinds.setdefault(kind, []).append(path)
    return [
        Problem(
            ".", f"{count_of(len(paths), 'file')} of a format that is not read: {what}", fix, paths[0], may_be_scan=True
        )
        for (what, fix), paths in kinds.items()
    ]


def _volume_scan(path: Path, root: Path, naming: Naming) -> Scan:
    """The scan of a volume file below `root`; its name includes the file's folders, so that names are unique.

    Raises:
        ConfigError: The patient pattern does not match the path.
    """
    relative = path.relative_to(root)
    patient = patient_name(relative, naming.patient_pattern) or root.name
    parts, home = case_parts(relative), root
    if not parts:  # the source is the folder of one case
        parts, home = (root.name,), root.parent
    scan = case_scan(path, "/".join(parts), home.name, naming, root=root, patient=patient)
    return replace(scan, dataset=naming.dataset or UNNAMED) if naming.hash_names else scan
