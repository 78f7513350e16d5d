"""The list of scans that `maesil datasets` writes and `maesil prepare` reads.

It contains paths of this machine and, for DICOM, series UIDs: keep it as private as the scans. A store has neither.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from maesil.ct.readers.base import Facts
from maesil.datasets.scan import Scan
from maesil.errors import ConfigError, reason
from maesil.files import write_json

KIND = "maesil datasets"
FORMAT = 1


def write_manifest(path: Path, scans: Sequence[Scan], facts: Mapping[str, Facts], layouts: Mapping[str, str]) -> None:
    """Writes the list atomically.

    Args:
        path: Path of the list.
        scans: Scans with their splits.
        facts: Map from scan id to the facts in its header.
        layouts: Map from dataset to its layout.
    """
    rows = [_row(scan, facts.get(scan.scan_id), layouts.get(scan.dataset, "")) for scan in scans]
    write_json(path, {"kind": KIND, "format": FORMAT, "scans": rows})


def is_manifest(path: Path) -> bool:
    """Whether a file is such a list."""
    if path.suffix != ".json" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return f'"kind": "{KIND}"' in file.read(256)


def read_manifest(path: Path) -> tuple[Scan, ...]:
    """The scans of a list.

    Raises:
        ConfigError: The list is damaged or has another format.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ConfigError(
                f"this list has format {content['format']}, not {FORMAT}", where=path, fix="write it again"
            )
        return tuple(_scan(row) for row in content["scans"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = "write it again: maesil datasets ROOT... --out FILE"
        raise ConfigError(f"this list of scans cannot be read: {reason(error)}", where=path, fix=fix) from error


def kept_splits(path: Path) -> dict[tuple[str, str], str]:
    """Map from dataset and patient to their split in an earlier list: patients keep it when others are added."""
    return {(scan.dataset, scan.patient): scan.split for scan in earlier_scans(path) if scan.split is not None}


def earlier_scans(path: Path) -> tuple[Scan, ...]:
    """The scans of a list that may not exist yet."""
    return read_manifest(path) if path.is_file() else ()


def with_split(scan: Scan, split: str) -> Scan:
    """The scan, assigned to a split."""
    return replace(scan, split=split)


def _row(scan: Scan, facts: Facts | None, layout: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "scan_id": scan.scan_id,
        "dataset": scan.dataset,
        "layout": layout,
        "patient": scan.patient,
        "split": scan.split,
        "shown": scan.shown,
        "path": str(scan.path),
        "series": scan.series,
        "files": [str(file) for file in scan.files],
        "labels": [str(file) for file in scan.labels],
        "label_names": dict(scan.label_names),
    }
    if facts is not None:
        row |= {"size": facts.size, "in_plane_mm": round(facts.in_plane_mm, 4), "slice_mm": _finite(facts.slice_mm)}
    return row


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _scan(row: Mapping[str, Any]) -> Scan:
    return Scan(
        scan_id=row["scan_id"],
        dataset=row["dataset"],
        patient=row["patient"],
        path=Path(row["path"]),
        series=row["series"],
        files=tuple(Path(file) for file in row["files"]),
        shown=row["shown"],
        labels=tuple(Path(file) for file in row["labels"]),
        split=row["split"],
        label_names=tuple((int(number), name) for number, name in row.get("label_names", {}).items()),
    )
