"""How well probabilities name classes: discrimination, accuracy, calibration. On numpy arrays; no file, no network."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

Probabilities = Float[np.ndarray, "s k"]
Truth = Int[np.ndarray, " s"]


def auroc(score: Float[np.ndarray, " s"], positive: Int[np.ndarray, " s"]) -> float:
    """Chance that a positive case scores above a negative one, ties counting half; NaN where one kind is absent.

    Args:
        score: The higher, the more likely positive.
        positive: 1 or 0.
    """
    positives, negatives = int(positive.sum()), int((1 - positive).sum())
    if not positives or not negatives:
        return float("nan")
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks = (last - (count - 1) / 2)[place]  # of equal scores the mean rank
    return float((ranks[positive == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def macro_auroc(probabilities: Probabilities, truth: Truth) -> float:
    """Mean over classes of one against the rest; of two classes, the second's. NaN where no class can be told."""
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    each = [auroc(probabilities[:, k], (truth == k).astype(np.int64)) for k in classes]
    defined = [value for value in each if np.isfinite(value)]
    return float(np.mean(defined)) if defined else float("nan")


def fold_auroc(probabilities: Probabilities, truth: Truth, fold: Int[np.ndarray, " s"]) -> float:
    """Mean over folds of `macro_auroc`; folds in which no class can be told are left out, NaN where none can.

    Every fold has a model of its own, and one model's probabilities cannot be ranked among another's.
    """
    each = [macro_auroc(probabilities[fold == number], truth[fold == number]) for number in np.unique(fold)]
    defined = [value for value in each if np.isfinite(value)]
    return float(np.mean(defined)) if defined else float("nan")


def untold(truth: Truth, fold: Int[np.ndarray, " s"], classes: int) -> dict[int, tuple[int, ...]]:
    """Folds that lack classes, or the rest: the classes that `fold_auroc` cannot tell there, all of two or more."""
    lacking = {}
    for number in np.unique(fold).tolist():
        found = truth[fold == number]
        absent = [k for k in range(classes) if not (found == k).any() or (found == k).all()]
        if absent:
            lacking[int(number)] = tuple(absent)
    return lacking


def case_accuracy(probabilities: Probabilities, truth: Truth) -> Float[np.ndarray, " s"]:
    """1 for each case whose likeliest class is its own, else 0."""
    right: Float[np.ndarray, " s"] = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    return right


def accuracy(probabilities: Probabilities, truth: Truth) -> float:
    """Share of cases whose likeliest class is theirs."""
    return float(case_accuracy(probabilities, truth).mean())


def balanced_accuracy(probabilities: Probabilities, truth: Truth) -> float:
    """Mean over the classes that occur of the share found."""
    found = probabilities.argmax(axis=1) == truth
    return float(np.mean([found[truth == k].mean() for k in np.unique(truth)]))


def confusion(probabilities: Probabilities, truth: Truth) -> Int[np.ndarray, "k k"]:
    """Counts: rows are the true classes, columns the likeliest ones."""
    classes = probabilities.shape[1]
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (truth, probabilities.argmax(axis=1)), 1)
    return table


def calibration_error(probabilities: Probabilities, truth: Truth, bins: int = 10) -> float:
    """Expected calibration error: how far confidence and accuracy lie apart, over bins of equal width."""
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    apart = [abs((confidence - right)[bin_of == b].sum()) for b in range(bins)]
    return float(sum(apart) / len(truth))


def case_brier(probabilities: Probabilities, truth: Truth) -> Float[np.ndarray, " s"]:
    """Squared distance of each case from its class's certainty, summed over classes: 0 best, 2 worst."""
    wanted = np.eye(probabilities.shape[1])[truth]
    apart: Float[np.ndarray, " s"] = ((probabilities - wanted) ** 2).sum(axis=1)
    return apart


def brier(probabilities: Probabilities, truth: Truth) -> float:
    """Mean squared distance from the true class's certainty, summed over classes: 0 best, 2 worst."""
    return float(case_brier(probabilities, truth).mean())
