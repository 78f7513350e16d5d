"""What of a source is not read: files that are not part of its layout, and what cannot be opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from maesil.counts import count_of
from maesil.datasets.dicom_files import looks_like_dicom
from maesil.datasets.layout import Layout
from maesil.datasets.names import NAMED, ending_of, holds_labels
from maesil.datasets.naming import Naming
from maesil.datasets.own_files import is_output
from maesil.datasets.scan import HASHED, FoundScans, Problem
from maesil.walk import Unreadable, walk


def left_over(root: Path, layout: Layout, found: FoundScans, naming: Naming) -> tuple[list[Problem], list[Path]]:
    """The files that are not read, as problems; and those that maesil itself wrote.

    One problem is for all files that may be scans and that the layout neither found, reported, nor owns; one is for
    each file or folder that cannot be opened.

    Args:
        root: Source to look in.
        layout: Layout of the source.
        found: Scans that the layout found in it.
        naming: Rules for names: whether file names may be shown.
    """
    known = {file for scan in found.scans for file in (*scan.files, *scan.labels)}
    known |= {*found.outputs}
    known |= {problem.path for problem in (*found.problems, *found.notices) if problem.path is not None}
    walked = walk(root)
    strangers = [
        path
        for path in walked.files
        if path not in known and not layout.owns(root, path) and _may_be_a_scan(root, path)
    ]
    outputs = [path for path in strangers if is_output(path)]
    others = [path for path in strangers if path not in outputs]
    problems = [_unreadable(one, root, naming) for one in walked.unreadable]
    return [*problems, *([_left_over(others, root, layout, naming)] if others else [])], outputs


def _unreadable(one: Unreadable, root: Path, naming: Naming) -> Problem:
    """A file or folder that cannot be read; its name may identify a patient."""
    name = naming.hashed("file", os.path.relpath(one.path, root))
    reason = f"it cannot be read: {one.reason}"
    damaged = one.path.is_dir() or _may_be_a_scan(root, one.path)
    return Problem(f"{HASHED}{name}", reason, "check its permissions and links", one.path, damaged)


def _left_over(strangers: Sequence[Path], root: Path, layout: Layout, naming: Naming) -> Problem:
    count = count_of(len(strangers), "file that may be a scan is", "files that may be scans are")
    reason = f"{count} not part of this {layout.name} tree{_names(strangers, root, naming)}"
    fix = "give their folder as a source of its own, or use --layout folder"
    return Problem(".", reason, fix, Path(os.path.commonpath(strangers)), may_be_scan=True)


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
