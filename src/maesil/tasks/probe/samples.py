"""Features of superpatches and patches after every block of an encoder, and what can be told from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maesil.encoder.pool import Pool
from maesil.encoder.tokens import TOGETHER, box_layers, moments
from maesil.models.backbone import Backbone
from maesil.progress import Progress
from maesil.sampling.labelled import Classes
from maesil.store.scanstore import ScanEntry, ScanStore
from maesil.tiling import Tile

PATCHES_PER_SCAN = 512
"""Number of patches of a scan that are kept; they are drawn at random from those that are not air."""
Parts = tuple[tuple[ScanEntry, ...], tuple[ScanEntry, ...]]
"""Training scans and test scans."""


@dataclass(frozen=True)
class Targets:
    """What a probe is asked.

    Attributes:
        organs: Structures to find in a superpatch or a patch; none: the store has no labels.
        datasets: Datasets to tell apart by a superpatch; none: there are fewer than two.
    """

    organs: Classes
    datasets: tuple[str, ...]


@dataclass(frozen=True)
class Samples:
    """Features of many superpatches, or of many patches.

    Attributes:
        vectors: Features after every block, the embedding first, (depths, n, e) float32.
        truth: Whether each target is there, (n, k), 1 or 0; NaN for organs that nobody marked in the scan.
        patients: The patient of each sample.
    """

    vectors: Float[Tensor, "depths n e"]
    truth: Float[np.ndarray, "n k"]
    patients: tuple[str, ...]


@dataclass(frozen=True)
class ScanSamples:
    """The samples of some scans, by what they are asked.

    Attributes:
        superpatches: Superpatches, and whether they have a voxel of each organ.
        patches: Patches, and whether they have a voxel of each organ.
        regions: Superpatches, and which dataset they are from.
    """

    superpatches: Samples
    patches: Samples
    regions: Samples


def samples_of(
    backbone: Backbone,
    store: ScanStore,
    entries: Sequence[ScanEntry],
    targets: Targets,
    *,
    groups: tuple[int, int] = TOGETHER,
    pool: Pool = "mean",
    progress: Progress | None = None,
) -> ScanSamples:
    """Encodes scans, and returns what the probes need of them.

    A superpatch's vector is the mean of its tokens that are not air, as in `maesil embed`, or their mean and standard
    deviation; superpatches lie inside the scan. A scan's patches are the same for every encoder of the same grid.

    Args:
        backbone: The encoder, on its device.
        store: The scans.
        entries: The scans to encode; with organs, scans that are labelled for some of them.
        targets: What is asked.
        groups: Tokens that are encoded apart, as in `box_layers`.
        pool: What a superpatch's vector keeps of its tokens.
        progress: Called after every scan.
    """
    found: list[_Scan] = []
    for number, entry in enumerate(entries, start=1):
        scan = _scan(backbone, store, entry, targets.organs, groups, pool)
        if scan is not None:
            found.append(scan)
        if progress is not None:
            progress(number, len(entries), entry.scan_id)
    pooled = torch.cat([scan.pooled for scan in found], dim=1)
    whose = tuple(scan.entry.patient for scan in found for _ in range(scan.pooled.shape[1]))
    return ScanSamples(
        Samples(pooled, np.concatenate([_told(scan.entry, targets.organs, scan.holds) for scan in found]), whose),
        Samples(
            torch.cat([scan.tokens for scan in found], dim=1),
            np.concatenate([_told(scan.entry, targets.organs, scan.marked) for scan in found]),
            tuple(scan.entry.patient for scan in found for _ in range(scan.tokens.shape[1])),
        ),
        Samples(pooled, np.concatenate([_dataset_of(scan, targets.datasets) for scan in found]), whose),
    )


@dataclass(frozen=True)
class _Scan:
    """The samples of one scan.

    Attributes:
        entry: The scan.
        pooled: Vectors of its superpatches, (depths, s, pooled).
        holds: Organs in each superpatch, (s, k).
        tokens: Vectors of some of its patches, (depths, p, e).
        marked: Organs in each of these patches, (p, k).
    """

    entry: ScanEntry
    pooled: Float[Tensor, "depths s pooled"]
    holds: Bool[np.ndarray, "s k"]
    tokens: Float[Tensor, "depths p e"]
    marked: Bool[np.ndarray, "p k"]


def _scan(
    backbone: Backbone, store: ScanStore, entry: ScanEntry, organs: Classes, groups: tuple[int, int], pool: Pool
) -> _Scan | None:
    """The samples of a scan; None if it is all air."""
    pooled, holds, tokens, marked = [], [], [], []
    reads, depths = partial(store.read, entry.scan_id), range(backbone.depth + 1)
    occupancy = store.occupancy(entry.scan_id)
    for tile, layers, solid in box_layers(backbone, reads, entry.shape, occupancy, depths, groups=groups):
        inside = _organs_in(backbone, store, entry, organs, tile)
        pooled.append(moments(layers[:, solid], pool))
        holds.append(inside.any(axis=0))
        tokens.append(layers[:, solid])
        marked.append(inside[solid.numpy()])
    if not pooled:
        return None
    every, truth = torch.cat(tokens, dim=1), np.concatenate(marked)
    kept = _drawn(len(truth))
    return _Scan(entry, torch.stack(pooled, dim=1), np.stack(holds), every[:, kept], truth[kept])


def _organs_in(
    backbone: Backbone, store: ScanStore, entry: ScanEntry, organs: Classes, tile: Tile
) -> Bool[np.ndarray, "n k"]:
    """Whether each patch of a superpatch has a voxel of each organ."""
    grid = backbone.config.grid
    if not organs.names:
        return np.zeros((grid.tokens, 0), dtype=np.bool_)
    labels = torch.from_numpy(organs.read(store, entry.scan_id, tile.origin, backbone.config.superpatch))
    patches = grid.patchify(labels[None, None])[0].numpy()
    return np.stack([(patches == number).any(axis=1) for number in range(1, len(organs) + 1)], axis=1)


def _told(entry: ScanEntry, organs: Classes, found: Bool[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """1 where an organ was found, 0 where it was not; NaN if nobody marked it in the scan."""
    marked = np.array(organs.marked(entry), dtype=np.bool_)
    told: Float[np.ndarray, "n k"] = np.where(marked, found, np.nan)
    return told


def _drawn(patches: int) -> Int[np.ndarray, " p"]:
    """Numbers of the patches that are kept: the same ones in every call."""
    kept = np.random.default_rng(0).permutation(patches)[:PATCHES_PER_SCAN]
    ordered: Int[np.ndarray, " p"] = np.sort(kept)
    return ordered


def _dataset_of(scan: _Scan, datasets: Sequence[str]) -> Float[np.ndarray, "s k"]:
    """Which dataset each superpatch of a scan is from."""
    own = np.array([scan.entry.dataset == name for name in datasets], dtype=np.float64)
    return np.tile(own, (scan.pooled.shape[1], 1))
