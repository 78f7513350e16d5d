"""Crops around labelled voxels keep away from what is held out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from labelled import labelled_store
from maesil.sampling.config import DataConfig, HoldoutConfig
from maesil.sampling.labelled import Classes, ForegroundPlan, LabelledDataset, Marks, marks_of
from maesil.sampling.plan import make_plan
from maesil.sampling.regions import Region, overlap, regions_of
from maesil.shapes import Shape3
from maesil.store.scanstore import ScanStore
from maesil.tiling import Tiling

SUPERPATCH = (24, 24, 24)
CLASSES = Classes(("bright", "dark"))
DATA = DataConfig(flip_axes=(), padded_crops=False, holdout=HoldoutConfig(by="superpatch", held_tissue=0.05))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_store(tmp_path_factory.mktemp("labelled"))


def planned(store: ScanStore) -> ForegroundPlan:
    regions = regions_of(store, DATA, SUPERPATCH, "train")
    marks = [marks_of(store, CLASSES, region, 0) for region in regions]
    return ForegroundPlan(regions, marks, make_plan(regions, DATA, 0), 1.0, seed=0)


def held_out(store: ScanStore) -> dict[str, list[Shape3]]:
    """Scan to the origins of its validation and test superpatches."""
    held: dict[str, list[Shape3]] = {}
    for split in ("val", "test"):
        for region in regions_of(store, DATA, SUPERPATCH, split):
            held.setdefault(region.entry.scan_id, []).extend(tile.origin for tile in region.tiles)
    return held


def test_foreground_plan__no_crop_touches_a_held_out_superpatch(store: Path) -> None:
    scans = ScanStore(store)
    plan, held = planned(scans), held_out(scans)
    places = [plan.place(number) for number in range(300)]
    assert all(held[place.scan_id] for place in places)
    touching = [p for p in places if any(overlap(p.origin, tile, SUPERPATCH) for tile in held[p.scan_id])]
    assert not touching
    dataset = LabelledDataset(scans, CLASSES, plan, SUPERPATCH)
    assert all((dataset[number].labels > 0).any() for number in range(20)), "each still holds a labelled voxel"


def test_marks_of__labels_of_held_out_superpatches_decide_nothing(store: Path) -> None:
    held = held_out(ScanStore(store))

    class Altered(ScanStore):
        """The same store, with every voxel of the held-out superpatches labelled "dark"."""

        def read_labels(self, scan_id: str, start: Shape3, shape: Shape3) -> npt.NDArray[np.uint8]:
            whole = np.array(super().read_labels(scan_id, (0, 0, 0), self.entry(scan_id).shape))
            for origin in held[scan_id]:
                whole[tuple(slice(at, at + edge) for at, edge in zip(origin, SUPERPATCH, strict=True))] = 2
            padded = np.pad(whole, [(0, edge) for edge in shape])
            return padded[tuple(slice(at, at + edge) for at, edge in zip(start, shape, strict=True))]

    real, altered = ScanStore(store), Altered(store)
    scan = next(iter(held))
    shape = real.entry(scan).shape
    assert (real.read_labels(scan, (0, 0, 0), shape) != altered.read_labels(scan, (0, 0, 0), shape)).any()
    first, second = (LabelledDataset(one, CLASSES, planned(one), SUPERPATCH) for one in (real, altered))
    assert [first.plan.place(n) for n in range(300)] == [second.plan.place(n) for n in range(300)]
    assert all(first[number].labels.equal(second[number].labels) for number in range(20))


def test_marks_of__only_voxels_that_an_allowed_crop_can_hold(store: Path) -> None:
    """By brute force: a voxel counts where some superpatch inside the scan holds it and touches no held one."""
    scans = ScanStore(store)
    entry = replace(scans.entries[0], shape=(46, 40, 42))
    edge = 12
    # Nothing fits between the first held one and the end along S.
    held = ((24, 10, 10), (0, 18, 20))
    tiling = Tiling(entry.shape, (edge, edge, edge))
    region = Region(entry, tiling, (), held, scans.occupancy(entry.scan_id), partial=True)
    reachable = np.zeros(entry.shape, dtype=bool)
    for origin in np.ndindex(*(size - edge + 1 for size in entry.shape)):
        if region.is_allowed(origin):
            reachable[tuple(slice(at, at + edge) for at in origin)] = True

    class Full(ScanStore):
        """The same store, "bright" everywhere."""

        def read_labels(self, scan_id: str, start: Shape3, shape: Shape3) -> npt.NDArray[np.uint8]:
            return np.ones(shape, dtype=np.uint8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maesil.sampling.labelled.KEPT_VOXELS", reachable.size)
        marks = marks_of(Full(store), CLASSES, region, 0)
    np.testing.assert_array_equal(marks.voxels[1], np.argwhere(reachable))
    beside = np.array([45, 22, 22])
    assert reachable[tuple(beside)]
    assert not reachable[45, 15, 15]
    plan = ForegroundPlan([region], [Marks({1: beside[None]})], _Nothing(), 1.0, seed=0)
    origins = [plan.place(number).origin for number in range(50)]
    assert all(region.is_allowed(origin) for origin in origins)
    assert all(at <= b < at + edge for origin in origins for at, b in zip(origin, beside, strict=True))


class _Nothing:
    """A plan that is never asked."""

    def __len__(self) -> int:
        return 1

    def place(self, number: int) -> None:
        raise AssertionError(number)
