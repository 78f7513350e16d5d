from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from maesil.metrics import region_mean, ssim_map
from maesil.metrics.ssim import SLICE_AXES, VOLUME_AXES, interior, sparse_interior, sparse_ssim, undisturbed

AXES = pytest.mark.parametrize("axes", [VOLUME_AXES, SLICE_AXES], ids=["3d", "2d"])


def pair(shape: tuple[int, int, int] = (19, 23, 21)) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    truth = gaussian_filter(rng.random(shape), 1.0)
    truth = (truth - truth.min()) / np.ptp(truth)
    return torch.from_numpy(np.clip(truth + 0.05 * rng.standard_normal(shape), 0, 1)), torch.from_numpy(truth)


def reference(prediction: torch.Tensor, truth: torch.Tensor) -> tuple[float, np.ndarray]:
    mean, full = structural_similarity(
        truth.numpy(),
        prediction.numpy(),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        full=True,
    )
    return float(mean), full


def test_ssim_map__equals_scikit_image_in_3d() -> None:
    prediction, truth = pair()
    mean, full = reference(prediction, truth)
    ours = ssim_map(prediction, truth)
    assert ours.shape == (9, 13, 11)
    np.testing.assert_allclose(ours.numpy(), full[5:-5, 5:-5, 5:-5], atol=1e-10)
    assert region_mean(ours, torch.ones(truth.shape, dtype=torch.bool)) == pytest.approx(mean, abs=1e-10)


def test_ssim_map__equals_scikit_image_slice_by_slice() -> None:
    prediction, truth = pair()
    ours = ssim_map(prediction, truth, axes=SLICE_AXES)
    assert ours.shape == (19, 13, 11)
    for index in (0, 7, 18):
        _, full = reference(prediction[index], truth[index])
        np.testing.assert_allclose(ours[index].numpy(), full[5:-5, 5:-5], atol=1e-10)


@AXES
@pytest.mark.parametrize("slab", [1, 4, 100])
def test_ssim_map__does_not_depend_on_the_slab(axes: tuple[int, ...], slab: int) -> None:
    prediction, truth = pair()
    whole = ssim_map(prediction, truth, axes=axes)
    torch.testing.assert_close(ssim_map(prediction, truth, axes=axes, slab=slab), whole)


def test_ssim_map__in_float32_is_close_to_float64() -> None:
    prediction, truth = pair()
    single = ssim_map(prediction.float(), truth.float())
    torch.testing.assert_close(single.double(), ssim_map(prediction, truth), atol=1e-4, rtol=0)


def test_ssim_map__of_identical_volumes_is_one() -> None:
    _, truth = pair()
    torch.testing.assert_close(ssim_map(truth, truth), torch.ones(9, 13, 11, dtype=truth.dtype))


def test_ssim_map__of_a_volume_thinner_than_a_window_is_empty() -> None:
    thin = torch.rand(10, 30, 30)
    assert ssim_map(thin, thin).numel() == 0
    assert math.isnan(region_mean(ssim_map(thin, thin), torch.ones(thin.shape, dtype=torch.bool)))
    assert ssim_map(thin, thin, axes=SLICE_AXES).shape == (10, 20, 20)


@AXES
def test_region_mean__takes_the_masked_voxels_of_the_interior(axes: tuple[int, ...]) -> None:
    prediction, truth = pair()
    region = torch.rand(truth.shape) > 0.5
    ours = ssim_map(prediction, truth, axes=axes)
    first = 5 if 0 in axes else 0
    listed = [
        ours[i - first, j - 5, k - 5].item()
        for i, j, k in region.nonzero().tolist()
        if first <= i < 19 - first and 5 <= j < 18 and 5 <= k < 16
    ]
    assert region_mean(ours, region, axes) == pytest.approx(np.mean(listed), abs=1e-10)


@AXES
def test_undisturbed__holds_voxels_that_nothing_outside_can_change(axes: tuple[int, ...]) -> None:
    prediction, truth = pair()
    counted = torch.ones(truth.shape, dtype=torch.bool)
    counted[:, :8, 2] = False
    safe = interior(undisturbed(counted, axes), axes)
    disturbed = prediction.clone()
    disturbed[~counted] = 0.0
    before, after = ssim_map(prediction, truth, axes=axes), ssim_map(disturbed, truth, axes=axes)
    torch.testing.assert_close(before[safe], after[safe])
    assert 0 < safe.sum() < safe.numel()
    assert ((before - after).abs()[~safe] > 1e-6).any()


def test_undisturbed__is_everything_where_everything_counts() -> None:
    assert undisturbed(torch.ones(3, 4, 5, dtype=torch.bool)).all()


def test_sparse_ssim__is_the_map_at_every_second_voxel() -> None:
    prediction, truth = pair((19, 22, 21))
    sparse = sparse_ssim(prediction[None, None], truth[None, None])
    torch.testing.assert_close(sparse[0, 0], ssim_map(prediction, truth)[::2, ::2, ::2])
    region = torch.rand(truth.shape) < 0.5
    assert torch.equal(sparse_interior(region[None, None])[0, 0], interior(region)[::2, ::2, ::2])


def test_sparse_ssim__has_the_gradient_of_finite_differences() -> None:
    random = torch.Generator().manual_seed(0)
    prediction, truth = torch.rand(2, 2, 1, 11, 12, 13, generator=random, dtype=torch.float64)
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sparse_ssim(x, truth), prediction, fast_mode=True)
