"""Predictions that overlap, so that patches leave no seams (`MAEConfig(head="overlap")`).

A token predicts every voxel of its patch, as without overlap. Its prediction goes on for half a patch beyond each face
as its mirror image, fades out there under a window, and is added to its neighbours'. A voxel near a face is therefore a
mean over the tokens around it, weighted by distance as in trilinear interpolation. Two tokens that predict constants
join in a ramp instead of a step; as no two mixtures of tokens agree, every volume can still be predicted, at full
resolution.

Only masked tokens emit. Windows are divided by their sum, so they add up to one at the border of the superpatch and
beside visible patches, too. Visible voxels are known, and a seam to them would not be the prediction's; for visible
tokens to emit, the decoder's last block and head would have to compute a third more tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from maesil.errors import ConfigError
from maesil.grid import PatchGrid
from maesil.shapes import Shape3, product


class Layout(NamedTuple):
    """Sizes of the grid and of an octant of a patch.

    Attributes:
        shape: Shape (gd, gh, gw) of the grid.
        octant: Half of the patch's voxels along each axis.
    """

    shape: Shape3
    octant: Shape3


@final
class Overlap(nn.Module):
    """Blends the predictions of neighbouring masked tokens; it has no parameters.

    Predictions are in octant order: voxels are row-major over (half of the patch along S, along P, along L; distance
    from the faces of these halves along S, P, L). Voxels that a face mirrors have the same distance, so blending is
    arithmetic of contiguous blocks.

    Args:
        grid: Grid of the patches; their edges are even.

    Raises:
        ConfigError: An edge of the patch is odd.
    """

    shares: Tensor
    order: Tensor
    inverse: Tensor

    def __init__(self, grid: PatchGrid) -> None:
        super().__init__()
        check_edges(grid.patch)
        self.layout = Layout(grid.shape, (grid.patch[0] // 2, grid.patch[1] // 2, grid.patch[2] // 2))
        order = octant_order(grid.patch)
        self.register_buffer("shares", neighbour_shares(grid.patch), persistent=False)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", order.argsort(), persistent=False)

    def forward(self, predicted: Float[Tensor, "b m p"], masked: Int[Tensor, "b m"]) -> Float[Tensor, "b m p"]:
        """Blends the predictions of masked tokens, in octant order.

        Args:
            predicted: Predicted voxels of the masked tokens.
            masked: Indices of these tokens.
        """
        shares = self.shares.to(predicted.dtype)
        blended: Tensor = WindowedMean.apply(predicted, masked, shares, self.layout)  # type: ignore[no-untyped-call]
        return blended

    def to_octants(self, patches: Float[Tensor, "b t p"]) -> Float[Tensor, "b t p"]:
        """Reorders the voxels of patches from `PatchGrid`'s order to octants."""
        return patches[..., self.order]

    def from_octants(self, patches: Float[Tensor, "b t p"]) -> Float[Tensor, "b t p"]:
        """Reorders the voxels of patches from octants to `PatchGrid`'s order."""
        return patches[..., self.inverse]


def check_edges(patch: Shape3) -> None:
    """Raises a `ConfigError` if a patch cannot be divided into halves."""
    if any(edge % 2 for edge in patch):
        raise ConfigError(
            f"patches of {'x'.join(map(str, patch))} voxels have no halves to overlap",
            fix="even edges of --model.patch, or --model.head patch",
        )


def octant_order(patch: Shape3) -> Int[Tensor, " p"]:
    """Index of the voxel, in row-major order, at each place of the octant order."""
    index = torch.arange(product(patch)).view(patch)
    for axis in range(3):
        near, far = index.chunk(2, dim=2 * axis)
        index = torch.stack((near, far.flip(2 * axis)), dim=2 * axis)
    return index.permute(0, 2, 4, 1, 3, 5).flatten()


def neighbour_shares(patch: Shape3) -> Float[Tensor, "3 q"]:
    """Weight of the token across a face, for each axis and every voxel of an octant; its own token has the rest."""
    distances = [(torch.arange(edge // 2) + 0.5) / edge for edge in patch]
    return 0.5 - torch.stack(torch.meshgrid(*distances, indexing="ij")).flatten(1)


class WindowedMean(torch.autograd.Function):
    """Means of masked tokens and their mirror images, weighted by windows.

    The windowed sum is a symmetric map, so it computes the gradient, too.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, masked: Tensor, shares: Tensor, layout: Layout) -> Tensor:
        """(b, m, p), (b, m) to (b, m, p)."""
        sums = in_turns(partial(window_sums, shares=shares, layout=layout), masked)
        ctx.save_for_backward(masked, shares, sums)
        ctx.layout = layout
        return in_turns(partial(blend, shares=shares, layout=layout), tokens, masked).div_(sums)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of `tokens`."""
        masked, shares, sums = ctx.saved_tensors
        of_tokens = in_turns(partial(blend, shares=shares, layout=ctx.layout), gradient / sums, masked)
        return of_tokens, None, None, None


def in_turns(function: Callable[..., Tensor], *batches: Tensor) -> Tensor:
    """Applies a function superpatch by superpatch on a CPU, whose cache holds one of them; elsewhere to the batch."""
    if batches[0].device.type != "cpu":
        return function(*batches)
    rows = zip(*(batch.unsqueeze(1) for batch in batches), strict=True)
    return torch.cat([function(*row) for row in rows])


def window_sums(masked: Int[Tensor, "b m"], *, shares: Float[Tensor, "3 q"], layout: Layout) -> Float[Tensor, "b m p"]:
    """Sums of the windows of all masked tokens, at the voxels of each of them."""
    places, tokens = grid_places(masked, layout.shape)
    emits = shares.new_zeros(tokens, 1).index_fill_(0, places, 1.0)
    sums = emits.expand(-1, 8).reshape(len(masked), *layout.shape, 2, 2, 2, 1)
    for axis, share in enumerate(shares):
        # Along the axes still to come the sum is constant, so one voxel stands for all.
        along = share[:: math.prod(layout.octant[axis + 1 :])]
        sums = sums.repeat_interleave(len(along) // sums.shape[-1], dim=-1)
        blend_axis(sums, axis, along)
    return sums.view(tokens, -1).index_select(0, places).view(*masked.shape, 8 * shares.shape[1])


def blend(
    tokens: Float[Tensor, "b m p"], masked: Int[Tensor, "b m"], *, shares: Float[Tensor, "3 q"], layout: Layout
) -> Float[Tensor, "b m p"]:
    """Windowed sums of masked tokens and of their mirror images, at the voxels of each of them."""
    places, count = grid_places(masked, layout.shape)
    grids = tokens.new_zeros(count, tokens.shape[-1]).index_copy_(0, places, tokens.flatten(0, 1))
    octants = grids.view(len(masked), *layout.shape, 2, 2, 2, -1)
    for axis, share in enumerate(shares):
        blend_axis(octants, axis, share)
    return grids.index_select(0, places).view_as(tokens)


def grid_places(masked: Int[Tensor, "b m"], grid: Shape3) -> tuple[Int[Tensor, " r"], int]:
    """Places of masked tokens in the batch's grids, one after the other, and the number of places."""
    tokens = product(grid)
    firsts = tokens * torch.arange(len(masked), device=masked.device)
    return (masked + firsts.unsqueeze(1)).flatten(), tokens * len(masked)


def blend_axis(octants: Float[Tensor, "b gd gh gw 2 2 2 q"], axis: int, share: Float[Tensor, " q"]) -> None:
    """Moves each voxel near a face towards its mirror image beyond the face, along one axis, in place."""
    faces = octants.shape[1 + axis] - 1
    before = octants.narrow(1 + axis, 0, faces).select(4 + axis, 1)
    after = octants.narrow(1 + axis, 1, faces).select(4 + axis, 0)
    moved = (after - before).mul_(share)
    before += moved
    after -= moved
