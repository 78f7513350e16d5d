"""The split of labelled scans into training, validation and test, and the limit on training scans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from maesil.counts import count_of, some_of
from maesil.datasets.splits import SplitConfig, rank_of
from maesil.errors import ConfigError, EmptySplitError, StoreError
from maesil.sampling.config import DataConfig
from maesil.sampling.holdout import scan_splits
from maesil.sampling.labelled import Classes, labelled_entries, scans_marking
from maesil.sampling.regions import Region, regions_of
from maesil.shapes import Shape3
from maesil.store.scanstore import ScanEntry, ScanStore
from maesil.tasks.segmentation.config import FinetuneConfig, LabelsConfig
from maesil.tiling import Tile

ONE_PATIENT = "with one labelled patient, hold out superpatches: --data.holdout.by superpatch"
"""What to do where patients cannot be held out."""
FIX_TRAINING = "leave out of --labels.classes what is missing"
FIX_SCORING = "the run has these classes: score it on a store that marks them in scans to test"
"""What to do where a class is not marked: before a training, and after it."""
MOST_CLASSES = 5
"""Number of missing classes that an error tells with their scans."""


@dataclass(frozen=True)
class Division:
    """Regions of the labelled scans by split.

    Attributes:
        train: Regions to train on.
        val: Regions to validate on; may be empty.
        test: Regions to test on.
        data: The data settings that produced the split; with folds, not the ones that were given.
    """

    train: tuple[Region, ...]
    val: tuple[Region, ...]
    test: tuple[Region, ...]
    data: DataConfig


def divide(store: ScanStore, scans: Sequence[str], config: FinetuneConfig, superpatch: Shape3) -> Division:
    """Splits the labelled scans by patient or by superpatch, as configured, or into folds by patient.

    Raises:
        StoreError: No labelled scan is left to train or to test on, or a scan cannot be read.
        EmptySplitError: No scan of a split has a superpatch to train or to test on.
        ConfigError: There are fewer patients than folds.
    """
    data = folded(store, scans, config)
    val = _labelled(store, scans, data, superpatch, "val")
    train, test = (_required(store, scans, data, superpatch, split, config.labels) for split in ("train", "test"))
    return Division(limited(train, config.labels, config.seed), val, test, data)


def regions_to_test(
    store: ScanStore, classes: Classes, config: FinetuneConfig, superpatch: Shape3
) -> tuple[Region, ...]:
    """The regions to test a finished run on, as `divide` has them; the store may have nothing to train on.

    Args:
        store: The run's store or another.
        classes: The run's classes.
        config: The run's settings.
        superpatch: Shape of a superpatch in voxels.

    Raises:
        StoreError: No labelled scan is left to test on, none is annotated for the run's classes, or one cannot be read.
        ConfigError: There are fewer patients than folds.
    """
    with_labels = labelled_entries(store)
    scans = scans_marking(store, classes, partial=config.labels.partial)
    named = replace(config.labels, classes=classes.names)
    if not scans:
        raise _unmarked(store, with_labels, "labelled", named, FIX_SCORING)
    return _required(store, scans, folded(store, scans, config), superpatch, "test", named, FIX_SCORING)


def folded(store: ScanStore, scans: Sequence[str], config: FinetuneConfig) -> DataConfig:
    """The data settings; if there are folds, with one of the labelled patients for test and all others for training."""
    folds, seed = config.labels.folds, SplitConfig(seed=config.data.holdout.patients.seed)
    if folds is None:
        return config.data
    patients = sorted({store.entry(scan).patient for scan in scans}, key=lambda name: rank_of(name, seed))
    if len(patients) < folds:
        fix = "use fewer --labels.folds" if len(patients) > 1 else ONE_PATIENT
        raise ConfigError(f"{folds} folds for {count_of(len(patients), 'labelled patient')}", fix=fix)
    held_out = {name: "test" for at, name in enumerate(patients) if at % folds == config.labels.fold}
    split = SplitConfig(fractions=(1.0, 0.0, 0.0), overrides=held_out)
    return replace(config.data, holdout=replace(config.data.holdout, by="patient", patients=split, given=False))


def limited(regions: tuple[Region, ...], labels: LabelsConfig, seed: int) -> tuple[Region, ...]:
    """The first scans and superpatches in an order that depends only on the seed: larger sets contain smaller ones."""
    order = SplitConfig(seed=seed)
    chosen = sorted(regions, key=lambda region: rank_of(region.entry.patient, order))
    if labels.scans is not None:
        if labels.scans > len(chosen):
            fix = "use fewer, or prepare more with --labels"
            raise ConfigError(
                f"{count_of(labels.scans, 'labelled training scan')} requested, {len(chosen)} available", fix=fix
            )
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
    """The tile moved inside its scan, or the tile unchanged if the move would make it touch a held-out one.

    Whole scans are segmented in windows that lie inside them, so training superpatches should lie inside, too.
    """
    moved = region.tiling.pushed_back(tile)
    return moved if region.is_allowed(moved.origin) else tile


def _required(
    store: ScanStore,
    scans: Sequence[str],
    data: DataConfig,
    superpatch: Shape3,
    split: str,
    labels: LabelsConfig,
    fix: str = FIX_TRAINING,
) -> tuple[Region, ...]:
    regions = _labelled(store, scans, data, superpatch, split)
    if regions:
        return regions
    with_labels = [entry.scan_id for entry in labelled_entries(store)]
    lacking = [region.entry for region in _labelled(store, with_labels, data, superpatch, split)]
    if lacking and labels.classes:
        raise _unmarked(store, lacking, "training" if split == "train" else split, labels, fix)
    if data.holdout.by == "superpatch" or split in scan_splits(store, data.holdout).values():
        regions_of(store, data, superpatch, split)  # if its scans have no superpatch, other patients mend nothing
    raise StoreError(
        f"no labelled scan is in the split '{split}'",
        where=store.path,
        fix=f"set --data.holdout.patients.overrides, or use --labels.folds; {ONE_PATIENT}",
    )


def _unmarked(store: ScanStore, entries: Sequence[ScanEntry], which: str, labels: LabelsConfig, fix: str) -> StoreError:
    """The error of scans that are labelled, but not for enough of the classes."""
    missing = {
        name: [entry.scan_id for entry in entries if name not in (entry.labels or ())] for name in labels.classes
    }
    lacks = [f"{name} is missing in {some_of(scans, 5)}" for name, scans in missing.items() if scans]
    left = len(lacks) - MOST_CLASSES
    more = f"; {count_of(left, 'more class is', 'more classes are')} missing, too" if left > 0 else ""
    listed = "; ".join(lacks[:MOST_CLASSES]) + more
    some = ", or fine-tune with --labels.partial, which also uses scans that mark some of the classes"
    return StoreError(
        f"no {which} scan marks {'any' if labels.partial else 'all'} of: {some_of(labels.classes)} ({listed})",
        where=store.path,
        fix=fix + ("" if labels.partial else some),
    )


def _labelled(
    store: ScanStore, scans: Sequence[str], data: DataConfig, superpatch: Shape3, split: str
) -> tuple[Region, ...]:
    try:
        regions = regions_of(store, data, superpatch, split)
    except EmptySplitError:
        return ()
    among = frozenset(scans)  # there may be very many
    return tuple(region for region in regions if region.entry.scan_id in among)
