from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import bootstrap

from maesil.evaluation.intervals import patient_interval, resampled_means


def test_patient_interval__of_one_scan_a_patient_is_scipys() -> None:
    values = np.random.default_rng(0).normal(20, 2, 30)
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=0).confidence_interval
    ours = patient_interval(values.tolist(), [str(at) for at in range(30)], resamples=20_000)
    assert ours == pytest.approx(theirs, abs=0.05)


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
