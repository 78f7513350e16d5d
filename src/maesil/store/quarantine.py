"""Sources that were left out, and the list of them that a store keeps."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from maesil.datasets import Problem, Scan
from maesil.errors import MaesilError

_SECRETS = (
    re.compile(r"\d+(?:\.\d+){3,}\.?"),  # a UID
    re.compile(r"(?<!\d)(?:19|20)\d\d[-/.]?[01]\d[-/.]?[0-3]\d(?!\d)"),  # a date
    re.compile(r"(?<!\w)(?:/|[A-Za-z]:\\)[^\s'\":,;)]+"),  # a path
)
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
    """

    source: str
    scan_id: str | None
    reason: str
    fix: str
    path: str | None = None

    def row(self) -> dict[str, str | None]:
        """The row that the store keeps."""
        return {"source": self.source, "scan_id": self.scan_id, "reason": self.reason, "fix": self.fix}


def quarantined_problem(problem: Problem) -> Quarantined:
    """A source in which no scan was found."""
    return Quarantined(
        problem.source, None, problem.reason, problem.fix, None if problem.path is None else str(problem.path)
    )


def quarantined_scan(scan: Scan, error: BaseException) -> Quarantined:
    """A scan that could not be prepared, described in words that reveal no more than its name."""
    what, fix = _explained(error)
    return Quarantined(
        scan.shown, scan.scan_id, _without_secrets(what, scan), _without_secrets(fix, scan), str(scan.path)
    )


def _explained(error: BaseException) -> tuple[str, str]:
    if isinstance(error, MaesilError):
        return error.what, error.fix or ""
    if isinstance(error, MemoryError):
        return "it needs more memory than is available", "use fewer --workers, or a machine with more memory"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__, "check that the file can be read"
    return f"unexpected {type(error).__name__}: {error}", "please report it: every scan should be read or refused"


def _without_secrets(text: str, scan: Scan) -> str:
    """Removes names of files and series from readers' messages: they may identify a patient."""
    names = {str(scan.path), scan.path.name, scan.series or "", *(name for file in scan.files for name in _names(file))}
    public = not scan.hashed
    for name in () if public else sorted(filter(None, names), key=len, reverse=True):
        text = text.replace(name, _WITHHELD)
    for pattern in _SECRETS[2:] if public else _SECRETS:
        text = pattern.sub(_WITHHELD, text)
    return text


def _names(file: Path) -> tuple[str, str]:
    return str(file), file.name


def quarantine_text(rows: Iterable[Quarantined]) -> str:
    """The rows as JSON lines, in an order that depends on them alone."""
    lines = sorted(json.dumps(row.row(), sort_keys=True) for row in rows)
    return "".join(f"{line}\n" for line in lines)
