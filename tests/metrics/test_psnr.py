from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from maesil.metrics import psnr


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(9, 10, 11, generator=generator)
    return (truth + 0.1 * torch.randn(truth.shape, generator=generator)), truth


def test_psnr__equals_scikit_image() -> None:
    prediction, truth = pair()
    reference = peak_signal_noise_ratio(truth.double().numpy(), prediction.double().numpy(), data_range=1.0)
    assert psnr(prediction, truth) == pytest.approx(reference, abs=1e-5)


def test_psnr__of_a_known_error() -> None:
    truth = torch.zeros(4, 4, 4)
    assert psnr(truth + 0.1, truth) == pytest.approx(20.0, abs=1e-5)
    assert psnr(truth + 0.1, truth, data_range=10.0) == pytest.approx(40.0, abs=1e-5)


def test_psnr__of_identical_volumes_is_infinite() -> None:
    _, truth = pair()
    assert psnr(truth, truth.clone()) == math.inf


def test_psnr__counts_the_region_only() -> None:
    prediction, truth = pair()
    region = torch.zeros(truth.shape, dtype=torch.bool)
    region[2:5] = True
    assert psnr(prediction, truth, region) == pytest.approx(psnr(prediction[2:5], truth[2:5]), abs=1e-5)
    prediction[~region] = 100.0
    assert psnr(prediction, truth, region) == pytest.approx(psnr(prediction[2:5], truth[2:5]), abs=1e-5)


def test_psnr__of_an_empty_region_is_nan() -> None:
    prediction, truth = pair()
    assert math.isnan(psnr(prediction, truth, torch.zeros(truth.shape, dtype=torch.bool)))


def test_psnr__leaves_its_arguments_alone() -> None:
    prediction, truth = pair()
    before = np.copy(prediction.numpy()), np.copy(truth.numpy())
    psnr(prediction, truth)
    np.testing.assert_array_equal(prediction.numpy(), before[0])
    np.testing.assert_array_equal(truth.numpy(), before[1])
