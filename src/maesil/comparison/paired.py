"""Every entry against ours, scan by scan: the same scans and masks, so only the differences matter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from maesil.evaluation.scores import Score
from maesil.evaluation.summary import BOOTSTRAP_SEED, CONFIDENCE, RESAMPLES

FEWEST_PAIRS = 6
"""With fewer pairs the signed-rank test cannot come below 0.05 whatever they are."""


@dataclass(frozen=True)
class Paired:
    """One entry's scores minus ours.

    Attributes:
        entry: The other.
        region: whole, masked or composite.
        metric: psnr, ssim or lpips.
        n: Scans with a finite difference.
        patients: They are of.
        difference: Mean over scans; negative where the entry's number is smaller than ours.
        low: Lower end of the 95 % bootstrap interval of the mean, patients resampled; nan for one patient.
        high: Its upper end.
        p: Two-sided Wilcoxon signed-rank; nan with fewer than `FEWEST_PAIRS` pairs.
        p_holm: The same, corrected for the number of entries tested in one region and metric (Holm 1979).
    """

    entry: str
    region: str
    metric: str
    n: int
    patients: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


def pair(scores: Sequence[Score], ours: str, leave_out: Sequence[str] = ()) -> list[Paired]:
    """All entries but ours and those to be left out, in every region and metric.

    Scans of one patient are no independent witnesses: the interval resamples patients. The test takes scans as they are
    where every patient has one, and patients' means where some have several.
    """
    values = {(score.model, score.region, score.metric, score.scan): score for score in scores}
    entries = [entry for entry in dict.fromkeys(score.model for score in scores) if entry not in (ours, *leave_out)]
    rows = []
    for region, metric in dict.fromkeys((score.region, score.metric) for score in scores):
        found = [_paired(values, entry, ours, region, metric) for entry in entries]
        rows += _holm([row for row in found if row is not None])
    return rows


def _paired(
    values: Mapping[tuple[str, str, str, str], Score], entry: str, ours: str, region: str, metric: str
) -> Paired | None:
    by_patient: dict[str, list[float]] = {}
    for (model, where, what, scan), score in values.items():
        other = values.get((ours, region, metric, scan))
        if (model, where, what) == (entry, region, metric) and other is not None:
            difference = score.value - other.value
            if math.isfinite(difference):
                by_patient.setdefault(score.patient, []).append(difference)
    if not by_patient:
        return None
    patients = list(by_patient.values())
    everything = np.concatenate([np.array(values, dtype=np.float64) for values in patients])
    low, high = _interval(patients)
    p = _signed_rank(np.array([np.mean(values) for values in patients]))
    mean = float(everything.mean())
    return Paired(entry, region, metric, len(everything), len(patients), mean, low, high, p, math.nan)


def _interval(patients: Sequence[Sequence[float]]) -> tuple[float, float]:
    if len(patients) < 2:
        return math.nan, math.nan
    sums, counts = np.array([sum(values) for values in patients]), np.array([len(values) for values in patients])
    drawn = np.random.default_rng(BOOTSTRAP_SEED).integers(len(patients), size=(RESAMPLES, len(patients)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def _signed_rank(differences: Float[np.ndarray, " n"]) -> float:
    from scipy.stats import wilcoxon

    if len(differences) < FEWEST_PAIRS:
        return math.nan
    if not differences.any():
        return 1.0
    return float(wilcoxon(differences).pvalue)


def _holm(rows: Sequence[Paired]) -> list[Paired]:
    """Holm's step-down correction; rows without a p-value are not among those tested."""
    tested = sorted((row for row in rows if not math.isnan(row.p)), key=lambda row: row.p)
    corrected: dict[str, float] = {}
    worst = 0.0
    for rank, row in enumerate(tested):
        worst = max(worst, min(1.0, row.p * (len(tested) - rank)))
        corrected[row.entry] = worst
    return [replace(row, p_holm=corrected.get(row.entry, math.nan)) for row in rows]
