"""Batches of superpatches: their voxels, their order, what is read ahead, and damaged files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from maesil.config import RunConfig
from maesil.errors import StoreError
from maesil.sampling.dataset import ResumableLoader, SuperpatchDataset
from maesil.sampling.plan import Order, make_plan
from maesil.sampling.regions import regions_of
from maesil.store.scanstore import ScanStore

EDGE = (32, 32, 32)


def test_superpatch_dataset__reads_the_superpatch_of_its_place(tiny_store: Path, tiny_config: RunConfig) -> None:
    store = ScanStore(tiny_store)
    plan = make_plan(regions_of(store, tiny_config.data, EDGE, "train"), tiny_config.data, seed=0)
    dataset = SuperpatchDataset(store, plan, EDGE)
    item = dataset[17]
    assert item.hu.shape == (1, 1, *EDGE)
    assert item.places == [plan.place(17)]
    expected = store.read(item.places[0].scan_id, item.places[0].origin, EDGE)
    assert (item.hu[0, 0].numpy() == expected).all()
    resident = SuperpatchDataset(ScanStore(tiny_store, resident_gib=1.0), plan, EDGE)
    assert (resident[17].hu == item.hu).all()


class Counted:
    """Draws that note which batches were begun."""

    count = None

    def __init__(self) -> None:
        self.begun: list[list[int]] = []

    def begin(self, numbers: list[int], *, pinned: bool = False) -> Callable[[], list[int]]:
        self.begun.append(list(numbers))
        return lambda: numbers


@pytest.mark.parametrize(("batch", "ahead"), [(1, 8), (3, 3), (8, 1), (64, 1)])
def test_resumable_loader__reads_ahead_in_the_order_of_the_run(batch: int, ahead: int) -> None:
    draws = Counted()
    order = Order(batch, rank=1, world=2, start=5, stop=30)
    for number, numbers in enumerate(ResumableLoader(draws, order)):
        assert numbers == list(order)[number]
        assert len(draws.begun) == min(number + 1 + ahead, len(order))
    assert draws.begun == list(order)


def test_resumable_loader__a_batch_that_cannot_be_read_is_an_error_at_its_place(
    tiny_store: Path, tiny_config: RunConfig, tmp_path: Path
) -> None:
    shutil.copytree(tiny_store, tmp_path / "store")
    store = ScanStore(tmp_path / "store")
    plan = make_plan(regions_of(store, tiny_config.data, EDGE, "train"), tiny_config.data, seed=0)
    lost = plan.place(5).scan_id
    for shard in (tmp_path / "store" / "scans" / lost / "0" / "c").rglob("*"):
        if shard.is_file():
            shard.write_bytes(shard.read_bytes()[:-5])
    first = next(number for number in range(20) if plan.place(number).scan_id == lost)
    loader = iter(ResumableLoader(SuperpatchDataset(store, plan, EDGE), Order(1, 0, 1, 0, 20)))
    for number in range(first):
        assert next(loader).numbers == [number]
    with pytest.raises(StoreError, match=f"'{lost}' cannot be read"):
        next(loader)
