"""The tokens of whole scans, superpatch by superpatch, and their means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Bool, Float, Float64, UInt8
from torch import Tensor

from maesil.encoder.pool import Pool
from maesil.errors import ConfigError
from maesil.evaluation.rebuild import inference_precision
from maesil.models.backbone import Backbone, token_groups
from maesil.sampling.ahead import ReadsBoxes, tile_batches
from maesil.sampling.regions import tissue_share
from maesil.shapes import Shape3
from maesil.store.scanstore import ScanEntry, ScanStore
from maesil.tiling import Tile, Tiling

BARE_HU = -950.0
"""A patch with a lower mean is air around the body or padding: its token says nothing about the patient."""
BLOCK = 4
"""Patches along each axis that are averaged into one token of `region_tokens`: a scan's tokens then fit in a few MB."""
TOGETHER = (1, 1)
"""All tokens of a superpatch in one group."""
LEAST_TISSUE_TO_EMBED = 0.02
"""Superpatches with a smaller share of tissue are left out."""


def scan_tokens(
    backbone: Backbone, store: ScanStore, entry: ScanEntry, *, batch: int = 4, groups: tuple[int, int] = TOGETHER
) -> Iterator[tuple[Tile, Float[Tensor, "n e"], Bool[Tensor, " n"]]]:
    """The `box_tokens` of a scan of a store."""
    reads = partial(store.read, entry.scan_id)
    return box_tokens(backbone, reads, entry.shape, store.occupancy(entry.scan_id), batch=batch, groups=groups)


def box_tokens(
    backbone: Backbone,
    reads: ReadsBoxes,
    shape: Shape3,
    occupancy: UInt8[np.ndarray, "bd bh bw"],
    *,
    batch: int = 4,
    groups: tuple[int, int] = TOGETHER,
) -> Iterator[tuple[Tile, Float[Tensor, "n e"], Bool[Tensor, " n"]]]:
    """The last of `box_layers`."""
    depths = (backbone.depth,)
    for tile, layers, solid in box_layers(backbone, reads, shape, occupancy, depths, batch=batch, groups=groups):
        yield tile, layers[0], solid


def box_layers(
    backbone: Backbone,
    reads: ReadsBoxes,
    shape: Shape3,
    occupancy: UInt8[np.ndarray, "bd bh bw"],
    depths: Sequence[int],
    *,
    batch: int = 4,
    groups: tuple[int, int] = TOGETHER,
) -> Iterator[tuple[Tile, Float[Tensor, "depths n e"], Bool[Tensor, " n"]]]:
    """Yields the tokens of a scan's superpatches after chosen blocks, and which of them are not air.

    Superpatches lie inside the scan, as in pre-training; where the last ones overlap the ones before, the tokens of the
    overlap occur twice. All-air superpatches are skipped.

    Args:
        backbone: The encoder, on its device.
        reads: Function that returns boxes of the scan.
        shape: Shape of the scan in voxels.
        occupancy: Share of tissue per block of 16^3 voxels, 0 to 255.
        depths: Number of blocks before each layer of tokens, as in `Backbone.features`.
        batch: Superpatches per batch.
        groups: Blocks of planes and parts of each plane that are encoded apart, as in `token_groups`.

    Raises:
        ConfigError: The tokens cannot be divided into these groups, or they are not two numbers.
    """
    tiling = Tiling(shape, backbone.config.superpatch)
    tiles = [
        tile for tile in tiling.within() if tissue_share(occupancy, tile.origin, tiling.tile) >= LEAST_TISSUE_TO_EMBED
    ]
    device = next(backbone.parameters()).device
    apart = require_groups(groups)
    divided = None if apart == TOGETHER else token_groups(backbone.config.grid, *apart).to(device)
    for chosen, boxes in tile_batches(reads, tiles, tiling.tile, batch):
        hu = torch.from_numpy(boxes).to(device)
        with torch.inference_mode(), inference_precision(device):
            maps = backbone.features(backbone.from_hu(hu), depths, divided)
            layers = torch.stack([each.float().flatten(2).transpose(1, 2) for each in maps], dim=1).cpu()
            solid = (backbone.config.grid.patchify(hu.float()).mean(dim=2) > BARE_HU).cpu()
        for tile, own, mask in zip(chosen, layers, solid, strict=True):
            if mask.any():
                yield tile, own.clone(), mask


def require_batch(batch: int) -> None:
    """Raises ConfigError if a number of superpatches per batch is less than 1."""
    if batch < 1:
        raise ConfigError(f"batch is {batch}", fix="give the number of superpatches per batch, at least 1")


def require_groups(groups: Any) -> tuple[int, int]:
    """Checks that groups are two whole numbers, and returns them.

    Raises:
        ConfigError: They are anything else.
    """
    match groups:
        case (int(blocks), int(parts)):
            return blocks, parts
    raise ConfigError(
        f"groups are two whole numbers, of blocks of planes and of parts of each plane, not {groups!r}",
        fix=f"{TOGETHER}: all tokens together; (2, 2): as many at once as a dual mask of 75 % leaves visible",
    )


def pooled(tokens: Float[Tensor, "n e"], solid: Bool[Tensor, " n"]) -> Float64[np.ndarray, " e"]:
    """A superpatch's vector: the mean of its tokens whose patch is not air."""
    vector: np.ndarray = tokens[solid].mean(dim=0).double().numpy()
    return vector


def moments(tokens: Float[Tensor, "*layers n e"], pool: Pool) -> Float[Tensor, "*layers p"]:
    """The mean of tokens, followed by their standard deviation if `pool` asks for it: p is e or 2e."""
    found = [tokens.mean(dim=-2)] + ([tokens.std(dim=-2, correction=0)] if pool == "mean_std" else [])
    return torch.cat(found, dim=-1)


def weighted_mean(vectors: Sequence[Float64[np.ndarray, " e"]], counts: Sequence[int]) -> Float64[np.ndarray, " e"]:
    """A scan's vector: the mean over all tokens that its superpatches pooled."""
    mean: np.ndarray = np.average(vectors, axis=0, weights=counts)
    return mean


def region_tokens(
    backbone: Backbone, tokens: Float[Tensor, "n e"], solid: Bool[Tensor, " n"]
) -> Float[Tensor, "regions e"]:
    """Means of the non-air tokens over blocks of `BLOCK`^3 patches; blocks of air are left out."""
    grid = backbone.config.grid.shape
    block = tuple(min(BLOCK, size) for size in grid)
    weight = solid.to(tokens.dtype)
    weighted = torch.cat([(tokens * weight[:, None]).T, weight[None]]).reshape(-1, *grid)
    *summed, count = F.avg_pool3d(weighted, block, ceil_mode=True, divisor_override=1).flatten(1)
    occupied = count > 0
    means: Tensor = torch.stack(summed, dim=1)[occupied] / count[occupied][:, None]
    return means
