"""Predictions of a wider window, added where they overlap (`MAEConfig(head="overlap_add")`).

A token predicts its patch and half a patch around it, on cells of 2^3 voxels. Predictions fade out under a window, are
added to their neighbours', and enlarged to voxels. To these, each token adds detail of its own patch, voxel by voxel,
which fades out towards the patch's faces. Unlike mirrored predictions (see `overlap`), those of a wider window can have
a slope across faces.

Only masked tokens emit, as in `overlap`: windows are divided by their sum.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, final

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Float, Int
from torch import Tensor

from maesil.errors import ConfigError
from maesil.grid import PatchGrid
from maesil.models.blending import Blending
from maesil.models.enlarging import enlarged
from maesil.models.overlap import grid_places, in_turns
from maesil.shapes import Shape3, product

CELL = 2
"""Edge of the cells of the wide predictions, in voxels."""


@final
class OverlapAdd(Blending):
    """Adds the wide predictions of masked tokens where they overlap, and the detail of each.

    A token's outputs are its detail, p voxels in `PatchGrid`'s order, and its wide prediction: the cells of a window of
    twice the patch's edges, row-major.

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
        self.wide = window_cells(grid.patch)
        self.register_buffer("window", triangles(self.wide).flatten(), persistent=False)
        self.register_buffer("fading", triangles(grid.patch).flatten(), persistent=False)

    def forward(self, predicted: Float[Tensor, "b m r"], masked: Int[Tensor, "b m"]) -> Float[Tensor, "b m p"]:
        """Blends the outputs of masked tokens, in `PatchGrid`'s order of voxels.

        Args:
            predicted: Detail and wide predictions of the masked tokens.
            masked: Indices of these tokens.
        """
        with torch.autocast(predicted.device.type, enabled=False):
            return in_turns(self._blend, predicted, masked)

    def alone(self, predicted: Float[Tensor, "b n r"]) -> Float[Tensor, "b n p"]:
        """What tokens predict for their own patches, without their neighbours."""
        detail, wide = self._parts(predicted)
        inner = wide.view(*wide.shape[:2], *self.wide)
        for axis, size in enumerate(self.wide):
            inner = inner.narrow(2 + axis, size // 4, size // 2)
        smooth = enlarged(inner.flatten(0, 1).unsqueeze(1), torch.Size(self.grid.patch))
        return smooth.view(*detail.shape) + self.fading * detail

    def _parts(self, predicted: Float[Tensor, "b m r"]) -> tuple[Tensor, Tensor]:
        voxels = self.grid.voxels_per_patch
        return predicted[..., :voxels], predicted[..., voxels:]

    def _blend(self, predicted: Float[Tensor, "b m r"], masked: Int[Tensor, "b m"]) -> Float[Tensor, "b m p"]:
        detail, wide = self._parts(predicted)
        added: Tensor = AddedWindows.apply(wide * self.window, masked, self.grid.shape, self.wide)  # type: ignore[no-untyped-call]
        smooth = self.grid.patchify(enlarged(added / self._window_sums(masked), torch.Size(self.grid.superpatch)))
        places, _ = grid_places(masked, self.grid.shape)
        return smooth.flatten(0, 1).index_select(0, places).view_as(detail) + self.fading * detail

    def _window_sums(self, masked: Int[Tensor, "b m"]) -> Float[Tensor, "b 1 d h w"]:
        """Sums of the windows of the masked tokens, on all cells; 1 where no window reaches.

        A window falls linearly to the centres of its neighbours, so the sums interpolate ones at the emitting tokens.
        """
        emitting = torch.zeros(len(masked), self.grid.tokens, device=masked.device).scatter_(1, masked, 1.0)
        padded = F.pad(emitting.view(-1, 1, *self.grid.shape), [1] * 6)
        wanted = [(count + 2) * size // 2 for count, size in zip(self.grid.shape, self.wide, strict=True)]
        sums = enlarged(padded, torch.Size(wanted))
        for axis, size in enumerate(self.wide):
            sums = sums.narrow(2 + axis, size // 2, sums.shape[2 + axis] - size)
        return sums.masked_fill(sums == 0.0, 1.0)


def window_cells(patch: Shape3) -> Shape3:
    """Number of a window's cells along each axis: its edges are twice those of the patch."""
    depth, height, width = (2 * edge // CELL for edge in patch)
    return (depth, height, width)


def head_rows(patch: Shape3) -> int:
    """Number of outputs of a token: its patch's voxels, and the cells of its window."""
    return product(patch) + product(window_cells(patch))


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


class AddedWindows(torch.autograd.Function):
    """Sums of the masked tokens' windows where they overlap; what reaches beyond the superpatch is cut off."""

    @staticmethod
    def forward(ctx: Any, windows: Tensor, masked: Tensor, grid: Shape3, wide: Shape3) -> Tensor:
        """(b, m, k) windows, whose edges are twice the distance of neighbouring tokens, to (b, 1, d, h, w) cells."""
        ctx.save_for_backward(masked)
        ctx.grid, ctx.wide = grid, wide
        places, count = grid_places(masked, grid)
        rows = windows.new_zeros(count, windows.shape[-1]).index_copy_(0, places, windows.flatten(0, 1))
        tokens = rows.view(-1, *grid, *wide)
        cells = windows.new_zeros(len(windows), *_with_margin(grid, wide))
        for blocks, halves in _corners(cells, tokens, grid, wide):
            blocks += halves
        return _without_margin(cells, wide).unsqueeze(1).contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of `windows`: the cells under each."""
        (masked,), grid, wide = ctx.saved_tensors, ctx.grid, ctx.wide
        cells = gradient.new_zeros(len(gradient), *_with_margin(grid, wide))
        _without_margin(cells, wide).copy_(gradient.squeeze(1))
        tokens = gradient.new_empty(len(gradient), *grid, *wide)
        for blocks, halves in _corners(cells, tokens, grid, wide):
            halves.copy_(blocks)
        places, _ = grid_places(masked, grid)
        rows = tokens.view(-1, product(wide)).index_select(0, places)
        return rows.view(*masked.shape, -1), None, None, None


def _with_margin(grid: Shape3, wide: Shape3) -> tuple[int, ...]:
    """Cells of a superpatch along each axis, with half a patch around it."""
    return tuple((count + 1) * size // 2 for count, size in zip(grid, wide, strict=True))


def _without_margin(cells: Float[Tensor, "b d h w"], wide: Shape3) -> Float[Tensor, "b d2 h2 w2"]:
    for axis, size in enumerate(wide):
        cells = cells.narrow(1 + axis, size // 4, cells.shape[1 + axis] - size // 2)
    return cells


def _corners(cells: Tensor, tokens: Tensor, grid: Shape3, wide: Shape3) -> Iterator[tuple[Tensor, Tensor]]:
    """For each corner of a window: the cells under it, and this eighth of all windows, as views of one shape.

    With half a patch around the superpatch, each half of a window along an axis is a whole block of cells.
    """
    edges = [size // 2 for size in wide]
    blocks = cells.view(-1, *(size for count, edge in zip(grid, edges, strict=True) for size in (count + 1, edge)))
    for corner in itertools.product((0, 1), repeat=3):
        under, eighth = blocks, tokens
        for axis, (side, count, edge) in enumerate(zip(corner, grid, edges, strict=True)):
            under = under.narrow(1 + 2 * axis, side, count)
            eighth = eighth.narrow(4 + axis, side * edge, edge)
        yield under, eighth.permute(0, 1, 4, 2, 5, 3, 6)
