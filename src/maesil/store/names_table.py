"""The table of hashed names: which scan has which. It may identify patients, so it lies beside the store, not in it."""

from __future__ import annotations

import csv
import os
from collections.abc import Container, Iterable, Mapping
from pathlib import Path

from maesil.datasets import Scan
from maesil.datasets.scan import place_of
from maesil.files import replacing

COLUMNS = ("scan_id", "patient", "source", "series")


def names_path(store: Path) -> Path:
    """The file of a store's table."""
    return store.with_name(f"{store.name}-names.private.csv")


def write_names(store: Path, scans: Iterable[Scan], *, keep: Container[str] = ()) -> str | None:
    """Adds the scans with hashed names to the table, which only its owner can read.

    Args:
        store: Folder of the store.
        scans: Scans, with the paths that their names stand for.
        keep: Names that stand for other files as long as these do not replace them: their rows stay as they are.

    Returns:
        Path of the table; None if no name is hashed, or if the folder of the store takes no file.
    """
    rows = {scan.scan_id: _row(scan) for scan in scans if scan.hashed}
    path = names_path(store)
    if not rows:
        return None
    try:
        known = _read(path)
        fresh = {name: row for name, row in rows.items() if name not in known or name not in keep}
        if known != (merged := {**known, **fresh}):
            _write(path, merged)
    except OSError:
        return None
    return str(path)


def places_in(store: Path) -> dict[str, str]:
    """Map from hashed name to the place of its scan; empty if there is no table, or it cannot be read."""
    try:
        return {
            name: place_of(Path(row["source"]), row["series"] or None) for name, row in _read(names_path(store)).items()
        }
    except (OSError, KeyError):
        return {}


def _row(scan: Scan) -> dict[str, str]:
    return dict(zip(COLUMNS, (scan.scan_id, scan.patient, str(scan.path), scan.series or ""), strict=True))


def _read(path: Path) -> dict[str, dict[str, str]]:
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return {row["scan_id"]: dict(row) for row in csv.DictReader(file)}


def _write(path: Path, rows: Mapping[str, Mapping[str, str]]) -> None:
    with replacing(path) as fresh:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(row for _, row in sorted(rows.items()))
