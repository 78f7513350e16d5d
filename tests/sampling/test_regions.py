"""Which superpatches belong to train, val and test."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maesil.config import RunConfig
from maesil.datasets.splits import SplitConfig
from maesil.errors import ConfigError, EmptySplitError, StoreError
from maesil.sampling.config import DataConfig, HoldoutConfig
from maesil.sampling.plan import make_plan
from maesil.sampling.regions import check_overrides, overlap, regions_of, solid_tiles, split_summary, tissue_share
from maesil.store.scanstore import ScanStore
from maesil.tiling import Tiling

EDGE = (32, 32, 32)


def test_check_overrides__of_patients_where_superpatches_are_held_out(tiny_store: Path) -> None:
    holdout = HoldoutConfig(by="superpatch", patients=SplitConfig(overrides={"d": "test"}))
    with pytest.raises(ConfigError, match=r"add --data\.holdout\.by patient"):
        check_overrides(ScanStore(tiny_store), holdout)


@pytest.mark.parametrize(
    ("val", "expected"),
    [
        (1, "4 scans to train on, except for held-out superpatches: 4 for validation, 4 for testing"),
        (0, "4 scans to train on, except for held-out superpatches: 0 for validation, 4 for testing"),
    ],
)
def test_split_summary__of_held_out_superpatches(tiny_store: Path, val: int, expected: str) -> None:
    holdout = HoldoutConfig(by="superpatch", test_superpatches=1, val_superpatches=val, held_tissue=0.2)
    data = DataConfig(store=tiny_store, holdout=holdout)
    assert split_summary(ScanStore(tiny_store), data, (16, 16, 16)) == expected


def test_split_summary__if_no_superpatch_is_held_out(tiny_store: Path) -> None:
    data = DataConfig(store=tiny_store, holdout=HoldoutConfig(by="superpatch", held_tissue=0.999), min_tissue=0.999)
    assert split_summary(ScanStore(tiny_store), data, (32, 32, 32)) == "4 scans to train on; no superpatch is held out"


def test_regions_of__patients_are_whole(tiny_store: Path, tiny_config: RunConfig) -> None:
    store = ScanStore(tiny_store)
    patients = {
        split: {region.entry.patient for region in regions_of(store, tiny_config.data, EDGE, split)}
        for split in ("train", "val", "test")
    }
    assert patients == {"train": {"a", "b"}, "val": {"c"}, "test": {"d"}}


def test_regions_of__held_out_superpatches_are_never_touched(tiny_store: Path) -> None:
    store = ScanStore(tiny_store)
    holdout = HoldoutConfig(by="superpatch", test_superpatches=1, val_superpatches=0, held_tissue=0.2)
    data = DataConfig(store=tiny_store, holdout=holdout)
    edge = (16, 16, 16)
    test = {region.entry.scan_id: region.tiles for region in regions_of(store, data, edge, "test")}
    assert all(len(tiles) == 1 for tiles in test.values())
    train = regions_of(store, data, edge, "train")
    assert all(region.partial for region in train)
    plan = make_plan(train, data, seed=0)
    for number in range(200):
        place = plan.place(number)
        assert not any(overlap(place.origin, tile.origin, edge) for tile in test[place.scan_id])
    again = regions_of(store, data, edge, "test")
    assert {region.entry.scan_id: region.tiles for region in again} == test


@pytest.mark.parametrize(
    ("asked", "edge", "expected"),
    [
        ((4, 1), 16, (4, 1)),
        ((40, 1), 16, (7, 1)),
        ((40, 40), 16, (4, 4)),
        ((2, 1), 32, (1, 0)),
        ((40, 0), 16, (8, 0)),
    ],
)
def test_regions_of__few_tiles_are_shared_between_test_and_val(
    tiny_store: Path, asked: tuple[int, int], edge: int, expected: tuple[int, int]
) -> None:
    """A tiny scan has eight tiles of 16^3 that do not touch each other, and one of 32^3."""
    store = ScanStore(tiny_store)
    holdout = HoldoutConfig(by="superpatch", test_superpatches=asked[0], val_superpatches=asked[1], held_tissue=0.2)
    data = DataConfig(store=tiny_store, holdout=holdout)
    counts = []
    for split in ("test", "val"):
        try:
            counts.append(len(regions_of(store, data, (edge,) * 3, split)[0].tiles))
        except EmptySplitError:
            counts.append(0)
    assert tuple(counts) == expected


def test_regions_of__train_only_datasets_are_never_scored(tiny_store: Path) -> None:
    store = ScanStore(tiny_store)
    (dataset,) = {entry.dataset for entry in store.entries}
    holdout = HoldoutConfig(train_only=(dataset,))
    data = DataConfig(store=tiny_store, holdout=holdout)
    assert len(regions_of(store, data, EDGE, "train")) == 4
    with pytest.raises(StoreError, match="belongs to the split 'test'"):
        regions_of(store, data, EDGE, "test")


def test_regions_of__skips_air(tiny_store: Path) -> None:
    store = ScanStore(tiny_store)
    data = DataConfig(store=tiny_store, holdout=HoldoutConfig(train_only=(store.entries[0].dataset,)))
    everything = regions_of(store, replace(data, min_tissue=0.0), (16, 16, 16), "train")
    bodies = regions_of(store, replace(data, min_tissue=0.5), (16, 16, 16), "train")
    for all_tiles, body in zip(everything, bodies, strict=True):
        assert 0 < len(body.tiles) < len(all_tiles.tiles)
        for tile in body.tiles:
            voxels = store.read(body.entry.scan_id, tile.origin, (16, 16, 16))
            assert (voxels > -500).mean() >= 0.45  # to the resolution of the occupancy blocks


@pytest.mark.parametrize(
    ("edge", "said"),
    [(512, r"smaller than a superpatch, .* the largest has \(\d+, \d+, \d+\) voxels"), (64, "nearly all air")],
)
def test_regions_of__says_why_no_superpatch_is_left(tiny_store: Path, edge: int, said: str) -> None:
    store = ScanStore(tiny_store)
    data = DataConfig(store=tiny_store, holdout=HoldoutConfig(by="patient"), min_tissue=0.99)
    with pytest.raises(EmptySplitError, match="belongs to the split 'train'") as raised:
        regions_of(store, data, (edge,) * 3, "train")
    assert re.search(said, raised.value.fix or "")


@pytest.mark.parametrize("split", ["train", "val"])
def test_regions_of__advises_to_put_a_patient_into_the_split(tiny_store: Path, split: str) -> None:
    patients = SplitConfig(fractions=(0.0, 0.0, 1.0))
    data = DataConfig(store=tiny_store, holdout=HoldoutConfig(by="patient", patients=patients))
    with pytest.raises(EmptySplitError, match=f"belongs to the split '{split}'") as raised:
        regions_of(ScanStore(tiny_store), data, EDGE, split)
    assert f"--data.holdout.patients.overrides PATIENT {split}" in str(raised.value.fix)
    assert "again" not in str(raised.value.fix), "a comparison or a first pre-training may be what is called"


@pytest.mark.parametrize("shape", [(70, 64, 80), (31, 100, 17), (16, 16, 16)])
@pytest.mark.parametrize("least", [0.0, 0.05, 0.25, 0.5])
def test_solid_tiles__are_those_of_the_share_of_tissue(shape: tuple[int, int, int], least: float) -> None:
    occupancy = np.random.default_rng(1).integers(0, 256, [-(-size // 16) for size in shape]).astype(np.uint8)
    occupancy[: len(occupancy) // 2] = 0
    tiling = Tiling(shape, (24, 32, 20))
    expected = [tile for tile in tiling if tissue_share(occupancy, tile.origin, tiling.tile) >= least]
    assert list(solid_tiles(tiling, occupancy, least)) == expected
