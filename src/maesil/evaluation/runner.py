"""Scores models on the held-out scans of a store, all with the same masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from maesil.errors import WeightsError
from maesil.evaluation.protocol import Protocol
from maesil.evaluation.rebuild import RebuiltScan, device_of, rebuild, scan_seed
from maesil.evaluation.scores import Score
from maesil.evaluation.scoring import score_volume
from maesil.metrics import Lpips, load_lpips
from maesil.models.contract import Pretrainer
from maesil.sampling.regions import Region
from maesil.store.scanstore import ScanStore
from maesil.tiling import Tiling

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Scored:
    """Scores, and what has to be said beside them.

    Attributes:
        scores: A row per scan, model, metric and region.
        notes: Such as why LPIPS is left out.
    """

    scores: tuple[Score, ...]
    notes: tuple[str, ...]


def score_models(
    models: Mapping[str, Pretrainer],
    store: ScanStore,
    regions: Sequence[Region],
    protocol: Protocol,
    *,
    weights: Path | None = None,
    progress: Progress | None = None,
) -> Scored:
    """Rebuilds every scan with every model, and scores it.

    Args:
        models: Name to model, in evaluation mode; of the same grid and masking.
        store: Holds the scans.
        regions: The held-out part of each scan, from `regions_of`.
        protocol: What is scored, and how.
        weights: Folder with LPIPS weights; None: the usual places.
        progress: Called after every scan and model.
    """
    lpips, notes = lpips_or_reason(protocol, weights)
    scores: list[Score] = []
    total = len(regions) * len(models)
    for region in regions:
        held = held_out(region)
        for name, model in models.items():
            rebuilt = rebuild_region(model, store, region, protocol)
            scores += _rows(name, region, rebuilt, held, protocol, lpips, model)
            if progress is not None:
                progress(len({(row.scan, row.model) for row in scores}), total, f"{region.entry.scan_id}: {name}")
    return Scored(tuple(scores), notes)


def lpips_or_reason(protocol: Protocol, weights: Path | None) -> tuple[Lpips | None, tuple[str, ...]]:
    """LPIPS with verified weights; or None and why it is left out."""
    if protocol.lpips is None:
        return None, ()
    try:
        return load_lpips(protocol.lpips, weights), ()
    except WeightsError as error:
        return None, (f"LPIPS is left out: {error.what}" + (f"; {error.fix}" if error.fix else ""),)


def rebuild_region(model: Pretrainer, store: ScanStore, region: Region, protocol: Protocol) -> RebuiltScan:
    """Rebuilds the whole scan of a region, with the protocol's masks; parts that are not held out give context only."""
    scan_id = region.entry.scan_id
    overlap = (protocol.overlap,) * 3
    tiling = Tiling(region.entry.shape, region.tiling.tile, overlap)
    return rebuild(
        model,
        lambda start, shape: store.read(scan_id, start, shape),
        tiling,
        protocol.window,
        scan_seed(protocol.mask_seed, scan_id),
        batch=protocol.batch,
    )


def held_out(region: Region) -> Bool[np.ndarray, "d h w"]:
    """Voxels that count: the whole scan, or its held-out superpatches where training saw the others."""
    if not region.partial:
        return np.ones(region.entry.shape, dtype=bool)
    scored = np.zeros(region.entry.shape, dtype=bool)
    for tile in region.tiles:
        scored[tile.inside] = True
    return scored


def _rows(
    name: str,
    region: Region,
    rebuilt: RebuiltScan,
    held: Bool[np.ndarray, "d h w"],
    protocol: Protocol,
    lpips: Lpips | None,
    model: Pretrainer,
) -> list[Score]:
    measured = score_volume(
        rebuilt.truth, rebuilt.reconstruction, rebuilt.mask, held, protocol, lpips, device_of(model)
    )
    entry = region.entry
    return [
        Score(
            scan=entry.scan_id,
            dataset=entry.dataset,
            patient=entry.patient,
            model=name,
            metric=row.metric,
            region=row.region,
            value=row.value,
            protocol=protocol.id,
            described=protocol.describe(),
        )
        for row in measured
    ]
