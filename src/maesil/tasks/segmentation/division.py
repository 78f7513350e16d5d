"""Which labelled scans teach, which choose and which judge; and how few of them may teach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from maesil.datasets.splits import SplitConfig, rank_of
from maesil.errors import ConfigError, StoreError
from maesil.sampling.config import DataConfig
from maesil.sampling.regions import Region, regions_of
from maesil.shapes import Shape3
from maesil.store.scanstore import ScanStore
from maesil.tasks.segmentation.config import FinetuneConfig, LabelsConfig
from maesil.tiling import Tile


@dataclass(frozen=True)
class Division:
    """Regions of the labelled scans by their use.

    Attributes:
        train: Those that teach.
        val: Those that choose; may be empty.
        test: Those that judge.
        data: The data's settings that made the division; with folds, not those that were given.
    """

    train: tuple[Region, ...]
    val: tuple[Region, ...]
    test: tuple[Region, ...]
    data: DataConfig


def divide(store: ScanStore, scans: Sequence[str], config: FinetuneConfig, superpatch: Shape3) -> Division:
    """Divides the labelled scans by patient or by superpatch, as the settings say, or into folds by patient.

    Raises:
        StoreError: Nothing is left to train on, or to test.
        ConfigError: There are fewer patients than folds.
    """
    data = config.data if config.labels.folds is None else folded(store, scans, config)
    parts = {split: _labelled(store, scans, data, superpatch, split) for split in ("train", "val", "test")}
    for split in ("train", "test"):
        if not parts[split]:
            raise StoreError(
                f"no labelled scan is in the split '{split}'",
                where=store.path,
                fix="set --data.holdout.patients.overrides, or use --labels.folds",
            )
    return Division(limited(parts["train"], config.labels, config.seed), parts["val"], parts["test"], data)


def folded(store: ScanStore, scans: Sequence[str], config: FinetuneConfig) -> DataConfig:
    """The data with one fold of the labelled patients to test, all others to train."""
    folds, seed = config.labels.folds or 1, SplitConfig(seed=config.data.holdout.patients.seed)
    patients = sorted({store.entry(scan).patient for scan in scans}, key=lambda name: rank_of(name, seed))
    if len(patients) < folds:
        raise ConfigError(f"{folds} folds of {len(patients)} labelled patients", fix="ask for fewer folds")
    tested = {name: "test" for at, name in enumerate(patients) if at % folds == config.labels.fold}
    split = SplitConfig(fractions=(1.0, 0.0, 0.0), overrides=tested)
    return replace(config.data, holdout=replace(config.data.holdout, by="patient", patients=split, given=False))


def limited(regions: tuple[Region, ...], labels: LabelsConfig, seed: int) -> tuple[Region, ...]:
    """The first scans and superpatches of an order that the seed alone decides: smaller sets lie in larger ones."""
    order = SplitConfig(seed=seed)
    chosen = sorted(regions, key=lambda region: rank_of(region.entry.patient, order))
    if labels.scans is not None:
        if labels.scans > len(chosen):
            fix = "ask for fewer, or prepare more with --labels"
            raise ConfigError(f"{labels.scans} labelled scans to train on, there are {len(chosen)}", fix=fix)
        chosen = chosen[: labels.scans]
    if labels.share is None:
        return tuple(chosen)
    chosen = [replace(region, tiles=tuple(_inside(region, tile) for tile in region.tiles)) for region in chosen]
    tiles = [(region, tile) for region in chosen for tile in region.tiles]
    tiles.sort(key=lambda pair: rank_of(f"{pair[0].entry.scan_id}@{pair[1].origin}", order))
    kept = {
        (region.entry.scan_id, tile.origin) for region, tile in tiles[: max(1, math.ceil(labels.share * len(tiles)))]
    }
    cut = [
        replace(region, tiles=tuple(tile for tile in region.tiles if (region.entry.scan_id, tile.origin) in kept))
        for region in chosen
    ]
    return tuple(region for region in cut if region.tiles)


def _inside(region: Region, tile: Tile) -> Tile:
    """The tile moved inside its scan; where it would then touch one that is held out, as it was.

    A whole scan is segmented in windows that lie inside it; so do the superpatches that teach.
    """
    moved = region.tiling.pushed_back(tile)
    return moved if region.is_allowed(moved.origin) else tile


def _labelled(
    store: ScanStore, scans: Sequence[str], data: DataConfig, superpatch: Shape3, split: str
) -> tuple[Region, ...]:
    try:
        regions = regions_of(store, data, superpatch, split)
    except StoreError:
        return ()
    return tuple(region for region in regions if region.entry.scan_id in scans)
