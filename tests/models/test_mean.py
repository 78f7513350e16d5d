from __future__ import annotations

import torch

from maesil.grid import PatchGrid
from maesil.masking import DualMasking
from maesil.models.mean import MeanFill

GRID = PatchGrid((16, 16, 16), (4, 4, 4))


def drawn(seed: int = 0, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 1, 16, 16, 16, generator=generator), DualMasking().draw(batch, GRID, generator)


def test_reconstruct__fills_with_the_mean_of_each_superpatchs_visible_voxels() -> None:
    superpatch, mask = drawn()
    rebuilt = MeanFill(GRID, DualMasking()).reconstruct(superpatch, mask)
    for voxels, volume, hidden in zip(superpatch, rebuilt.volume, rebuilt.mask, strict=True):
        torch.testing.assert_close(volume[~hidden], voxels[~hidden])
        torch.testing.assert_close(volume[hidden], voxels[~hidden].mean().expand(int(hidden.sum())))


def test_reconstruct__does_not_see_masked_voxels() -> None:
    superpatch, mask = drawn()
    model = MeanFill(GRID, DualMasking())
    first = model.reconstruct(superpatch, mask)
    blinded = superpatch.masked_fill(first.mask, float("nan"))
    torch.testing.assert_close(model.reconstruct(blinded, mask).volume, first.volume)


def test_mean__has_nothing_to_train() -> None:
    model = MeanFill(GRID, DualMasking())
    assert not list(model.parameters())
