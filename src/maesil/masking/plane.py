"""Plane-wise masking: the same share of patches in every axial plane (§III-A, "First")."""

from __future__ import annotations

from typing import Literal, final

import torch
from jaxtyping import Bool
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from maesil.grid import PatchGrid
from maesil.masking.base import Masking, check_ratio, choose, choose_in_boxes, strides, uniform_scores
from maesil.shapes import Shape3


@final
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PlaneMasking(Masking):
    """Hides the same share of the tokens of every axial plane, drawn separately for each plane.

    Args:
        plane_ratio: Share of each plane's tokens to hide; the paper's 75 %.
    """

    plane_ratio: float = 0.75
    name: Literal["plane"] = "plane"

    def __post_init__(self) -> None:
        check_ratio("plane_ratio", self.plane_ratio)

    @property
    def ratio(self) -> float:
        """Share of masked tokens."""
        return self.plane_ratio

    def masked_count(self, grid: PatchGrid) -> int:
        """Number of masked tokens per superpatch."""
        return grid.planes * round(self.plane_ratio * grid.tokens_per_plane)

    def _draw(self, batch: int, grid: PatchGrid, generator: torch.Generator) -> Bool[Tensor, "b n"]:
        scores = uniform_scores(batch, grid.planes, grid.tokens_per_plane, generator=generator)
        return choose(scores, round(self.plane_ratio * grid.tokens_per_plane)).flatten(1)

    def _draw_scan(self, patches: Shape3, grid: PatchGrid, generator: torch.Generator) -> Bool[Tensor, "gd gh gw"]:
        _, height, width = strides(grid)
        scores = uniform_scores(*patches, generator=generator)
        return choose_in_boxes(scores, (1, height, width), round(self.plane_ratio * height * width))
