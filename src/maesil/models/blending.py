"""The promise of heads whose predictions overlap: how the masked tokens' outputs become one volume."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float, Int
from torch import Tensor, nn


class Blending(nn.Module, ABC):
    """Blends what neighbouring masked tokens predict, so that patches leave no seams. It has no parameters.

    Blended patches have an order of voxels in which blending is fast; `to_blending_order` and `to_grid_order` convert
    from and to `PatchGrid`'s.
    """

    @abstractmethod
    def forward(self, predicted: Float[Tensor, "b m r"], masked: Int[Tensor, "b m"]) -> Float[Tensor, "b m p"]:
        """Blends the predictions of masked tokens.

        Args:
            predicted: Outputs of the head for the masked tokens.
            masked: Indices of these tokens.
        """

    @abstractmethod
    def alone(self, predicted: Float[Tensor, "b n r"]) -> Float[Tensor, "b n p"]:
        """What tokens predict for their own patches, without their neighbours."""

    def to_blending_order(self, patches: Float[Tensor, "b t p"]) -> Float[Tensor, "b t p"]:
        """Reorders the voxels of patches from `PatchGrid`'s order to the blending's own."""
        return patches

    def to_grid_order(self, patches: Float[Tensor, "b t p"]) -> Float[Tensor, "b t p"]:
        """Reorders the voxels of patches from the blending's own order to `PatchGrid`'s."""
        return patches
