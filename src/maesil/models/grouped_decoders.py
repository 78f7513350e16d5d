"""Decoders whose tokens attend within groups, instead of to all tokens of a superpatch.

All tokens go through all blocks, as with `decoder="self"`, but a block splits them into groups, and its tokens attend
to their own group only. The groups of successive blocks cross, so that information still reaches every token. Scores
grow with tokens times the size of a group, instead of with the square of tokens.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import final

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from maesil.errors import ConfigError
from maesil.grid import PatchGrid
from maesil.models.transformer import Attended, PatchDecoder, gather_tokens
from maesil.shapes import Shape3

WINDOW_EDGE = 4
"""Largest edge of a window in a plane, in tokens."""
Mixer = Callable[[Float[Tensor, "rows t k"]], Float[Tensor, "rows t k"]]
"""A block that treats rows separately."""


class GroupedDecoder(PatchDecoder):
    """A decoder whose blocks treat groups of tokens separately; subclasses say which."""

    @staticmethod
    @abstractmethod
    def mix(tokens: Float[Tensor, "b n k"], block: Mixer, shape: Shape3, number: int) -> Float[Tensor, "b n k"]:
        """Applies a block to its groups.

        Args:
            tokens: All tokens.
            block: The block.
            shape: Shape (gd, gh, gw) of the grid.
            number: Number of the block, from 0.
        """

    def forward(
        self,
        latent: Float[Tensor, "b v e"],
        visible: Int[Tensor, "b v"],
        wanted: Int[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t k"]:
        """Decodes all tokens, and returns the wanted ones."""
        sequence = self.fill_sequence(latent, visible)
        for number, block in enumerate(self.blocks):
            sequence = self.mix(sequence, block, self.positions.shape, number)
        return sequence if wanted is None else gather_tokens(sequence, wanted)


@final
class AxialDecoder(GroupedDecoder):
    """Attention within each plane, then along S, in turns: 256 + 16 scores per token of 16x16x16 for two blocks.

    A token in a hidden plane learns in the second block what the first one gathered in the visible planes.
    """

    @staticmethod
    def check(depth: int, grid: PatchGrid) -> None:
        """Refuses a single block, in which hidden planes would see nothing."""
        check_depth("axial", depth)

    @staticmethod
    def attended(depth: int, grid: PatchGrid, visible: int, rebuilt: int) -> list[Attended]:
        """Every block returns all tokens; they attend to their plane, or to their column."""
        groups = (grid.tokens_per_plane, grid.planes)
        return [Attended(grid.tokens, grid.tokens, groups[number % 2]) for number in range(depth)]

    @staticmethod
    def mix(tokens: Float[Tensor, "b n k"], block: Mixer, shape: Shape3, number: int) -> Float[Tensor, "b n k"]:
        """Planes in even blocks, columns along S in odd ones."""
        return (mix_columns if number % 2 else mix_planes)(tokens, block, shape)


@final
class WindowDecoder(GroupedDecoder):
    """Attention within windows of 4 x 4 tokens of a plane through all planes, shifted by half in every second block.

    Windows reach through all planes because a hidden block of planes is as thick as half of the superpatch: a cube in
    it would see nothing visible. Shifted windows wrap around the edges of the grid; positions tell their parts apart.
    """

    @staticmethod
    def check(depth: int, grid: PatchGrid) -> None:
        """Refuses a single block, in which windows would not exchange anything, and grids without windows."""
        check_depth("windows", depth)
        window_edges(grid.shape)

    @staticmethod
    def attended(depth: int, grid: PatchGrid, visible: int, rebuilt: int) -> list[Attended]:
        """Every block returns all tokens; they attend to their window."""
        high, wide = window_edges(grid.shape)
        return [Attended(grid.tokens, grid.tokens, grid.planes * high * wide)] * depth

    @staticmethod
    def mix(tokens: Float[Tensor, "b n k"], block: Mixer, shape: Shape3, number: int) -> Float[Tensor, "b n k"]:
        """Windows, shifted in odd blocks."""
        return mix_windows(tokens, block, shape, shifted=number % 2 == 1)


def mix_planes(tokens: Float[Tensor, "b n k"], mix: Mixer, shape: Shape3) -> Float[Tensor, "b n k"]:
    """Applies a block to the planes of a grid of tokens."""
    planes = rearrange(tokens, "b (gd t) k -> (b gd) t k", gd=shape[0])
    mixed: Tensor = rearrange(mix(planes), "(b gd) t k -> b (gd t) k", gd=shape[0])
    return mixed


def mix_columns(tokens: Float[Tensor, "b n k"], mix: Mixer, shape: Shape3) -> Float[Tensor, "b n k"]:
    """Applies a block to the columns along S of a grid of tokens."""
    columns = rearrange(tokens, "b (gd t) k -> (b t) gd k", gd=shape[0])
    mixed: Tensor = rearrange(mix(columns), "(b t) gd k -> b (gd t) k", b=len(tokens))
    return mixed


def mix_windows(tokens: Float[Tensor, "b n k"], mix: Mixer, shape: Shape3, *, shifted: bool) -> Float[Tensor, "b n k"]:
    """Applies a block to the windows of a grid of tokens, shifted by half of their edges or not."""
    (gd, gh, gw), (high, wide) = shape, window_edges(shape)
    shift = (high // 2, wide // 2) if shifted else (0, 0)
    sizes = {"gd": gd, "gh": gh // high, "gw": gw // wide, "high": high, "wide": wide}
    grid = tokens.view(len(tokens), gd, gh, gw, -1)
    if shifted:
        grid = torch.roll(grid, (-shift[0], -shift[1]), dims=(2, 3))
    windows = rearrange(grid, "b gd (gh high) (gw wide) k -> (b gh gw) (gd high wide) k", **sizes)
    mixed = rearrange(mix(windows), "(b gh gw) (gd high wide) k -> b gd (gh high) (gw wide) k", **sizes)
    if shifted:
        mixed = torch.roll(mixed, shift, dims=(2, 3))
    joined: Tensor = mixed.flatten(1, 3)
    return joined


def window_edges(shape: Shape3) -> tuple[int, int]:
    """Edges of the windows in the planes of a grid: the largest up to `WINDOW_EDGE` that divide it.

    Raises:
        ConfigError: A plane has an edge of tokens that only 1 divides.
    """
    edges = tuple(max(edge for edge in range(1, WINDOW_EDGE + 1) if size % edge == 0) for size in shape[1:])
    if any(edge == 1 and size > 1 for edge, size in zip(edges, shape[1:], strict=True)):
        raise ConfigError(
            f"windows of 2 to {WINDOW_EDGE} tokens do not divide planes of {shape[1]}x{shape[2]} tokens",
            fix="another --model.superpatch, or --model.decoder axial",
        )
    return edges[0], edges[1]


def check_depth(name: str, depth: int) -> None:
    """Raises a `ConfigError` if a decoder whose groups cross from block to block has a single block."""
    if depth < 2:
        raise ConfigError(
            f"the decoder '{name}' needs at least two blocks, as its groups cross from block to block",
            fix="--model.decoder-depth 2, or --model.decoder self",
        )
