"""A whole scan through a model: tiled, masked with fixed seeds, rebuilt, stitched."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maesil.ct.window import Window
from maesil.models.contract import Reconstructor
from maesil.sampling.ahead import ReadsBoxes, tile_batches
from maesil.sampling.augment import draw_generator
from maesil.tiling import Tile, Tiling


@dataclass(frozen=True)
class RebuiltScan:
    """A scan as a model rebuilds it, on the store's grid.

    Attributes:
        truth: (d, h, w) in window units [0, 1].
        reconstruction: (d, h, w) in window units, as the network predicts it, visible voxels too.
        mask: (d, h, w), True = masked.
    """

    truth: Float[np.ndarray, "d h w"]
    reconstruction: Float[np.ndarray, "d h w"]
    mask: Bool[np.ndarray, "d h w"]

    @property
    def whole(self) -> Float[np.ndarray, "d h w"]:
        """What a user gets: masked voxels as rebuilt, clipped to the window, visible ones as they are in the scan."""
        rebuilt: Float[np.ndarray, "d h w"] = np.where(self.mask, self.reconstruction.clip(0.0, 1.0), self.truth)
        return rebuilt


def scan_seed(seed: int, scan_id: str, draw: int = 0) -> int:
    """A seed that differs from scan to scan and from draw to draw, and depends on nothing else."""
    counted = f"\0{draw}" if draw else ""
    digest = hashlib.sha256(f"{seed}\0{scan_id}{counted}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def tile_masks(model: Reconstructor, tiles: Sequence[Tile], seed: int | None) -> Bool[Tensor, "b n"]:
    """One mask per tile, a function of (seed, the tile's index) alone: not of batch size, device or model weights.

    Nothing is masked where `seed` is None.
    """
    if seed is None:
        return torch.zeros(len(tiles), model.grid.tokens, dtype=torch.bool)
    cpu = torch.device("cpu")
    return torch.cat([model.draw_mask(1, draw_generator(cpu, seed, tile.index)) for tile in tiles])


@torch.inference_mode()
def rebuild(
    model: Reconstructor,
    read: ReadsBoxes,
    tiling: Tiling,
    window: Window,
    seed: int | None,
    *,
    batch: int = 8,
    chosen: Collection[int] | None = None,
) -> RebuiltScan:
    """Rebuilds a whole scan, superpatch by superpatch.

    Args:
        model: In evaluation mode, on its device.
        read: Gives boxes of the scan.
        tiling: The scan's superpatches.
        window: HU window mapped to [0, 1].
        seed: Seed of the scan's masks, from `scan_seed`; None: nothing is masked.
        batch: Superpatches at a time.
        chosen: Numbers of the superpatches to rebuild; the others are read alone. None: all.
    """
    truth, volume = (np.zeros(tiling.shape, dtype=np.float32) for _ in range(2))
    mask = np.zeros(tiling.shape, dtype=bool)
    device = device_of(model)
    for tiles, hu in tile_batches(read, list(tiling), tiling.tile, batch):
        superpatch = window.normalize(torch.from_numpy(hu).to(device).float())
        for tile, true in zip(tiles, superpatch, strict=True):
            truth[tile.inside] = true[0].cpu().numpy()[tile.local]
        wanted = [at for at, tile in enumerate(tiles) if chosen is None or tile.index in chosen]
        if not wanted:
            continue
        picked = [tiles[at] for at in wanted]
        with inference_precision(device):
            rebuilt = model.reconstruct(superpatch[wanted], tile_masks(model, picked, seed).to(device))
        for tile, predicted, hidden in zip(picked, rebuilt.volume, rebuilt.mask, strict=True):
            volume[tile.inside] = predicted[0].float().cpu().numpy()[tile.local]
            mask[tile.inside] = hidden[0].cpu().numpy()[tile.local]
    return RebuiltScan(truth, volume, mask)


def device_of(model: Reconstructor) -> torch.device:
    """Where a model's parameters are; the CPU for one that has none."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def inference_precision(device: torch.device) -> AbstractContextManager[object]:
    """bf16 on a GPU, as trained; exact fp32 on a CPU, so that scores are the same on every CPU."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()
