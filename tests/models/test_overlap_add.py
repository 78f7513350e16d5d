"""Wider predictions, added where they overlap, leave no seams, and have a slope across faces."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from torch import Tensor, nn

from maesil.comparison.measure import count_flops
from maesil.errors import ConfigError
from maesil.grid import PatchGrid
from maesil.masking import DualMasking
from maesil.models.cost import mae_flops
from maesil.models.mae import MaskedAutoencoder
from maesil.models.overlap_add import OverlapAdd, head_rows
from overlapping import GRID, every_token, masked_tokens
from overlapping import SMALL as MIRRORED

SMALL = replace(MIRRORED, head="overlap_add")


def outputs(grid: PatchGrid, wide: Tensor) -> Tensor:
    """A head's outputs with these cells (b, m, d, h, w) of each window, and no detail."""
    return torch.cat((torch.zeros(*wide.shape[:2], grid.voxels_per_patch), wide.flatten(2)), dim=-1)


def windows_of(grid: PatchGrid, cells: Tensor, masked: Tensor) -> Tensor:
    """The cells of a volume (b, 1, d, h, w) under the window of each token; zero beyond the volume."""
    sizes = [edge // 2 for edge in grid.patch]
    padded = F.pad(cells, [half for size in reversed(sizes) for half in (size // 2, size // 2)])
    for axis, size in enumerate(sizes):
        padded = padded.unfold(2 + axis, 2 * size, size)
    windows = padded[:, 0].flatten(1, 3)
    return torch.stack([one[index] for one, index in zip(windows, masked, strict=True)])


def test_forward__tokens_that_agree_on_a_volume_return_it() -> None:
    """With every token masked, cells are the mean of what eight windows say of them."""
    cells = torch.rand(2, 1, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    masked = every_token(GRID, 2)
    blended = OverlapAdd(GRID)(outputs(GRID, windows_of(GRID, cells, masked)), masked)
    expected = F.interpolate(cells, size=GRID.superpatch, mode="trilinear", align_corners=False)
    torch.testing.assert_close(GRID.unpatchify(blended), expected)


def test_forward__a_slope_goes_on_across_the_faces_between_masked_patches() -> None:
    grid = PatchGrid((8, 8, 32), (8, 8, 8))
    cells = torch.arange(16.0).expand(1, 1, 4, 4, 16)
    masked = torch.tensor([[1, 2]])
    profile = OverlapAdd(grid)(outputs(grid, windows_of(grid, cells, masked)), masked)
    line = profile.view(2, 8, 8, 8)[:, 4, 4].flatten()
    torch.testing.assert_close(line, torch.arange(16) * 0.5 + 3.75)


def test_forward__windows_add_up_to_one_at_the_border_and_beside_visible_patches() -> None:
    masked = masked_tokens(GRID)
    constant = torch.full((*masked.shape, 4, 4, 8), 3.0)
    blended = OverlapAdd(GRID)(outputs(GRID, constant), masked)
    torch.testing.assert_close(blended, torch.full_like(blended, 3.0))


def test_forward__detail_is_a_tokens_own_and_fades_out_at_its_faces() -> None:
    masked = masked_tokens(GRID)
    overlap, predicted = OverlapAdd(GRID), torch.zeros(*masked.shape, head_rows(GRID.patch))
    predicted[:, 1, : GRID.voxels_per_patch] = 1.0
    detail = overlap(predicted, masked).view(*masked.shape, *GRID.patch)
    assert detail[:, 0].abs().max() == detail[:, 2:].abs().max() == 0.0
    assert detail[:, 1, 0].max() < 0.5 * detail[:, 1, 1].max()
    torch.testing.assert_close(detail[:, 1].flip(1, 2, 3), detail[:, 1])


def test_forward__gradient_is_that_of_finite_differences() -> None:
    grid = PatchGrid((8, 8, 8), (4, 4, 4))
    overlap, masked = OverlapAdd(grid).double(), torch.tensor([[0, 1, 3, 6], [2, 3, 4, 7]])
    predicted = torch.rand(2, 4, head_rows(grid.patch), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda tokens: overlap(tokens, masked), predicted, fast_mode=True)


def test_loss__is_the_mean_squared_error_of_the_rebuilt_masked_voxels() -> None:
    torch.manual_seed(0)
    model = MaskedAutoencoder(SMALL, DualMasking())
    nn.init.normal_(model.decoder.head.weight, std=0.1)
    x = torch.rand(2, 1, 32, 32, 32)
    mask = model.draw_mask(2, torch.Generator().manual_seed(0))
    rebuilt = model.reconstruct(x, mask)
    error = ((rebuilt.volume - x) / SMALL.input_std).square()[rebuilt.mask].mean()
    torch.testing.assert_close(model.loss(x, mask), error, rtol=1e-4, atol=1e-6)


def test_flops__count_the_larger_head() -> None:
    torch.manual_seed(0)
    model = MaskedAutoencoder(SMALL, DualMasking())
    visible = model.masking.visible_count(model.grid)
    assert count_flops(model) == pytest.approx(mae_flops(SMALL, visible), rel=0.02)
    assert mae_flops(SMALL, visible) > mae_flops(replace(SMALL, head="overlap"), visible)


def test_reconstruct__takes_a_superpatch_without_masks() -> None:
    model = MaskedAutoencoder(SMALL, DualMasking())
    rebuilt = model.reconstruct(torch.rand(1, 1, 32, 32, 32), torch.zeros(1, 64, dtype=torch.bool))
    assert rebuilt.volume.isfinite().all()


@pytest.mark.parametrize(
    ("more", "said"),
    [({"patch": (2, 8, 8)}, "half of a patch of 2x8x8"), ({"normalize_targets": True}, "normalize_targets")],
)
def test_config__refuses_what_cannot_overlap(more: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(SMALL, **more)
