"""Sources that were left out, and the list of them that a store keeps."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from maesil.datasets import Problem, Scan
from maesil.datasets.harmless import DATE, harmless
from maesil.errors import KeptScanError, MaesilError

_PATH = re.compile(r"(?<!\w)(?:/|[A-Za-z]:\\)[^\s'\":,;)]+")
_SECRETS = (
    re.compile(r"\d+(?:\.\d+){3,}\.?"),  # a UID
    re.compile(r"\.\.\.\.?\d[\d.]*"),  # the end of a UID
    DATE,
    _PATH,
)
_ORDINARY_WORD = re.compile(r"[a-z]+")
_WITHHELD = "(withheld)"


@dataclass(frozen=True)
class Quarantined:
    """A source that was left out.

    Attributes:
        source: Name of the source in the store: a relative path, or a hash; never a patient's name.
        scan_id: Name that the scan would have in the store if it were sound.
        reason: Reason for leaving it out.
        fix: Advice on what to do about it.
        path: Path of the source, for the caller; not stored.
        other: Place of the scan that was taken instead, for the caller; not stored.
    """

    source: str
    scan_id: str | None
    reason: str
    fix: str
    path: str | None = None
    other: str | None = None

    @property
    def told(self) -> str:
        """The reason, and the scan that was taken instead."""
        return self.reason if self.other is None else f"{self.reason}: {self.other}"

    def row(self) -> dict[str, str | None]:
        """The row that the store keeps."""
        return {"source": self.source, "scan_id": self.scan_id, "reason": self.reason, "fix": self.fix}


def quarantined_problem(problem: Problem) -> Quarantined:
    """A source in which no scan was found."""
    path = None if problem.path is None else str(problem.path)
    return Quarantined(problem.source, None, problem.reason, problem.fix, path, problem.other)


def quarantined_scan(scan: Scan, error: BaseException, stored: str | None = None) -> Quarantined:
    """A scan that could not be prepared, described in words that reveal no more than its name.

    Args:
        scan: The scan.
        error: The reason.
        stored: Place of the scan that the store has under this name, if it is known.
    """
    what, fix = (_without_secrets(text, scan) for text in _explained(error))
    other = stored if isinstance(error, KeptScanError) and stored != scan.place else None
    return Quarantined(scan.shown, scan.scan_id, what, fix, _place(scan, error), other)


def _place(scan: Scan, error: BaseException) -> str:
    """The file of a scan or of its labels that an error is about, or the scan's path."""
    where = str(getattr(error, "where", None))
    return where if where in map(str, (*scan.files, *scan.labels)) else str(scan.path)


def _explained(error: BaseException) -> tuple[str, str]:
    if isinstance(error, MaesilError):
        return error.what, error.fix or ""
    if isinstance(error, MemoryError):
        return "it needs more memory than is available", "use fewer --workers, or a machine with more memory"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__, "check that the file can be read"
    # Its text may quote the header.
    fix = "please report it, with the traceback of maesil.ct.readers.read(PATH): every scan should be read or refused"
    return f"unexpected {type(error).__name__}", fix


def _without_secrets(text: str, scan: Scan) -> str:
    """Removes names of files and series from readers' messages: they may identify a patient."""
    places = {place for path in (scan.path, *scan.files) for place in (path, *path.parents) if len(place.parts) > 2}
    names = {place.name for place in places if scan.hashed and _may_tell(place.name)}
    series = {scan.series} if scan.hashed and scan.series else set[str]()
    for secret in sorted({*map(str, places), *names, *series}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", _WITHHELD, text)  # whole words: a folder may be called "a"
    for pattern in _SECRETS if scan.hashed else (_PATH,):
        text = pattern.sub(_WITHHELD, text)
    return text


def _may_tell(name: str) -> bool:
    """Whether the name of a file or folder is withheld: not if it is harmless, or a word that reasons may have."""
    return not harmless(name) and not _ORDINARY_WORD.fullmatch(name)


def quarantine_text(rows: Iterable[Quarantined]) -> str:
    """The rows as JSON lines, in an order that depends on them alone."""
    lines = sorted(json.dumps(row.row(), sort_keys=True) for row in rows)
    return "".join(f"{line}\n" for line in lines)
