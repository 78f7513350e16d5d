"""Inpainting without learning, by kriging: the best linear guess if CT were noise with one covariance everywhere."""

from __future__ import annotations

import math
from typing import final

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Bool, Float
from torch import Tensor, nn

from maesil.grid import PatchGrid
from maesil.masking import Masking
from maesil.models.contract import Pretrainer, Reconstruction
from maesil.models.mean import masked_error, visible_mean

SMOOTHNESS = 2.0
"""The covariance's spectrum falls with the wave number to the power of twice this."""
INVERSE_REACH = 0.4
"""Inverse square of the covariance's reach, in patches.

This, the smoothness and the stiffness were chosen on training and validation scans, 0.9 dB above normalised
convolution.
"""
STIFFNESS = (3.0, 1.0, 1.0)
"""Relative penalty of change along (S, P, L): slices change less from one to the next than within, being thick."""
CELL = 2
"""Voxels to a cell along each axis: finer than this, nothing can be foretold across a patch."""
TOLERANCE = 1e-4
"""Conjugate gradients stop where the residual's preconditioned norm is this share of the first: masked PSNR is then
within 0.01 dB of the solution's, which no step that follows changes."""
CHECKED = 8
"""Steps between looks at whether all superpatches are solved: each look waits for the device."""
MOST_STEPS = 2_000


@final
class Kriging(Pretrainer):
    """The conditional mean of a Gaussian field with a Matern covariance, given the visible cells.

    The field is the deviation from the mean of a superpatch's visible voxels. It is solved for on cells of 2^3 voxels
    by conjugate gradients, with mirrored borders, to a residual of `TOLERANCE`; masked voxels are interpolated from it.
    A superpatch's result does not depend on the others of its batch.

    Args:
        grid: The superpatch's patches; their size sets the covariance's reach.
        masking: Which tokens to hide.
    """

    trainable = False
    predicts_visible = False

    def __init__(self, grid: PatchGrid, masking: Masking) -> None:
        super().__init__()
        self.grid = grid
        self.masking = masking
        self.encoder = nn.Identity()
        self.cell = tuple(CELL if edge % CELL == 0 else 1 for edge in grid.patch)

    def loss(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, ""]:
        """Mean squared error over the masked voxels, in window units squared."""
        return masked_error(superpatch, self.reconstruct(superpatch, mask))

    @torch.no_grad()
    def reconstruct(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Reconstruction:
        """Visible voxels as they are, masked ones as the field's conditional mean."""
        hidden = self.voxel_mask(mask)
        volume = superpatch.float()
        with torch.autocast(volume.device.type, enabled=False):
            mean = visible_mean(volume, hidden)
            known = F.avg_pool3d((volume - mean).masked_fill(hidden, 0.0), self.cell)
            unknown = F.max_pool3d(hidden.float(), self.cell)
            field = self._complete(known, unknown)
            filled = mean + F.interpolate(field, volume.shape[2:], mode="trilinear", align_corners=False)
        return Reconstruction(torch.where(hidden, filled, volume), hidden)

    def _complete(
        self, known: Float[Tensor, "b c d h w"], unknown: Float[Tensor, "b 1 d h w"]
    ) -> Float[Tensor, "b c d h w"]:
        """Minimises the field's energy over the unknown cells; `known` is zero there."""
        cosines = [cosine_matrix(size, known) for size in known.shape[2:]]
        precision = self._precision(known)
        field = known
        residual = -spectral(known, precision, cosines) * unknown
        guess = spectral(residual, 1 / precision, cosines) * unknown
        direction, power = guess, _dot(residual, guess)
        solved = TOLERANCE**2 * power
        tiny = torch.finfo(power.dtype).tiny
        for number in range(MOST_STEPS):
            going = power > solved  # what is solved stays as it is, whatever the rest of the batch needs
            if number % CHECKED == 0 and not going.any():
                return field
            change = spectral(direction, precision, cosines) * unknown
            step = torch.where(going, power / _dot(direction, change).clamp_min(tiny), 0.0)
            field = field + step * direction
            residual = residual - step * change
            guess = spectral(residual, 1 / precision, cosines) * unknown
            power, before = torch.where(going, _dot(residual, guess), power), power
            direction = guess + power / before.clamp_min(tiny) * direction
        raise RuntimeError(f"kriging is not solved after {MOST_STEPS} steps of conjugate gradients")

    def _precision(self, like: Float[Tensor, "b c d h w"]) -> Float[Tensor, "d h w"]:
        """The inverse covariance's eigenvalues over spatial frequencies, 1 at the lowest."""
        waves = []
        for size, edge, cell, stiffness in zip(like.shape[2:], self.grid.patch, self.cell, STIFFNESS, strict=True):
            angle = torch.arange(size, device=like.device, dtype=like.dtype) * (math.pi / size)
            waves.append(stiffness * (2 - 2 * angle.cos()) * (edge / cell) ** 2)
        total = waves[0][:, None, None] + waves[1][:, None] + waves[2]
        return (1 + total / INVERSE_REACH) ** SMOOTHNESS


def cosine_matrix(size: int, like: Tensor) -> Float[Tensor, "size size"]:
    """The orthonormal discrete cosine transform (type II) of one axis: rows are frequencies."""
    place = torch.arange(size, device=like.device, dtype=like.dtype)
    matrix = torch.cos(math.pi / size * place[:, None] * (place[None] + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def spectral(
    fields: Float[Tensor, "b c d h w"], gain: Float[Tensor, "d h w"], cosines: list[Tensor]
) -> Float[Tensor, "b c d h w"]:
    """Multiplies each spatial frequency by its gain, borders mirrored."""
    return _transform(_transform(fields, cosines) * gain, [matrix.T for matrix in cosines])


def _transform(fields: Float[Tensor, "b c d h w"], matrices: list[Tensor]) -> Float[Tensor, "b c d h w"]:
    depth, height, width = matrices
    rows = height @ (fields @ width.T)
    return (depth @ rows.flatten(3)).view_as(fields)


def _dot(first: Float[Tensor, "b c d h w"], second: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c 1 1 1"]:
    return (first * second).sum(dim=(2, 3, 4), keepdim=True)
