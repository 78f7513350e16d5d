"""Where a store's superpatches may be drawn from: which tiles of which scans belong to train, val and test."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool

from maesil.catalog import nearest
from maesil.counts import count_of, some_of
from maesil.datasets.splits import SPLITS
from maesil.errors import ConfigError, EmptySplitError, StoreError
from maesil.sampling.config import DataConfig, HoldoutConfig
from maesil.sampling.holdout import scan_splits
from maesil.shapes import Shape3
from maesil.store.scanstore import OCCUPANCY_BLOCK, ScanEntry, ScanStore
from maesil.tiling import Tile, Tiles, Tiling


@dataclass(frozen=True)
class Region:
    """The part of one scan that belongs to a split.

    Attributes:
        entry: Scan that it is part of.
        tiling: Grid of superpatches of the scan.
        tiles: Superpatches of the grid in this split that are not nearly all air.
        forbidden: Origins of superpatches held out for other splits; no crop may touch them.
        occupancy: Share of tissue per block of 16^3 voxels, 0 to 255.
        partial: Whether other superpatches of the scan belong to another split.
    """

    entry: ScanEntry
    tiling: Tiling
    tiles: Sequence[Tile]
    forbidden: tuple[Shape3, ...]
    occupancy: npt.NDArray[np.uint8]
    partial: bool = False

    def tissue(self, origin: Shape3) -> float:
        """Share of tissue in the superpatch at `origin`, to the resolution of the occupancy blocks; padding is air."""
        return tissue_share(self.occupancy, origin, self.tiling.tile)

    def is_allowed(self, origin: Shape3) -> bool:
        """Whether a superpatch at `origin` shares no voxel with one that is held out for another split."""
        return not any(overlap(origin, held, self.tiling.tile) for held in self.forbidden)

    def allowed_origins(self, low: Shape3, high: Shape3) -> Bool[np.ndarray, "d h w"]:
        """`is_allowed` of all origins from `low` up to, but not including, `high`."""
        allowed = np.ones([stop - start for start, stop in zip(low, high, strict=True)], dtype=np.bool_)
        for held in self.forbidden:
            touching = [
                slice(max(0, at - size + 1 - start), max(0, at + size - start))
                for at, size, start in zip(held, self.tiling.tile, low, strict=True)
            ]
            allowed[tuple(touching)] = False
        return allowed


def tissue_share(occupancy: npt.NDArray[np.uint8], origin: Shape3, shape: Shape3) -> float:
    """Share of tissue in a box, from whole occupancy blocks; a block that the box cuts counts in part.

    Args:
        occupancy: Share of tissue per block of 16^3 voxels, 0 to 255.
        origin: First voxel of the box.
        shape: Voxels of the box.
    """
    weights = [_block_weights(origin[axis], shape[axis], occupancy.shape[axis]) for axis in range(3)]
    tissue = np.einsum("ijk,i,j,k->", occupancy.astype(np.float64), *weights) / 255.0
    return float(tissue / (shape[0] * shape[1] * shape[2]))


def _block_weights(start: int, length: int, blocks: int) -> npt.NDArray[np.float64]:
    edges = np.arange(blocks + 1) * OCCUPANCY_BLOCK
    covered = np.minimum(edges[1:], start + length) - np.maximum(edges[:-1], start)
    weights: npt.NDArray[np.float64] = np.maximum(covered, 0).astype(np.float64)
    return weights


def overlap(first: Shape3, second: Shape3, shape: Shape3) -> bool:
    """Whether two boxes of the same shape share a voxel."""
    return all(abs(a - b) < size for a, b, size in zip(first, second, shape, strict=True))


def regions_of(store: ScanStore, config: DataConfig, superpatch: Shape3, split: str) -> tuple[Region, ...]:
    """The regions of a split, one per scan that has any.

    Args:
        store: Prepared store.
        config: Settings of what is held out, and what counts as air.
        superpatch: Shape of a superpatch in voxels.
        split: Name of the split: "train", "val" or "test".

    Raises:
        StoreError: The split is unknown, or the store has no scan.
        EmptySplitError: The split has no superpatch.
    """
    if split not in SPLITS:
        raise StoreError(f"unknown split '{split}'", fix=f"choose one of: {', '.join(SPLITS)}")
    if not store.entries:
        raise StoreError(
            "this store has no scans", where=store.path, fix="see why in its quarantine.jsonl; prepare others"
        )
    if config.holdout.by == "patient":
        splits = scan_splits(store, config.holdout)
        entries = [entry for entry in store.entries if splits[entry.scan_id] == split]
        found = [_whole(store, entry, config, superpatch) for entry in entries]
    else:
        found = [_by_superpatch(store, entry, config, superpatch, split) for entry in store.entries]
    regions = tuple(region for region in found if region.tiles)
    if not regions:
        raise EmptySplitError(
            f"no superpatch of {superpatch} voxels belongs to the split '{split}'",
            where=store.path,
            fix=_advice(store, config.holdout, split, superpatch),
        )
    return regions


def _advice(store: ScanStore, holdout: HoldoutConfig, split: str, superpatch: Shape3) -> str:
    if holdout.by == "superpatch":
        return (
            "its scans have too few superpatches to hold any out: use smaller superpatches, prepare the scans at a "
            "smaller spacing, or hold out patients (--data.holdout.by patient)"
        )
    filled = set(_splits(store, holdout).values())
    if split in filled:
        largest = max(store.entries, key=lambda entry: math.prod(entry.shape)).shape
        if any(size < edge for size, edge in zip(largest, superpatch, strict=True)):
            return (
                f"its scans are smaller than a superpatch, which is mostly padding: the largest has {largest} voxels; "
                "use smaller superpatches (the preset demo has 64^3), or prepare the scans at a smaller spacing"
            )
        return "its scans are nearly all air: use smaller superpatches, or a smaller --data.min-tissue"
    held_out = (
        f"name patients with --data.holdout.patients.overrides PATIENT {split}, or hold out superpatches with "
        "--data.holdout.by superpatch, in a new pre-training or comparison"
    )
    can_score_val = split == "test" and "val" in filled
    return f"score the patients for validation with --split val; or {held_out}" if can_score_val else held_out


def training_scans(store: ScanStore, holdout: HoldoutConfig) -> tuple[ScanEntry, ...]:
    """The scans seen in training: those of training patients, or all of them if superpatches are held out."""
    if holdout.by == "superpatch":
        return tuple(store.entries)
    splits = scan_splits(store, holdout)
    return tuple(entry for entry in store.entries if splits[entry.scan_id] == "train")


def split_summary(store: ScanStore, config: DataConfig, superpatch: Shape3) -> str:
    """One line on what is trained on and what is held out."""
    if config.holdout.by == "superpatch":
        scans = f"{count_of(len(store.entries), 'scan')} to train on"
        val, test = (_superpatch_count(store, config, superpatch, split) for split in ("val", "test"))
        if not val + test:
            return f"{scans}; no superpatch is held out"
        return f"{scans}, except for held-out superpatches: {val} for validation, {test} for testing"
    count = Counter(_splits(store, config.holdout).values())
    return (
        f"{count_of(count['train'], 'patient')} to train on, {count['val']} for validation, {count['test']} for testing"
    )


def split_to_score(store: ScanStore, config: DataConfig, superpatch: Shape3) -> str | None:
    """The split to evaluate after training: "test", "val" if nothing is for testing, None if nothing is held out."""
    return next((split for split in ("test", "val") if _has(store, config, superpatch, split)), None)


def _has(store: ScanStore, config: DataConfig, superpatch: Shape3, split: str) -> bool:
    """Whether a split has a superpatch."""
    return _superpatch_count(store, config, superpatch, split) > 0


def _superpatch_count(store: ScanStore, config: DataConfig, superpatch: Shape3, split: str) -> int:
    """Number of superpatches of a split's grid, without those of air."""
    try:
        return sum(len(region.tiles) for region in regions_of(store, config, superpatch, split))
    except EmptySplitError:
        return 0


def _splits(store: ScanStore, holdout: HoldoutConfig) -> dict[str, str]:
    """Map from patient to split."""
    splits = scan_splits(store, holdout)
    return {entry.patient: splits[entry.scan_id] for entry in store.entries}


def check_overrides(store: ScanStore, holdout: HoldoutConfig) -> None:
    """Refuses overrides of unknown patients, or that nothing reads: a test patient would be trained on.

    Raises:
        ConfigError: A patient is unknown; the message names the nearest one, or the existing ones. Or superpatches of
            every scan are held out, and no patient.
    """
    if holdout.by == "superpatch":
        if holdout.patients.overrides:
            raise ConfigError(
                "--data.holdout.patients.overrides assigns patients to splits, and this run holds out superpatches of "
                "every scan",
                fix="add --data.holdout.by patient, or leave out the overrides",
            )
        return
    patients = sorted({entry.patient for entry in store.entries})
    for name, split in holdout.patients.overrides.items():
        if name not in patients:
            guess = nearest(name, patients)
            raise ConfigError(
                f"no patient is called '{name}', which --data.holdout.patients.overrides assigns to {split}",
                where=store.path,
                fix=f"did you mean '{guess}'?" if guess else f"its patients: {some_of(patients)}",
            )


def split_warnings(store: ScanStore, holdout: HoldoutConfig) -> list[str]:
    """Warnings about a split: patients in several, nobody or only one to test on, or none who is held out."""
    patients = _splits(store, holdout)
    if holdout.by == "superpatch":
        unseen = "scores will say nothing about unseen patients; to hold patients out: --data.holdout.by patient"
        return [f"all {len(patients)} patients are trained on: {unseen}"] if len(patients) > 1 else []
    return [*_divided_patients(store, holdout), *_untested(patients)]


def _divided_patients(store: ScanStore, holdout: HoldoutConfig) -> list[str]:
    """A warning about patients with scans in several splits, which only splits given with the scans can cause."""
    of_patient: dict[str, set[str]] = {}
    splits = scan_splits(store, holdout)
    for entry in store.entries:
        of_patient.setdefault(entry.patient, set()).add(splits[entry.scan_id])
    divided = sorted(name for name, found in of_patient.items() if len(found) > 1)
    if not divided:
        return []
    put = "put each into one with --data.holdout.patients.overrides PATIENT SPLIT, unless these are different people"
    return [f"scans of {some_of(divided)} are in several splits, as their collections or --data.holdout say: {put}"]


def _untested(patients: Mapping[str, str]) -> list[str]:
    """A warning if no patient is for testing, or only one."""
    tested = [name for name, split in patients.items() if split == "test"]
    if len(tested) == 1:
        named = "name more with --data.holdout.patients.overrides PATIENT test"
        return [f"one patient is for testing: scores of one say little about others, and have no interval; {named}"]
    if not patients or tested:
        return []
    hold_out = "pre-train with --data.holdout.by superpatch to hold out superpatches"
    if len(patients) == 1:
        return [f"the only patient is trained on, so there is nothing to evaluate: {hold_out}"]
    return [
        f"none of the {len(patients)} patients is for testing: name some with --data.holdout.patients.overrides "
        f"PATIENT test (patients: {some_of(sorted(patients))}), or {hold_out}"
    ]


def _whole(store: ScanStore, entry: ScanEntry, config: DataConfig, superpatch: Shape3) -> Region:
    tiling = Tiling(entry.shape, superpatch)
    occupancy = store.occupancy(entry.scan_id)
    return Region(entry, tiling, solid_tiles(tiling, occupancy, config.min_tissue), (), occupancy)


def _by_superpatch(store: ScanStore, entry: ScanEntry, config: DataConfig, superpatch: Shape3, split: str) -> Region:
    tiling = Tiling(entry.shape, superpatch)
    occupancy = store.occupancy(entry.scan_id)
    held = _held_tiles(entry, tiling, occupancy, config.holdout)
    if split != "train":
        return Region(entry, tiling, held[split], (), occupancy, partial=True)
    kept = {tile.index: tile.origin for tiles in held.values() for tile in tiles}
    solid = solid_tiles(tiling, occupancy, config.min_tissue)
    free = Tiles(tiling, tuple(number for number in solid.numbers if number not in kept))
    return Region(entry, tiling, free, tuple(kept.values()), occupancy, partial=True)


def solid_tiles(tiling: Tiling, occupancy: npt.NDArray[np.uint8], least: float) -> Tiles:
    """The tiles with at least this share of tissue, as computed by `tissue_share`."""
    shares = _tile_shares(tiling, occupancy)
    # Shares of all tiles at once are rounded differently: those at the limit are computed again.
    for number in np.flatnonzero(np.abs(shares - least) < 1e-9):
        shares[number] = tissue_share(occupancy, tiling[int(number)].origin, tiling.tile)
    return Tiles(tiling, tuple(np.flatnonzero(shares >= least).tolist()))


def _tile_shares(tiling: Tiling, occupancy: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Share of tissue of every tile, row-major: the sum over a box's blocks is one product per axis."""
    tissue: npt.NDArray[np.float64] = occupancy / np.float64(255.0)
    for axis in range(3):
        edge = tiling.tile[axis]
        starts = np.arange(tiling.counts[axis]) * (edge - tiling.overlap[axis])
        weights = np.stack([_block_weights(int(start), edge, occupancy.shape[axis]) for start in starts])
        # Tiles of this axis go last and the next axis comes first: after three rounds the order is restored.
        tissue = np.tensordot(tissue, weights, axes=(0, 1))
    edges = tiling.tile
    return tissue.reshape(-1) / (edges[0] * edges[1] * edges[2])


def _held_tiles(
    entry: ScanEntry, tiling: Tiling, occupancy: npt.NDArray[np.uint8], config: HoldoutConfig
) -> dict[str, tuple[Tile, ...]]:
    """Whole tiles with tissue, spread apart, no two of them adjacent, so that training reaches all around each."""
    if entry.dataset in config.train_only:
        return {"val": (), "test": ()}
    solid = solid_tiles(tiling, occupancy, config.held_tissue)
    whole = [tile for tile in solid if all(s.stop == t for s, t in zip(tile.local, tiling.tile, strict=True))]
    chosen = _spread(whole, tiling.tile, config.test_superpatches + config.val_superpatches)
    tested = _tested(len(chosen), config)
    return {"test": tuple(chosen[:tested]), "val": tuple(chosen[tested:])}


def _tested(held: int, config: HoldoutConfig) -> int:
    """Number of held-out tiles for test: in proportion if there are too few; a single tile is for test."""
    wanted = config.test_superpatches + config.val_superpatches
    share = round(held * config.test_superpatches / wanted)
    spared = 1 if config.val_superpatches else 0  # a scan with two tiles or more reserves one for validation
    return max(min(1, held), min(share, held - spared))


def _spread(tiles: Sequence[Tile], shape: Shape3, count: int) -> list[Tile]:
    """Up to `count` tiles that do not touch each other, each as far as possible from the previous ones."""
    chosen: list[Tile] = []
    rest = list(tiles)
    while rest and len(chosen) < count:
        farthest = max(rest, key=lambda tile: (_distance(tile, chosen), -tile.index))
        chosen.append(farthest)
        rest = [tile for tile in rest if not _touch(tile.origin, farthest.origin, shape)]
    return chosen


def _distance(tile: Tile, others: Sequence[Tile]) -> float:
    gaps = [np.linalg.norm(np.subtract(tile.origin, other.origin)) for other in others]
    return float(min(gaps, default=0.0))


def _touch(first: Shape3, second: Shape3, shape: Shape3) -> bool:
    return all(abs(a - b) <= size for a, b, size in zip(first, second, shape, strict=True))
