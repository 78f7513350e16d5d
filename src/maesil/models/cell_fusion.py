"""The fusion on cells: a small U-Net decides, cell by cell, where to trust a kriged fill."""

from __future__ import annotations

from itertools import pairwise
from typing import final

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Bool, Float
from torch import Tensor, nn

from maesil.models.enlarging import enlarged
from maesil.models.fusion import Fusion, FusionConfig, contrast
from maesil.models.interpolation import gaussian_blur
from maesil.shapes import Shape3

BLURS = (0.5, 1.5)
"""Widths of the Gaussians that blur the visible mask, in patches: they tell how far visible voxels are."""
KERNEL = 3
"""Edge of the U-Net's convolutions."""
INPUTS = 3 + len(BLURS)
"""Channels that the U-Net sees: reconstruction, fill, visible mask and its blurs."""
OUTPUTS = 3
"""Channels that the U-Net returns: gate, correction and share of detail to leave out."""


@final
class CellFusion(Fusion):
    """Combines a reconstruction with a kriged fill, on cells of 2^3 voxels.

    A U-Net sees both, the mask and how far visible voxels are. It returns a gate from the reconstruction to the fill
    and a correction, whose sum is enlarged smoothly to voxels, and a share by which the reconstruction's detail within
    cells, such as its seams, is left out. All three are zero at the start.

    Args:
        config: Settings, with a positive width.
        patch: Voxels of a patch of the masks.
        mean: Mean of the U-Net's inputs in window units.
        std: Standard deviation of these.
    """

    def __init__(self, config: FusionConfig, patch: Shape3, mean: float, std: float) -> None:
        super().__init__(patch, mean, std, SmallUNet(config.widths))
        self.patch = patch

    def corrected(
        self,
        predicted: Float[Tensor, "b c d h w"],
        composite: Float[Tensor, "b c d h w"],
        fill: Float[Tensor, "b c d2 h2 w2"],
        hidden: Bool[Tensor, "b 1 d h w"],
    ) -> Float[Tensor, "b c d h w"]:
        """Gates, corrects and smooths cell by cell, in float32."""
        with torch.autocast(predicted.device.type, enabled=False):
            cells = F.avg_pool3d(composite, self.fill.fine.cell)
            gate, correction, smoothing = self._outputs(cells, fill, hidden)
            change = gate * (fill - cells) + self.std * correction * contrast(composite, hidden)
            maps = enlarged(torch.cat((change, cells, smoothing), dim=1), predicted.shape[2:])
            change, smooth, smoothing = maps.chunk(3, dim=1)
            return predicted + change + smoothing * (smooth - predicted)

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
        shown = torch.cat((self.standardised(cells), self.standardised(fill), visible, *blurs), dim=1)
        # 3D convolutions are faster with channels last on a CPU.
        shown = shown.to(next(self.network.parameters()).dtype, memory_format=torch.channels_last_3d)
        outputs: Tensor = self.network(shown)
        return outputs.float().contiguous().chunk(OUTPUTS, dim=1)


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
