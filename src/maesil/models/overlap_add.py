"""Predictions of a wider window, added where they overlap (`MAEConfig(head="overlap_add")`).

A token predicts its patch and half a patch around it, on cells of 2^3 voxels. Predictions fade out under a window, are
added to their neighbours', and enlarged to voxels. To these, each token adds detail of its own patch, voxel by voxel,
which fades out towards the patch's faces. Other than mirrored predictions (see `overlap`), those of a wider window have
a slope across faces.

Only masked tokens emit, as in `overlap`: windows are divided by their sum.
"""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maesil.errors import ConfigError
from maesil.grid import PatchGrid
from maesil.models.blending import Blending
from maesil.models.enlarging import enlarged
from maesil.models.transformer import gather_tokens, put_tokens
from maesil.shapes import Shape3, product

CELL = 2
"""Edge of the cells of the wide predictions, in voxels."""


@final
class OverlapAdd(Blending):
    """Adds the wide predictions of masked tokens where they overlap, and the detail of each.

    A token's outputs are its detail, p voxels in `PatchGrid`'s order, and its wide prediction, as many cells as a window
    of twice the patch's edges has, row-major.

    Args:
        grid: Grid of the patches.

    Raises:
        ConfigError: An edge of the patch is not a multiple of 4.
    """

    window: Tensor
    fading: Tensor

    def __init__(self, grid: PatchGrid) -> None:
        super().__init__()
        check_cells(grid.patch)
        self.grid = grid
        self.wide: Shape3 = (grid.patch[0] * 2 // CELL, grid.patch[1] * 2 // CELL, grid.patch[2] * 2 // CELL)
        self.register_buffer("window", triangles(self.wide).flatten(), persistent=False)
        self.register_buffer("fading", triangles(grid.patch).flatten(), persistent=False)

    def forward(self, predicted: Float[Tensor, "b m r"], masked: Int[Tensor, "b m"]) -> Float[Tensor, "b m p"]:
        """Blends the outputs of masked tokens, in `PatchGrid`'s order of voxels.

        Args:
            predicted: Detail and wide predictions of the masked tokens.
            masked: Indices of these tokens.
        """
        with torch.autocast(predicted.device.type, enabled=False):
            detail, wide = self._parts(predicted)
            cells = self._added(wide, masked) / self._window_sums(wide, masked)
            smooth = self.grid.patchify(enlarged(cells, torch.Size(self.grid.superpatch)))
            return gather_tokens(smooth, masked) + self.fading * detail

    def alone(self, predicted: Float[Tensor, "b n r"]) -> Float[Tensor, "b n p"]:
        """What tokens predict for their own patches, without their neighbours."""
        detail, wide = self._parts(predicted)
        inner = wide.unflatten(-1, self.wide)
        for axis, size in enumerate(self.wide):
            inner = inner.narrow(2 + axis, size // 4, size // 2)
        smooth = enlarged(inner.flatten(0, 1).unsqueeze(1), torch.Size(self.grid.patch))
        return smooth.view(*detail.shape) + self.fading * detail

    def _parts(self, predicted: Float[Tensor, "b m r"]) -> tuple[Tensor, Tensor]:
        detail, wide = predicted.split((self.grid.voxels_per_patch, len(self.window)), dim=-1)
        return detail, wide

    def _added(self, wide: Float[Tensor, "b m k"], masked: Int[Tensor, "b m"]) -> Float[Tensor, "b 1 d h w"]:
        """Windowed sums of wide predictions, on all cells of the superpatch."""
        empty = wide.new_zeros(len(wide), self.grid.tokens, len(self.window))
        return add_windows(put_tokens(empty, masked, wide * self.window), self.grid.shape, self.wide)

    def _window_sums(self, wide: Float[Tensor, "b m k"], masked: Int[Tensor, "b m"]) -> Float[Tensor, "b 1 d h w"]:
        """Sums of the windows of the masked tokens, on all cells; 1 where no window reaches."""
        with torch.no_grad():
            sums = self._added(torch.ones_like(wide), masked)
            return sums.masked_fill(sums == 0.0, 1.0)


def head_rows(patch: Shape3) -> int:
    """Number of outputs of a token: its patch's voxels, and the cells of a window of twice its edges."""
    return product(patch) + product(patch) * 8 // CELL**3


def check_cells(patch: Shape3) -> None:
    """Raises a `ConfigError` if half of a patch is not a whole number of cells."""
    if any(edge % (2 * CELL) for edge in patch):
        raise ConfigError(
            f"half of a patch of {'x'.join(map(str, patch))} voxels is not a whole number of cells of {CELL}",
            fix=f"multiples of {2 * CELL} for --model.patch, or --model.head patch",
        )


def triangles(shape: Shape3) -> Float[Tensor, "d h w"]:
    """A window that falls linearly from the centre to the faces, along each axis."""
    edges = [1.0 - ((torch.arange(size) + 0.5) * 2 / size - 1.0).abs() for size in shape]
    depth, height, width = torch.meshgrid(*edges, indexing="ij")
    return depth * height * width


def add_windows(tokens: Float[Tensor, "b n k"], grid: Shape3, wide: Shape3) -> Float[Tensor, "b 1 d h w"]:
    """Adds the windows of all tokens where they overlap; what reaches beyond the superpatch is cut off.

    Args:
        tokens: Cells of each token's window, whose edges are twice the distance of neighbouring tokens.
        grid: Number of tokens along each axis.
        wide: Number of a window's cells along each axis.
    """
    windows = tokens.view(-1, *grid, *wide)
    for axis in range(3):
        windows = _add_along(windows, axis)
    cells = windows.permute(0, 1, 4, 2, 5, 3, 6)
    return cells.reshape(-1, 1, *(count * size // 2 for count, size in zip(grid, wide, strict=True)))


def _add_along(windows: Float[Tensor, "b gd gh gw d h w"], axis: int) -> Tensor:
    """Adds to each window the quarters of its neighbours' that reach into its own half, along an axis."""
    before, first, second, after = windows.chunk(4, dim=4 + axis)
    faces = windows.shape[1 + axis] - 1
    first, second = first.clone(), second.clone()
    first.narrow(1 + axis, 1, faces).add_(after.narrow(1 + axis, 0, faces))
    second.narrow(1 + axis, 0, faces).add_(before.narrow(1 + axis, 1, faces))
    return torch.cat((first, second), dim=4 + axis)
