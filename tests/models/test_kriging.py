from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from maesil.grid import PatchGrid
from maesil.masking import DualMasking
from maesil.models.interpolation import Interpolation
from maesil.models.kriging import Kriging, cosine_matrix, spectral

GRID = PatchGrid((8, 12, 8), (2, 4, 2))


def drawn(grid: PatchGrid = GRID, seed: int = 0, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 1, *grid.superpatch, generator=generator), DualMasking().draw(batch, grid, generator)


def test_spectral__with_gain_one_is_the_identity_and_scales_cosine_frequencies() -> None:
    fields = torch.rand(2, 3, 4, 6, 5, dtype=torch.float64)
    cosines = [cosine_matrix(size, fields) for size in (4, 6, 5)]
    gain = torch.rand(4, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(spectral(fields, torch.ones_like(gain), cosines), fields)
    scaled = dctn(spectral(fields, gain, cosines).numpy(), axes=(2, 3, 4), norm="ortho")
    np.testing.assert_allclose(scaled, dctn(fields.numpy(), axes=(2, 3, 4), norm="ortho") * gain.numpy(), atol=1e-12)


def test_complete__is_the_conditional_mean_of_the_field() -> None:
    model = Kriging(GRID, DualMasking())
    generator = torch.Generator().manual_seed(3)
    shape = (4, 5, 3)
    unknown = (torch.rand(1, 1, *shape, generator=generator) < 0.5).double()
    known = torch.rand(1, 1, *shape, generator=generator).double() * (1 - unknown)
    cosines = [cosine_matrix(size, known) for size in shape]
    units = torch.eye(60, dtype=torch.float64).view(60, 1, *shape)
    precision = spectral(units, model._precision(known), cosines).view(60, 60)
    hidden = unknown.flatten().bool()
    expected = -torch.linalg.solve(
        precision[hidden][:, hidden], precision[hidden][:, ~hidden] @ known.flatten()[~hidden]
    )
    torch.testing.assert_close(model._complete(known, unknown).flatten()[hidden], expected, atol=1e-3, rtol=0)


def test_complete__is_solved_where_a_block_of_planes_is_hidden() -> None:
    """Long reaches into a hidden block are what takes many steps; the reference is the covariance's own formula."""
    grid = PatchGrid((32, 16, 16), (8, 8, 8))
    model, shape = Kriging(grid, DualMasking()), (16, 8, 8)
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(1, 1, *shape, generator=generator).cumsum(2).double()
    unknown = torch.zeros(1, 1, *shape, dtype=torch.float64)
    unknown[:, :, 4:12] = 1.0
    known = truth * (1 - unknown)
    cosines = [cosine_matrix(size, known) for size in shape]
    units = torch.eye(1024, dtype=torch.float64).view(1024, 1, *shape)
    covariance = spectral(units, 1 / model._precision(known), cosines).view(1024, 1024)
    hidden = unknown.flatten().bool()
    weights = torch.linalg.solve(covariance[~hidden][:, ~hidden], known.flatten()[~hidden])
    expected = covariance[hidden][:, ~hidden] @ weights
    found = model._complete(known, unknown).flatten()[hidden]
    assert float((found - expected).norm() / expected.norm()) < 1e-3


def test_reconstruct__does_not_depend_on_the_rest_of_the_batch() -> None:
    superpatch, mask = drawn(batch=3)
    superpatch[1] *= 1e-3  # solved earlier, or later, than the others
    model = Kriging(GRID, DualMasking())
    together = model.reconstruct(superpatch, mask).volume
    alone = torch.cat([model.reconstruct(superpatch[i : i + 1], mask[i : i + 1]).volume for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_reconstruct__keeps_visible_voxels_and_constants() -> None:
    superpatch, mask = drawn()
    model = Kriging(GRID, DualMasking())
    rebuilt = model.reconstruct(superpatch, mask)
    torch.testing.assert_close(rebuilt.volume[~rebuilt.mask], superpatch[~rebuilt.mask])
    flat = torch.full_like(superpatch, 0.3)
    torch.testing.assert_close(model.reconstruct(flat, mask).volume, flat)


def test_reconstruct__does_not_see_masked_voxels() -> None:
    superpatch, mask = drawn()
    model = Kriging(GRID, DualMasking())
    first = model.reconstruct(superpatch, mask)
    blinded = superpatch.masked_fill(first.mask, float("nan"))
    torch.testing.assert_close(model.reconstruct(blinded, mask).volume, first.volume)


def test_reconstruct__of_a_batch_is_that_of_its_rows() -> None:
    superpatch, mask = drawn()
    model = Kriging(GRID, DualMasking())
    rows = [model.reconstruct(superpatch[i : i + 1], mask[i : i + 1]).volume for i in range(2)]
    torch.testing.assert_close(model.reconstruct(superpatch, mask).volume, torch.cat(rows))


@pytest.mark.parametrize("patch", [(3, 3, 3), (2, 3, 4)])
def test_reconstruct__of_patches_that_do_not_divide_into_cells(patch: tuple[int, int, int]) -> None:
    grid = PatchGrid((patch[0] * 4, patch[1] * 4, patch[2] * 4), patch)
    superpatch, mask = drawn(grid)
    rebuilt = Kriging(grid, DualMasking()).reconstruct(superpatch, mask)
    assert rebuilt.volume.isfinite().all()


def test_reconstruct__of_a_smooth_field_beats_normalised_convolution() -> None:
    grid, masking = PatchGrid((32, 32, 32), (4, 4, 4)), DualMasking()
    ramp = torch.linspace(0, 3.0, 32)
    smooth = 0.5 + 0.5 * torch.sin(ramp[:, None, None] + ramp[:, None] - ramp).expand(4, 1, 32, 32, 32)
    mask = masking.draw(4, grid, torch.Generator().manual_seed(0))
    losses = [model(grid, masking).loss(smooth, mask).item() for model in (Kriging, Interpolation)]
    assert losses[0] < 0.7 * losses[1]
