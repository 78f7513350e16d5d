"""Labels of scans that lie in a collection's tree, if a file or folder of it is given, and not the tree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from maesil.datasets.layout import CaseLabels, Layout
from maesil.datasets.scan import FoundScans, Scan


def with_collection_labels(found: FoundScans, layouts: Iterable[Layout]) -> tuple[FoundScans, str]:
    """The scans of a plain tree with the labels that a collection's tree gives them, and words about these, or none.

    Scans with labels of their own name keep these.

    Args:
        found: What was found in the source.
        layouts: Layouts in the order in which they are tried.
    """
    tried, kinds, used, scans = list(layouts), set[str](), set[Path](), list[Scan]()
    notices = dict.fromkeys(found.notices)
    for scan in found.scans:
        kind, labels = ("", None) if scan.labels or scan.series else _labels_of(scan.path, tried)
        if labels is not None:
            scan = replace(scan, labels=labels.files, label_names=tuple(sorted(labels.names.items())))
            kinds.add(kind)
            used.update(labels.files)
            notices.update(dict.fromkeys(labels.notices))
        scans.append(scan)
    if not used:
        return found, ""
    with_labels = replace(
        found,
        scans=tuple(scans),
        notices=tuple(notices),
        labels=found.labels + len(used.difference(found.taken_for_labels)),
        taken_for_labels=tuple(path for path in found.taken_for_labels if path not in used),
    )
    return with_labels, f", with the labels of its {' or '.join(sorted(kinds))} tree"


def _labels_of(image: Path, layouts: Iterable[Layout]) -> tuple[str, CaseLabels | None]:
    """The name of the first layout with labels for an image, and these labels."""
    tried = ((layout.name, layout.labels_of(image)) for layout in layouts)
    return next(((name, labels) for name, labels in tried if labels is not None), ("", None))
