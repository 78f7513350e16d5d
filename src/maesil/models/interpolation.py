"""Inpainting without training, by normalised convolution: a reference that a trained model has to beat."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maesil.models.contract import Reconstruction, Reconstructor
from maesil.models.mean import visible_mean

KERNEL = ((1.0, 0.25), (0.02, 0.5), (0.0005, 1.0))
"""Gaussians of the kernel, as (weight, sigma in patches): near voxels dominate, far ones count where none is near.

Chosen on training and validation scans: 0.3 dB above the best single Gaussian, 0.6 dB above harmonic filling.
"""
FARTHEST = 1e-30
"""Weight of the superpatch's visible mean, which fills voxels where all Gaussians underflow in float32."""


@final
class Interpolation(Reconstructor):
    """Normalised convolution (Knutsson and Westin 1993): blurred visible voxels over the blurred mask.

    Args:
        grid: Grid of patches of a superpatch; the kernel scales with the patch.
        masking: Choice of the tokens to mask.
    """

    predicts_visible = False

    @torch.no_grad()
    def reconstruct(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Reconstruction:
        """Passes visible voxels through, and sets masked ones to the weighted mean of visible voxels around them."""
        hidden = self.voxel_mask(mask)
        volume = superpatch.float()
        with torch.autocast(volume.device.type, enabled=False):
            known = volume.masked_fill(hidden, 0.0)
            weight = (~hidden).to(known.dtype)
            near = self._blur(torch.cat((known, weight), dim=1))
            filled = (near[:, :-1] + FARTHEST * visible_mean(volume, hidden)) / (near[:, -1:] + FARTHEST)
        return Reconstruction(torch.where(hidden, filled, volume), hidden)

    def _blur(self, fields: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        total = torch.zeros_like(fields)
        for share, sigma in KERNEL:
            total += share * gaussian_blur(fields, [sigma * edge for edge in self.grid.patch])
        return total


def gaussian_blur(fields: Float[Tensor, "b c d h w"], sigmas: list[float]) -> Float[Tensor, "b c d h w"]:
    """Unnormalised Gaussian sums along the last three axes, zero outside the box; the kernel is not truncated."""
    depth, height, width = (
        gaussian_matrix(size, sigma, fields) for size, sigma in zip(fields.shape[2:], sigmas, strict=True)
    )
    blurred = height @ (fields @ width)
    return (depth @ blurred.flatten(3)).view_as(fields)


def gaussian_matrix(size: int, sigma: float, like: Tensor) -> Float[Tensor, "size size"]:
    """The symmetric matrix of Gaussian weights between all pairs of positions along one axis."""
    position = torch.arange(size, device=like.device, dtype=like.dtype)
    return torch.exp(-0.5 * ((position[:, None] - position[None]) / sigma).square())
