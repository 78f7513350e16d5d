"""Paired differences of every entry from ours, scan by scan, on the same scans and masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from maesil.evaluation.intervals import patient_interval
from maesil.evaluation.scores import Score

FEWEST_PAIRS = 6
"""With fewer pairs, the signed-rank test can never fall below 0.05."""


@dataclass(frozen=True)
class Paired:
    """One entry's scores minus ours.

    Attributes:
        entry: The entry compared with ours.
        region: A name in `maesil.evaluation.protocol.REGIONS`.
        metric: A name in `maesil.evaluation.measures.METRICS`.
        n: Number of scans with a finite difference; each is the mean over training seeds.
        patients: Number of patients of these scans.
        larger: Number of scans on which the entry's value is larger than ours.
        difference: Mean difference over scans; negative if the entry's value is smaller than ours.
        median: Median difference over scans.
        low: Lower end of the 95 % bootstrap interval of the mean, patients resampled; nan for one patient.
        high: Upper end of the interval.
        p: Two-sided Wilcoxon signed-rank p-value; nan with fewer than `FEWEST_PAIRS` pairs.
        p_holm: The p-value corrected for the number of entries tested in one region and metric (Holm 1979).
    """

    entry: str
    region: str
    metric: str
    n: int
    patients: int
    larger: int
    difference: float
    median: float
    low: float
    high: float
    p: float
    p_holm: float


def pair(scores: Sequence[Score], ours: str, leave_out: Sequence[str] = ()) -> list[Paired]:
    """Compares all entries with ours, except those to be left out, in every region and metric.

    Scans of one patient are not independent: the interval resamples patients, and the test uses patients' means.
    """
    values = _means_over_seeds(scores)
    entries = [entry for entry in dict.fromkeys(score.model for score in scores) if entry not in (ours, *leave_out)]
    rows = []
    for region, metric in dict.fromkeys((score.region, score.metric) for score in scores):
        found = [_paired(values, entry, ours, region, metric) for entry in entries]
        rows += _holm([row for row in found if row is not None])
    return rows


Scans = dict[tuple[str, str], float]
"""A number per scan; the key is (scan, patient)."""


def _means_over_seeds(scores: Sequence[Score]) -> dict[tuple[str, str, str], Scans]:
    """Model, region and metric to each scan's mean over the training seeds."""
    lists: dict[tuple[str, str, str], dict[tuple[str, str], list[float]]] = {}
    for score in scores:
        of_scan = lists.setdefault((score.model, score.region, score.metric), {})
        of_scan.setdefault((score.scan, score.patient), []).append(score.value)
    return {key: {scan: float(np.mean(found)) for scan, found in scans.items()} for key, scans in lists.items()}


def _paired(
    values: Mapping[tuple[str, str, str], Scans], entry: str, ours: str, region: str, metric: str
) -> Paired | None:
    theirs, own = values.get((entry, region, metric), {}), values.get((ours, region, metric), {})
    differences = {scan: theirs[scan] - own[scan] for scan in theirs if scan in own}
    differences = {scan: value for scan, value in differences.items() if math.isfinite(value)}
    if not differences:
        return None
    by_patient: dict[str, list[float]] = {}
    for (_, patient), value in differences.items():
        by_patient.setdefault(patient, []).append(value)
    found = list(differences.values())
    low, high = patient_interval(found, [patient for _, patient in differences])
    return Paired(
        entry=entry,
        region=region,
        metric=metric,
        n=len(found),
        patients=len(by_patient),
        larger=sum(value > 0 for value in found),
        difference=float(np.mean(found)),
        median=float(np.median(found)),
        low=low,
        high=high,
        p=_signed_rank(np.array([np.mean(of_patient) for of_patient in by_patient.values()])),
        p_holm=math.nan,
    )


def _signed_rank(differences: Float[np.ndarray, " n"]) -> float:
    from scipy.stats import wilcoxon

    if len(differences) < FEWEST_PAIRS:
        return math.nan
    if not differences.any():
        return 1.0
    return float(wilcoxon(differences).pvalue)


def _holm(rows: Sequence[Paired]) -> list[Paired]:
    """Holm's step-down correction; rows without a p-value do not count as tested."""
    tested = sorted((row for row in rows if not math.isnan(row.p)), key=lambda row: row.p)
    corrected: dict[str, float] = {}
    worst = 0.0
    for rank, row in enumerate(tested):
        worst = max(worst, min(1.0, row.p * (len(tested) - rank)))
        corrected[row.entry] = worst
    return [replace(row, p_holm=corrected.get(row.entry, math.nan)) for row in rows]
