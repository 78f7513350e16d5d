from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from maesil.errors import ConfigError
from maesil.evaluation.scores import Score
from maesil.evaluation.summary import ALL_SCANS, MEAN_OF_DATASETS
from maesil.evaluation.summary import summarize as summary_frame


def scores(*values: float, dataset: str = "btcv", model: str = "mae", metric: str = "psnr") -> list[Score]:
    return [
        Score(f"{dataset}{index}", dataset, f"p{index}", model, metric, "whole", value, "abc")
        for index, value in enumerate(values)
    ]


def summarize(scores: Sequence[Score]) -> list[Any]:
    """The rows of the frame, with its columns as attributes."""
    return list(summary_frame(scores).itertuples(index=False))


def only(rows: Sequence[Any], group: str) -> Any:
    (row,) = [row for row in rows if row.group == group]
    return row


def test_summarize__micro_counts_scans_and_macro_counts_datasets() -> None:
    rows = summarize([*scores(10.0, 20.0, 30.0), *scores(40.0, dataset="lidc")])
    micro, macro = only(rows, ALL_SCANS), only(rows, MEAN_OF_DATASETS)
    assert (micro.n, micro.mean) == (4, 25.0)
    assert micro.deviation == pytest.approx(np.std([10, 20, 30, 40], ddof=1))
    assert (macro.n, macro.mean) == (2, 30.0)
    assert macro.deviation == pytest.approx(np.std([20, 40], ddof=1))
    assert (only(rows, "btcv").mean, only(rows, "lidc").mean) == (20.0, 40.0)


def test_summarize__one_dataset_is_listed_once() -> None:
    assert [row.group for row in summarize(scores(1.0, 2.0))] == [ALL_SCANS]


def test_summarize__interval_holds_the_mean_and_narrows_with_scans() -> None:
    values = np.random.default_rng(0).normal(20, 2, 400)
    few, many = summarize(scores(*values[:10]))[0], summarize(scores(*values))[0]
    for row in (few, many):
        assert row.low < row.mean < row.high
    assert many.high - many.low < (few.high - few.low) / 3
    assert many.high - many.low == pytest.approx(2 * 1.96 * many.deviation / 20, rel=0.1)


def test_summarize__is_the_same_twice() -> None:
    pd.testing.assert_frame_equal(summary_frame(scores(1.0, 2.0, 5.0)), summary_frame(scores(1.0, 2.0, 5.0)))


def test_summarize__resamples_patients_not_scans() -> None:
    apart = scores(*[10.0] * 6, *[20.0] * 6)
    together = [replace(score, patient="p0" if score.value == 10.0 else "p1") for score in apart]
    (of_scans,), (of_patients,) = summarize(apart), summarize(together)
    assert of_scans.mean == of_patients.mean == 15.0
    assert (of_scans.patients, of_patients.patients) == (12, 2)
    assert 11.0 < of_scans.low < of_scans.high < 19.0
    assert (of_patients.low, of_patients.high) == (10.0, 20.0)  # either patient alone may be drawn twice


def test_summarize__of_several_scans_of_one_patient_has_no_interval() -> None:
    (row,) = summarize([replace(score, patient="p") for score in scores(10.0, 20.0)])
    assert row.deviation == pytest.approx(math.sqrt(50))
    assert math.isnan(row.low)
    assert math.isnan(row.high)


def test_summarize__median_is_not_moved_by_one_scan() -> None:
    (row,) = summarize(scores(10.0, 11.0, 60.0))
    assert (row.median, row.mean) == (11.0, 27.0)


def test_summarize__averages_training_seeds_within_a_scan() -> None:
    first, second = scores(10.0, 20.0), [replace(score, seed=1, value=score.value + 4) for score in scores(10.0, 20.0)]
    (row,) = summarize([*first, *second])
    assert (row.n, row.mean, row.seeds) == (2, 17.0, 2)
    assert row.seed_deviation == pytest.approx(math.sqrt(8))
    assert row.deviation == pytest.approx(math.sqrt(50))


def test_summarize__tells_the_spread_over_draws() -> None:
    rows = [replace(score, spread=spread) for score, spread in zip(scores(1.0, 2.0), (3.0, 4.0), strict=True)]
    assert summarize(rows)[0].draw_spread == pytest.approx(math.sqrt(12.5))


def test_summarize__of_one_scan_has_no_deviation_and_no_interval() -> None:
    (row,) = summarize(scores(12.0))
    assert (row.n, row.mean) == (1, 12.0)
    assert all(math.isnan(value) for value in (row.deviation, row.low, row.high))


def test_summarize__counts_exact_reconstructions() -> None:
    (row,) = summarize(scores(20.0, math.inf, math.inf))
    assert (row.n, row.infinite, row.mean) == (3, 2, math.inf)
    assert math.isnan(row.deviation)


def test_summarize__leaves_undefined_values_out_and_counts_them() -> None:
    (row,) = summarize(scores(10.0, math.nan, 30.0))
    assert (row.n, row.undefined, row.mean) == (2, 1, 20.0)
    (row,) = summarize(scores(math.nan))
    assert (row.n, row.undefined) == (0, 1)
    assert math.isnan(row.mean)


def test_summarize__macro_survives_exact_and_undefined_datasets() -> None:
    rows = summarize([*scores(10.0, 20.0), *scores(math.nan, dataset="lidc"), *scores(30.0, dataset="ts")])
    macro = only(rows, MEAN_OF_DATASETS)
    assert (macro.n, macro.undefined, macro.mean) == (2, 1, 22.5)
    rows = summarize([*scores(10.0, 20.0), *scores(math.inf, dataset="lidc")])
    assert only(rows, MEAN_OF_DATASETS).mean == math.inf


def test_summarize__refuses_two_protocols() -> None:
    first = scores(1.0)
    with pytest.raises(ConfigError, match="2 protocols"):
        summarize([*first, replace(first[0], protocol="def", scan="other")])


def test_summarize__refuses_the_same_score_twice() -> None:
    with pytest.raises(ConfigError, match="two scores for psnr"):
        summarize(scores(1.0) * 2)


def test_summarize__a_scan_with_an_undefined_seed_is_undefined() -> None:
    second = [
        replace(score, seed=1, value=value) for score, value in zip(scores(1.0, 2.0), (math.nan, 4.0), strict=True)
    ]
    (row,) = summarize([*scores(1.0, 2.0), *second])
    assert (row.n, row.undefined, row.mean) == (1, 1, 3.0)


def test_summarize__of_no_scores_has_columns_and_no_rows() -> None:
    empty = summary_frame([])
    assert len(empty) == 0
    assert {"group", "model", "mean", "low"} <= set(empty)


def test_summarize__refuses_superpatches_of_several_sizes() -> None:
    """Their masks differ, under one protocol; earlier versions did not record the size."""
    small = [replace(score, grid="64x64x64 / 8x8x8") for score in scores(10.0, 20.0)]
    large = [replace(score, grid="128x128x128 / 8x8x8") for score in scores(11.0, 21.0, model="ae")]
    with pytest.raises(ConfigError, match="128x128x128 / 8x8x8, 64x64x64 / 8x8x8"):
        summary_frame([*small, *large])
    assert len(summarize([*small, *scores(11.0, 21.0, model="ae")])) == 2
