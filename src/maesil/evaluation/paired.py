"""Paired differences of every entry from ours, scan by scan, on the same scans and masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from maesil.evaluation.intervals import patient_interval
from maesil.evaluation.scores import Score, score_frame
from maesil.evaluation.summary import scan_means

FEWEST_PAIRS = 6
"""With fewer pairs, the signed-rank test can never fall below 0.05."""
COLUMNS = (
    "entry", "region", "metric", "n", "patients", "larger", "difference", "median", "low", "high", "p", "p_holm",
)  # fmt: skip


def pair(scores: Sequence[Score], ours: str, leave_out: Sequence[str] = ()) -> pd.DataFrame:
    """Compares all entries with ours, except those to be left out, in every region and metric.

    Scans of one patient are not independent: the interval resamples patients, and the test uses patients' means.

    Returns:
        A frame with a row per region, metric and entry, and these columns:

        - entry: The entry compared with ours.
        - region: A name in `maesil.evaluation.protocol.REGIONS`.
        - metric: A name in `maesil.evaluation.measures.METRICS`.
        - n: Number of scans with a finite difference; each is the mean over training seeds.
        - patients: Number of patients of these scans.
        - larger: Number of scans on which the entry's value is larger than ours.
        - difference: Mean difference over scans; negative if the entry's value is smaller than ours.
        - median: Median difference over scans.
        - low: Lower end of the 95 % bootstrap interval of the mean, patients resampled; nan for one patient.
        - high: Upper end of the interval.
        - p: Two-sided Wilcoxon signed-rank p-value; nan with fewer than `FEWEST_PAIRS` pairs.
        - p_holm: The p-value corrected for the number of entries tested in one region and metric (Holm 1979).
    """
    scans = scan_means(score_frame(scores))
    same = ["region", "metric", "dataset", "scan", "patient"]
    both = scans.merge(scans[scans["model"] == ours], on=same, suffixes=("", "_ours"))
    both = both.assign(difference=both["value"] - both["value_ours"])
    both = both[np.isfinite(both["difference"])]
    rows = [
        _paired(entry, region, metric, found)
        for (region, metric), tested in both.groupby(["region", "metric"], sort=False)
        for entry, found in tested.groupby("model", sort=False)
        if entry not in (ours, *leave_out)
    ]
    paired = pd.DataFrame(rows, columns=COLUMNS)
    paired["p_holm"] = paired.groupby(["region", "metric"])["p"].transform(holm)
    return paired


def _paired(entry: str, region: str, metric: str, found: pd.DataFrame) -> dict[str, Any]:
    differences, of_patients = found["difference"], found.groupby("patient", sort=False)["difference"].mean()
    low, high = patient_interval(differences, found["patient"])
    return {
        "entry": entry,
        "region": region,
        "metric": metric,
        "n": len(found),
        "patients": len(of_patients),
        "larger": int((differences > 0).sum()),
        "difference": differences.mean(),
        "median": differences.median(),
        "low": low,
        "high": high,
        "p": _signed_rank(of_patients),
    }


def _signed_rank(differences: pd.Series) -> float:
    if len(differences) < FEWEST_PAIRS:
        return math.nan
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0


def holm(p: pd.Series) -> pd.Series:
    """Holm's step-down correction of p-values (Holm 1979); those that are nan do not count as tests."""
    tested = p.dropna().sort_values(kind="stable")
    return (tested * np.arange(len(tested), 0, -1)).clip(upper=1.0).cummax().reindex(p.index)
