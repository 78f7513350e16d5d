"""The reference row for 2D models: what is left to them where whole slices are hidden."""

from __future__ import annotations

import math

import pytest
import torch

from maesil.grid import PatchGrid
from maesil.masking import DualMasking, Masking, PlaneMasking
from maesil.metrics import psnr
from maesil.models import CEILINGS, UNTRAINED
from maesil.models.slice_ceiling import SliceCeiling

GRID = PatchGrid((4, 4, 4), (2, 2, 2))


def ceiling(grid: PatchGrid = GRID, masking: Masking | None = None) -> SliceCeiling:
    return SliceCeiling(grid, masking or DualMasking())


def test_reconstruct__gives_the_mean_in_empty_slices_and_the_truth_elsewhere() -> None:
    superpatch = torch.full((1, 1, 4, 4, 4), 0.5)
    superpatch[:, :, 2:, :, :2] = 0.9
    mask = torch.tensor([[True, True, True, True, True, False, True, False]])  # the first plane, half of the second
    model = ceiling()
    rebuilt = model.reconstruct(superpatch, mask)
    assert rebuilt.volume[0, 0, :2].unique().tolist() == pytest.approx([0.3])
    assert torch.equal(rebuilt.volume[:, :, 2:], superpatch[:, :, 2:])
    # Of 32 + 16 masked voxels the 32 of the first two slices are off by 0.2: 32 * 0.04 / 48.
    assert psnr(rebuilt.volume, superpatch, rebuilt.mask) == pytest.approx(-10 * math.log10(0.08 / 3))
    assert -10 * math.log10(0.08 / 3) == pytest.approx(15.740, abs=1e-3)


def test_reconstruct__looks_at_each_superpatch_for_itself() -> None:
    superpatch = torch.rand(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True] * 4 + [True, False, True, False], [True, False, True, False] + [True] * 4])
    volume = ceiling().reconstruct(superpatch, mask).volume
    wrong = (volume != superpatch).flatten(3).any(dim=3)[:, 0]
    assert wrong.tolist() == [[True, True, False, False], [False, False, True, True]]


def test_reconstruct__under_plane_wise_masks_is_the_truth() -> None:
    grid, masking = PatchGrid((16, 16, 16), (4, 4, 4)), PlaneMasking()
    superpatch = torch.rand(3, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    model = ceiling(grid, masking)
    mask = model.draw_mask(3, torch.Generator().manual_seed(0))
    assert torch.equal(model.reconstruct(superpatch, mask).volume, superpatch)


def test_reconstruct__under_dual_masks_misses_two_thirds_of_the_masked_voxels() -> None:
    grid = PatchGrid((32, 32, 32), (8, 8, 8))
    superpatch = torch.full((4, 1, 32, 32, 32), 0.4)
    model = ceiling(grid)
    rebuilt = model.reconstruct(superpatch, model.draw_mask(4, torch.Generator().manual_seed(0)))
    missed = rebuilt.volume != superpatch
    assert not (missed & ~rebuilt.mask).any()
    assert missed.sum().item() / rebuilt.mask.sum().item() == pytest.approx(0.5 / 0.75)


def test_ceilings__stand_in_no_table_by_themselves_and_say_what_they_know() -> None:
    assert not set(CEILINGS) & set(UNTRAINED)
    models = [make(GRID, DualMasking()) for make in CEILINGS.values()]
    assert [type(model) for model in models] == [SliceCeiling]
    assert all(model.hints for model in models)
