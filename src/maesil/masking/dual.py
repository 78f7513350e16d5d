"""Dual masking: an axis-wise block, then a plane-wise share of what remains (§III-A)."""

from __future__ import annotations

from typing import Literal, final

import torch
from jaxtyping import Bool
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from maesil.grid import PatchGrid
from maesil.masking.base import (
    Masking,
    check_ratio,
    choose,
    choose_in_boxes,
    contiguous_planes,
    periodic_planes,
    strides,
    uniform_scores,
)
from maesil.shapes import Shape3


@final
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class DualMasking(Masking):
    """Hides a contiguous block of whole planes, and a share of the tokens in each plane outside it.

    The paper states a plane-wise 75 %, an axis-wise 50 % and a total of 75 %, which cannot all hold:
    their union is 1 - 0.5 * 0.25 = 87.5 %. The default keeps the total of 75 % (1,024 of 4,096 tokens
    visible); ``DualMasking(plane_ratio=0.75)`` is the literal union (512 visible).

    Args:
        plane_ratio: Share of the tokens to hide in each plane outside the block.
        axis_ratio: Share of the planes in the block.
    """

    plane_ratio: float = 0.5
    axis_ratio: float = 0.5
    name: Literal["dual"] = "dual"

    def __post_init__(self) -> None:
        check_ratio("plane_ratio", self.plane_ratio)
        check_ratio("axis_ratio", self.axis_ratio)

    @property
    def ratio(self) -> float:
        """Share of masked tokens: 1 - (1 - axis_ratio) * (1 - plane_ratio)."""
        return 1.0 - (1.0 - self.axis_ratio) * (1.0 - self.plane_ratio)

    def masked_count(self, grid: PatchGrid) -> int:
        """Number of masked tokens per superpatch."""
        block = round(self.axis_ratio * grid.planes)
        masked_per_plane = round(self.plane_ratio * grid.tokens_per_plane)
        return block * grid.tokens_per_plane + (grid.planes - block) * masked_per_plane

    def _draw(self, batch: int, grid: PatchGrid, generator: torch.Generator) -> Bool[Tensor, "b n"]:
        block = contiguous_planes(batch, grid.planes, round(self.axis_ratio * grid.planes), generator)
        scores = uniform_scores(batch, grid.planes, grid.tokens_per_plane, generator=generator)
        in_plane = choose(scores, round(self.plane_ratio * grid.tokens_per_plane))
        return (block.unsqueeze(-1) | in_plane).flatten(1)

    def _draw_scan(self, patches: Shape3, grid: PatchGrid, generator: torch.Generator) -> Bool[Tensor, "gd gh gw"]:
        _, height, width = strides(grid)
        block = periodic_planes(patches[0], grid.planes, round(self.axis_ratio * grid.planes), generator)
        scores = uniform_scores(*patches, generator=generator)
        in_plane = choose_in_boxes(scores, (1, height, width), round(self.plane_ratio * height * width))
        return block[:, None, None] | in_plane
