"""`maesil masks`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maesil.commands.parsing import parse
from maesil.shapes import Shape3


@dataclass(frozen=True)
class Masks:
    """Plot the masking strategies: visible and hidden tokens in every plane of one superpatch's grid.

    Examples:
      maesil masks --out masks.png
      maesil masks --out masks.svg --grid 8 8 8 --seed 3
    """

    out: Path
    """The image file: .png, .svg or .pdf."""
    grid: Shape3 = (16, 16, 16)
    """Number of patches along S, P, L."""
    seed: int = 0
    """Seed of the masks."""


def main(words: Sequence[str]) -> int:
    """Plots the masks and prints the image's path."""
    call = parse(Masks, "masks", words)
    from maesil import pipeline

    pipeline.masks(call.out, call.grid, call.seed)
    print(call.out)  # noqa: T201 (the result, on standard output)
    return 0
