"""Paired differences against references."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from comparison_results import full, score
from maesil.evaluation.paired import holm
from maesil.evaluation.paired import pair as paired_frame
from maesil.evaluation.scores import Score


def pair(scores: Sequence[Score], ours: str) -> list[Any]:
    """The rows of the frame, with its columns as attributes."""
    return list(paired_frame(scores, ours).itertuples(index=False))


def test_pair__mean_interval_and_test_of_differences() -> None:
    scores = full().scores
    row = next(
        r for r in pair(scores, "maesil") if (r.entry, r.region, r.metric) == ("interpolation", "masked", "psnr")
    )
    value = {(s.model, s.scan): s.value for s in scores if (s.region, s.metric) == ("masked", "psnr")}
    differences = np.array([value["interpolation", scan] - value["maesil", scan] for scan in "abcdefgh"])
    assert row.difference == pytest.approx(differences.mean())
    assert row.low < row.difference < row.high < -1.5
    assert row.p == pytest.approx(wilcoxon(differences).pvalue)
    assert row.p == pytest.approx(2 / 2**8)  # all of one sign
    assert row.p_holm == pytest.approx(3 * row.p)  # three entries, equal p
    assert (row.n, row.patients) == (8, 8)


def test_pair__few_scans_have_no_p() -> None:
    scores = [score(m, s, v) for m, v in (("maesil", 2.0), ("x", 1.0)) for s in "abcde"]
    (row,) = pair(scores, "maesil")
    assert math.isnan(row.p)
    assert math.isnan(row.p_holm)
    assert row.difference == -1.0


def test_pair__one_patient_has_no_interval() -> None:
    scores = [score(m, s, v, patient="one") for m, v in (("maesil", 2.0), ("x", 1.0)) for s in "abcdefg"]
    (row,) = pair(scores, "maesil")
    assert (row.n, row.patients) == (7, 1)
    assert math.isnan(row.low)
    assert math.isnan(row.p)


def test_pair__leaves_out_what_is_not_finite() -> None:
    scores = [score("maesil", "a", 1.0), score("x", "a", math.inf), score("maesil", "b", 1.0), score("x", "b", 3.0)]
    (row,) = pair(scores, "maesil")
    assert (row.n, row.difference) == (1, 2.0)


def test_pair__equal_scores_are_no_difference() -> None:
    scores = [score(m, s, 1.0) for m in ("maesil", "x") for s in "abcdefg"]
    (row,) = pair(scores, "maesil")
    assert (row.p, row.difference) == (1.0, 0.0)


def test_pair__without_ours_there_is_nothing_to_say() -> None:
    assert pair([score("x", "a", 1.0)], "maesil") == []


def test_pair__needs_no_scores() -> None:
    assert pair([], "maesil") == []


def test_holm__is_the_published_correction() -> None:
    """By hand: 0.005 x 4, 0.01 x 3, 0.03 x 2 and 0.04 x 1, none smaller than one before it."""
    corrected = holm(pd.Series([0.01, 0.04, math.nan, 0.03, 0.005]))
    np.testing.assert_allclose(corrected, [0.03, 0.06, math.nan, 0.06, 0.02])
    assert holm(pd.Series([0.9, 0.8])).tolist() == [1.0, 1.0]
