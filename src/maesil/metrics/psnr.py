"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def psnr(
    prediction: Float[Tensor, "*voxels"],
    target: Float[Tensor, "*voxels"],
    region: Bool[Tensor, "*voxels"] | None = None,
    data_range: float = 1.0,
) -> float:
    """PSNR in dB: ``10 log10(data_range^2 / mean squared error)``.

    Args:
        prediction: Reconstructed voxels.
        target: True voxels.
        region: Voxels that count; None: all.
        data_range: The range of the target's units, 1 over the window.

    Returns:
        dB; `inf` where the two are identical, `nan` where the region is empty.
    """
    squared = (prediction - target).square_()
    if region is not None:
        squared = squared[region]
    if squared.numel() == 0:
        return math.nan
    error = squared.mean(dtype=torch.float64).item()
    return math.inf if error == 0.0 else 10.0 * math.log10(data_range**2 / error)
