"""What a model of single slices can reach under masks that leave whole slices with nothing visible."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maesil.models.contract import Reconstruction, Reconstructor
from maesil.models.slice_mae import SliceMAEConfig

TRAINING_MEAN = SliceMAEConfig.input_mean
"""Of the voxels of training scans, in window units."""


@final
class SliceCeiling(Reconstructor):
    """Knows every slice in which anything is visible, and gives the training mean in the others; learns nothing.

    A reference for `SliceMAE` under the masks of a 3D model: what it misses, no 2D model can know, and what a 3D model
    scores beyond it is owed to the masks before it is owed to the third dimension. No strict bound: a 2D model may give
    slices without a visible voxel a mean image, which fits them a little better than one number.

    Args:
        grid: The superpatch's patches.
        masking: Which tokens to hide.
    """

    predicts_visible = False
    told = "the truth of every slice in which anything is visible"

    @torch.no_grad()
    def reconstruct(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Reconstruction:
        """The superpatch itself, but for slices along S that are masked whole: these are at the training mean."""
        hidden = self.voxel_mask(mask)
        empty = hidden.flatten(3).all(dim=3)[..., None, None]
        return Reconstruction(superpatch.float().masked_fill(empty, TRAINING_MEAN), hidden)
