"""Names of label numbers in a file that lies beside the scans: nobody has to name it in a call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from maesil.counts import count_of, some_of
from maesil.datasets.labels import class_names, file_of_numbers, read_entries, unused_entries
from maesil.datasets.names import NAMED
from maesil.datasets.scan import FoundScans, Problem, Scan
from maesil.errors import ConfigError

BESIDE = "label_names.json"
"""Name of the file."""


def with_names_beside(found: FoundScans, tell: Callable[[ConfigError], object] | None = None) -> FoundScans:
    """The scans with the names that a `label_names.json` gives to the numbers of their label file.

    It lies beside the label file or the scan, or in a folder above up to the source, or up to its own if it was given
    beside the source; the nearest one counts. Numbers that a collection or a list names keep these names, and files of
    one structure each need none. `named_by` lists the files that were used.

    Entries of such a file that give no number a name are a note.

    Args:
        found: What was found.
        tell: Called once for each of these files that cannot be read or names no labels: its numbers stay without
            names, and the other files count. None: its scans are left out, and the file is a problem.

    Raises:
        ConfigError: Such files cannot be read or name no labels, nobody is told, and no scan is left.
    """
    sources = {*(match.source for match in found.matched), *(path.parent for path in found.given_names)}

    @cache
    def nearest(folder: Path) -> Path | None:
        if (path := folder / BESIDE).is_file():
            return path
        return None if sources.isdisjoint(folder.parents) else nearest(folder.parent)

    unreadable, notices = dict[Path, ConfigError](), list[Problem]()

    @cache
    def read(path: Path) -> dict[int, str]:
        try:
            entries = read_entries(path)
        except ConfigError as error:
            unreadable[path] = error
            if tell is not None:
                tell(error)
            return {}
        notices.extend(unused_entries(entries, path))
        return class_names(entries.names)

    scans, used, left_out = list[Scan](), set[Path](), Counter[Path]()
    for scan in found.scans:
        labels = file_of_numbers(scan)
        path = nearest(labels.parent) or nearest(scan.path.parent) if labels is not None else None
        own = dict(scan.label_names)
        if path is not None and read(path).keys() - own:
            scan = replace(scan, label_names=tuple(sorted({**read(path), **own}.items())))
            used.add(path)
        if path is not None and path in unreadable and tell is None:
            left_out[path] += 1
        else:
            scans.append(scan)
    if left_out and not scans:
        raise unreadable[next(iter(left_out))]
    problems = [_left_out(unreadable[path], path, count) for path, count in left_out.items()]
    return replace(
        found,
        scans=tuple(scans),
        problems=(*found.problems, *problems),
        notices=(*found.notices, *notices),
        named_by=tuple(sorted(used)),
    )


def _left_out(error: ConfigError, path: Path, count: int) -> Problem:
    """A file of names that cannot be used: its scans are not stored without names, which a later call would replace."""
    what = f"{error.what}; {count_of(count, 'scan')} with labels that it names {'is' if count == 1 else 'are'} left out"
    return Problem(BESIDE, what, error.fix or "", path)


def names_beside_text(files: Sequence[Path | str]) -> str:
    """Which files beside the scans name the numbers of labels."""
    listed = some_of(list(map(str, files)), NAMED)
    return f"label numbers are named by {listed}; `prepare --label-names FILE` names them otherwise"
