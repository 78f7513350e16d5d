"""Three-letter codes for the directions of an array's axes, and how to convert between them."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from jaxtyping import Float64

from maesil.errors import ConfigError
from maesil.shapes import Shape3

CANONICAL = "SPL"
"""Array axis 0 grows to Superior, 1 to Posterior, 2 to Left: SimpleITK's array order of an LPS image."""

_POSITIVE, _NEGATIVE = "LPS", "RAI"


def letters_of(direction: Float64[np.ndarray, "3 3"]) -> str:
    """Letter a is the direction in which array axis a increases, such as "SPL".

    Args:
        direction: Column a is the LPS unit vector of array axis a. Oblique axes get the letters of the nearest
            patient axes, each used once.
    """
    return "".join((_POSITIVE if sign > 0 else _NEGATIVE)[axis] for axis, sign in _nearest_axes(direction))


def axes_to(direction: Float64[np.ndarray, "3 3"], orientation: str) -> tuple[Shape3, tuple[bool, bool, bool]]:
    """How to reach an orientation: new axis j is old axis `permutation[j]`, reversed where `flips[j]`.

    Raises:
        ConfigError: `orientation` is not one of the 48 triples such as "SPL".
    """
    nearest = _nearest_axes(direction)
    order, flips = [], []
    for axis, sign in _parsed(orientation):
        old = next(a for a, (world, _) in enumerate(nearest) if world == axis)
        order.append(old)
        flips.append(nearest[old][1] != sign)
    return (order[0], order[1], order[2]), (flips[0], flips[1], flips[2])


def _nearest_axes(direction: Float64[np.ndarray, "3 3"]) -> list[tuple[int, int]]:
    """For each array axis, the LPS axis that it follows most closely (each used once) and the sign along it."""

    def closeness(order: tuple[int, ...]) -> float:
        return float(sum(abs(direction[world, axis]) for axis, world in enumerate(order)))

    order = max(permutations(range(3)), key=closeness)
    return [(world, 1 if direction[world, axis] > 0 else -1) for axis, world in enumerate(order)]


def _parsed(orientation: str) -> list[tuple[int, int]]:
    axes = [_axis_of(letter) for letter in orientation.upper()]
    if sorted(axis for axis, _ in axes) != [0, 1, 2]:
        raise ConfigError(
            f"'{orientation}' is not an orientation",
            fix="give one letter per array axis, one each of S/I, P/A and L/R, such as SPL",
        )
    return axes


def _axis_of(letter: str) -> tuple[int, int]:
    if letter in _POSITIVE:
        return _POSITIVE.index(letter), 1
    return _NEGATIVE.find(letter), -1
