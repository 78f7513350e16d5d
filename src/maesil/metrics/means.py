"""Means over the voxels of a region."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def mean_over(values: Float[Tensor, "*voxels"], region: Bool[Tensor, "*voxels"] | None = None) -> float:
    """Mean over the voxels of a region; rows are summed in the type of the values, then in float64.

    Args:
        values: Value of each voxel; those outside the region may be anything.
        region: Voxels that count; None: all.

    Returns:
        The mean; nan if the region is empty.
    """
    if region is None:
        return values.mean(dtype=torch.float64).item() if values.numel() else math.nan
    count = int(torch.count_nonzero(region))
    # Ten times as fast as summing `values[region]`, which gathers, and three times as fast as summing all in float64.
    rows = torch.where(region, values, 0.0).sum(dim=-1)
    return rows.sum(dtype=torch.float64).item() / count if count else math.nan
