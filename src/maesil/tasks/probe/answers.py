"""The questions that probes answer about frozen features, and how well they are answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maesil.evaluation.intervals import resampled_means, resampled_statistics
from maesil.metrics.classification import auroc
from maesil.tasks.classification.network import linear_probe, nearest_neighbours
from maesil.tasks.probe.samples import Samples, ScanSamples, Targets

PRETRAINED = "pre-trained"
"""Name of the start that is compared with random ones."""


Probe = Callable[[Tensor, Tensor, int, Tensor], Tensor]


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
        each: AUROC of each target; NaN where the test patients have no case of either kind.
        auroc: Mean of `each`, without NaN.
        resampled: The same over resamples of whole patients, (r,).
    """

    asked: Asked
    depth: int
    start: str
    each: dict[str, float]
    auroc: float
    resampled: Float[np.ndarray, " r"]


def questions(targets: Targets) -> Iterator[tuple[Asked, tuple[str, ...], Callable[[ScanSamples], Samples]]]:
    """Every question, the names of its targets, and its samples."""
    if targets.organs.names:
        yield Asked("organ", "superpatch", "linear"), targets.organs.names, lambda scans: scans.superpatches
        yield Asked("organ", "superpatch", "knn"), targets.organs.names, lambda scans: scans.superpatches
        yield Asked("organ", "patch", "linear"), targets.organs.names, lambda scans: scans.patches
    if targets.datasets:
        yield Asked("dataset", "superpatch", "linear"), targets.datasets, lambda scans: scans.regions
        yield Asked("dataset", "superpatch", "knn"), targets.datasets, lambda scans: scans.regions


def answer_of(asked: Asked, names: tuple[str, ...], known: Samples, tested: Samples, depth: int, start: str) -> Answer:
    """Trains the probe on the training samples' features of one depth, and scores it on the test samples."""
    probe: Probe = linear_probe if asked.probe == "linear" else nearest_neighbours
    scores = np.stack(
        [
            probe(known.vectors[depth], torch.from_numpy(truth.astype(np.int64)), 2, tested.vectors[depth])[:, 1]
            .double()
            .numpy()
            for truth in known.truth.T
        ],
        axis=1,
    )
    if asked.unit == "superpatch":  # a patient has too few for an AUROC of its own
        each = _each(scores, tested.truth)
        resampled = resampled_statistics(lambda rows: _mean(_each(scores[rows], tested.truth[rows])), tested.patients)
    else:
        by_patient = _by_patient(scores, tested)
        each = [_mean(column) for column in by_patient.T]
        values = np.array([_mean(row) for row in by_patient])
        told = np.isfinite(values)
        patients = np.array(list(dict.fromkeys(tested.patients)))
        resampled = resampled_means(values[told], patients[told])
    return Answer(asked, depth, start, dict(zip(names, each, strict=True)), _mean(each), resampled)


def _each(scores: Float[np.ndarray, "n k"], truth: Bool[np.ndarray, "n k"]) -> list[float]:
    """AUROC of each target over all samples."""
    return [auroc(score, told.astype(np.int64)) for score, told in zip(scores.T, truth.T, strict=True)]


def _by_patient(scores: Float[np.ndarray, "n k"], tested: Samples) -> Float[np.ndarray, "patients k"]:
    """AUROC of each target over the samples of each patient."""
    whose = np.array(tested.patients)
    return np.array(
        [_each(scores[whose == name], tested.truth[whose == name]) for name in dict.fromkeys(tested.patients)]
    )


def _mean(values: Sequence[float] | Float[np.ndarray, " n"]) -> float:
    told = [value for value in values if math.isfinite(value)]
    return float(np.mean(told)) if told else math.nan
