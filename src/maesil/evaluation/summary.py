"""Summaries of scores over scans: means, medians, deviations, intervals over patients; micro and macro averages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from maesil.errors import ConfigError
from maesil.evaluation.intervals import BOOTSTRAP_SEED, interval_of, patient_interval, resampled_means
from maesil.evaluation.scores import Score

ALL_SCANS = "all scans"
MEAN_OF_DATASETS = "mean of datasets"


@dataclass(frozen=True)
class Summary:
    """One metric of one model over a group of scans.

    A scan that was scored with several training seeds counts once, with the mean of its scores.

    Attributes:
        group: A dataset, `ALL_SCANS` (micro: every scan counts equally) or `MEAN_OF_DATASETS` (macro).
        model: Model that reconstructed the scans.
        region: A name in `maesil.evaluation.protocol.REGIONS`.
        metric: A name in `maesil.evaluation.measures.METRICS`.
        n: Number of scans with a defined value; for the macro mean, of datasets.
        patients: Number of patients of these scans.
        undefined: Number of scans left out because their value is nan.
        infinite: Number of scans with an infinite value: reconstructed exactly.
        mean: Mean over scans (macro: over the datasets' means); inf if any value is infinite.
        median: Median over scans (macro: over the datasets' means).
        deviation: Sample standard deviation over scans; nan for fewer than two, or if any value is infinite.
        low: Lower end of the 95 % bootstrap interval of the mean, patients resampled; nan for fewer than two patients,
            or if the deviation is nan.
        high: Upper end of the interval.
        draw_spread: Root mean square, over scans, of the standard deviation over mask draws; nan if there is none.
        seeds: Number of training seeds.
        seed_deviation: Sample standard deviation over seeds of the mean over scans; nan for fewer than two.
    """

    group: str
    model: str
    region: str
    metric: str
    n: int
    patients: int
    undefined: int
    infinite: int
    mean: float
    median: float
    deviation: float
    low: float
    high: float
    draw_spread: float
    seeds: int
    seed_deviation: float


@dataclass(frozen=True)
class _Scan:
    """One scan's scores in one metric and region, over training seeds."""

    patient: str
    dataset: str
    scores: tuple[Score, ...]

    @property
    def value(self) -> float:
        return float(np.mean([score.value for score in self.scores]))


def summarize(scores: Sequence[Score]) -> list[Summary]:
    """Summarises every model, region and metric: over all scans and, if there are several, over and per dataset.

    Raises:
        ConfigError: The scores are from different protocols, or two have the same key.
    """
    _check(scores)
    datasets = list(dict.fromkeys(score.dataset for score in scores))
    grouped: dict[tuple[str, str, str], dict[tuple[str, str], list[Score]]] = {}
    for score in scores:
        what, where = (score.model, score.region, score.metric), (score.dataset, score.scan)
        grouped.setdefault(what, {}).setdefault(where, []).append(score)
    rows = []
    for what, found in grouped.items():
        scans = [_Scan(same[0].patient, dataset, tuple(same)) for (dataset, _), same in found.items()]
        rows.append(_micro(ALL_SCANS, what, scans))
        if len(datasets) > 1:
            parts = {name: [scan for scan in scans if scan.dataset == name] for name in datasets}
            parts = {name: part for name, part in parts.items() if part}
            rows.append(_macro(what, parts))
            rows.extend(_micro(name, what, part) for name, part in parts.items())
    return rows


def _micro(group: str, what: tuple[str, str, str], scans: Sequence[_Scan]) -> Summary:
    defined = [scan for scan in scans if not math.isnan(scan.value)]
    values, patients = [scan.value for scan in defined], [scan.patient for scan in defined]
    finite = len(values) > 1 and all(map(math.isfinite, values))
    low, high = patient_interval(values, patients) if finite else (math.nan, math.nan)
    return _summary(group, what, scans, values, low, high)


def _macro(what: tuple[str, str, str], parts: Mapping[str, Sequence[_Scan]]) -> Summary:
    """The summary over datasets, which count equally; patients are resampled within each."""
    defined = {name: [scan for scan in part if not math.isnan(scan.value)] for name, part in parts.items()}
    defined = {name: part for name, part in defined.items() if part}
    means = [float(np.mean([scan.value for scan in part])) for part in defined.values()]
    low = high = math.nan
    several = any(len({scan.patient for scan in part}) > 1 for part in defined.values())  # something to resample
    if len(means) > 1 and all(map(math.isfinite, means)) and several:
        draws = [
            resampled_means([scan.value for scan in part], [scan.patient for scan in part], seed=BOOTSTRAP_SEED + index)
            for index, part in enumerate(defined.values())
        ]
        low, high = interval_of(np.mean(draws, axis=0))
    everything = [scan for part in parts.values() for scan in part]
    return _summary(MEAN_OF_DATASETS, what, everything, means, low, high)


def _summary(
    group: str, what: tuple[str, str, str], scans: Sequence[_Scan], values: Sequence[float], low: float, high: float
) -> Summary:
    """The summary of a group from `values`: one number per scan, or per dataset."""
    model, region, metric = what
    spreads = [score.spread for scan in scans for score in scan.scores if not math.isnan(score.spread)]
    of_seeds = _means_of_seeds(scans)
    counted = [scan for scan in scans if not math.isnan(scan.value)]
    return Summary(
        group=group,
        model=model,
        region=region,
        metric=metric,
        n=len(values),
        patients=len({scan.patient for scan in counted}),
        undefined=len(scans) - len(counted),
        infinite=sum(math.isinf(scan.value) for scan in counted),
        mean=float(np.mean(values)) if values else math.nan,
        median=float(np.median(values)) if values else math.nan,
        deviation=_deviation(values),
        low=low,
        high=high,
        draw_spread=math.sqrt(float(np.mean(np.square(spreads)))) if spreads else math.nan,
        seeds=len(of_seeds),
        seed_deviation=_deviation(of_seeds),
    )


def _means_of_seeds(scans: Sequence[_Scan]) -> list[float]:
    by_seed: dict[int, list[float]] = {}
    for scan in scans:
        for score in scan.scores:
            if not math.isnan(score.value):
                by_seed.setdefault(score.seed, []).append(score.value)
    return [float(np.mean(values)) for values in by_seed.values()]


def _deviation(values: Sequence[float]) -> float:
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return math.nan
    return float(np.std(values, ddof=1))


def _check(scores: Sequence[Score]) -> None:
    protocols = sorted({score.protocol for score in scores})
    if len(protocols) > 1:
        raise ConfigError(
            f"scores of {len(protocols)} protocols cannot share a table: {', '.join(protocols)}",
            fix="evaluate with one protocol, or make one table per protocol",
        )
    seen: set[tuple[str | int, ...]] = set()
    for score in scores:
        if score.key in seen:
            raise ConfigError(
                f"two scores for {score.metric} ({score.region}) of {score.model}", where=f"scan {score.scan}"
            )
        seen.add(score.key)
