"""One scan on disk: its files, and the names that may be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from maesil.datasets.salt import HASH_LENGTH

HASHED = "scan "
"""Prefix of `Scan.shown` if even the relative path is withheld; a salted hash follows."""

_HASH = re.compile(rf"{HASHED}[0-9a-f]{{{HASH_LENGTH}}}")


@dataclass(frozen=True)
class Scan:
    """One acquisition that `find_scans` found.

    `path`, `series` and `files` may identify a patient (a folder's name, a DICOM UID): they stay in memory. The other
    names are kept in a store.

    Args:
        scan_id: Unique name, safe as a folder name: a salted hash, or dataset and public case name.
        dataset: Collection that it belongs to.
        patient: Name that splits go by: a salted hash, or the public case name.
        path: File, or folder of a DICOM series.
        series: Series UID in the folder; None for anything but DICOM.
        files: All files of the scan; their bytes are its fingerprint.
        shown: Name of the source in a store: a path relative to the source's root, or a hash.
        labels: Files with its labels: segmentations, or the readers' XML.
        label_names: Numbers and structures, if its collection or a file beside it names the numbers in its single label
            file.
        split: Split assigned by the collection: "train", "val" or "test"; None if it assigns none.
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
        return _HASH.fullmatch(self.shown) is not None

    @property
    def place(self) -> str:
        """The file or folder, and the series in it: how a user knows the scan. May identify a patient."""
        return place_of(self.path, self.series)

    @property
    def brief(self) -> str:
        """A short name that a user knows: the scan's, or that of its file or folder if the scan's is a hash."""
        return self.path.name if self.hashed else self.scan_id


def place_of(path: Path, series: str | None) -> str:
    """The file or folder of a scan, and the series in it."""
    return str(path) if series is None else f"{path}, series {series}"


@dataclass(frozen=True)
class Problem:
    """Something that was found but is not a scan.

    Attributes:
        source: Name that a store may show: a path relative to the source's root, or a hash.
        reason: Reason for leaving it out.
        fix: Advice on what to do about it.
        path: Path of it; stays in memory.
        damaged: Whether it may belong to a scan, and cannot be read.
        may_be_scan: Whether it may be a scan that was not looked at: it has a format, name or place that is not read.
        other: Place of the scan that is taken instead; stays in memory.
    """

    source: str
    reason: str
    fix: str = ""
    path: Path | None = None
    damaged: bool = False
    may_be_scan: bool = False
    other: str | None = None

    @property
    def told(self) -> str:
        """The reason, and the scan that is taken instead. May identify a patient."""
        return self.reason if self.other is None else f"{self.reason}: {self.other}"


@dataclass(frozen=True)
class FoundScans:
    """Everything that `find_scans` found.

    Attributes:
        scans: Scans, sorted by name.
        problems: Files that look like a scan but cannot be used.
        labels: Number of label files that were skipped.
        notices: Notes for users of the labels, such as a scan without any; they exclude no scan.
        matched: Layout that was recognised for each source, and why.
        taken_for_labels: Label files that belong to no scan; a CT may be among them, as only names tell.
        outputs: Files that maesil itself wrote; they are neither scans nor labels.
        given_labels: Files among several given ones that are labels according to their names or folders.
        given_names: Files with names of labels that were given beside other sources.
        named_by: Files beside the scans that name the numbers of their labels.
    """

    scans: tuple[Scan, ...]
    problems: tuple[Problem, ...]
    labels: int
    notices: tuple[Problem, ...] = ()
    matched: tuple[Match, ...] = ()
    taken_for_labels: tuple[Path, ...] = ()
    outputs: tuple[Path, ...] = ()
    given_labels: tuple[Path, ...] = ()
    given_names: tuple[Path, ...] = ()
    named_by: tuple[Path, ...] = ()


ALIKE = 3
"""Number of sources of one folder, of one layout and for one reason, that are told one by one."""


@dataclass(frozen=True)
class Match:
    """The layout that was recognised for a source.

    Attributes:
        source: File or folder.
        layout: Name of the layout.
        because: Reason, in words.
    """

    source: Path
    layout: str
    because: str


def matches_text(matches: Iterable[tuple[Path | str, str, str]]) -> list[str]:
    """What was recognised, a line per source; a line for many sources of one folder that are alike, as `scans/*` gives.

    Args:
        matches: Source, layout and reason of each, as in `Match`.
    """
    alike: dict[tuple[Path, str, str], list[str]] = {}
    for source, layout, because in matches:
        alike.setdefault((Path(source).parent, layout, because), []).append(str(source))
    lines: list[str] = []
    for (folder, layout, because), sources in alike.items():
        if len(sources) > ALIKE:
            lines.append(f"{len(sources):,} sources in {folder}: {layout} ({because})")
        else:
            lines += [f"{source}: {layout} ({because})" for source in sources]
    return lines
