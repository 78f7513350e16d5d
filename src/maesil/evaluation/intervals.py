"""Confidence intervals of means over patients, computed the same way for every table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

RESAMPLES = 4_000
CONFIDENCE = 0.95
BOOTSTRAP_SEED = 0


def resampled_means(
    values: Sequence[float], patients: Sequence[str], *, resamples: int = RESAMPLES, seed: int = BOOTSTRAP_SEED
) -> Float[np.ndarray, " r"]:
    """Means of `values` over resamples of whole patients, drawn with replacement.

    Scans of one patient are not independent, so they are drawn together.

    Args:
        values: A finite number per row, such as a scan's score.
        patients: The patient of each row.
        resamples: Number of resamples.
        seed: Seed of the resamples; the same seed draws the same patients.
    """
    numbers, number_of = np.unique(np.asarray(patients), return_inverse=True)
    sums = np.bincount(number_of, weights=np.asarray(values, dtype=np.float64))
    counts = np.bincount(number_of)
    drawn = np.random.default_rng(seed).integers(len(numbers), size=(resamples, len(numbers)))
    means: Float[np.ndarray, " r"] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means


def patient_interval(
    values: Sequence[float],
    patients: Sequence[str],
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = BOOTSTRAP_SEED,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values`, with whole patients resampled.

    Args:
        values: A finite number per row, such as a scan's score.
        patients: The patient of each row.
        confidence: Share of the resampled means inside the interval.
        resamples: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        The interval's ends; (nan, nan) with fewer than two patients.
    """
    if len(set(patients)) < 2:
        return math.nan, math.nan
    return interval_of(resampled_means(values, patients, resamples=resamples, seed=seed), confidence)


def interval_of(means: Float[np.ndarray, " r"], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The central interval that contains the share `confidence` of resampled means."""
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)
