"""Confidence intervals over patients, computed the same way for every table."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 4_000
CONFIDENCE = 0.95
BOOTSTRAP_SEED = 0


def resampled_means(
    values: Collection[float], patients: Collection[str], *, seed: int = BOOTSTRAP_SEED
) -> Float[np.ndarray, " r"]:
    """Means of `values` over resamples of whole patients, drawn with replacement.

    Scans of one patient are not independent, so they are drawn together.

    Args:
        values: A finite number per row, such as a scan's score.
        patients: The patient of each row.
        seed: Seed of the resamples; the same seed draws the same patients.
    """
    names, number_of = np.unique(np.asarray(patients), return_inverse=True)
    sums, counts = np.bincount(number_of, weights=np.asarray(values, dtype=np.float64)), np.bincount(number_of)
    drawn = _draws(len(names), seed)
    means: Float[np.ndarray, " r"] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means


def resampled_statistics(
    statistic: Callable[[Int[np.ndarray, " n"]], float], patients: Collection[str]
) -> Float[np.ndarray, " r"]:
    """A statistic over resamples of whole patients; the same patients are drawn as in `resampled_means`.

    Args:
        statistic: Computes the statistic from the numbers of the rows that were drawn.
        patients: The patient of each row.
    """
    names, number_of = np.unique(np.asarray(patients), return_inverse=True)
    rows = [np.flatnonzero(number_of == number) for number in range(len(names))]
    draws = _draws(len(names), BOOTSTRAP_SEED)
    return np.array([statistic(np.concatenate([rows[at] for at in draw])) for draw in draws], dtype=np.float64)


def _draws(patients: int, seed: int) -> Int[np.ndarray, "r p"]:
    """Numbers of the patients in each resample.

    `scipy.stats.bootstrap` draws the same ones from the same seed; but it has no strata, and it warns of an interval
    that cannot be calculated where a statistic is nan in a single resample, which here is left out.
    """
    return np.random.default_rng(seed).integers(patients, size=(RESAMPLES, patients))


def patient_interval(
    values: Collection[float], patients: Collection[str], strata: Collection[str] | None = None
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values`, with whole patients resampled.

    Args:
        values: A number per row, such as a scan's score.
        patients: The patient of each row.
        strata: The stratum of each row, such as its dataset: patients are resampled within each stratum, and the
            interval is that of the mean of the strata's means. None: there is one stratum.

    Returns:
        The interval's ends; (nan, nan) if a value is not finite, or if no stratum has two patients.
    """
    numbers, names = np.asarray(values, dtype=np.float64), np.asarray(patients)
    groups = np.zeros(len(numbers)) if strata is None else np.asarray(strata)
    parts = [groups == group for group in dict.fromkeys(groups)]
    if not np.isfinite(numbers).all() or all(len(set(names[part])) < 2 for part in parts):
        return math.nan, math.nan
    means = [
        resampled_means(numbers[part], names[part], seed=BOOTSTRAP_SEED + place) for place, part in enumerate(parts)
    ]
    return interval_of(np.mean(means, axis=0))


def interval_of(means: Float[np.ndarray, " r"]) -> tuple[float, float]:
    """The central interval that contains the share `CONFIDENCE` of resampled means."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)
