"""The questions that probes answer about frozen features, and how well they are answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from maesil.evaluation.intervals import RESAMPLES, resampled_statistics
from maesil.metrics.classification import each_auroc, mean_auroc
from maesil.tasks.classification.network import nearest_neighbours
from maesil.tasks.probe.ridge import ridge_probe
from maesil.tasks.probe.samples import Samples, ScanSamples, Targets

PRETRAINED = "pre-trained"
"""Name of the start that is compared with random ones."""


@dataclass(frozen=True)
class Asked:
    """A question that a probe answers about samples.

    Attributes:
        target: What is told from the features: "organ" or "dataset".
        unit: What has a vector: "superpatch" or "patch".
        probe: "linear" or "knn".
    """

    target: Literal["organ", "dataset"]
    unit: Literal["superpatch", "patch"]
    probe: Literal["linear", "knn"]


@dataclass(frozen=True)
class Answer:
    """How well one question is answered from the features of one encoder after one of its blocks.

    Attributes:
        asked: The question.
        depth: Number of blocks before the features; 0: the embedding.
        start: "pre-trained", or "random 0", "random 1" and so on.
        each: AUROC of each target; NaN for those in `untold`.
        auroc: Mean of `each`, without NaN.
        resampled: The same over resamples of whole patients, (r,).
        penalty: Penalty of the linear probe; None: the probe has none.
        untold: Why targets have no AUROC.
        patients: Number of test patients that `auroc` is calculated from; of one, there are no resamples.
    """

    asked: Asked
    depth: int
    start: str
    each: dict[str, float]
    auroc: float
    resampled: Float[np.ndarray, " r"]
    penalty: float | None
    untold: Mapping[str, str]
    patients: int


def questions(targets: Targets) -> Iterator[tuple[Asked, tuple[str, ...], Callable[[ScanSamples], Samples]]]:
    """Every question, the names of its targets, and its samples."""
    if targets.organs.names:
        yield Asked("organ", "superpatch", "linear"), targets.organs.names, lambda scans: scans.superpatches
        yield Asked("organ", "superpatch", "knn"), targets.organs.names, lambda scans: scans.superpatches
        yield Asked("organ", "patch", "linear"), targets.organs.names, lambda scans: scans.patches
    if targets.datasets:
        yield Asked("dataset", "superpatch", "linear"), targets.datasets, lambda scans: scans.regions
        yield Asked("dataset", "superpatch", "knn"), targets.datasets, lambda scans: scans.regions


def answers_of(
    asked: Asked, names: tuple[str, ...], known: Samples, tested: Samples, depths: Iterable[int], start: str
) -> Iterator[Answer]:
    """Trains a probe on the training samples' features of each depth, and scores it on the test samples.

    Args:
        asked: The question.
        names: Names of the targets.
        known: Training samples.
        tested: Test samples.
        depths: Numbers of blocks before the features.
        start: Name of the start.
    """
    untold = untold_of(asked, names, known, tested)  # it needs no features: the same at every depth
    return (_answer(asked, names, known, tested, depth, start, untold) for depth in depths)


def _answer(
    asked: Asked,
    names: tuple[str, ...],
    known: Samples,
    tested: Samples,
    depth: int,
    start: str,
    untold: Mapping[str, str],
) -> Answer:
    """The answer of one depth; the other arguments are those of `answers_of`."""
    scores, penalty = _scores(asked, known, tested, depth)
    # A probe that was taught one kind scores all samples alike: 0.5 would be no finding, and would move the mean.
    scores[:, [bool(_one_kind(taught, asked.unit)) for taught in known.truth.T]] = math.nan
    # A patient has too few superpatches for an AUROC of its own.
    each, resampled, patients = (_of_all if asked.unit == "superpatch" else _of_each_patient)(scores, tested)
    if patients == 1:  # the same in every resample, which says nothing
        resampled = np.full_like(resampled, math.nan)
    return Answer(
        asked, depth, start, dict(zip(names, each, strict=True)), _mean(each), resampled, penalty, untold, patients
    )


def untold_of(asked: Asked, names: Sequence[str], known: Samples, tested: Samples) -> dict[str, str]:
    """Why targets have no AUROC, in words; the others are left out.

    Args:
        asked: The question.
        names: Names of the targets.
        known: Training samples.
        tested: Test samples.
    """
    pairs = [
        (_one_kind(taught, f"training {asked.unit}"), _one_kind(truth, f"test {asked.unit}"))
        for taught, truth in zip(known.truth.T, tested.truth.T, strict=True)
    ]
    reasons = {name: " and ".join(filter(None, pair)) for name, pair in zip(names, pairs, strict=True) if any(pair)}
    if asked.unit == "patch":
        for name, told in zip(names, _by_patient(np.zeros_like(tested.truth), tested).T, strict=True):
            if not np.isfinite(told).any():
                reasons.setdefault(name, "no test patient has patches with it and without it")
    return reasons


def _one_kind(truth: Float[np.ndarray, " n"], sample: str) -> str:
    """What is wrong with a target that samples do not both have and lack; empty if they do."""
    told = truth[np.isfinite(truth)]
    if not len(told):
        return f"no {sample} is known to have or lack it"
    return "" if 0 < told.sum() < len(told) else f"{'every' if told.any() else 'no'} {sample} has it"


def _scores(asked: Asked, known: Samples, tested: Samples, depth: int) -> tuple[Float[np.ndarray, "n k"], float | None]:
    """Scores of the test samples for each target, and the linear probe's penalty."""
    features, others = known.vectors[depth], tested.vectors[depth]
    if asked.probe == "linear":
        return ridge_probe(features, known.truth, known.patients, others)
    votes = [_votes(features, truth, others) for truth in known.truth.T]
    return torch.stack(votes, dim=1).double().numpy(), None


def _votes(
    features: Float[Tensor, "n e"], truth: Float[np.ndarray, " n"], others: Float[Tensor, "m e"]
) -> Float[Tensor, " m"]:
    """Share of the nearest neighbours that have a target, among the samples of which this is known; NaN: of none."""
    told = np.isfinite(truth)
    if not told.any():
        return torch.full((len(others),), math.nan)
    numbers = torch.from_numpy(truth[told].astype(np.int64))
    return nearest_neighbours(features[torch.from_numpy(told)], numbers, 2, others)[:, 1]


def _of_all(scores: Float[np.ndarray, "n k"], tested: Samples) -> tuple[list[float], Float[np.ndarray, " r"], int]:
    """AUROC of each target over all samples, its mean in resamples of patients, and the number of patients."""
    each = each_auroc(scores, tested.truth)
    resampled = resampled_statistics(lambda rows: mean_auroc(scores[rows], tested.truth[rows]), tested.patients)
    told = np.isfinite(tested.truth[:, np.isfinite(each)]).any(axis=1)
    return each, resampled, len(set(np.array(tested.patients)[told]))


def _of_each_patient(
    scores: Float[np.ndarray, "n k"], tested: Samples
) -> tuple[list[float], Float[np.ndarray, " r"], int]:
    """AUROC of each target, its mean over patients; the mean of all in resamples of patients; number of patients."""
    by_patient = _by_patient(scores, tested)
    each, told = _column_means(by_patient).tolist(), np.isfinite(by_patient).any(axis=1)
    if not told.any():
        return each, np.full(RESAMPLES, math.nan), 0
    known, patients = by_patient[told], np.array(list(dict.fromkeys(tested.patients)))[told]
    return each, resampled_statistics(lambda rows: _mean(_column_means(known[rows])), patients), len(patients)


def _by_patient(scores: Float[np.ndarray, "n k"], tested: Samples) -> Float[np.ndarray, "patients k"]:
    """AUROC of each target over the samples of each patient, in the order in which these occur."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(tested.patients):
        rows.setdefault(name, []).append(row)
    return np.array([each_auroc(scores[own], tested.truth[own]) for own in rows.values()])


def _column_means(values: Float[np.ndarray, "p k"]) -> Float[np.ndarray, " k"]:
    """Mean of each column, without NaN; NaN if it has nothing else."""
    told = np.isfinite(values)
    sums, counts = np.where(told, values, 0).sum(axis=0), told.sum(axis=0)
    means: Float[np.ndarray, " k"] = np.where(counts, sums / np.maximum(counts, 1), math.nan)
    return means


def _mean(values: Sequence[float] | Float[np.ndarray, " n"]) -> float:
    told = [value for value in values if math.isfinite(value)]
    return float(np.mean(told)) if told else math.nan
