"""Scoring models on the held-out scans of a store, all with the same masks."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int16

from maesil.counts import count_of
from maesil.errors import WeightsError
from maesil.evaluation.measures import METRICS
from maesil.evaluation.protocol import Protocol
from maesil.evaluation.rebuild import RebuiltScan, device_of, rebuild, scan_seed
from maesil.evaluation.scores import Score
from maesil.evaluation.scoring import Measured, score_volume
from maesil.evaluation.whole_scan import rebuild_whole
from maesil.masking import Masking
from maesil.metrics import Lpips, load_lpips
from maesil.models.contract import Reconstructor
from maesil.progress import Progress
from maesil.sampling.regions import Region
from maesil.shapes import Shape3
from maesil.store.scanstore import ScanEntry, ScanStore


@dataclass(frozen=True)
class Scored:
    """Scores, and notes on them.

    Attributes:
        scores: One row per scan, model, metric and region.
        notes: Notes, such as why LPIPS is left out.
    """

    scores: tuple[Score, ...]
    notes: tuple[str, ...]


def score_models(
    models: Mapping[str, Reconstructor],
    store: ScanStore,
    regions: Sequence[Region],
    protocol: Protocol,
    *,
    patch: Shape3 | None = None,
    seed: int = 0,
    weights: Path | None = None,
    progress: Progress | None = None,
) -> Scored:
    """Reconstructs every scan with every model under every mask draw, and scores it.

    Args:
        models: Name to model, in evaluation mode; all with the same grid and masking.
        store: The store of the scans.
        regions: The held-out part of each scan, from `regions_of`.
        protocol: What is scored, and how.
        patch: Patch size of the masks, in voxels; None: the first model's.
        seed: Training seed of the models, written into the scores.
        weights: Folder with LPIPS weights; None: the usual places.
        progress: Called after every mask draw of a scan and a model.
    """
    lpips, notes = lpips_or_reason(protocol, weights)
    scores: list[Score] = []
    patch = patch or next(iter(models.values())).grid.patch
    of_one = protocol.mask_draws
    total = len(regions) * len(models) * of_one
    if progress is not None:  # models may have been trained since the last call
        progress(0, total, f"{count_of(len(regions), 'scan')}, {count_of(of_one, 'mask draw')} each")
    for at, region in enumerate(regions):
        for number, (name, model) in enumerate(models.items()):
            draws = []
            for draw in range(of_one):
                draws.append(_measured(model, store, region, protocol, draw, lpips, patch))
                if progress is not None:
                    done = (at * len(models) + number) * of_one + draw + 1
                    progress(done, total, f"{region.entry.scan_id}: {name}")
            grid = " / ".join("x".join(map(str, size)) for size in (region.tiling.tile, patch))
            scores += pooled(draws, name, region.entry, protocol, seed, grid)
    return Scored(tuple(scores), notes)


def _measured(
    model: Reconstructor,
    store: ScanStore,
    region: Region,
    protocol: Protocol,
    draw: int,
    lpips: Lpips | None,
    patch: Shape3,
) -> list[Measured]:
    """One mask draw's scores; none for a region that does not apply to the model."""
    if protocol.masking == "off" and not model.predicts_visible:
        return []  # it could only return the scan
    rebuilt = rebuild_region(model, store, region, protocol, draw, scored_only=True)
    return score_volume(
        rebuilt.truth,
        rebuilt.reconstruction,
        rebuilt.mask,
        held_out(region),
        protocol,
        lpips,
        patch=patch,
        predicts_visible=model.predicts_visible,
        device=device_of(model),
        superpatch=None if protocol.whole_scan else region.tiling.tile,
    )


def pooled(
    draws: Sequence[Sequence[Measured]], model: str, entry: ScanEntry, protocol: Protocol, seed: int, grid: str = ""
) -> list[Score]:
    """A scan's scores, each averaged over mask draws as its metric defines, with its spread."""
    described = protocol.describe()
    values: dict[tuple[str, str], list[float]] = {}
    for measured in draws:
        for row in measured:
            values.setdefault((row.metric, row.region), []).append(row.value)
    return [
        Score(
            scan=entry.scan_id,
            dataset=entry.dataset,
            patient=entry.patient,
            model=model,
            metric=metric,
            region=region,
            value=METRICS[metric].mean(found),
            protocol=protocol.id,
            described=described,
            draws=len(found),
            spread=statistics.stdev(found) if len(found) > 1 and all(map(math.isfinite, found)) else math.nan,
            seed=seed,
            grid=grid,
        )
        for (metric, region), found in values.items()
    ]


def lpips_or_reason(protocol: Protocol, weights: Path | None) -> tuple[Lpips | None, tuple[str, ...]]:
    """LPIPS with verified weights, or None and a note on why it is left out."""
    if protocol.lpips is None:
        return None, ()
    try:
        return load_lpips(protocol.lpips, weights), ()
    except WeightsError as error:
        return None, (f"LPIPS is left out: {error.what}" + (f"; {error.fix}" if error.fix else ""),)


def under(model: Reconstructor, masking: Masking) -> Reconstructor:
    """The model with other masks, sharing its weights; as it is if it keeps its own."""
    if model.keeps_masks or model.masking == masking:
        return model
    other = copy.copy(model)
    other.masking = masking
    return other


def rebuild_region(
    model: Reconstructor,
    store: ScanStore,
    region: Region,
    protocol: Protocol,
    draw: int = 0,
    *,
    scored_only: bool = False,
) -> RebuiltScan:
    """Reconstructs the scan of a region under one of the protocol's mask draws.

    Args:
        model: The model, in evaluation mode.
        store: The store of the scan.
        region: The scan, and which part of it is held out.
        protocol: Window, masks and batch.
        draw: Number of the mask draw.
        scored_only: Reconstruct only the held-out superpatches; the rest of the scan is read as context.
    """
    scan_id = region.entry.scan_id
    seed = None if protocol.masking == "off" else scan_seed(protocol.mask_seed, scan_id, draw)
    chosen = region.tiles if scored_only and region.partial else None

    def read(start: Shape3, shape: Shape3) -> Int16[np.ndarray, "d h w"]:
        return store.read(scan_id, start, shape)

    if protocol.whole_scan:
        shape, window = region.tiling.shape, protocol.window
        return rebuild_whole(model, read, shape, window, seed, batch=protocol.batch, chosen=chosen)
    numbers = None if chosen is None else {tile.index for tile in chosen}
    return rebuild(model, read, region.tiling, protocol.window, seed, batch=protocol.batch, chosen=numbers)


def held_out(region: Region) -> Bool[np.ndarray, "d h w"]:
    """Voxels that count: the whole scan, or only its held-out superpatches if the others were trained on."""
    if not region.partial:
        return np.ones(region.entry.shape, dtype=bool)
    scored = np.zeros(region.entry.shape, dtype=bool)
    for tile in region.tiles:
        scored[tile.inside] = True
    return scored
