"""Scores over scans: means, deviations, bootstrap intervals; micro and macro over datasets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from maesil.errors import ConfigError
from maesil.evaluation.scores import Score

RESAMPLES = 4_000
CONFIDENCE = 0.95
BOOTSTRAP_SEED = 0
ALL_SCANS = "all scans"
MEAN_OF_DATASETS = "mean of datasets"

Values = Float[np.ndarray, " _"]


@dataclass(frozen=True)
class Summary:
    """One metric of one model over a group of scans.

    Attributes:
        group: A dataset; `ALL_SCANS` (micro: every scan counts the same) or `MEAN_OF_DATASETS` (macro).
        model: What rebuilt the scans.
        region: whole, masked or composite.
        metric: psnr, ssim or lpips.
        n: Scans with a defined value; datasets for the macro mean.
        undefined: Scans left out because their value is nan.
        infinite: Scans with an infinite value: rebuilt exactly.
        mean: inf where any value is.
        deviation: Sample standard deviation; nan for fewer than two, or where any is infinite.
        low: Lower end of the 95 % bootstrap interval of the mean over scans; nan as the deviation is.
        high: Its upper end.
    """

    group: str
    model: str
    region: str
    metric: str
    n: int
    undefined: int
    infinite: int
    mean: float
    deviation: float
    low: float
    high: float


def summarize(scores: Sequence[Score]) -> list[Summary]:
    """Summaries of every model, region and metric: over all scans, over datasets if several, and of each dataset.

    Raises:
        ConfigError: Scores of different protocols, or two scores of the same thing.
    """
    _check(scores)
    datasets = dict.fromkeys(score.dataset for score in scores)
    grouped: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for score in scores:
        what = (score.model, score.region, score.metric)
        grouped.setdefault(what, {name: [] for name in datasets})[score.dataset].append(score.value)
    rows = []
    for what, lists in grouped.items():
        per_dataset = {name: np.array(values, dtype=np.float64) for name, values in lists.items()}
        rows.append(_micro(ALL_SCANS, what, np.concatenate(list(per_dataset.values()))))
        if len(datasets) > 1:
            rows.append(_macro(what, [values for values in per_dataset.values() if len(values)]))
            rows.extend(_micro(name, what, values) for name, values in per_dataset.items() if len(values))
    return rows


def bootstrap_means(values: Values, resamples: int = RESAMPLES, seed: int = BOOTSTRAP_SEED) -> Float[np.ndarray, " r"]:
    """Means of resamples of the scans with replacement; the same seed draws the same scans."""
    rng = np.random.default_rng(seed)
    drawn: Int[np.ndarray, "r s"] = rng.integers(len(values), size=(resamples, len(values)))
    means: Float[np.ndarray, " r"] = values[drawn].mean(axis=1)
    return means


def _micro(group: str, what: tuple[str, str, str], values: Values) -> Summary:
    defined = values[~np.isnan(values)]
    spread = _spread(defined, bootstrap_means(defined)) if _spreads(defined) else (math.nan,) * 3
    return _summary(group, what, defined, len(values) - len(defined), int(np.isinf(defined).sum()), spread)


def _macro(what: tuple[str, str, str], datasets: Sequence[Values]) -> Summary:
    defined = [values[~np.isnan(values)] for values in datasets]
    defined = [values for values in defined if len(values)]
    means = np.array([values.mean() for values in defined])
    spread = (math.nan,) * 3
    if _spreads(means):
        draws = [bootstrap_means(values, seed=BOOTSTRAP_SEED + index) for index, values in enumerate(defined)]
        spread = _spread(means, np.mean(draws, axis=0))
        if all(len(values) < 2 for values in defined):  # nothing to resample within datasets
            spread = (spread[0], math.nan, math.nan)
    undefined = sum(len(values) for values in datasets) - sum(len(values) for values in defined)
    infinite = int(sum(np.isinf(values).sum() for values in defined))
    return _summary(MEAN_OF_DATASETS, what, means, undefined, infinite, spread)


def _summary(
    group: str, what: tuple[str, str, str], values: Values, undefined: int, infinite: int, spread: tuple[float, ...]
) -> Summary:
    model, region, metric = what
    mean = float(values.mean()) if len(values) else math.nan
    deviation, low, high = spread
    return Summary(group, model, region, metric, len(values), undefined, infinite, mean, deviation, low, high)


def _spreads(values: Values) -> bool:
    return len(values) > 1 and bool(np.isfinite(values).all())


def _spread(values: Values, means: Float[np.ndarray, " r"]) -> tuple[float, float, float]:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(values.std(ddof=1)), float(low), float(high)


def _check(scores: Sequence[Score]) -> None:
    protocols = sorted({score.protocol for score in scores})
    if len(protocols) > 1:
        raise ConfigError(
            f"scores of {len(protocols)} protocols cannot share a table: {', '.join(protocols)}",
            fix="evaluate with one protocol, or make a table of each",
        )
    seen: set[tuple[str, ...]] = set()
    for score in scores:
        if score.key in seen:
            raise ConfigError(
                f"two scores for {score.metric} ({score.region}) of {score.model}", where=f"scan {score.scan}"
            )
        seen.add(score.key)
