"""Uniform masking, as in the original MAE: planes play no role."""

from __future__ import annotations

from typing import Literal, final

import torch
from jaxtyping import Bool
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from maesil.grid import PatchGrid
from maesil.masking.base import Masking, check_ratio, choose, choose_in_boxes, strides, uniform_scores
from maesil.shapes import Shape3, product


@final
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class UniformMasking(Masking):
    """Hides a share of all tokens, each equally likely.

    Args:
        mask_ratio: Share of the superpatch's tokens to hide.
    """

    mask_ratio: float = 0.75
    name: Literal["uniform"] = "uniform"

    def __post_init__(self) -> None:
        check_ratio("mask_ratio", self.mask_ratio)

    @property
    def ratio(self) -> float:
        """Share of masked tokens."""
        return self.mask_ratio

    def masked_count(self, grid: PatchGrid) -> int:
        """Number of masked tokens per superpatch."""
        return round(self.mask_ratio * grid.tokens)

    def _draw(self, batch: int, grid: PatchGrid, generator: torch.Generator) -> Bool[Tensor, "b n"]:
        return choose(uniform_scores(batch, grid.tokens, generator=generator), self.masked_count(grid))

    def _draw_scan(self, patches: Shape3, grid: PatchGrid, generator: torch.Generator) -> Bool[Tensor, "gd gh gw"]:
        box = strides(grid)
        return choose_in_boxes(
            uniform_scores(*patches, generator=generator), box, round(self.mask_ratio * product(box))
        )
