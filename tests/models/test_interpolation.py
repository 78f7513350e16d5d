from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from maesil.grid import PatchGrid
from maesil.masking import AxisMasking, DualMasking
from maesil.metrics import psnr
from maesil.models.interpolation import FARTHEST, KERNEL, Interpolation
from maesil.models.mean import MeanFill

GRID = PatchGrid((16, 12, 8), (4, 4, 2))


def drawn(seed: int = 0, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 1, *GRID.superpatch, generator=generator), DualMasking().draw(batch, GRID, generator)


def test_reconstruct__is_the_weighted_mean_of_visible_voxels() -> None:
    superpatch, mask = drawn(batch=1)
    rebuilt = Interpolation(GRID, DualMasking()).reconstruct(superpatch, mask)
    voxels, hidden = superpatch[0, 0].double(), rebuilt.mask[0, 0]
    places = torch.stack(torch.meshgrid(*map(torch.arange, GRID.superpatch), indexing="ij"), -1).double()
    at = hidden.nonzero()[123]
    distance = (places[~hidden] - at) / torch.tensor(GRID.patch)
    weight = sum(share * torch.exp(-0.5 * distance.square().sum(-1) / sigma**2) for share, sigma in KERNEL)
    expected = (weight * voxels[~hidden]).sum() / weight.sum()
    assert rebuilt.volume[0, 0][tuple(at)].item() == pytest.approx(expected.item(), abs=1e-5)


def test_reconstruct__keeps_visible_voxels_and_constants() -> None:
    superpatch, mask = drawn()
    model = Interpolation(GRID, DualMasking())
    rebuilt = model.reconstruct(superpatch, mask)
    torch.testing.assert_close(rebuilt.volume[~rebuilt.mask], superpatch[~rebuilt.mask])
    flat = torch.full_like(superpatch, 0.3)
    torch.testing.assert_close(model.reconstruct(flat, mask).volume, flat)


def test_reconstruct__does_not_see_masked_voxels() -> None:
    superpatch, mask = drawn()
    model = Interpolation(GRID, DualMasking())
    first = model.reconstruct(superpatch, mask)
    blinded = superpatch.masked_fill(first.mask, float("nan"))
    torch.testing.assert_close(model.reconstruct(blinded, mask).volume, first.volume)


def test_reconstruct__far_from_every_visible_voxel_is_their_mean() -> None:
    grid = PatchGrid((64, 4, 4), (2, 2, 2))
    masking = AxisMasking(axis_ratio=0.95)
    superpatch = torch.rand(4, 1, *grid.superpatch, generator=torch.Generator().manual_seed(1))
    mask = masking.draw(4, grid, torch.Generator().manual_seed(2))
    rebuilt = Interpolation(grid, masking).reconstruct(superpatch, mask)
    assert rebuilt.volume.isfinite().all()
    visible = superpatch[0][~rebuilt.mask[0]]
    farthest = rebuilt.volume[0, 0, 0 if rebuilt.mask[0, 0, 0].all() else -1]
    torch.testing.assert_close(farthest, visible.mean().expand_as(farthest), atol=1e-4, rtol=0)
    assert FARTHEST > 0


def test_reconstruct__works_under_autocast() -> None:
    superpatch, mask = drawn()
    model = Interpolation(GRID, DualMasking())
    with torch.autocast("cpu", torch.bfloat16):
        cast = model.reconstruct(superpatch, mask).volume
    torch.testing.assert_close(cast, model.reconstruct(superpatch, mask).volume)


def test_reconstruct__beats_the_mean_by_three_decibels_on_real_ct() -> None:
    root = Path(os.environ.get("MAESIL_TEST_DATA", Path(__file__).parents[2] / ".." / "shared")) / "ct" / "corpus2mm"
    if not root.is_dir():
        pytest.skip(f"no test data at {root}: set MAESIL_TEST_DATA")
    hu = np.asarray(nibabel.load(root / "totalseg_example.nii.gz").dataobj, dtype=np.float32)
    unit = torch.from_numpy(((hu + 1000) / 2000).clip(0, 1)).permute(2, 1, 0)
    corners = [(i, j, k) for i in (0, 64) for j in (0, 64) for k in (0, 64)]
    superpatch = torch.stack([unit[None, i : i + 64, j : j + 64, k : k + 64] for i, j, k in corners])
    grid, masking = PatchGrid((64, 64, 64)), DualMasking()
    mask = masking.draw(8, grid, torch.Generator().manual_seed(0))
    scores = []
    for model in (MeanFill(grid, masking), Interpolation(grid, masking)):
        rebuilt = model.reconstruct(superpatch, mask)
        scores.append(psnr(rebuilt.volume, superpatch, rebuilt.mask))
    assert scores[1] > scores[0] + 3.0
