from __future__ import annotations

import math

import numpy as np
import pytest

from maesil.metrics.classification import accuracy, brier, case_accuracy, case_brier, fold_auroc, macro_auroc, untold

TRUTH = np.array([0, 1, 0, 1])
FOLD = np.array([0, 0, 1, 1])
# In each fold the second class scores above the first, but the second fold's model says more of everything.
SECOND = np.array([0.1, 0.2, 0.6, 0.7])
PROBABILITIES = np.stack([1 - SECOND, SECOND], axis=1)


def test_fold_auroc__models_are_not_ranked_among_each_other() -> None:
    assert fold_auroc(PROBABILITIES, TRUTH, FOLD) == 1.0
    assert macro_auroc(PROBABILITIES, TRUTH) == 0.75, "pooled, two models are one"


def test_fold_auroc__folds_without_both_classes_are_left_out_and_named() -> None:
    truth = np.array([1, 0, 1, 1])
    assert fold_auroc(PROBABILITIES, truth, FOLD) == 0.0
    assert untold(truth, FOLD, 2) == {1: (0, 1)}
    assert math.isnan(fold_auroc(PROBABILITIES, np.ones(4, dtype=np.int64), FOLD))
    assert untold(TRUTH, FOLD, 2) == {}
    assert untold(TRUTH, FOLD, 3) == {0: (2,), 1: (2,)}


def test_case_scores__their_means_are_the_scores() -> None:
    truth = np.array([0, 0, 1, 1])
    assert case_accuracy(PROBABILITIES, truth).tolist() == [1.0, 1.0, 1.0, 1.0]
    assert case_brier(PROBABILITIES, truth) == pytest.approx([0.02, 0.08, 0.32, 0.18])
    assert accuracy(PROBABILITIES, truth) == 1.0
    assert brier(PROBABILITIES, truth) == pytest.approx(0.15)
