"""The command `masks`: a figure of the masking strategies."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from maesil.files import AnyPath, require_output, require_own
from maesil.grid import PatchGrid
from maesil.masking import MASKINGS
from maesil.report.figures import is_figure_of, save_figure
from maesil.report.gallery import mask_gallery
from maesil.shapes import Shape3

MADE_BY = "maesil masks"


def masks(out: AnyPath, grid: Shape3 = (16, 16, 16), seed: int = 0) -> None:
    """Plots one mask of every strategy, plane by plane.

    Args:
        out: The image file: .png, .svg or .pdf.
        grid: Number of patches along (S, P, L).
        seed: Seed of the masks.

    Raises:
        ConfigError: The suffix is another one, the file cannot be written, or it is there and `maesil masks` did not
            write it.
    """
    out = require_own(require_output(Path(out)), partial(is_figure_of, MADE_BY), "masks")
    patches = PatchGrid(grid, (1, 1, 1))
    drawn = {}
    for name, kind in MASKINGS.items():
        masking = kind()
        mask = masking.draw(1, patches, torch.Generator().manual_seed(seed))
        drawn[f"{name}: {masking.ratio:.1%} masked"] = mask[0].view(grid).numpy()
    save_figure(mask_gallery(drawn), out, made_by=MADE_BY)
