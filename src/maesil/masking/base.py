"""The interface of a masking strategy (§III-A)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maesil.errors import ConfigError
from maesil.grid import PatchGrid


class Masking(ABC):
    """A way to hide tokens. Subclasses are frozen dataclasses: the strategy is its own configuration.

    A strategy keeps these promises, and `tests/contracts/test_masking.py` checks them for all:

    * True = masked.
    * Every row of a batch has exactly `visible_count(grid)` visible tokens, at least one.
    * A draw is a function of the generator's state alone, made on the generator's device, without a host sync.
    * `ratio` is the share of masked tokens that the strategy aims at; counts are rounded to whole tokens.
    """

    name: str

    @property
    @abstractmethod
    def ratio(self) -> float:
        """Share of masked tokens, before rounding to whole tokens and planes."""

    @abstractmethod
    def masked_count(self, grid: PatchGrid) -> int:
        """Number of masked tokens per superpatch, the same for every draw."""

    @abstractmethod
    def _draw(self, batch: int, grid: PatchGrid, generator: torch.Generator) -> Bool[Tensor, "b n"]: ...

    def visible_count(self, grid: PatchGrid) -> int:
        """Number of visible tokens per superpatch, the same for every draw."""
        return grid.tokens - self.masked_count(grid)

    def draw(self, batch: int, grid: PatchGrid, generator: torch.Generator) -> Bool[Tensor, "b n"]:
        """Draws one mask per row of a batch.

        Args:
            batch: Number of rows to draw.
            grid: Grid of the superpatch; tokens are in its row-major order.
            generator: Source of randomness; the mask is made on its device.

        Returns:
            Masks of shape (b, n), True = masked.

        Raises:
            ConfigError: The strategy leaves no visible or no masked token on this grid.
        """
        masked = self.masked_count(grid)
        if not 0 < masked < grid.tokens:
            raise ConfigError(
                f"{self.name} masking hides {masked} of {grid.tokens} tokens on a grid of {grid.shape}",
                fix="choose ratios that leave at least one visible and one masked token",
            )
        return self._draw(batch, grid, generator)


def choose(scores: Float[Tensor, "*rows n"], count: int) -> Bool[Tensor, "*rows n"]:
    """Marks the `count` smallest scores of every row: a uniform choice without replacement for random scores."""
    chosen = scores.argsort(dim=-1)[..., :count]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, chosen, True)


def uniform_scores(*shape: int, generator: torch.Generator) -> Float[Tensor, "*shape"]:
    """Uniform random numbers on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device)


def contiguous_planes(batch: int, planes: int, count: int, generator: torch.Generator) -> Bool[Tensor, "b gd"]:
    """Marks one contiguous block of `count` planes per row, every position equally likely, no wrap-around."""
    device = generator.device
    start = torch.randint(planes - count + 1, (batch, 1), generator=generator, device=device)
    plane = torch.arange(planes, device=device)
    return (plane >= start) & (plane < start + count)


def check_ratio(name: str, value: float) -> None:
    """Raises ConfigError unless 0 < value < 1."""
    if not 0.0 < value < 1.0:
        raise ConfigError(f"{name} is {value}", fix="choose a ratio strictly between 0 and 1")
