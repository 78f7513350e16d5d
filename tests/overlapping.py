"""A grid, a small model and sets of tokens for heads whose predictions overlap."""

from __future__ import annotations

import torch
from torch import Tensor

from maesil.grid import PatchGrid
from maesil.masking import DualMasking
from maesil.models.mae import MAEConfig, split_tokens

GRID = PatchGrid((12, 16, 16), (4, 4, 8))
SMALL = MAEConfig(
    superpatch=(32, 32, 32), encoder_width=48, encoder_depth=1, encoder_heads=2,
    decoder_width=24, decoder_depth=2, decoder_heads=2, position_wavelengths=(4.0, 32.0), start="local",
    head="overlap",
)  # fmt: skip


def every_token(grid: PatchGrid, batch: int = 1) -> Tensor:
    """Indices of all tokens, for each superpatch of a batch."""
    return torch.arange(grid.tokens).expand(batch, -1)


def masked_tokens(grid: PatchGrid, batch: int = 2) -> Tensor:
    """Indices of the masked tokens of a dual mask, for each superpatch of a batch."""
    mask = DualMasking().draw(batch, grid, torch.Generator().manual_seed(0))
    return split_tokens(mask, DualMasking().visible_count(grid))[1]
