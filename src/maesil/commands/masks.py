"""`maesil masks`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maesil.commands.parsing import console, parse
from maesil.shapes import Shape3


@dataclass(frozen=True)
class Masks:
    """Draw the masking strategies: every plane of one superpatch's grid, visible and hidden tokens.

    Examples:
      maesil masks --out masks.png
      maesil masks --out masks.svg --grid 8 8 8 --seed 3
    """

    out: Path
    """The picture: .png, .svg or .pdf."""
    grid: Shape3 = (16, 16, 16)
    """Patches along S, P, L."""
    seed: int = 0
    """Of the draw."""


def main(words: Sequence[str]) -> int:
    """Draws and says where the picture is."""
    call = parse(Masks, "masks", words)
    from maesil import pipeline

    pipeline.masks(call.out, call.grid, call.seed)
    console().print(str(call.out))
    return 0
