"""Inpainting without learning, by kriging: the best linear guess if CT were noise with one covariance everywhere."""

from __future__ import annotations

import math
from typing import final

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Bool, Float
from torch import Tensor

from maesil.errors import MaesilError
from maesil.grid import PatchGrid
from maesil.masking import Masking
from maesil.models.contract import Reconstruction, Reconstructor
from maesil.models.mean import visible_mean

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
TOLERANCE = 5e-5
"""Where a superpatch's solution ends: its residual's norm over that at the start, in the preconditioner's norm.

On real scans, PSNR is then within 0.01 dB of that of the exact solution.
"""
PULL = 24.0
"""The preconditioner's stand-in for visible voxels: in a plane of cells that were all visible it would add this to the
square root of the precision. It changes the number of steps, not what they lead to; chosen for fewest.
"""
CHECK_EVERY = 5
"""Steps between looks at the residual: on a GPU each look waits for the device."""
MAX_STEPS = 2000
"""A guard, far beyond what masks need, 30 to 60: who comes here has found a fault."""


@final
class Kriging(Reconstructor):
    """The conditional mean of a Gaussian field with a Matern covariance, given the visible voxels.

    That is the best linear guess under this one covariance, about a mean that is taken as known: the mean of the
    superpatch's visible voxels (simple kriging). Borders are mirrored. Solved on cells of 2^3 voxels by conjugate
    gradients, each superpatch until its own residual is below `TOLERANCE`, then interpolated between cells.

    Args:
        grid: The superpatch's patches; their size sets the covariance's reach.
        masking: Which tokens to hide.
    """

    predicts_visible = False

    def __init__(self, grid: PatchGrid, masking: Masking) -> None:
        super().__init__(grid, masking)
        self.cell = tuple(CELL if edge % CELL == 0 else 1 for edge in grid.patch)

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
        """Minimises the field's energy over the unknown cells; `known` is zero there.

        Preconditioned conjugate gradients. A field stands still once its own residual is small: what becomes of it
        does not depend on the rest of the batch.
        """
        cosines = [cosine_matrix(size, known) for size in known.shape[2:]]
        precision = self._precision(known)
        axes, covariance = self._preconditioner(unknown, cosines)
        field = known.clone()
        residual = -spectral(known, precision, cosines) * unknown
        direction = spectral(residual, covariance, axes) * unknown
        power = _dot(residual, direction)
        enough = power * TOLERANCE**2
        going = power > enough
        for step in range(MAX_STEPS):
            if step % CHECK_EVERY == 0:
                going = power > enough
                if not bool(going.any()):
                    return field
            change = spectral(direction, precision, cosines).mul_(unknown)
            length = torch.where(going, power / _dot(direction, change), 0.0)
            field.addcmul_(length, direction)
            residual.addcmul_(length, change, value=-1.0)
            guess = spectral(residual, covariance, axes).mul_(unknown)
            power, before = _dot(residual, guess), power
            direction = torch.addcmul(guess, torch.where(going, power / before, 0.0), direction)
        worst = float((power / enough).max().sqrt()) * TOLERANCE
        raise MaesilError(
            f"kriging's relative residual is {worst:.1e} after {MAX_STEPS} steps, not {TOLERANCE:.0e}",
            fix="report this mask and scan: the solver is expected to need fewer than 100 steps",
        )

    def _preconditioner(
        self, unknown: Float[Tensor, "b 1 d h w"], cosines: list[Tensor]
    ) -> tuple[list[Tensor], Float[Tensor, "b 1 d h w"]]:
        """The covariance of a field that is drawn to its mean in each plane as far as the plane is visible.

        So low frequencies count for less where visible patches lie between, and for all they do within a block of
        hidden planes. As the pull depends on the plane alone, axes can still be taken one by one.

        Returns:
            The axes' eigenvectors, of the first for each superpatch, and the eigenvalues.
        """
        depth, *plane = cosines
        first, *rest = self._waves(unknown)
        visible = 1.0 - unknown.mean(dim=(3, 4))
        pulled = depth.mT @ (first[:, None] * depth) + torch.diag_embed(PULL * visible)
        own, vectors = torch.linalg.eigh(pulled)
        total = own[..., None, None] + rest[0][:, None] + rest[1]
        return [vectors.mT, *plane], (1 + total) ** -SMOOTHNESS

    def _precision(self, like: Float[Tensor, "b c d h w"]) -> Float[Tensor, "d h w"]:
        """The inverse covariance's eigenvalues over spatial frequencies, 1 at the lowest."""
        depth, height, width = self._waves(like)
        return (1 + depth[:, None, None] + height[:, None] + width) ** SMOOTHNESS

    def _waves(self, like: Float[Tensor, "b c d h w"]) -> list[Float[Tensor, " frequencies"]]:
        """Each axis' squared wave numbers, in units of the inverse square of the reach, weighted by stiffness."""
        waves = []
        for size, edge, cell, stiffness in zip(like.shape[2:], self.grid.patch, self.cell, STIFFNESS, strict=True):
            angle = torch.arange(size, device=like.device, dtype=like.dtype) * (math.pi / size)
            waves.append(stiffness * (2 - 2 * angle.cos()) * (edge / cell) ** 2 / INVERSE_REACH)
        return waves


def cosine_matrix(size: int, like: Tensor) -> Float[Tensor, "size size"]:
    """The orthonormal discrete cosine transform (type II) of one axis: rows are frequencies."""
    place = torch.arange(size, device=like.device, dtype=like.dtype)
    matrix = torch.cos(math.pi / size * place[:, None] * (place[None] + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def spectral(
    fields: Float[Tensor, "b c d h w"], gain: Float[Tensor, "*rows d h w"], axes: list[Tensor]
) -> Float[Tensor, "b c d h w"]:
    """Multiplies each component by its gain.

    Args:
        fields: What is filtered; with cosines as axes, its borders are mirrored.
        gain: A factor for each component, the same for all fields or (b, 1, d, h, w).
        axes: An orthonormal matrix for each axis, its rows the components; `cosine_matrix` makes them frequencies.
    """
    return _transform(_transform(fields, axes).mul_(gain), [matrix.mT for matrix in axes])


def _transform(fields: Float[Tensor, "b c d h w"], matrices: list[Tensor]) -> Float[Tensor, "b c d h w"]:
    depth, height, width = matrices
    rows = height @ (fields @ width.mT)
    return (depth @ rows.flatten(3)).view_as(fields)


def _dot(first: Float[Tensor, "b c d h w"], second: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c 1 1 1"]:
    return (first * second).sum(dim=(2, 3, 4), keepdim=True)
