"""Tables of segmentation scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maesil.evaluation.sheet import Sheet
from maesil.evaluation.summary import bootstrap_means
from maesil.metrics.segmentation import SURFACE_TOLERANCE_MM

METRICS = (("dice", "Dice ↑", 3), ("hd95_mm", "HD95 (mm) ↓", 1), ("nsd", "NSD ↑", 3))


def segmentation_sheet(rows: Sequence[Mapping[str, Any]], title: str) -> Sheet:
    """A row per class and one of their mean: mean over scans, standard deviation, 95 % bootstrap interval.

    Args:
        rows: As `score_segmentation` gives them.
        title: Above the table.
    """
    names = list(dict.fromkeys(str(row["class"]) for row in rows))
    cells = [_cells(name, [row for row in rows if row["class"] == name]) for name in names]
    if len(names) > 1:
        cells.append(_cells("mean of classes", _per_scan_means(rows)))
    scans, patients = len({row["scan"] for row in rows}), len({row["patient"] for row in rows})
    notes = (
        f"{scans} whole scans of {patients} patients that training never saw. Cells: mean ± standard deviation over "
        "scans [95 % bootstrap interval of the mean].",
        f"HD95: 95th percentile of surface distances. NSD: share of both surfaces within {SURFACE_TOLERANCE_MM:g} mm. "
        "A class that a scan lacks and that was not predicted is not scored there (n says how many were); where it is "
        "in one only, Dice and NSD are 0 and HD95 is left out of its mean (and told).",
    )
    return Sheet(("class", "n", *(title for _, title, _ in METRICS)), cells, notes, title=title)


def _per_scan_means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Every scan's mean over the classes that were scored there."""
    means = []
    for scan in dict.fromkeys(row["scan"] for row in rows):
        own = [row for row in rows if row["scan"] == scan]
        means.append({key: mean_of([row[key] for row in own]) for key, _, _ in METRICS})
    return means


def _cells(name: str, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    scored = [row for row in rows if not math.isnan(row["dice"])]
    return (name, str(len(scored)), *(_cell([row[key] for row in scored], digits) for key, _, digits in METRICS))


def _cell(values: Sequence[float], digits: int) -> str:
    finite = np.array([value for value in values if math.isfinite(value)], dtype=np.float64)
    if not len(finite):
        return "–"
    infinite = sum(math.isinf(value) for value in values)
    text = f"{finite.mean():.{digits}f}"
    if len(finite) > 1:
        low, high = np.percentile(bootstrap_means(finite), [2.5, 97.5])
        text += f" ± {finite.std(ddof=1):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{text}, ∞ in {infinite}" if infinite else text


def mean_of(values: Sequence[float]) -> float:
    """The mean of what is finite; NaN where nothing is."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
