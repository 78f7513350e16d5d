"""An upper reference for models of single slices, under masks that hide whole slices."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maesil.models.contract import Reconstruction, Reconstructor
from maesil.models.slice_mae import SliceMAEConfig

TRAINING_MEAN = SliceMAEConfig.input_mean
"""Mean of the voxels of training scans, in window units."""


@final
class SliceCeiling(Reconstructor):
    """Returns the truth of every slice with a visible voxel, and the training mean in the other slices.

    A reference for `SliceMAE` under the masks of a 3D model. A 2D model cannot know the slices without a visible voxel,
    so a 3D model that scores higher owes this first to the masks, and only then to the third dimension. The bound is
    not strict: in those slices a 2D model may predict a mean image, which fits a little better than one number.
    """

    predicts_visible = False
    hints = "the truth of every slice in which anything is visible"

    @torch.no_grad()
    def reconstruct(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Reconstruction:
        """Returns the superpatch, with slices along S that are wholly masked set to the training mean."""
        hidden = self.voxel_mask(mask)
        empty = hidden.flatten(3).all(dim=3)[..., None, None]
        return Reconstruction(superpatch.float().masked_fill(empty, TRAINING_MEAN), hidden)
