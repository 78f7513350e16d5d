"""Reconstructing a scan under one mask: superpatches overlap by half, agree on what is visible, and are blended."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maesil.ct.window import Window
from maesil.evaluation.rebuild import RebuiltScan, counted, device_of, inference_precision
from maesil.grid import PatchGrid
from maesil.masking.base import strides
from maesil.models.contract import Reconstructor
from maesil.progress import Progress
from maesil.sampling.ahead import ReadsBoxes, tile_batches
from maesil.sampling.augment import draw_generator
from maesil.sampling.regions import overlap
from maesil.shapes import Shape3
from maesil.tiling import Tile, Tiling


@torch.inference_mode()
def rebuild_whole(
    model: Reconstructor,
    read: ReadsBoxes,
    shape: Shape3,
    window: Window,
    seed: int | None,
    *,
    batch: int = 8,
    chosen: Sequence[Tile] | None = None,
    progress: Progress | None = None,
) -> RebuiltScan:
    """Reconstructs a scan under one mask, without steps between superpatches.

    Every voxel is the mean of the superpatches that contain it, weighted by their distance to its faces.

    Args:
        model: The model, in evaluation mode and on its device.
        read: Reads boxes of the scan.
        shape: Shape of the scan in voxels.
        window: HU window mapped to [0, 1].
        seed: Seed of the scan's mask, from `scan_seed`; None: nothing is masked.
        batch: Superpatches per batch.
        chosen: Superpatches to reconstruct; the rest of the scan is only read. None: all.
        progress: Called before the first and after every batch of superpatches.
    """
    tiling = overlapping(shape, model.mask_grid)
    hidden = scan_mask(model, tiling.padded_shape, seed)
    weights = [hann(size, size - shared) for size, shared in zip(tiling.tile, tiling.overlap, strict=True)]
    blend = weights[0][:, None, None] * weights[1][:, None] * weights[2]
    truth, volume = (np.zeros(shape, dtype=np.float32) for _ in range(2))
    device = device_of(model)
    for tiles, hu in counted(tile_batches(read, list(tiling), tiling.tile, batch), len(tiling), progress):
        superpatch = window.normalize(torch.from_numpy(hu).to(device).float())
        for tile, true in zip(tiles, superpatch, strict=True):
            truth[tile.inside] = true[0].cpu().numpy()[tile.local]
        wanted = [at for at, tile in enumerate(tiles) if chosen is None or _touches(tile, chosen, tiling.tile)]
        if not wanted:
            continue
        picked = [tiles[at] for at in wanted]
        masks = torch.stack([tokens_of(hidden, tile.origin, model.grid) for tile in picked])
        with inference_precision(device):
            rebuilt = model.reconstruct(superpatch[wanted], masks.to(device))
        for tile, predicted in zip(picked, rebuilt.volume, strict=True):
            volume[tile.inside] += (predicted[0].float().cpu().numpy() * blend)[tile.local]
    for axis, weight in enumerate(weights):
        volume /= _total(weight, tiling, axis)
    d, h, w = shape
    return RebuiltScan(truth, volume, hidden[:d, :h, :w].numpy())


def overlapping(shape: Shape3, grid: PatchGrid) -> Tiling:
    """Superpatches that overlap by half along each axis, where the grid of the mask can be halved."""
    d, h, w = (size - step * edge for size, step, edge in zip(grid.superpatch, strides(grid), grid.patch, strict=True))
    return Tiling(shape, grid.superpatch, (d, h, w))


def scan_mask(model: Reconstructor, shape: Shape3, seed: int | None) -> Bool[Tensor, "d h w"]:
    """The mask of a scan's voxels, a function of only the seed, the shape and the masking.

    If `seed` is None, nothing is masked.
    """
    if seed is None:
        return torch.zeros(shape, dtype=torch.bool)
    grid = model.mask_grid
    d, h, w = (size // edge for size, edge in zip(shape, grid.patch, strict=True))
    mask = model.masking.draw_scan((d, h, w), grid, draw_generator(torch.device("cpu"), seed, 0))
    for axis, edge in enumerate(grid.patch):
        mask = mask.repeat_interleave(edge, dim=axis)
    return mask


def tokens_of(hidden: Bool[Tensor, "d h w"], origin: Shape3, grid: PatchGrid) -> Bool[Tensor, " n"]:
    """The mask of a superpatch's tokens, from the mask of a scan's voxels."""
    box = tuple(
        slice(start, start + size, edge) for start, size, edge in zip(origin, grid.superpatch, grid.patch, strict=True)
    )
    return hidden[box].flatten()


def hann(size: int, step: int) -> Float[np.ndarray, " size"]:
    """Weight of a superpatch's voxels along one axis: a Hann window, or 1 where superpatches do not overlap."""
    if step == size:
        return np.ones(size, dtype=np.float32)
    place = (np.arange(size, dtype=np.float32) + 0.5) / size
    weight: Float[np.ndarray, " size"] = np.sin(np.pi * place) ** 2
    return weight


def _total(weight: Float[np.ndarray, " size"], tiling: Tiling, axis: int) -> Float[np.ndarray, "d h w"]:
    """Sum of all superpatches' weights at each voxel of an axis, shaped to divide a volume."""
    size, step = len(weight), len(weight) - tiling.overlap[axis]
    total = np.zeros(tiling.padded_shape[axis], dtype=np.float32)
    for count in range(tiling.counts[axis]):
        total[count * step : count * step + size] += weight
    along = [1, 1, 1]
    along[axis] = tiling.shape[axis]
    return total[: tiling.shape[axis]].reshape(along)


def _touches(tile: Tile, chosen: Sequence[Tile], shape: Shape3) -> bool:
    return any(overlap(tile.origin, other.origin, shape) for other in chosen)
