"""Reconstructing a whole scan with a model: tiling, masking with fixed seeds, reconstruction."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int16
from torch import Tensor

from maesil.counts import count_of
from maesil.ct.window import Window
from maesil.models.contract import Reconstructor
from maesil.progress import Progress
from maesil.sampling.ahead import ReadsBoxes, tile_batches
from maesil.sampling.augment import draw_generator
from maesil.tiling import Tile, Tiling

TileBatch = tuple[Sequence[Tile], Int16[np.ndarray, "b 1 d h w"]]
"""Superpatches of a scan, and their voxels in HU."""


@dataclass(frozen=True)
class RebuiltScan:
    """A scan and its reconstruction by a model, on the store's grid.

    Attributes:
        truth: The scan (d, h, w) in window units [0, 1].
        reconstruction: The network's prediction (d, h, w) in window units, visible voxels included.
        mask: Masked voxels (d, h, w), True = masked.
    """

    truth: Float[np.ndarray, "d h w"]
    reconstruction: Float[np.ndarray, "d h w"]
    mask: Bool[np.ndarray, "d h w"]

    @property
    def whole(self) -> Float[np.ndarray, "d h w"]:
        """What a user gets: masked voxels reconstructed and clipped to the window, visible ones unchanged."""
        rebuilt: Float[np.ndarray, "d h w"] = np.where(self.mask, self.reconstruction.clip(0.0, 1.0), self.truth)
        return rebuilt


def scan_seed(seed: int, scan_id: str, draw: int = 0) -> int:
    """A seed that depends only on `seed`, the scan and the number of the mask draw."""
    counted = f"\0{draw}" if draw else ""
    digest = hashlib.sha256(f"{seed}\0{scan_id}{counted}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def tile_masks(model: Reconstructor, tiles: Sequence[Tile], seed: int | None) -> Bool[Tensor, "b n"]:
    """One mask per tile, a function of only the seed and the tile's index: not of batch size, device or model weights.

    If `seed` is None, nothing is masked.
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
    progress: Progress | None = None,
) -> RebuiltScan:
    """Reconstructs a whole scan, superpatch by superpatch.

    Args:
        model: The model, in evaluation mode and on its device.
        read: Reads boxes of the scan.
        tiling: The scan's superpatches.
        window: HU window mapped to [0, 1].
        seed: Seed of the scan's masks, from `scan_seed`; None: nothing is masked.
        batch: Superpatches per batch.
        chosen: Indices of the superpatches to reconstruct; the others are only read. None: all.
        progress: Called before the first and after every batch of superpatches.
    """
    truth, volume = (np.zeros(tiling.shape, dtype=np.float32) for _ in range(2))
    mask = np.zeros(tiling.shape, dtype=bool)
    device = device_of(model)
    for tiles, hu in counted(tile_batches(read, list(tiling), tiling.tile, batch), len(tiling), progress):
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


def counted(batches: Iterable[TileBatch], total: int, progress: Progress | None) -> Iterator[TileBatch]:
    """Yields batches of superpatches, and reports how many of all superpatches are done."""
    done = 0
    if progress is not None:
        progress(done, total, count_of(total, "superpatch", "superpatches"))
    for tiles, hu in batches:
        yield tiles, hu
        done += len(tiles)
        if progress is not None:
            progress(done, total, "")


def device_of(model: Reconstructor) -> torch.device:
    """The device of a model's parameters; the CPU if it has none."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def inference_precision(device: torch.device) -> AbstractContextManager[object]:
    """Inference in bf16 on a GPU, as in training; fp32 on a CPU, so that scores are the same on every CPU."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()
