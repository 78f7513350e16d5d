"""Axis-wise masking: a contiguous block of planes along Superior-Inferior (§III-A, "Second")."""

from __future__ import annotations

from typing import Literal, final

import torch
from jaxtyping import Bool
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from maesil.grid import PatchGrid
from maesil.masking.base import Masking, check_ratio, contiguous_planes


@final
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class AxisMasking(Masking):
    """Hides a contiguous block of whole axial planes.

    Args:
        axis_ratio: Share of the planes along Superior-Inferior to hide; the paper's 50 %.
    """

    axis_ratio: float = 0.5
    name: Literal["axis"] = "axis"

    def __post_init__(self) -> None:
        check_ratio("axis_ratio", self.axis_ratio)

    @property
    def ratio(self) -> float:
        """Share of masked tokens."""
        return self.axis_ratio

    def masked_count(self, grid: PatchGrid) -> int:
        """Number of masked tokens per superpatch."""
        return round(self.axis_ratio * grid.planes) * grid.tokens_per_plane

    def _draw(self, batch: int, grid: PatchGrid, generator: torch.Generator) -> Bool[Tensor, "b n"]:
        block = contiguous_planes(batch, grid.planes, round(self.axis_ratio * grid.planes), generator)
        return block.repeat_interleave(grid.tokens_per_plane, dim=1)
