"""Files in a source that are not part of its layout: they are not read, but reported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from maesil.counts import count_of
from maesil.datasets.dicom_files import looks_like_dicom
from maesil.datasets.layout import Layout
from maesil.datasets.names import ending_of, holds_labels
from maesil.datasets.naming import Naming
from maesil.datasets.scan import FoundScans, Problem
from maesil.datasets.tree import files_below

NAMED = 5
"""Number of files that are named one by one; the others are counted."""


def left_over(root: Path, layout: Layout, found: FoundScans, naming: Naming) -> list[Problem]:
    """One problem for all files that may be scans and that the layout neither found, reported, nor owns.

    Args:
        root: Source to look in.
        layout: Layout of the source.
        found: Scans that the layout found in it.
        naming: Rules for names: whether file names may be shown.
    """
    known = {file for scan in found.scans for file in (*scan.files, *scan.labels)}
    known |= {problem.path for problem in (*found.problems, *found.notices) if problem.path is not None}
    strangers = [
        path
        for path in sorted(files_below(root))
        if path not in known and not layout.owns(root, path) and _may_be_a_scan(root, path)
    ]
    if not strangers:
        return []
    count = count_of(len(strangers), "file that may be a scan is", "files that may be scans are")
    reason = f"{count} not part of this {layout.name} tree{_names(strangers, root, naming)}"
    fix = "give their folder as a source of its own, or use --layout folder"
    return [Problem(".", reason, fix, Path(os.path.commonpath(strangers)))]


def _may_be_a_scan(root: Path, path: Path) -> bool:
    if ending_of(path.name):
        return not holds_labels(path.relative_to(root))
    return looks_like_dicom(path)


def _names(strangers: Sequence[Path], root: Path, naming: Naming) -> str:
    """The harmless names of volume files; names of DICOM files and their folders may identify a patient."""
    volumes = [] if naming.hash_names else [path.relative_to(root) for path in strangers if ending_of(path.name)]
    names = [path.as_posix() for path in volumes if naming.shows(*path.parts)][:NAMED]
    others = len(strangers) - len(names)
    if not names:
        return ""
    return f": {', '.join(names)}{f' and {others} more' if others else ''}"
