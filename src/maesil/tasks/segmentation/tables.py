"""Tables of segmentation scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maesil.evaluation.intervals import patient_interval
from maesil.evaluation.notes import held_out_note
from maesil.evaluation.sheet import Sheet
from maesil.metrics.segmentation import SURFACE_TOLERANCE_MM

METRICS = (("dice", "Dice ↑", 3), ("hd95_mm", "HD95 (mm) ↓", 1), ("nsd", "NSD ↑", 3))
INTERVALS = "[95 % bootstrap interval of the mean, patients resampled; none for a single patient]"
CUTS = (
    "A structure that extends beyond its superpatch is cut at the superpatch's faces, in prediction and truth alike: "
    "the cuts count as surface, so HD95 and NSD look better than on whole scans."
)


def segmentation_sheet(rows: Sequence[Mapping[str, Any]], title: str) -> Sheet:
    """A row per class and one for their mean: mean over scans, standard deviation, 95 % interval over patients.

    Args:
        rows: Rows as returned by `score_segmentation`.
        title: Title above the table.
    """
    names = list(dict.fromkeys(str(row["class"]) for row in rows))
    cells = [_cells(name, [row for row in rows if row["class"] == name]) for name in names]
    if len(names) > 1:
        cells.append(_cells("mean of classes", _per_scan_means(rows)))
    scans = len({row["scan"] for row in rows})
    notes = (
        f"{tested_note(rows)} Cells: mean ± standard deviation over {scans} scans {INTERVALS}.",
        f"HD95: 95th percentile of surface distances. NSD: share of both surfaces' areas within "
        f"{SURFACE_TOLERANCE_MM:g} mm. "
        "A class that is in neither a scan's labels nor its prediction is not scored there (n: scans scored); if it is "
        "in only one of them, Dice and NSD are 0 and HD95 is infinite (counted, but not in its mean).",
        *([CUTS] if _by_superpatch(rows) else []),
    )
    return Sheet(("class", "n", *(title for _, title, _ in METRICS)), cells, notes, title=title)


def tested_note(rows: Sequence[Mapping[str, Any]]) -> str:
    """What was held out of the training, according to the rows."""
    if any("trained" not in row for row in rows):
        return "Some scores are from an earlier version, which did not record whether their patients were trained on."
    patients = {row["patient"] for row in rows}
    trained = {row["patient"] for row in rows if row["trained"]}
    held = {row["scan"]: row["superpatches"] for row in rows}
    superpatches = sum(held.values()) if _by_superpatch(rows) else None
    return held_out_note("test", len(patients), len(trained), superpatches)


def tested_on(rows: Sequence[Mapping[str, Any]]) -> str:
    """What was scored, in two words for a title."""
    return "held-out superpatches" if _by_superpatch(rows) else "test scans"


def _by_superpatch(rows: Sequence[Mapping[str, Any]]) -> bool:
    return any(row.get("superpatches") is not None for row in rows)


def _per_scan_means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every scan's mean over the classes that were scored there."""
    means = []
    for scan in dict.fromkeys(row["scan"] for row in rows):
        own = [row for row in rows if row["scan"] == scan]
        of_classes = {key: mean_of([row[key] for row in own]) for key, _, _ in METRICS}
        means.append({"patient": own[0]["patient"], **of_classes})
    return means


def _cells(name: str, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    scored = [row for row in rows if not math.isnan(row["dice"])]
    patients = [str(row["patient"]) for row in scored]
    cells = (mean_cell([row[key] for row in scored], patients, digits) for key, _, digits in METRICS)
    return (name, str(len(scored)), *cells)


def mean_cell(values: Sequence[float], patients: Sequence[str], digits: int, sign: str = "") -> str:
    """Mean ± standard deviation [interval over patients] of the finite values; an interval needs two patients.

    Args:
        values: A number per row; infinite ones are counted separately.
        patients: The patient of each row.
        digits: Number of decimals.
        sign: "+" to always show the sign of the mean and of the interval's ends.
    """
    kept = [at for at, value in enumerate(values) if math.isfinite(value)]
    if not kept:
        return "–"
    finite, known = np.array([values[at] for at in kept], dtype=np.float64), [patients[at] for at in kept]
    number = f"{sign}.{digits}f"
    text = f"{finite.mean():{number}}"
    if len(finite) > 1:
        text += f" ± {finite.std(ddof=1):.{digits}f}"
    low, high = patient_interval(finite.tolist(), known)
    if math.isfinite(low):
        text += f" [{low:{number}}, {high:{number}}]"
    infinite = sum(math.isinf(value) for value in values)
    return f"{text}, ∞ in {infinite}" if infinite else text


def mean_of(values: Sequence[float]) -> float:
    """Mean of the finite values; NaN if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
