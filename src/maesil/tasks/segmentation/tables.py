"""Tables of segmentation scores."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from maesil.counts import count_of
from maesil.evaluation.intervals import patient_interval
from maesil.evaluation.notes import held_out_note
from maesil.evaluation.sheet import Sheet, cell
from maesil.metrics.segmentation import SURFACE_TOLERANCE_MM

METRICS = {"dice": ("Dice ↑", 3), "hd95_mm": ("HD95 (mm) ↓", 1), "nsd": ("NSD ↑", 3)}
"""Metric to its column title and number of decimals."""
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
    frame = pd.DataFrame([dict(row) for row in rows])
    cells = [_cells(name, found) for name, found in frame.groupby("class", sort=False)]
    if len(cells) > 1:
        means = frame.groupby(["scan", "patient"], sort=False)[[*METRICS]].agg(mean_of).reset_index()
        cells.append(_cells("mean of classes", means))
    scans = frame["scan"].nunique()
    notes = (
        f"{tested_note(rows)} Cells: mean ± standard deviation over {count_of(scans, 'scan')} {INTERVALS}.",
        f"HD95: 95th percentile of surface distances. NSD: share of both surfaces' areas within "
        f"{SURFACE_TOLERANCE_MM:g} mm. "
        "A class that was not marked in a scan, or is in neither its labels nor its prediction, is not scored there "
        "(n: scans scored); if it is in only one of the two, Dice and NSD are 0 and HD95 is infinite (counted, but not "
        "in its mean).",
        *([CUTS] if _by_superpatch(rows) else []),
    )
    return Sheet(("class", "n", *(title for title, _ in METRICS.values())), cells, notes, title=title)


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


def _cells(name: str, rows: pd.DataFrame) -> tuple[str, ...]:
    scored = rows[rows["dice"].notna()]
    cells = (mean_cell(scored[key], scored["patient"], digits) for key, (_, digits) in METRICS.items())
    return (name, str(len(scored)), *cells)


def mean_cell(values: Collection[float], patients: Collection[str], digits: int, sign: str = "") -> str:
    """Mean ± standard deviation [interval over patients] of the finite values; an interval needs two patients.

    Args:
        values: A number per row; infinite ones are counted separately.
        patients: The patient of each row.
        digits: Number of decimals.
        sign: "+" to always show the sign of the mean and of the interval's ends.
    """
    rows = pd.DataFrame({"value": np.asarray(values, dtype=np.float64), "patient": np.asarray(patients)})
    finite = rows[np.isfinite(rows["value"])]
    low, high = patient_interval(finite["value"], finite["patient"])
    text = cell(finite["value"].mean(), finite["value"].std(), low, high, digits=digits, sign=sign)
    infinite = int(np.isinf(rows["value"]).sum())
    if not infinite:
        return text
    return f"{text}, ∞ in {infinite}" if len(finite) else f"∞ in {infinite}"


def mean_of(values: Iterable[float]) -> float:
    """Mean of the finite values; NaN if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
