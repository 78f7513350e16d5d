"""Augmentation on the device, drawn from an explicit generator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def random_flips(
    superpatch: Float[Tensor, "b c d h w"], axes: Sequence[int], generators: Sequence[torch.Generator]
) -> Float[Tensor, "b c d h w"]:
    """Flips every superpatch along each axis with probability one half.

    Args:
        superpatch: Batch of superpatches.
        axes: Axes to flip: 0 = S, 1 = P, 2 = L.
        generators: Sources of randomness, one for each superpatch, on its device.
    """
    coins = torch.stack([torch.rand(3, generator=one, device=one.device) < 0.5 for one in generators])
    for axis in axes:
        superpatch = torch.where(coins[:, axis, None, None, None, None], superpatch.flip(axis + 2), superpatch)
    return superpatch


def draw_generators(device: torch.device, seed: int, numbers: Sequence[int]) -> list[torch.Generator]:
    """One generator per draw, so that a superpatch's random numbers do not depend on the rest of its batch.

    A batch that is split over several devices is thus masked and flipped as it would be on one.
    """
    return [draw_generator(device, seed, number) for number in numbers]


def draw_generator(device: torch.device, seed: int, number: int) -> torch.Generator:
    """A generator whose stream is a function of (seed, draw number).

    Args:
        device: Device on which random numbers are needed.
        seed: Seed of the run.
        number: Draw number, counted over the whole run.
    """
    mixed = _mix(_mix(seed & _MASK) ^ (number & _MASK))
    return torch.Generator(device).manual_seed(mixed >> 1)


_MASK = (1 << 64) - 1


def _mix(value: int) -> int:
    """One round of SplitMix64: neighbouring inputs give unrelated streams."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
