"""Shared-plane masking: one set of in-plane positions for all planes, thinned separately in each (arXiv:2604.01612)."""

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
class SharedPlaneMasking(Masking):
    """Keeps the same in-plane positions in every plane, and hides a share of these in each plane at random.

    The dual masking of the method's sibling NEMESIS (arXiv:2604.01612) as its published code draws it: columns of
    tokens along Superior-Inferior are hidden entirely, but no plane is. The share of visible tokens is
    (1 - plane_ratio)^2.

    Args:
        plane_ratio: Share of the in-plane positions to hide in all planes, and of what is left to hide in each; the
            sibling's 50 %, which leaves 25 % visible (1,024 of 4,096 tokens).
    """

    plane_ratio: float = 0.5
    name: Literal["shared_plane"] = "shared_plane"

    def __post_init__(self) -> None:
        check_ratio("plane_ratio", self.plane_ratio)

    @property
    def ratio(self) -> float:
        """Share of masked tokens: 1 - (1 - plane_ratio)^2."""
        return 1.0 - (1.0 - self.plane_ratio) ** 2

    def masked_count(self, grid: PatchGrid) -> int:
        """Number of masked tokens per superpatch."""
        kept, hidden = self._counts(grid.tokens_per_plane)
        return grid.tokens - grid.planes * (kept - hidden)

    def _counts(self, positions: int) -> tuple[int, int]:
        """Number of in-plane positions kept for all planes, and number of these that each plane hides."""
        kept = round((1.0 - self.plane_ratio) * positions)
        return kept, round(self.plane_ratio * kept)

    def _draw(self, batch: int, grid: PatchGrid, generator: torch.Generator) -> Bool[Tensor, "b n"]:
        kept, hidden = self._counts(grid.tokens_per_plane)
        shared = choose(uniform_scores(batch, grid.tokens_per_plane, generator=generator), kept)
        scores = uniform_scores(batch, grid.planes, grid.tokens_per_plane, generator=generator)
        visible = choose(scores.masked_fill(~shared[:, None], torch.inf), kept - hidden)
        return ~visible.flatten(1)

    def _draw_scan(self, patches: Shape3, grid: PatchGrid, generator: torch.Generator) -> Bool[Tensor, "gd gh gw"]:
        _, height, width = strides(grid)
        box = (1, height, width)
        kept, hidden = self._counts(height * width)
        shared = choose_in_boxes(uniform_scores(1, *patches[1:], generator=generator), box, kept)
        scores = uniform_scores(*patches, generator=generator).masked_fill(~shared, torch.inf)
        return ~choose_in_boxes(scores, box, kept - hidden)
