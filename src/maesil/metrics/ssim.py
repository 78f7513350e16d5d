"""Structural similarity (Wang et al. 2004), in 3D or slice by slice, as a map.

Equals scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)`. The map
holds only voxels whose whole window lies in the volume: nothing is padded, so no values are invented.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Bool, Float
from torch import Tensor

from maesil.metrics.means import mean_over

SIGMA = 1.5
RADIUS = 5
"""The Gaussian is cut at 3.5 sigma, which makes a window of 11 voxels."""
WINDOW = 2 * RADIUS + 1
K1, K2 = 0.01, 0.03
VOLUME_AXES = (0, 1, 2)
SLICE_AXES = (1, 2)
STRIDE = 2
"""Distance of the voxels of `sparse_ssim`."""
SLAB = 32
"""Number of planes of the map computed at a time: memory stays far below that of the volumes."""


def ssim_map(
    prediction: Float[Tensor, "d h w"],
    target: Float[Tensor, "d h w"],
    *,
    axes: tuple[int, ...] = VOLUME_AXES,
    data_range: float = 1.0,
    slab: int = SLAB,
) -> Float[Tensor, "d_in h_in w_in"]:
    """SSIM of every voxel whose window lies inside the volume.

    Args:
        prediction: Reconstructed voxels.
        target: True voxels.
        axes: Axes along which the window extends: `VOLUME_AXES` for 3D, `SLICE_AXES` for axial slices.
        data_range: Range of the target's values; 1 over the HU window.
        slab: Number of planes computed at a time.

    Returns:
        The map, `RADIUS` voxels shorter at both ends of each of `axes`; empty if the volume is
        thinner than a window.
    """
    shape = interior_shape(target.shape, axes)
    result = target.new_empty(shape)
    if result.numel() == 0:
        return result
    reach = WINDOW - 1 if 0 in axes else 0
    for start in range(0, shape[0], slab):
        stop = min(start + slab, shape[0])
        planes = slice(start, stop + reach)
        result[start:stop] = _ssim(prediction[planes], target[planes], axes, data_range)
    return result


def region_mean(
    ssim: Float[Tensor, "d_in h_in w_in"], region: Bool[Tensor, "d h w"], axes: tuple[int, ...] = VOLUME_AXES
) -> float:
    """Mean of a map over the voxels of a region that the map holds; `nan` if it holds none."""
    return mean_over(ssim, interior(region, axes)) if ssim.numel() else math.nan


def interior_shape(shape: tuple[int, ...], axes: tuple[int, ...] = VOLUME_AXES) -> tuple[int, ...]:
    """The shape of the map for a volume of this shape."""
    return tuple(max(0, size - 2 * RADIUS) if axis in axes else size for axis, size in enumerate(shape))


def interior(region: Bool[Tensor, "d h w"], axes: tuple[int, ...] = VOLUME_AXES) -> Bool[Tensor, "d_in h_in w_in"]:
    """A region cropped to the voxels that the map holds."""
    return region[_inner(region.shape, axes)]


def undisturbed(counted: Bool[Tensor, "d h w"], axes: tuple[int, ...] = VOLUME_AXES) -> Bool[Tensor, "d h w"]:
    """Voxels whose whole window counts, so that their SSIM depends on no other voxels.

    Args:
        counted: Voxels that may influence a score.
        axes: Axes along which the window extends.
    """
    if bool(counted.all()):
        return counted
    disturbing = (~counted)[None, None].float()
    for axis in axes:
        kernel, padding = [1, 1, 1], [0, 0, 0]
        kernel[axis], padding[axis] = WINDOW, RADIUS
        disturbing = F.max_pool3d(disturbing, kernel, stride=1, padding=padding)
    return disturbing[0, 0] == 0


def _inner(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[slice, ...]:
    interior = interior_shape(shape, axes)
    return tuple(slice(RADIUS, RADIUS + size) if axis in axes else slice(None) for axis, size in enumerate(interior))


def sparse_ssim(
    prediction: Float[Tensor, "b c d h w"], target: Float[Tensor, "b c d h w"], *, data_range: float = 1.0
) -> Float[Tensor, "b c d_in h_in w_in"]:
    """SSIM in 3D of every second voxel along each axis, for training: quick, and with a gradient.

    The Gaussian window is applied along one axis after the other, by products of matrices that leave out every second
    voxel. A dense 3D window, as in MONAI's `SSIMLoss`, takes 11^3 products a voxel.

    Args:
        prediction: Reconstructed voxels, at least a window along each axis.
        target: True voxels.
        data_range: Range of the target's values.

    Returns:
        The values of `ssim_map` at every second voxel, from its first one.
    """
    moments = torch.cat((prediction, target, prediction.square() + target.square(), prediction * target), dim=1)
    depth, height, width = (_sparse_window(size, moments) for size in moments.shape[2:])
    smoothed = height @ (moments @ width.mT)
    smoothed = torch.einsum("sd,bcdhw->bcshw", depth, smoothed)
    return _from_moments(smoothed.chunk(4, dim=1), data_range)


def sparse_interior(region: Bool[Tensor, "b c d h w"]) -> Bool[Tensor, "b c d_in h_in w_in"]:
    """A region at the voxels that `sparse_ssim` holds."""
    depth, height, width = _inner(tuple(region.shape[2:]), VOLUME_AXES)
    return region[..., depth, height, width][..., ::STRIDE, ::STRIDE, ::STRIDE]


def _sparse_window(size: int, like: Tensor) -> Float[Tensor, "s size"]:
    """The matrix that weights an axis by the window of every second voxel."""
    centres = torch.arange(RADIUS, size - RADIUS, STRIDE)
    matrix = torch.zeros(len(centres), size)
    window = torch.tensor(_gaussian())
    for row, centre in enumerate(centres.tolist()):
        matrix[row, centre - RADIUS : centre + RADIUS + 1] = window
    return matrix.to(like)


def _ssim(
    x: Float[Tensor, "d h w"], y: Float[Tensor, "d h w"], axes: tuple[int, ...], data_range: float
) -> Float[Tensor, "d_in h_in w_in"]:
    moments = torch.stack((x, y, x * x + y * y, x * y))  # only the sum of the two variances is needed
    for axis in axes:
        moments = _smooth(moments, axis + 1)
    return _from_moments(moments.unbind(), data_range)


def _from_moments(moments: tuple[Tensor, ...], data_range: float) -> Tensor:
    """SSIM from the window means of x, of y, of the sum of their squares, and of their product."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean_x, mean_y, mean_of_squares, mean_xy = moments
    product = mean_x * mean_y
    squares = mean_x.square() + mean_y.square()
    covariance = mean_xy - product
    variances = mean_of_squares - squares
    ssim: Tensor = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
    return ssim


def _smooth(fields: Float[Tensor, "f d h w"], axis: int) -> Float[Tensor, "f d_ h_ w_"]:
    # Shifted sums: four times as fast as a convolution on a CPU, and never in TF32 on a GPU.
    size = fields.shape[axis] - WINDOW + 1
    weights = _gaussian()
    smoothed = fields.narrow(axis, 0, size) * weights[0]
    for offset in range(1, WINDOW):
        smoothed.add_(fields.narrow(axis, offset, size), alpha=weights[offset])
    return smoothed


def _gaussian() -> list[float]:
    weights = [math.exp(-0.5 * (offset / SIGMA) ** 2) for offset in range(-RADIUS, RADIUS + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]
