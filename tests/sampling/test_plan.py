"""Data order and augmentation are functions of (seed, number), for any number of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from maesil.ct.geometry import Geometry
from maesil.errors import StoreError
from maesil.sampling.augment import draw_generator, draw_generators, random_flips
from maesil.sampling.config import DataConfig
from maesil.sampling.plan import GridPlan, OnePass, Order, Place, RandomPlan
from maesil.sampling.regions import Region, overlap, tissue_share
from maesil.shapes import Shape3
from maesil.store.scanstore import OCCUPANCY_BLOCK, ScanEntry
from maesil.tiling import Tiling

EDGE = (32, 32, 32)


def region(scan_id: str, shape: Shape3, forbidden: tuple[Shape3, ...] = (), tissue: int = 255) -> Region:
    geometry = Geometry.from_parts(shape, (1.0, 1.0, 1.0))
    entry = ScanEntry(
        scan_id=scan_id, dataset="set", patient=scan_id, geometry=geometry, spacing_mm=(1.0, 1.0, 1.0), shape=shape,
        tissue_share=1.0, source_sha256="0" * 64, source_geometry=geometry,
    )  # fmt: skip
    blocks = [-(-size // OCCUPANCY_BLOCK) for size in shape]
    tiling = Tiling(shape, EDGE)
    tiles = tuple(tile for tile in tiling if tile.origin not in forbidden)
    return Region(entry, tiling, tiles, forbidden, np.full(blocks, tissue, dtype=np.uint8))


REGIONS = [region("a", (64, 96, 64)), region("b", (32, 32, 64))]


def test_grid_plan__every_superpatch_once_per_pass_in_a_new_order() -> None:
    plan = GridPlan(REGIONS, seed=1)
    assert len(plan) == 2 * 3 * 2 + 2
    first, second = ([plan.place(turn * len(plan) + i) for i in range(len(plan))] for turn in range(2))
    assert len(set(first)) == len(plan)
    assert set(first) == set(second)
    assert first != second


@pytest.mark.parametrize("plan", [GridPlan(REGIONS, 3), RandomPlan(REGIONS, 3, 0.0, None)], ids=["grid", "random"])
def test_place__is_a_function_of_the_number(plan: GridPlan | RandomPlan) -> None:
    numbers = list(range(40))
    forward = [plan.place(number) for number in numbers]
    assert [plan.place(number) for number in reversed(numbers)] == forward[::-1]


@pytest.mark.parametrize("plan", [GridPlan(REGIONS, 3), RandomPlan(REGIONS, 3, 0.0, None)], ids=["grid", "random"])
def test_order__ranks_together_see_what_one_process_sees(plan: GridPlan | RandomPlan) -> None:
    alone = [n for batch in Order(batch=4, rank=0, world=1, start=0, stop=6) for n in batch]
    ranks = [list(Order(batch=2, rank=rank, world=2, start=0, stop=6)) for rank in range(2)]
    together = [number for step in zip(*ranks, strict=True) for batch in step for number in batch]
    assert together == alone
    assert [plan.place(number) for number in together] == [plan.place(number) for number in alone]


def test_order__resumes_in_the_middle() -> None:
    whole = list(Order(3, 1, 2, 0, 10))
    assert list(Order(3, 1, 2, 4, 10)) == whole[4:]
    assert len(Order(3, 1, 2, 4, 10)) == 6


@pytest.mark.parametrize("count", [0, 1, 5, 10, 16, 17])
@pytest.mark.parametrize(("batch", "world"), [(8, 1), (3, 1), (2, 2), (3, 4), (1, 3)])
def test_one_pass__every_draw_once_on_any_number_of_ranks(count: int, batch: int, world: int) -> None:
    ranks = [list(OnePass(count, batch, rank, world)) for rank in range(world)]
    drawn = sorted(number for batches in ranks for numbers in batches for number in numbers)
    assert [number for number in drawn if number < count] == list(range(count))
    assert len(drawn) < count + world, "at most one to fill up on each rank but one"
    # Ranks wait for each other: none may be without a batch that another has.
    assert len({tuple(map(len, batches)) for batches in ranks}) == 1
    assert {len(OnePass(count, batch, rank, world)) for rank in range(world)} == {len(ranks[0])}
    assert all(0 < len(numbers) <= batch for batches in ranks for numbers in batches)


@pytest.mark.parametrize(
    ("origin", "inside"), [((0, 0, 0), (32, 32, 20)), ((32, 64, 0), (32, 6, 20)), ((96, 0, 0), (0, 32, 20))]
)
def test_place__how_far_it_lies_inside(origin: Shape3, inside: Shape3) -> None:
    """In a scan of 70 voxels and of 20, whose padding follows."""
    assert Place("a", origin).inside((70, 70, 20), EDGE) == inside


def test_random_plan__never_touches_what_is_held_out() -> None:
    held = (32, 32, 32)
    plan = RandomPlan([region("a", (96, 96, 96), (held,))], seed=0, min_tissue=0.0, per_pass=None)
    places = [plan.place(number) for number in range(300)]
    assert not any(overlap(place.origin, held, EDGE) for place in places)
    assert len({place.origin for place in places}) > 100


def test_random_plan__draws_scans_by_their_size() -> None:
    plan = RandomPlan(REGIONS, seed=0, min_tissue=0.0, per_pass=None)
    share = np.mean([plan.place(number).scan_id == "a" for number in range(2000)])
    assert share == pytest.approx(12 / 14, abs=0.03)


def test_random_plan__crops_of_small_scans_begin_at_their_corner() -> None:
    plan = RandomPlan([region("small", (20, 20, 40))], seed=0, min_tissue=0.0, per_pass=None)
    origins = {plan.place(number).origin for number in range(100)}
    assert {origin[:2] for origin in origins} == {(0, 0)}
    assert max(origin[2] for origin in origins) <= 8


def test_random_plan__padded_crops_reach_as_far_as_the_tiling() -> None:
    plan = RandomPlan([region("a", (40, 32, 64))], seed=0, min_tissue=0.0, per_pass=None, padded=True)
    origins = np.array([plan.place(number).origin for number in range(1000)])
    assert origins.min(axis=0).tolist() == [0, 0, 0]
    assert origins.max(axis=0).tolist() == [32, 0, 32], "the last tile of each axis begins there"


def test_random_plan__padded_crops_are_not_nearly_air() -> None:
    one = region("a", (36, 36, 36))
    plan = RandomPlan([one], seed=0, min_tissue=0.3, per_pass=None, padded=True)
    assert min(one.tissue(plan.place(number).origin) for number in range(200)) >= 0.3


def test_random_plan__refuses_regions_without_a_superpatch() -> None:
    empty = Region(REGIONS[0].entry, REGIONS[0].tiling, (), (), REGIONS[0].occupancy)
    with pytest.raises(StoreError, match="no superpatch"):
        RandomPlan([empty], seed=0, min_tissue=0.0, per_pass=None)


def test_tissue_share__weighs_blocks_by_their_overlap_and_padding_as_air() -> None:
    occupancy = np.zeros((2, 2, 2), dtype=np.uint8)
    occupancy[0, 0, 0] = 255
    assert tissue_share(occupancy, (0, 0, 0), (16, 16, 16)) == pytest.approx(1.0)
    assert tissue_share(occupancy, (8, 0, 0), (16, 16, 16)) == pytest.approx(0.5)
    assert tissue_share(occupancy, (0, 0, 0), (64, 64, 64)) == pytest.approx(1 / 64)
    assert tissue_share(occupancy, (32, 32, 32), (16, 16, 16)) == 0.0


def test_random_flips__flip_half_of_the_rows_along_each_axis() -> None:
    x = torch.arange(2 * 3 * 4).float().view(1, 1, 2, 3, 4).expand(400, -1, -1, -1, -1)
    streams = draw_generators(x.device, 0, range(400))
    flipped = random_flips(x, (0, 1, 2), streams)
    kinds = {tuple(row.flatten().tolist()) for row in flipped}
    assert len(kinds) == 8
    assert (flipped[:, 0, 0, 0, 0] == 0).float().mean().item() == pytest.approx(1 / 8, abs=0.05)
    assert torch.equal(random_flips(x, (), streams), x)


def test_random_flips__of_a_superpatch_do_not_depend_on_those_beside_it() -> None:
    x = torch.rand(6, 1, 2, 3, 4)
    both = random_flips(x, (0, 1, 2), draw_generators(x.device, 0, range(6)))
    alone = [random_flips(x[n : n + 1], (0, 1, 2), draw_generators(x.device, 0, [n])) for n in range(6)]
    assert torch.equal(both, torch.cat(alone))


@pytest.mark.parametrize("axes", [(3,), (-1,)])
def test_data_config__knows_three_axes(axes: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError, match="should be 0, 1 or 2"):
        DataConfig(flip_axes=axes)


def test_data_config__flips_each_axis_once() -> None:
    """Two flips of an axis would be none."""
    assert DataConfig(flip_axes=(2, 0)).flip_axes == (2, 0)
    assert DataConfig(flip_axes=(0, 1, 0)).flip_axes == (0, 1)


def test_draw_generator__neighbouring_numbers_give_unrelated_streams() -> None:
    device = torch.device("cpu")
    draws = torch.stack([torch.rand(64, generator=draw_generator(device, 0, n)) for n in range(64)])
    assert torch.equal(draws[5], torch.rand(64, generator=draw_generator(device, 0, 5)))
    assert not torch.equal(draws[5], torch.rand(64, generator=draw_generator(device, 1, 5)))
    assert torch.corrcoef(draws).fill_diagonal_(0).abs().max() < 0.6


@pytest.mark.parametrize("number", range(0, 200, 7))
def test_random_plan__draws_what_numpys_choice_draws(number: int) -> None:
    shares = np.array([12.0, 2.0]) / 14.0
    expected = np.random.default_rng((3, number)).choice(2, p=shares)
    assert RandomPlan(REGIONS, 3, 0.0, None).place(number).scan_id == "ab"[int(expected)]
