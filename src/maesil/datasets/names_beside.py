"""Names of label numbers in a file that lies beside the scans: nobody has to name it in a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from maesil.counts import some_of
from maesil.datasets.labels import file_of_numbers, read_names
from maesil.datasets.names import NAMED
from maesil.datasets.scan import FoundScans, Scan
from maesil.errors import ConfigError

BESIDE = "label_names.json"
"""Name of the file."""


def with_names_beside(found: FoundScans, tell: Callable[[ConfigError], object] | None = None) -> FoundScans:
    """The scans with the names that a `label_names.json` gives to the numbers of their label file.

    It lies beside the label file or the scan, or in a folder above up to the source, or up to its own if it was given
    beside the source; the nearest one counts. Numbers that a collection or a list names keep these names, and files of
    one structure each need none. `named_by` lists the files that were used.

    Args:
        found: What was found.
        tell: Called once for each of these files that cannot be read or names no labels: its numbers stay without
            names, and the other files count. None: the first is an error.

    Raises:
        ConfigError: Such a file cannot be read or names no labels, and nobody is told.
    """
    sources = {*(match.source for match in found.matched), *(path.parent for path in found.given_names)}

    @cache
    def nearest(folder: Path) -> Path | None:
        if (path := folder / BESIDE).is_file():
            return path
        return None if sources.isdisjoint(folder.parents) else nearest(folder.parent)

    @cache
    def read(path: Path) -> dict[int, str]:
        try:
            return read_names(path)
        except ConfigError as error:
            if tell is None:
                raise
            tell(error)
            return {}

    scans, used = list[Scan](), set[Path]()
    for scan in found.scans:
        labels = file_of_numbers(scan)
        path = nearest(labels.parent) or nearest(scan.path.parent) if labels is not None else None
        own = dict(scan.label_names)
        if path is not None and read(path).keys() - own:
            scan = replace(scan, label_names=tuple(sorted({**read(path), **own}.items())))
            used.add(path)
        scans.append(scan)
    return replace(found, scans=tuple(scans), named_by=tuple(sorted(used)))


def names_beside_text(files: Sequence[Path | str]) -> str:
    """Which files beside the scans name the numbers of labels."""
    listed = some_of(list(map(str, files)), NAMED)
    return f"label numbers are named by {listed}; `prepare --label-names FILE` names them otherwise"
