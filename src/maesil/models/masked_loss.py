"""The loss of masked voxels that models in voxel space share: squared error and, optionally, structural similarity."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maesil.errors import ConfigError
from maesil.metrics.ssim import WINDOW, sparse_interior, sparse_ssim
from maesil.shapes import Shape3


def masked_loss(
    prediction: Float[Tensor, "b c d h w"],
    target: Float[Tensor, "b c d h w"],
    hidden: Bool[Tensor, "b 1 d h w"],
    unit: float,
    ssim_weight: float,
) -> Float[Tensor, ""]:
    """Mean squared error of the masked voxels, plus 1 - SSIM of them.

    Squared error favours the average of all plausible contents, which is blurred; SSIM asks for contrast, too.

    Args:
        prediction: Voxels in window units, of which only masked ones are read.
        target: True voxels in window units.
        hidden: Masked voxels, True = masked.
        unit: Unit of the error, in window units; its square divides the squared error.
        ssim_weight: Weight of 1 - SSIM; 0: squared error alone.
    """
    error = ((prediction - target) / unit).square()
    mean: Tensor = (error * hidden).sum() / hidden.sum()
    if not ssim_weight:
        return mean
    return mean + ssim_weight * ssim_loss(torch.where(hidden, prediction, target), target, hidden)


def ssim_loss(
    prediction: Float[Tensor, "b c d h w"], target: Float[Tensor, "b c d h w"], hidden: Bool[Tensor, "b 1 d h w"]
) -> Float[Tensor, ""]:
    """1 - SSIM of the masked voxels, as `evaluate` has it: around them, it sees the superpatch."""
    with torch.autocast(target.device.type, enabled=False):
        similarity = sparse_ssim(prediction.clamp(0.0, 1.0), target)
    counted = sparse_interior(hidden)
    mean: Tensor = (similarity * counted).sum() / counted.sum().clamp(min=1)
    return 1.0 - mean


def check_ssim_fits(superpatch: Shape3, ssim_weight: float, flag: str) -> None:
    """Checks that a superpatch holds SSIM's windows.

    Args:
        superpatch: Voxels of a superpatch.
        ssim_weight: Weight of 1 - SSIM; at 0, every superpatch is large enough.
        flag: Option that sets the weight, for the error.

    Raises:
        ConfigError: An edge of the superpatch is shorter than a window.
    """
    if ssim_weight and min(superpatch) < WINDOW:
        raise ConfigError(
            f"SSIM has windows of {WINDOW} voxels, and the superpatch is {'x'.join(map(str, superpatch))}",
            fix=f"{flag} 0, or a larger --model.superpatch",
        )
