"""Linear interpolation of cells to voxels."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Float
from torch import Tensor


def enlarged(cells: Float[Tensor, "b c d h w"], shape: torch.Size) -> Float[Tensor, "b c d2 h2 w2"]:
    """Cells interpolated linearly along each axis, as products of matrices: faster than PyTorch's, with a gradient."""
    depth, height, width = (_rows(size, old, cells) for size, old in zip(shape, cells.shape[2:], strict=True))
    rows = height @ (cells @ width.mT)
    return (depth @ rows.flatten(3)).view(*cells.shape[:2], *shape)


def _rows(size: int, old: int, like: Tensor) -> Float[Tensor, "size old"]:
    """The matrix that interpolates `old` cells of an axis to `size`, with the outer ones continued to the ends."""
    unit = torch.eye(old, device=like.device, dtype=like.dtype)
    return F.interpolate(unit[None], size, mode="linear", align_corners=False)[0].mT
