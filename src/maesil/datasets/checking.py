"""The command `check` on folders: every scan of them, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from maesil.counts import count_of
from maesil.ct.examine import ScanFacts, examine_scan
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.datasets.labels import given_labels_text, unclaimed_text
from maesil.datasets.own_files import outputs_text
from maesil.datasets.scan import FoundScans, Problem, Scan, place_of
from maesil.errors import MissingExtraError, ScanError


@dataclass(frozen=True)
class CheckedScan:
    """What `check` found out about one scan of several, or about a file that cannot be read.

    Attributes:
        path: File, or folder of a DICOM series.
        series: Series UID in the folder; None for anything but DICOM.
        facts: Facts and doubts; None if the scan was refused.
        refusal: Reason why it cannot be read, and what to do; empty if it was read.
    """

    path: Path
    series: str | None
    facts: ScanFacts | None
    refusal: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether the scan was read, and nothing speaks against it."""
        return self.facts is not None and not self.facts.doubts

    def lines(self) -> list[str]:
        """The scan and its state, and a line for each doubt."""
        if self.facts is None:
            return [f"refused  {self._name}", f"           {self.refusal}"]
        state = "doubt  " if self.facts.doubts else "sound  "
        return [
            f"{state}  {self._name}",
            *(f"           {doubt.what}; {doubt.fix}" for doubt in self.facts.doubts),
            *(f"           assumed: {text}" for text in self.facts.assumptions),
        ]

    @property
    def _name(self) -> str:
        return place_of(self.path, self.series)


def check_scans(found: FoundScans, options: ReadOptions = STRICT) -> Iterator[CheckedScan]:
    """Checks every scan that `find_scans` found, in the order of their paths; then follow those that cannot be read.

    Args:
        found: The scans; what was found and is no scan, or is a copy, is not checked.
        options: How to read scans that are refused otherwise.
    """
    for scan in sorted(found.scans, key=lambda scan: (scan.path, scan.series or "")):  # their names may be hashes
        yield _checked(scan, options)
    for problem in unread(found):
        yield CheckedScan(problem.path or Path(problem.source), None, None, _told(problem.told, problem.fix))


def unread(found: FoundScans) -> list[Problem]:
    """What was found and cannot be read, but may be a scan or belong to one."""
    return [problem for problem in found.problems if _is_unread(problem)]


def _is_unread(problem: Problem) -> bool:
    return problem.damaged or problem.may_be_scan


def _checked(scan: Scan, options: ReadOptions) -> CheckedScan:
    try:
        facts = examine_scan(scan.path, series=scan.series, files=scan.files, options=options)
        return CheckedScan(scan.path, scan.series, facts)
    except (ScanError, MissingExtraError) as error:
        return CheckedScan(scan.path, scan.series, None, _told(error.what, error.fix))


def _told(reason: str, fix: str | None) -> str:
    return f"{reason}; {fix}" if fix else reason


def not_checked(found: FoundScans) -> list[str]:
    """Lines on what was found and not checked: what is no CT, copies, maesil's own files, and files of labels."""
    others = [problem for problem in found.problems if not _is_unread(problem)]
    left = [f"left out {one.path or one.source}: {one.told}" for one in others]
    left += [outputs_text(found.outputs)] if found.outputs else []
    left += [given_labels_text(found.given_labels)] if found.given_labels else []
    given = set(found.given_labels)
    lone = [path for path in found.taken_for_labels if path not in given]
    left += [unclaimed_text(lone)] if lone else []
    return [*left, f"{count_of(found.labels, 'label file')} skipped"] if found.labels else left


def tally(checked: Sequence[CheckedScan]) -> str:
    """How many scans are sound, doubtful and refused, in a line."""
    refused = sum(one.facts is None for one in checked)
    sound = sum(one.is_sound for one in checked)
    doubtful = len(checked) - refused - sound
    return f"{count_of(len(checked), 'scan')}: {sound} sound, {doubtful} with doubts, {refused} refused"
