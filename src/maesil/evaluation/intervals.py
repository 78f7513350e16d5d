"""How sure a mean is: intervals over patients, the same way in every table."""

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

    Scans of one patient are no independent witnesses, so they are drawn together.

    Args:
        values: A number per row, such as a scan's score; finite.
        patients: The patient of each row.
        resamples: Resamples to draw.
        seed: Seed of the draws; the same seed draws the same patients.
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
    """Percentile bootstrap interval of the mean of `values`, whole patients resampled.

    Args:
        values: A number per row, such as a scan's score; finite.
        patients: The patient of each row.
        confidence: Share of the resampled means that the interval holds.
        resamples: Resamples to draw.
        seed: Seed of the draws.

    Returns:
        Its ends; (nan, nan) with fewer than two patients.
    """
    if len(set(patients)) < 2:
        return math.nan, math.nan
    return interval_of(resampled_means(values, patients, resamples=resamples, seed=seed), confidence)


def interval_of(means: Float[np.ndarray, " r"], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The middle `confidence` of resampled means."""
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)
