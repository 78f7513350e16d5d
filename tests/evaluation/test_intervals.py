from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import bootstrap

from maesil.evaluation.intervals import RESAMPLES, patient_interval, resampled_means, resampled_statistics


def test_patient_interval__of_one_scan_a_patient_is_scipys() -> None:
    values = np.random.default_rng(0).normal(20, 2, 30)
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=RESAMPLES, rng=0).confidence_interval
    ours = patient_interval(values.tolist(), [f"{at:02}" for at in range(30)])
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_patient_interval__is_wider_where_scans_are_of_few_patients() -> None:
    values = [10.0, 10.0, 10.0, 20.0, 20.0, 20.0, 15.0, 15.0, 15.0]
    apart = patient_interval(values, [str(at) for at in range(9)])
    together = patient_interval(values, [str(at // 3) for at in range(9)])
    assert together[1] - together[0] > 1.5 * (apart[1] - apart[0])


def test_resampled_means__weigh_patients_by_their_scans() -> None:
    means = resampled_means([0.0, 0.0, 0.0, 4.0], ["a", "a", "a", "b"])
    assert set(np.round(means, 6)) == {0.0, 1.0, 4.0}


def test_resampled_means__depend_on_the_seed_alone() -> None:
    values, patients = [1.0, 2.0, 5.0], ["a", "b", "c"]
    np.testing.assert_array_equal(resampled_means(values, patients, seed=3), resampled_means(values, patients, seed=3))
    assert (resampled_means(values, patients, seed=3) != resampled_means(values, patients, seed=4)).any()


def test_patient_interval__of_one_patient_is_undefined() -> None:
    assert all(math.isnan(end) for end in patient_interval([1.0, 2.0], ["a", "a"]))


def test_patient_interval__of_a_value_that_is_not_finite_is_undefined() -> None:
    assert all(math.isnan(end) for end in patient_interval([1.0, math.inf], ["a", "b"]))
    assert all(math.isnan(end) for end in patient_interval([], []))


def test_patient_interval__resamples_within_strata_that_count_equally() -> None:
    """A stratum of one patient moves the interval by half its value, and does not widen it."""
    values, patients = [1.0, 3.0, 5.0, 2.0], ["a", "b", "c", "d"]
    low, high = patient_interval(values[:3], patients[:3])
    both = patient_interval([*values, 2.0], [*patients, "d"], ["x", "x", "x", "y", "y"])
    assert both == pytest.approx(((low + 2.0) / 2, (high + 2.0) / 2))
    assert all(math.isnan(end) for end in patient_interval(values, patients, ["w", "x", "y", "z"]))


def test_resampled_statistics__keep_the_scans_of_a_patient_together() -> None:
    """The rows of patients a (0, 2), b (1) and c (3, 4, 5) come whole; the mean of values is `resampled_means`."""
    patients, values = ["a", "b", "a", "c", "c", "c"], np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    seen = []

    def mean(rows: np.ndarray) -> float:
        seen.append(np.bincount(rows, minlength=6).tolist())
        return float(values[rows].mean())

    found = resampled_statistics(mean, patients)
    assert all(first == third and fourth == fifth == sixth for first, _, third, fourth, fifth, sixth in seen)
    assert all(first + second + fourth == 3 for first, second, _, fourth, _, _ in seen)
    np.testing.assert_allclose(found, resampled_means(values.tolist(), patients), rtol=1e-12)
