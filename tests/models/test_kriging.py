from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from scipy.fft import dct, dctn
from scipy.linalg import cho_factor, cho_solve

from maesil.ct.readers import read
from maesil.ct.window import Window
from maesil.errors import MaesilError
from maesil.grid import PatchGrid
from maesil.masking import MASKINGS, AxisMasking, DualMasking
from maesil.models import kriging
from maesil.models.interpolation import Interpolation
from maesil.models.kriging import Kriging, cosine_matrix, spectral
from maesil.models.mean import visible_mean

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


def matern(shape: tuple[int, int, int], edge_in_cells: float) -> np.ndarray:
    """The covariance between all cells of a box with mirrored borders, from what the module's constants say."""
    bases = [dct(np.eye(size), axis=0, norm="ortho") for size in shape]  # columns are cells
    waves = [2 - 2 * np.cos(np.pi * np.arange(size) / size) for size in shape]
    penalty = sum(
        stiffness * np.expand_dims(wave, [other for other in range(3) if other != axis])
        for axis, (stiffness, wave) in enumerate(zip((3.0, 1.0, 1.0), waves, strict=True))
    )
    variance = (1 + penalty * edge_in_cells**2 / 0.4) ** -2.0
    basis = np.kron(np.kron(bases[0], bases[1]), bases[2])
    return basis.T @ (variance.ravel()[:, None] * basis)


def conditional_mean(covariance: np.ndarray, field: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """E[hidden | visible] of a field of mean 0, by a dense solve in float64."""
    visible = ~hidden
    weights = cho_solve(cho_factor(covariance[np.ix_(visible, visible)]), field[visible])
    return covariance[np.ix_(hidden, visible)] @ weights


@pytest.mark.parametrize("masking", [DualMasking(), AxisMasking()], ids=lambda masking: masking.name)
def test_reconstruct__is_the_dense_solution(masking: DualMasking | AxisMasking) -> None:
    """The best linear guess, as a dense solve with the covariance itself gives it: no step of the solver is shared."""
    grid = PatchGrid((24, 32, 24), (8, 8, 8))
    shape = (12, 16, 12)
    covariance = matern(shape, edge_in_cells=4.0)
    noise = np.random.default_rng(0).normal(size=len(covariance))
    field = (
        0.5 + 0.1 * np.linalg.cholesky(covariance + 1e-9 * np.eye(len(covariance))) @ noise / covariance[0, 0] ** 0.5
    )
    cells = torch.from_numpy(field.astype(np.float32)).view(1, 1, *shape)
    superpatch = F.interpolate(cells, grid.superpatch, mode="nearest")
    mask = masking.draw(1, grid, torch.Generator().manual_seed(1))
    rebuilt = Kriging(grid, masking).reconstruct(superpatch, mask)

    hidden = F.max_pool3d(rebuilt.mask.float(), 2).bool().numpy().ravel()
    mean = field[~hidden].mean()
    solved = field - mean
    solved[hidden] = conditional_mean(covariance, solved, hidden)
    expected = F.interpolate(
        torch.from_numpy(mean + solved).view(1, 1, *shape), grid.superpatch, mode="trilinear", align_corners=False
    )
    spread = float(field[hidden].std())
    assert (rebuilt.volume - expected)[rebuilt.mask].abs().max().item() < 1e-3 * spread


@pytest.mark.parametrize("name", list(MASKINGS))
def test_complete__leaves_a_residual_as_small_as_it_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The energy's gradient, in float64 of the float32 solution, over that at the start; well before the guard."""
    monkeypatch.setattr(kriging, "MAX_STEPS", 150)
    grid, masking = PatchGrid((64, 64, 64), (8, 8, 8)), MASKINGS[name]()
    model = Kriging(grid, masking)
    generator = torch.Generator().manual_seed(2)
    hidden = model.voxel_mask(masking.draw(2, grid, generator))
    rough = torch.rand(2, 1, 64, 64, 64, generator=generator)
    values = torch.stack((rough[0], F.avg_pool3d(rough[1], 9, 1, 4)))
    values -= visible_mean(values, hidden)
    known, unknown = F.avg_pool3d(values.masked_fill(hidden, 0.0), 2), F.max_pool3d(hidden.float(), 2)
    exact = known.double()
    cosines = [cosine_matrix(32, exact)] * 3
    axes, covariance = model.field.preconditioner(unknown.double(), cosines)

    def norm(fields: torch.Tensor) -> torch.Tensor:
        gradient = spectral(fields, model.field.precision(exact), cosines) * unknown
        return (gradient * spectral(gradient, covariance, axes)).sum(dim=(1, 2, 3, 4)).sqrt()

    ratio = norm(model.field.complete(known, unknown).double()) / norm(exact)
    assert ratio.max().item() < 1.2 * kriging.TOLERANCE


def test_complete__that_does_not_converge_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kriging, "MAX_STEPS", 3)
    superpatch, mask = drawn()
    with pytest.raises(MaesilError, match="after 3 steps"):
        Kriging(GRID, DualMasking()).reconstruct(superpatch, mask)


@pytest.mark.slow
def test_reconstruct__of_a_scan_scores_as_the_exact_solution_does(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(os.environ.get("MAESIL_TEST_DATA", Path(__file__).parents[2] / ".." / "shared")) / "ct" / "corpus2mm"
    if not root.is_dir():
        pytest.skip(f"no scans at {root}: set MAESIL_TEST_DATA")
    hu = read(root / "crlm_1006.nii.gz").reorient("SPL").array
    corners = [(10, 50, 40), (20, 50, 110)]
    crops = [np.ascontiguousarray(hu[i : i + 64, j : j + 64, k : k + 64]) for i, j, k in corners]
    superpatch = torch.from_numpy(np.stack([Window().normalize(crop) for crop in crops]))[:, None]
    grid, masking = PatchGrid((64, 64, 64), (8, 8, 8)), DualMasking()
    mask = masking.draw(len(crops), grid, torch.Generator().manual_seed(0))
    model = Kriging(grid, masking)
    found = masked_psnr(model, superpatch, mask)
    monkeypatch.setattr(kriging, "TOLERANCE", 1e-6)
    torch.testing.assert_close(found, masked_psnr(model, superpatch, mask), atol=0.01, rtol=0)


def masked_psnr(model: Kriging, superpatch: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    rebuilt = model.reconstruct(superpatch, mask)
    squared = (rebuilt.volume - superpatch).double().square().masked_fill(~rebuilt.mask, 0.0)
    return -10 * (squared.sum(dim=(1, 2, 3, 4)) / rebuilt.mask.sum(dim=(1, 2, 3, 4))).log10()


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
    """Rows that need no step, few, and many, under masks of two kinds: each ends where it would alone."""
    grid = PatchGrid((32, 64, 32), (8, 8, 8))
    rough, mask = drawn(grid, batch=4)
    mask[1] = AxisMasking(0.25).draw(1, grid, torch.Generator().manual_seed(0))[0]
    superpatch = torch.stack((torch.zeros_like(rough[0]), rough[1], F.avg_pool3d(rough[2], 9, 1, 4), rough[3]))
    model = Kriging(grid, DualMasking())
    rows = [model.reconstruct(superpatch[i : i + 1], mask[i : i + 1]).volume for i in range(4)]
    torch.testing.assert_close(model.reconstruct(superpatch, mask).volume, torch.cat(rows), atol=2e-5, rtol=0)


def test_reconstruct__of_a_batch_with_a_spoiled_row_spoils_that_row_alone() -> None:
    superpatch, mask = drawn()
    model = Kriging(GRID, DualMasking())
    expected = model.reconstruct(superpatch, mask).volume
    superpatch[0] = float("nan")
    rebuilt = model.reconstruct(superpatch, mask).volume
    assert rebuilt[0].isnan().all()
    torch.testing.assert_close(rebuilt[1], expected[1])


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
    rebuilt = [model(grid, masking).reconstruct(smooth, mask) for model in (Kriging, Interpolation)]
    errors = [(one.volume - smooth)[one.mask].square().mean().item() for one in rebuilt]
    assert errors[0] < 0.7 * errors[1]
