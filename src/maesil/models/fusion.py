"""Fusion: a network that corrects the masked voxels of a reconstruction, beside a kriged fill.

Kriging can be better than a network near visible voxels and has no seams; the network is better where anatomy has to be
known. The fusion learns, at the end of a run, where to trust which. The network itself is frozen then, so that its
encoder is asked for all that it would be asked for without a fusion.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from maesil.errors import ConfigError
from maesil.models.enlarging import enlarged
from maesil.models.kriging import GaussianField, cells_of
from maesil.models.mean import visible_mean
from maesil.shapes import Shape3

FINE, COARSE = 2, 4
"""Edges of the cells that the fill is solved on, in voxels; the U-Net on cells works on the fine ones."""
COARSE_STEPS, FINE_STEPS = 12, 8
"""Steps of the fill's solver: within 0.03 dB of the converged fill, in a fifth of its time."""
FLAT = 0.05
"""Standard deviation of visible voxels, in window units, below which a superpatch is corrected less."""
LEVELS = {"cells": 3, "voxels": 5}
"""Resolutions of the U-Net of each kind of fusion."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class FusionConfig:
    """Settings of the fusion.

    Args:
        width: Number of channels of its U-Net at the finest level, doubled at each coarser one; 0: no fusion.
        network: Kind of U-Net. "cells": a small one of three levels, on cells of 2^3 voxels. "voxels": MONAI's, of five
            levels, which corrects each voxel: sharper after thousands of steps (`results/voxel_fusion`). Given as
            a flag beside a preset, it also sets the width to 32 (7.9 M parameters), `share` to 0.42, `peak_lr` to
            1.5e-3 and `ssim_weight` to 1, as tried there, unless other flags set them.
        share: Share of the run's steps, at its end, that train the fusion; the rest of the network is frozen then. With
            1, the fusion alone is trained, in a run that starts from a trained network (`--init`); with less, the
            network learns for at least one step.
        peak_lr: Peak learning rate of these steps, which have a warm-up and a cosine of their own.
        ssim_weight: Weight of 1 - SSIM of masked voxels in its loss, beside their squared error, in units of
            `input_std` squared. Squared error favours the average of all plausible contents, which is blurred; SSIM
            asks for contrast, too.
    """

    width: NonNegativeInt = 0
    network: Literal["cells", "voxels"] = "cells"
    share: PositiveFloat = 0.15
    peak_lr: PositiveFloat = 2e-3
    ssim_weight: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        if self.share > 1.0:
            raise ConfigError(f"fusion.share is {self.share}", fix="give a share of the steps in (0, 1]")
        if self.network == "voxels" and not self.width:
            raise ConfigError(
                "fusion.network is voxels, and there is no fusion: its width is 0",
                fix="--model.fusion.width 32, or for no fusion at all --model.fusion.network cells",
            )
        if self.share == 1.0 and not self.width:
            raise ConfigError(
                "fusion.share 1 trains a fusion alone, and there is none",
                fix="--model.fusion.width 8, or a share below 1",
            )

    @property
    def widths(self) -> list[int]:
        """Number of channels of each level, from the finest."""
        return [self.width * 2**level for level in range(LEVELS[self.network])]


@final
class KrigedFill(nn.Module):
    """The kriged fill of fine cells, to within a fixed number of steps; it learns nothing.

    Args:
        patch: Voxels of a patch of the masks.
    """

    def __init__(self, patch: Shape3) -> None:
        super().__init__()
        self.fine = GaussianField(patch, cells_of(patch, FINE))
        self.coarse = GaussianField(patch, coarse_cells(patch))

    @torch.no_grad()
    def forward(
        self, volume: Float[Tensor, "b c d h w"], hidden: Bool[Tensor, "b 1 d h w"]
    ) -> Float[Tensor, "b c d2 h2 w2"]:
        """Fills the cells from voxels of which only visible ones are read.

        Args:
            volume: Voxels in window units.
            hidden: Masked voxels, True = masked.
        """
        mean = visible_mean(volume, hidden)
        start = self.coarse.complete(*self.coarse.cells(volume - mean, hidden), steps=COARSE_STEPS)
        known, unknown = self.fine.cells(volume - mean, hidden)
        return mean + self.fine.complete(known, unknown, start=enlarged(start, known.shape[2:]), steps=FINE_STEPS)


class Fusion(nn.Module, ABC):
    """Corrects the masked voxels of a reconstruction, beside a kriged fill of the same visible voxels.

    Subclasses are final. Their networks start so that the result is the reconstruction.

    Args:
        patch: Voxels of a patch of the masks.
        mean: Mean of the network's inputs in window units.
        std: Standard deviation of these.
        network: Network that sees the reconstruction, the fill and the mask.
    """

    def __init__(self, patch: Shape3, mean: float, std: float, network: nn.Module) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.fill = KrigedFill(patch)
        self.network = network

    def forward(
        self,
        superpatch: Float[Tensor, "b c d h w"],
        reconstruction: Float[Tensor, "b c d h w"],
        hidden: Bool[Tensor, "b 1 d h w"],
    ) -> Float[Tensor, "b c d h w"]:
        """Returns the reconstruction with its masked voxels corrected; visible ones stay as they are.

        Args:
            superpatch: Voxels in window units, of which only visible ones are read.
            reconstruction: The network's prediction of every voxel.
            hidden: Masked voxels, True = masked.
        """
        predicted = reconstruction.float()
        composite = torch.where(hidden, predicted, superpatch.float())
        with torch.autocast(superpatch.device.type, enabled=False):
            fill = self.fill(composite, hidden)
        return torch.where(hidden, self.corrected(predicted, composite, fill, hidden), predicted)

    @abstractmethod
    def corrected(
        self,
        predicted: Float[Tensor, "b c d h w"],
        composite: Float[Tensor, "b c d h w"],
        fill: Float[Tensor, "b c d2 h2 w2"],
        hidden: Bool[Tensor, "b 1 d h w"],
    ) -> Float[Tensor, "b c d h w"]:
        """Corrects a prediction; the result counts on masked voxels only.

        Args:
            predicted: The network's prediction of every voxel.
            composite: The same with visible voxels from the scan.
            fill: Kriged fill of fine cells.
            hidden: Masked voxels, True = masked.
        """

    def standardised(self, volume: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Window units as the network sees them."""
        return (volume - self.mean) / self.std


def contrast(volume: Float[Tensor, "b c d h w"], hidden: Bool[Tensor, "b 1 d h w"]) -> Float[Tensor, "b c 1 1 1"]:
    """How far the visible voxels are from one material, in [0, 1]: at 0, there is nothing to correct."""
    centred = (volume - visible_mean(volume, hidden)).masked_fill(hidden, 0.0)
    variance = centred.square().sum(dim=(2, 3, 4), keepdim=True) / (~hidden).sum(dim=(2, 3, 4), keepdim=True)
    return (variance.sqrt() / FLAT).clamp(max=1.0)


def coarse_cells(patch: Shape3) -> Shape3:
    """Voxels of a coarse cell along each axis: those of a fine one where `COARSE` does not divide the patch."""
    fine = cells_of(patch, FINE)
    depth, height, width = (COARSE if edge % COARSE == 0 else cell for edge, cell in zip(patch, fine, strict=True))
    return (depth, height, width)
