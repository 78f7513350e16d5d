"""Inpainting without training, by kriging: the best linear estimate for a random field of one fixed covariance."""

from __future__ import annotations

import math
from dataclasses import dataclass
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
from maesil.shapes import Shape3

SMOOTHNESS = 2.0
"""Half of the power of the wave number with which the covariance's spectrum falls."""
INVERSE_REACH = 0.4
"""Inverse square of the covariance's reach, in patches.

This, the smoothness and the stiffness were chosen on training and validation scans, 0.9 dB above normalised
convolution.
"""
STIFFNESS = (3.0, 1.0, 1.0)
"""Relative penalty of change along (S, P, L); slices are thick, so CT changes least along S."""
CELL = 2
"""Voxels of a cell along each axis; finer structure cannot be predicted across a patch."""
TOLERANCE = 5e-5
"""Relative residual at which a superpatch is solved, in the preconditioner's norm.

On real scans, its PSNR is within 0.01 dB of the exact solution's.
"""
PULL = 24.0
"""Strength of visible voxels in the preconditioner: the number that a wholly visible plane of cells adds to the square
root of the precision. It changes the number of steps but not the solution; this value needs the fewest.
"""
CHECK_EVERY = 5
"""Number of steps between checks of the residual; each check on a GPU waits for the device."""
MAX_STEPS = 2000
"""Largest number of steps, far above the 30 to 60 that masks need."""


@final
class Kriging(Reconstructor):
    """The conditional mean of a Gaussian field with a Matern covariance, given the visible voxels.

    This is simple kriging: the best linear estimate for the covariance, with the mean of a superpatch's visible voxels
    as the known mean. Borders are mirrored. It is solved on cells of 2^3 voxels by conjugate gradients, each superpatch
    until its residual is below `TOLERANCE`, then interpolated between cells.

    Args:
        grid: Grid of patches of a superpatch; the covariance's reach scales with the patch.
        masking: Choice of the tokens to mask.
    """

    predicts_visible = False

    def __init__(self, grid: PatchGrid, masking: Masking) -> None:
        super().__init__(grid, masking)
        self.field = GaussianField(grid.patch, cells_of(grid.patch, CELL))

    @torch.no_grad()
    def reconstruct(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Reconstruction:
        """Passes visible voxels through, and sets masked ones to the field's conditional mean."""
        hidden = self.voxel_mask(mask)
        volume = superpatch.float()
        with torch.autocast(volume.device.type, enabled=False):
            mean = visible_mean(volume, hidden)
            known, unknown = self.field.cells(volume - mean, hidden)
            field = self.field.complete(known, unknown)
            filled = mean + F.interpolate(field, volume.shape[2:], mode="trilinear", align_corners=False)
        return Reconstruction(torch.where(hidden, filled, volume), hidden)


def cells_of(patch: Shape3, edge: int) -> Shape3:
    """Voxels of a cell along each axis: `edge` where it divides the patch, else 1."""
    depth, height, width = (edge if size % edge == 0 else 1 for size in patch)
    return (depth, height, width)


@dataclass(frozen=True)
class GaussianField:
    """A Gaussian random field with a Matern covariance, on cells of voxels.

    Args:
        patch: Voxels of a patch; the covariance's reach scales with it.
        cell: Voxels of a cell along each axis; each divides the patch's edge.
    """

    patch: Shape3
    cell: Shape3

    def cells(
        self, volume: Float[Tensor, "b c d h w"], hidden: Bool[Tensor, "b 1 d h w"]
    ) -> tuple[Float[Tensor, "b c d2 h2 w2"], Float[Tensor, "b 1 d2 h2 w2"]]:
        """Means of the visible cells, zero in hidden ones; and the hidden cells, as 0 and 1."""
        known = F.avg_pool3d(volume.masked_fill(hidden, 0.0), self.cell)
        return known, F.max_pool3d(hidden.float(), self.cell)

    def complete(
        self,
        known: Float[Tensor, "b c d h w"],
        unknown: Float[Tensor, "b 1 d h w"],
        *,
        start: Float[Tensor, "b c d h w"] | None = None,
        steps: int | None = None,
    ) -> Float[Tensor, "b c d h w"]:
        """Minimises the field's energy over the unknown cells; `known` is zero there.

        The method is preconditioned conjugate gradients. A field stops changing once its residual is small, so its
        result does not depend on the rest of the batch.

        Args:
            known: Values of the known cells.
            unknown: Cells to fill, as 0 and 1.
            start: Values of the unknown cells to start from; None: zero.
            steps: Number of steps, however large the residual then is, without waiting for the device; None: as many as
                `TOLERANCE` needs.

        Raises:
            MaesilError: `TOLERANCE` is not reached within `MAX_STEPS`.
        """
        cosines = [cosine_matrix(size, known) for size in known.shape[2:]]
        precision = self.precision(known)
        axes, covariance = self.preconditioner(unknown, cosines)
        field = known.clone() if start is None else torch.where(unknown > 0, start, known)
        residual = -spectral(field, precision, cosines) * unknown
        direction = spectral(residual, covariance, axes) * unknown
        power = _dot(residual, direction)
        enough = power * TOLERANCE**2
        going = power > enough
        for step in range(MAX_STEPS if steps is None else steps):
            if step % CHECK_EVERY == 0:
                going = power > enough
                if steps is None and not bool(going.any()):
                    return field
            change = spectral(direction, precision, cosines).mul_(unknown)
            length = torch.where(going, power / _dot(direction, change), 0.0)
            field.addcmul_(length, direction)
            residual.addcmul_(length, change, value=-1.0)
            guess = spectral(residual, covariance, axes).mul_(unknown)
            power, before = _dot(residual, guess), power
            direction = torch.addcmul(guess, torch.where(going, power / before, 0.0), direction)
        if steps is not None:
            return field
        worst = float((power / enough).max().sqrt()) * TOLERANCE
        raise MaesilError(
            f"kriging's relative residual is {worst:.1e} after {MAX_STEPS} steps, not {TOLERANCE:.0e}",
            fix="report this mask and scan: the solver is expected to need fewer than 100 steps",
        )

    def preconditioner(
        self, unknown: Float[Tensor, "b 1 d h w"], cosines: list[Tensor]
    ) -> tuple[list[Tensor], Float[Tensor, "b 1 d h w"]]:
        """The covariance of a field that each plane pulls towards its mean, in proportion to the plane's visible share.

        Low frequencies so count less where visible patches lie between hidden ones, and fully within a block of hidden
        planes. The pull depends only on the plane, so axes can still be treated one at a time.

        Returns:
            Eigenvectors of the axes, those of the first axis for each superpatch; and the eigenvalues.
        """
        depth, *plane = cosines
        first, *rest = self._waves(unknown)
        visible = 1.0 - unknown.mean(dim=(3, 4))
        pulled = depth.mT @ (first[:, None] * depth) + torch.diag_embed(PULL * visible)
        own, vectors = torch.linalg.eigh(pulled)
        total = own[..., None, None] + rest[0][:, None] + rest[1]
        return [vectors.mT, *plane], (1 + total) ** -SMOOTHNESS

    def precision(self, like: Float[Tensor, "b c d h w"]) -> Float[Tensor, "d h w"]:
        """The inverse covariance's eigenvalues over spatial frequencies, 1 at the lowest."""
        depth, height, width = self._waves(like)
        return (1 + depth[:, None, None] + height[:, None] + width) ** SMOOTHNESS

    def _waves(self, like: Float[Tensor, "b c d h w"]) -> list[Float[Tensor, " frequencies"]]:
        """Squared wave numbers of each axis, in units of the inverse square of the reach, weighted by stiffness."""
        waves = []
        for size, edge, cell, stiffness in zip(like.shape[2:], self.patch, self.cell, STIFFNESS, strict=True):
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
        fields: Fields to filter; with cosines as axes, their borders are mirrored.
        gain: Factor of each component, the same for all fields or (b, 1, d, h, w).
        axes: Orthonormal matrix of each axis, whose rows are components; those of `cosine_matrix` are frequencies.
    """
    return _transform(_transform(fields, axes).mul_(gain), [matrix.mT for matrix in axes])


def _transform(fields: Float[Tensor, "b c d h w"], matrices: list[Tensor]) -> Float[Tensor, "b c d h w"]:
    depth, height, width = matrices
    rows = height @ (fields @ width.mT)
    return (depth @ rows.flatten(3)).view_as(fields)


def _dot(first: Float[Tensor, "b c d h w"], second: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c 1 1 1"]:
    return (first * second).sum(dim=(2, 3, 4), keepdim=True)
