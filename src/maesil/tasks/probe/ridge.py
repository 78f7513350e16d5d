"""Ridge regression as a linear probe, with its penalty chosen by cross-validation over patients.

The penalty decides which of two encoders looks better: a weak one suits features whose information lies in directions
of little variance, a strong one the others. So each gets the one that is best for it on its training patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maesil.metrics.classification import mean_auroc

PENALTIES = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Penalties to choose from, for standardised features and the mean squared error."""
FOLDS = 5
"""Number of folds of the training patients; one patient a fold if there are fewer."""


def ridge_probe(
    features: Float[Tensor, "n e"],
    truth: Float[np.ndarray, "n k"],
    patients: Sequence[str],
    others: Float[Tensor, "m e"],
) -> tuple[Float[np.ndarray, "m k"], float]:
    """Scores of other samples for each target, the higher, the more likely; and the penalty that was chosen.

    Args:
        features: Features of the training samples.
        truth: Whether each target is there, 1 or 0; NaN where it is not known.
        patients: The patient of each training sample; with a single one, the largest penalty is used.
        others: Features of the samples to score.
    """
    penalty = _chosen(features, truth, np.array(patients))
    return Ridge(features, truth).scores(others, penalty), penalty


def _chosen(features: Float[Tensor, "n e"], truth: Float[np.ndarray, "n k"], patients: np.ndarray) -> float:
    """The penalty with the best mean AUROC of patients that were left out; the larger one in a tie."""
    fold = _folds(patients)
    found = []
    for number in np.unique(fold):
        left = fold == number
        if left.all():
            return PENALTIES[0]
        fitted = Ridge(features[torch.from_numpy(~left)], truth[~left])
        own, told = features[torch.from_numpy(left)], truth[left]
        found.append([mean_auroc(fitted.scores(own, penalty), told) for penalty in PENALTIES])
    means = np.nan_to_num(np.array(found)).mean(axis=0)
    return PENALTIES[int(means.argmax())]


def _folds(patients: np.ndarray) -> Int[np.ndarray, " n"]:
    """The fold of each sample; all samples of a patient are in one."""
    names, whose = np.unique(patients, return_inverse=True)
    fold: Int[np.ndarray, " n"] = (np.arange(len(names)) % FOLDS)[whose]
    return fold


@final
class Ridge:
    """Ridge regression on standardised features, for any penalty.

    Args:
        features: Features of the training samples.
        truth: Whether each target is there, 1 or 0; NaN where it is not known, which leaves the sample out.
    """

    def __init__(self, features: Float[Tensor, "n e"], truth: Float[np.ndarray, "n k"]) -> None:
        self._targets = truth.shape[1]
        self._parts = [
            (columns, _Part(features[torch.from_numpy(rows)], truth[rows][:, columns]))
            for rows, columns in _known_alike(truth)
        ]

    def scores(self, others: Float[Tensor, "m e"], penalty: float) -> Float[np.ndarray, "m k"]:
        """Scores of other samples, up to a constant for each target; NaN for targets of which no sample is known."""
        scores: Float[np.ndarray, "m k"] = np.full((len(others), self._targets), np.nan)
        for columns, part in self._parts:
            scores[:, columns] = part.scores(others, penalty)
        return scores


def _known_alike(truth: Float[np.ndarray, "n k"]) -> Iterator[tuple[Bool[np.ndarray, " n"], list[int]]]:
    """Samples and targets: those targets that are known of the same samples share a regression."""
    known = np.isfinite(truth)
    groups: dict[bytes, list[int]] = {}
    for column in range(truth.shape[1]):
        groups.setdefault(known[:, column].tobytes(), []).append(column)
    for columns in groups.values():
        if (rows := known[:, columns[0]]).any():
            yield rows, columns


@final
class _Part:
    """Ridge regression of targets that are known of every sample."""

    def __init__(self, features: Float[Tensor, "n e"], truth: Float[np.ndarray, "n k"]) -> None:
        self._mean, self._deviation = features.mean(dim=0), features.std(dim=0, correction=0).clamp_min(1e-6)
        known, wanted = self._standardised(features), torch.from_numpy(truth)
        self._values, self._vectors = torch.linalg.eigh(known.T @ known / len(known))
        self._answers = self._vectors.T @ (known.T @ (wanted - wanted.mean(dim=0)) / len(known))

    def scores(self, others: Float[Tensor, "m e"], penalty: float) -> Float[np.ndarray, "m k"]:
        """Scores of other samples, up to a constant for each target."""
        weights = self._vectors @ (self._answers / (self._values + penalty)[:, None])
        scores: Float[np.ndarray, "m k"] = (self._standardised(others) @ weights).numpy()
        return scores

    def _standardised(self, features: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        return ((features - self._mean) / self._deviation).double()
