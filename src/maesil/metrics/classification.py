"""Metrics of predicted class probabilities: discrimination, accuracy, calibration. They work on numpy arrays only."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

Probabilities = Float[np.ndarray, "s k"]
Truth = Int[np.ndarray, " s"]


def auroc(score: Float[np.ndarray, " s"], positive: Int[np.ndarray, " s"]) -> float:
    """Probability that a positive case scores above a negative one; ties count half; NaN if there are none of either.

    Args:
        score: Score of each case; the higher, the more likely positive.
        positive: Truth of each case, 1 or 0.
    """
    positives, negatives = int(positive.sum()), int((1 - positive).sum())
    if not positives or not negatives:
        return float("nan")
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks = (last - (count - 1) / 2)[place]  # equal scores get their mean rank
    return float((ranks[positive == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def each_auroc(scores: Float[np.ndarray, "s k"], truth: Float[np.ndarray, "s k"]) -> list[float]:
    """AUROC of each of several targets; NaN where there is no positive case, or no negative one.

    Args:
        scores: Score of each case for each target; NaN where there is none, which leaves a case out.
        truth: 1 or 0; NaN where it is not known, which leaves a case out, too.
    """
    known = np.isfinite(truth) & np.isfinite(scores)
    return [
        auroc(score[told], column[told].astype(np.int64))
        for score, column, told in zip(scores.T, truth.T, known.T, strict=True)
    ]


def mean_auroc(scores: Float[np.ndarray, "s k"], truth: Float[np.ndarray, "s k"]) -> float:
    """Mean AUROC of the targets for which it is defined, as in `each_auroc`; NaN if it is for none."""
    defined = [value for value in each_auroc(scores, truth) if np.isfinite(value)]
    return float(np.mean(defined)) if defined else float("nan")


def macro_auroc(probabilities: Probabilities, truth: Truth) -> float:
    """Mean one-vs-rest AUROC of the classes; for two classes, that of the second. NaN if it is undefined for all."""
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    each = [auroc(probabilities[:, k], (truth == k).astype(np.int64)) for k in classes]
    defined = [value for value in each if np.isfinite(value)]
    return float(np.mean(defined)) if defined else float("nan")


def fold_auroc(probabilities: Probabilities, truth: Truth, fold: Int[np.ndarray, " s"]) -> float:
    """Mean of `macro_auroc` over folds; folds in which it is undefined are left out; NaN if that is all of them.

    Every fold has a model of its own, and probabilities of different models cannot be ranked together.
    """
    each = [macro_auroc(probabilities[fold == number], truth[fold == number]) for number in np.unique(fold)]
    defined = [value for value in each if np.isfinite(value)]
    return float(np.mean(defined)) if defined else float("nan")


def untold(truth: Truth, fold: Int[np.ndarray, " s"], classes: int) -> dict[int, tuple[int, ...]]:
    """Map from fold to the classes whose AUROC is undefined there: the fold has no case of them, or no other case."""
    lacking = {}
    for number in np.unique(fold).tolist():
        found = truth[fold == number]
        absent = [k for k in range(classes) if not (found == k).any() or (found == k).all()]
        if absent:
            lacking[int(number)] = tuple(absent)
    return lacking


def case_accuracy(probabilities: Probabilities, truth: Truth) -> Float[np.ndarray, " s"]:
    """1 for each case whose most probable class is the true one, else 0."""
    right: Float[np.ndarray, " s"] = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    return right


def accuracy(probabilities: Probabilities, truth: Truth) -> float:
    """Share of cases whose most probable class is the true one."""
    return float(case_accuracy(probabilities, truth).mean())


def balanced_accuracy(probabilities: Probabilities, truth: Truth) -> float:
    """Mean recall of the classes that occur."""
    found = probabilities.argmax(axis=1) == truth
    return float(np.mean([found[truth == k].mean() for k in np.unique(truth)]))


def confusion(probabilities: Probabilities, truth: Truth) -> Int[np.ndarray, "k k"]:
    """Confusion matrix: rows are true classes, columns are the most probable ones."""
    classes = probabilities.shape[1]
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (truth, probabilities.argmax(axis=1)), 1)
    return table


def calibration_error(probabilities: Probabilities, truth: Truth, bins: int = 10) -> float:
    """Expected calibration error: the gap between confidence and accuracy, over bins of equal width."""
    confidence = probabilities.max(axis=1)
    correct = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs((confidence - correct)[bin_of == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(truth))


def case_brier(probabilities: Probabilities, truth: Truth) -> Float[np.ndarray, " s"]:
    """Brier score of each case: squared distance to the one-hot truth, summed over classes; 0 is best, 2 is worst."""
    one_hot = np.eye(probabilities.shape[1])[truth]
    scores: Float[np.ndarray, " s"] = ((probabilities - one_hot) ** 2).sum(axis=1)
    return scores


def brier(probabilities: Probabilities, truth: Truth) -> float:
    """Mean Brier score: squared distance to the one-hot truth, summed over classes; 0 is best, 2 is worst."""
    return float(case_brier(probabilities, truth).mean())
