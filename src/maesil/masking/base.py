"""The interface of a masking strategy (§III-A)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from maesil.errors import ConfigError
from maesil.grid import PatchGrid
from maesil.shapes import Shape3


class Masking(ABC):
    """A way to hide tokens. Subclasses are frozen dataclasses: the strategy is its own configuration.

    A strategy keeps these promises, and `tests/contracts/test_masking.py` checks them for all:

    * True = masked.
    * Every row of a batch has exactly `visible_count(grid)` visible tokens, at least one.
    * A draw is a function of the generator's state alone, made on the generator's device, without a host sync.
    * `ratio` is the share of masked tokens that the strategy aims at; counts are rounded to whole tokens.
    * In one mask of a whole scan, all superpatches that start at multiples of `strides(grid)` have the same number of
      visible tokens, at least one.
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

    def _draw_scan(self, patches: Shape3, grid: PatchGrid, generator: torch.Generator) -> Bool[Tensor, "gd gh gw"]:
        """One superpatch's mask, shifted at random and repeated: every superpatch then sees all of its tokens.

        Strategies whose shares hold in parts of a superpatch draw these parts separately, without repetition.
        """
        shifts = [int(torch.randint(size, (1,), generator=generator, device=generator.device)) for size in grid.shape]
        mask = self._draw(1, grid, generator).view(grid.shape).roll(shifts, (0, 1, 2))
        for axis, (count, size) in enumerate(zip(patches, grid.shape, strict=True)):
            mask = mask.index_select(axis, torch.arange(count, device=mask.device) % size)
        return mask

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

    def draw_scan(self, patches: Shape3, grid: PatchGrid, generator: torch.Generator) -> Bool[Tensor, "gd gh gw"]:
        """Draws one mask for all patches of a scan, so that overlapping superpatches agree on what is visible.

        Superpatches start at multiples of `strides(grid)` patches. In each, the strategy hides what it hides in a
        superpatch of its own, with two differences: shares hold in every box of `strides(grid)` patches, not only in
        the whole superpatch, and a block of hidden planes may leave a superpatch at one end and return at the other.

        Args:
            patches: Number of patches of the scan along (S, P, L): multiples of `strides(grid)`, at least a superpatch.
            grid: Grid of a superpatch.
            generator: Source of randomness; the mask is made on its device.

        Returns:
            The mask of the scan's patches, True = masked.

        Raises:
            ConfigError: The patches are not whole strides, or the strategy leaves no visible or no masked token in a
                superpatch.
        """
        if any(n % step or n < least for n, step, least in zip(patches, strides(grid), grid.shape, strict=True)):
            raise ConfigError(f"a scan of {patches} patches is not made of superpatches of {grid.shape}")
        mask = self._draw_scan(patches, grid, generator)
        depth, height, width = grid.shape
        hidden = int(mask[:depth, :height, :width].sum())
        if not 0 < hidden < grid.tokens:
            raise ConfigError(
                f"{self.name} masking of a whole scan hides {hidden} of {grid.tokens} tokens of a superpatch",
                fix="choose ratios that leave a visible and a masked token in every eighth of a superpatch",
            )
        return mask


def strides(grid: PatchGrid) -> Shape3:
    """Patches between neighbouring superpatches of a scan with one mask: half a superpatch.

    An axis of fewer than four patches, or of an odd number, is not halved.
    """
    depth, height, width = (size // 2 if size % 2 == 0 and size >= 4 else size for size in grid.shape)
    return (depth, height, width)


def choose_in_boxes(scores: Float[Tensor, "gd gh gw"], box: Shape3, count: int) -> Bool[Tensor, "gd gh gw"]:
    """Marks the `count` smallest scores of every box.

    Args:
        scores: A score per patch; its shape is a multiple of the box.
        box: Patches of a box.
        count: Number of marks in each box.
    """
    depth, height, width = box
    boxes = rearrange(scores, "(a d) (b h) (c w) -> a b c (d h w)", d=depth, h=height, w=width)
    marked = choose(boxes, count)
    a, b, c = boxes.shape[:3]
    return rearrange(marked, "a b c (d h w) -> (a d) (b h) (c w)", a=a, b=b, c=c, d=depth, h=height, w=width)


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


def periodic_planes(planes: int, period: int, count: int, generator: torch.Generator) -> Bool[Tensor, " gd"]:
    """Marks contiguous blocks of `count` planes that repeat with a period, every phase equally likely.

    Any `period` neighbouring planes have `count` marks.
    """
    device = generator.device
    phase = torch.randint(period, (1,), generator=generator, device=device)
    return (torch.arange(planes, device=device) + phase) % period < count


def check_ratio(name: str, value: float) -> None:
    """Raises ConfigError unless 0 < value < 1."""
    if not 0.0 < value < 1.0:
        raise ConfigError(f"{name} is {value}", fix="choose a ratio strictly between 0 and 1")
