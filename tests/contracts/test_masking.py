"""Every masking strategy keeps the promises of `maesil.masking.Masking`."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maesil.config import RunConfig, from_dict, to_dict
from maesil.errors import ConfigError
from maesil.grid import PatchGrid
from maesil.masking import MASKINGS, Masking
from maesil.masking.base import strides

GRIDS = [
    PatchGrid(),
    PatchGrid((64, 64, 64)),
    PatchGrid((32, 48, 64), (8, 16, 8)),
    PatchGrid((128, 128, 128), (16,) * 3),
]

every_masking = pytest.mark.parametrize("masking", [kind() for kind in MASKINGS.values()], ids=list(MASKINGS))
every_grid = pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: "x".join(map(str, grid.shape)))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@every_masking
@every_grid
def test_draw__every_row_has_the_same_visible_count(masking: Masking, grid: PatchGrid) -> None:
    mask = masking.draw(33, grid, seeded(1))
    assert mask.shape == (33, grid.tokens)
    assert mask.dtype == torch.bool
    assert (~mask).sum(1).unique().tolist() == [masking.visible_count(grid)]
    assert 0 < masking.visible_count(grid) < grid.tokens


@every_masking
def test_draw__true_is_masked(masking: Masking) -> None:
    mask = masking.draw(8, PatchGrid(), seeded(1))
    assert mask.float().mean().item() == pytest.approx(masking.ratio, abs=0.01)


@every_masking
def test_draw__is_a_function_of_the_generator(masking: Masking) -> None:
    grid = PatchGrid()
    torch.manual_seed(0)
    first = masking.draw(4, grid, seeded(7))
    torch.manual_seed(99)  # the global stream must not matter
    assert torch.equal(first, masking.draw(4, grid, seeded(7)))
    assert not torch.equal(first, masking.draw(4, grid, seeded(8)))


@every_masking
def test_draw__rows_differ(masking: Masking) -> None:
    mask = masking.draw(64, PatchGrid(), seeded(3))
    assert len({tuple(row.tolist()) for row in mask}) > 1


@every_masking
def test_draw__leaves_global_randomness_alone(masking: Masking) -> None:
    before = torch.get_rng_state()
    masking.draw(4, PatchGrid(), seeded(7))
    assert torch.equal(before, torch.get_rng_state())


@every_masking
def test_masking__is_its_own_configuration(masking: Masking) -> None:
    config = replace(RunConfig(), masking=masking)
    assert from_dict(to_dict(config)) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        masking.name = "other"


@pytest.mark.parametrize("kind", MASKINGS.values(), ids=list(MASKINGS))
@pytest.mark.parametrize("ratio", [-0.1, 0.0, 1.0, 1.5])
def test_masking__refuses_ratios_outside_0_and_1(kind: type[Masking], ratio: float) -> None:
    ratios = [field.name for field in dataclasses.fields(kind) if field.name.endswith("_ratio")]  # type: ignore[arg-type]
    assert ratios
    for name in ratios:
        with pytest.raises(ConfigError, match="ratio"):
            kind(**{name: ratio})


@every_masking
def test_draw__refuses_a_grid_it_cannot_mask(masking: Masking) -> None:
    with pytest.raises(ConfigError, match="of 1 tokens"):
        masking.draw(1, PatchGrid((8, 8, 8)), seeded(0))


def superpatches_of(mask: torch.Tensor, grid: PatchGrid) -> torch.Tensor:
    """The masks (s, n) of all superpatches of a scan that start at whole strides."""
    for axis, (size, step) in enumerate(zip(grid.shape, strides(grid), strict=True)):
        mask = mask.unfold(axis, size, step)
    return mask.flatten(3).flatten(0, 2)


def scan_of(grid: PatchGrid) -> tuple[int, int, int]:
    depth, height, width = strides(grid)
    return (5 * depth, 3 * height, 4 * width)


@every_masking
@every_grid
def test_draw_scan__every_superpatch_at_a_stride_has_the_same_visible_count(masking: Masking, grid: PatchGrid) -> None:
    rows = superpatches_of(masking.draw_scan(scan_of(grid), grid, seeded(1)), grid)
    assert len(rows) > 8
    (visible,) = (~rows).sum(1).unique().tolist()
    assert visible == pytest.approx(masking.visible_count(grid), rel=0.15)


@every_masking
def test_draw_scan__is_a_function_of_the_generator(masking: Masking) -> None:
    grid, patches = PatchGrid(), (40, 32, 16)
    before = torch.get_rng_state()
    first = masking.draw_scan(patches, grid, seeded(7))
    assert first.shape == patches
    assert first.dtype == torch.bool
    assert torch.equal(first, masking.draw_scan(patches, grid, seeded(7)))
    assert any(not torch.equal(first, masking.draw_scan(patches, grid, seeded(seed))) for seed in (8, 9))
    assert torch.equal(before, torch.get_rng_state())


@every_masking
def test_draw_scan__refuses_what_it_cannot_mask(masking: Masking) -> None:
    with pytest.raises(ConfigError, match="is not made of superpatches"):
        masking.draw_scan((17, 16, 16), PatchGrid(), seeded(0))
    with pytest.raises(ConfigError, match="of 1 tokens"):
        masking.draw_scan((3, 3, 3), PatchGrid((8, 8, 8)), seeded(0))


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["plane", "dual"]),
    share=st.sampled_from([0.25, 0.5, 0.75]),
    depth=st.integers(2, 9),
    width=st.integers(2, 9),
    seed=st.integers(0, 2**32),
)
def test_draw__planes_outside_the_block_hide_the_same_share(
    name: str, share: float, depth: int, width: int, seed: int
) -> None:
    grid = PatchGrid((depth * 2, width * 2, width * 2), (2, 2, 2))
    masking = MASKINGS[name](plane_ratio=share)  # type: ignore[call-arg]
    planes = masking.draw(5, grid, seeded(seed)).view(5, depth, -1)
    full = planes.all(-1)
    expected = round(share * grid.tokens_per_plane)
    assert set(planes.sum(-1)[~full].tolist()) == {expected}
