"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math

from jaxtyping import Bool, Float
from torch import Tensor

from maesil.metrics.means import mean_over


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
        data_range: Range of the target's values; 1 over the HU window.

    Returns:
        PSNR in dB; `inf` if the two are identical, `nan` if the region is empty.
    """
    error = mean_over((prediction - target).square_(), region)
    return math.inf if error == 0.0 else 10.0 * math.log10(data_range**2 / error)
