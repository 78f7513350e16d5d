"""The simplest reference: every masked voxel is the mean of the visible ones."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maesil.models.contract import Reconstruction, Reconstructor


@final
class MeanFill(Reconstructor):
    """Fills each superpatch with the mean of its visible voxels."""

    predicts_visible = False

    @torch.no_grad()
    def reconstruct(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Reconstruction:
        """Passes visible voxels through, and sets masked ones to their superpatch's visible mean."""
        hidden = self.voxel_mask(mask)
        visible = superpatch.float()
        return Reconstruction(torch.where(hidden, visible_mean(visible, hidden), visible), hidden)


def visible_mean(
    superpatch: Float[Tensor, "b c d h w"], hidden: Bool[Tensor, "b 1 d h w"]
) -> Float[Tensor, "b c 1 1 1"]:
    """Mean of the visible voxels, per superpatch and channel."""
    weight = (~hidden).to(superpatch.dtype)
    known = superpatch.masked_fill(hidden, 0.0)
    return known.sum(dim=(2, 3, 4), keepdim=True) / weight.sum(dim=(2, 3, 4), keepdim=True)
