"""A larger fusion: MONAI's U-Net corrects every masked voxel of a reconstruction.

The fusion on cells can leave out detail of the reconstruction within cells of 2^3 voxels, but adds none; this one can.
`results/voxel_fusion` compares the two.
"""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from maesil.errors import ConfigError
from maesil.models.enlarging import enlarged
from maesil.models.fusion import LEVELS, Fusion, FusionConfig, contrast
from maesil.models.unet import monai_unet
from maesil.shapes import Shape3

INPUTS = 3
"""Channels that the U-Net sees: reconstruction, kriged fill and mask; visible voxels are in the first two."""


@final
class VoxelFusion(Fusion):
    """Adds a correction to the masked voxels of a reconstruction.

    A U-Net sees the reconstruction and the kriged fill, both with the visible voxels in their places, and the mask. Its
    correction is zero at the start, and stays zero where the visible voxels are of one material.

    Args:
        config: Settings, with a positive width.
        patch: Voxels of a patch of the masks.
        mean: Mean of the U-Net's inputs in window units.
        std: Standard deviation of these.

    Raises:
        MissingExtraError: MONAI is not installed.
    """

    def __init__(self, config: FusionConfig, patch: Shape3, mean: float, std: float) -> None:
        super().__init__(patch, mean, std, monai_unet(INPUTS, config.widths))
        last = [module for module in self.network.modules() if isinstance(module, nn.ConvTranspose3d)][-1]
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)

    def corrected(
        self,
        predicted: Float[Tensor, "b c d h w"],
        composite: Float[Tensor, "b c d h w"],
        fill: Float[Tensor, "b c d2 h2 w2"],
        hidden: Bool[Tensor, "b 1 d h w"],
    ) -> Float[Tensor, "b c d h w"]:
        """Adds the U-Net's correction of every voxel."""
        with torch.autocast(predicted.device.type, enabled=False):
            filled = torch.where(hidden, enlarged(fill, predicted.shape[2:]), composite)
        shown = torch.cat((self.standardised(composite), self.standardised(filled), hidden.float()), dim=1)
        # 3D convolutions are faster with channels last on a CPU.
        shown = shown.to(next(self.network.parameters()).dtype, memory_format=torch.channels_last_3d)
        correction: Tensor = self.network(shown).float()
        return predicted + self.std * contrast(composite, hidden) * correction


def check_levels_fit(superpatch: Shape3, config: FusionConfig) -> None:
    """Checks that a U-Net on voxels can halve a superpatch at each level.

    Raises:
        ConfigError: An edge is not a multiple of its coarsest voxel.
    """
    scale = 2 ** (LEVELS["voxels"] - 1)
    if config.width and config.network == "voxels" and any(edge % scale for edge in superpatch):
        raise ConfigError(
            f"a fusion on voxels halves a superpatch {LEVELS['voxels'] - 1} times, which "
            f"{'x'.join(map(str, superpatch))} does not allow",
            fix=f"edges that are multiples of {scale} voxels, or --model.fusion.network cells",
        )
