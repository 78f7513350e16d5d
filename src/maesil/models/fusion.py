"""Fusion: a U-Net that combines a network's reconstruction with a kriged fill, on masked voxels only.

Kriging can be better than a network near visible voxels and has no seams; the network is better where anatomy has to be
known. The fusion learns, at the end of a run, where to trust which. The network itself is frozen then, so that its
encoder is asked for all that it would be asked for without a fusion.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, final

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Bool, Float
from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from maesil.errors import ConfigError
from maesil.models.enlarging import enlarged
from maesil.models.interpolation import gaussian_blur
from maesil.models.kriging import GaussianField, cells_of
from maesil.models.mean import visible_mean
from maesil.shapes import Shape3

FINE, COARSE = 2, 4
"""Edges of the cells that the fill is solved on, in voxels; the U-Net on cells works on the fine ones."""
COARSE_STEPS, FINE_STEPS = 12, 8
"""Steps of the fill's solver: within 0.03 dB of the converged fill, in a fifth of its time."""
BLURS = (0.5, 1.5)
"""Widths of the Gaussians that blur the visible mask, in patches: they tell how far visible voxels are."""
FLAT = 0.05
"""Standard deviation of visible voxels, in window units, below which a superpatch is corrected less."""
LEVELS = {"cells": 3, "voxels": 5}
"""Resolutions of the U-Net of each kind of fusion."""
KERNEL = 3
"""Edge of convolutions of the U-Net on cells."""
INPUTS = 3 + len(BLURS)
"""Channels that the U-Net on cells sees: reconstruction, fill, visible mask and its blurs."""
OUTPUTS = 3
"""Channels that the U-Net on cells returns: gate, correction and share of detail to leave out."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class FusionConfig:
    """Settings of the fusion.

    Args:
        width: Number of channels of its U-Net at the finest level, doubled at each coarser one; 0: no fusion.
        network: Kind of U-Net. "cells": a small one of three levels, on cells of 2^3 voxels. "voxels": MONAI's, of five
            levels, which corrects each voxel: sharper after thousands of steps (`results/voxel_fusion`). The flag
            sets the width to 32 (7.9 M parameters), `share` to 0.42 and `peak_lr` to 1.5e-3, as tried there, where
            flags do not.
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
                "fusion.network is voxels, and there is no fusion: its width is 0", fix="--model.fusion.width 32"
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


@final
class Fusion(nn.Module):
    """Combines a reconstruction with a kriged fill of the same visible voxels.

    On cells of 2^3 voxels, a U-Net sees both, the mask and how far visible voxels are. It returns a gate from the
    reconstruction to the fill and a correction, whose sum is enlarged smoothly to voxels, and a share by which the
    reconstruction's detail within cells, such as its seams, is left out. All three are zero at the start, where the
    result is the reconstruction.

    Args:
        config: Settings, with a positive width.
        patch: Voxels of a patch of the masks.
        mean: Mean of the U-Net's inputs in window units.
        std: Standard deviation of these.
    """

    def __init__(self, config: FusionConfig, patch: Shape3, mean: float, std: float) -> None:
        super().__init__()
        self.patch, self.mean, self.std = patch, mean, std
        self.fill = KrigedFill(patch)
        self.network = SmallUNet(config.widths)

    def forward(
        self,
        superpatch: Float[Tensor, "b c d h w"],
        reconstruction: Float[Tensor, "b c d h w"],
        hidden: Bool[Tensor, "b 1 d h w"],
    ) -> Float[Tensor, "b c d h w"]:
        """Returns the reconstruction with its masked voxels fused; visible ones stay as they are.

        Args:
            superpatch: Voxels in window units, of which only visible ones are read.
            reconstruction: The network's prediction of every voxel.
            hidden: Masked voxels, True = masked.
        """
        with torch.autocast(superpatch.device.type, enabled=False):
            predicted = reconstruction.float()
            composite = torch.where(hidden, predicted, superpatch.float())
            fill = self.fill(composite, hidden)
            cells = F.avg_pool3d(composite, self.fill.fine.cell)
            gate, correction, smoothing = self._outputs(cells, fill, hidden)
            correction = self.std * correction * contrast(composite, hidden)
            change = gate * (fill - cells) + correction
            maps = enlarged(torch.cat((change, cells, smoothing), dim=1), superpatch.shape[2:])
            change, smooth, smoothing = maps.chunk(3, dim=1)
            fused = predicted + change + smoothing * (smooth - predicted)
            return torch.where(hidden, fused, predicted)

    def _outputs(
        self,
        cells: Float[Tensor, "b 1 d2 h2 w2"],
        fill: Float[Tensor, "b 1 d2 h2 w2"],
        hidden: Bool[Tensor, "b 1 d h w"],
    ) -> tuple[Tensor, ...]:
        """The U-Net's outputs on the fine cells, each (b, 1, d2, h2, w2), in float32."""
        visible = 1.0 - F.max_pool3d(hidden.float(), self.fill.fine.cell)
        scale = [edge / cell for edge, cell in zip(self.patch, self.fill.fine.cell, strict=True)]
        blurs = [_blurred(visible, [blur * edge for edge in scale]) for blur in BLURS]
        shown = torch.cat(((cells - self.mean) / self.std, (fill - self.mean) / self.std, visible, *blurs), dim=1)
        # 3D convolutions are faster with channels last on a CPU.
        shown = shown.to(self.network.head.weight.dtype, memory_format=torch.channels_last_3d)
        outputs: Tensor = self.network(shown)
        return outputs.float().contiguous().chunk(OUTPUTS, dim=1)


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


@final
class SmallUNet(nn.Module):
    """Two convolutions on the way down and one on the way up at each resolution; its outputs are zero at the start.

    Args:
        widths: Number of channels of each level, from the finest.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        above = [INPUTS, *widths[:-1]]
        self.enter = nn.ModuleList(
            _convolution(first, second, stride=1 if level == 0 else 2)
            for level, (first, second) in enumerate(zip(above, widths, strict=True))
        )
        self.stay = nn.ModuleList(_convolution(width, width) for width in widths)
        self.merge = nn.ModuleList(_convolution(fine + coarse, fine) for fine, coarse in pairwise(widths))
        self.head = nn.Conv3d(widths[0], OUTPUTS, 1)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(self, cells: Float[Tensor, "b i d h w"]) -> Float[Tensor, "b o d h w"]:
        """Maps channels of cells to channels of cells, of any size."""
        skips = []
        for enter, stay in zip(self.enter, self.stay, strict=True):
            cells = F.gelu(stay(F.gelu(enter(cells))))
            skips.append(cells)
        cells = skips.pop()
        for merge in reversed(self.merge):
            skip = skips.pop()
            cells = F.gelu(merge(torch.cat((skip, F.interpolate(cells, skip.shape[2:])), dim=1)))
        outputs: Tensor = self.head(cells)
        return outputs


def _convolution(first: int, second: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(first, second, KERNEL, stride, padding=KERNEL // 2)


def _blurred(visible: Float[Tensor, "b 1 d h w"], sigmas: list[float]) -> Float[Tensor, "b 1 d h w"]:
    """The visible share around each cell, in a Gaussian window that ends at the superpatch's faces."""
    return gaussian_blur(visible, sigmas) / gaussian_blur(torch.ones_like(visible[:1]), sigmas)
