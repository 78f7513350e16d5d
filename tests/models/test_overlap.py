"""Predictions that overlap leave no seams, and lose no resolution."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from torch import Tensor, nn

from maesil.errors import ConfigError
from maesil.grid import PatchGrid
from maesil.masking import DualMasking
from maesil.models.mae import MAEConfig, MaskedAutoencoder, gather_tokens, split_tokens
from maesil.models.overlap import Overlap

GRID = PatchGrid((12, 16, 16), (4, 4, 8))
SMALL = MAEConfig(
    superpatch=(32, 32, 32), encoder_width=48, encoder_depth=1, encoder_heads=2,
    decoder_width=24, decoder_depth=2, decoder_heads=2, position_wavelengths=(4.0, 32.0), start="local",
    head="overlap",
)  # fmt: skip


def every_token(grid: PatchGrid, batch: int = 1) -> Tensor:
    """Indices of all tokens, for each superpatch of a batch."""
    return torch.arange(grid.tokens).expand(batch, -1)


def masked_tokens(grid: PatchGrid, batch: int = 2) -> Tensor:
    """Indices of the masked tokens of a dual mask, for each superpatch of a batch."""
    mask = DualMasking().draw(batch, grid, torch.Generator().manual_seed(0))
    return split_tokens(mask, DualMasking().visible_count(grid))[1]


def blended(grid: PatchGrid, patches: Tensor, masked: Tensor) -> Tensor:
    """Patches of masked tokens in the grid's order of voxels, blended."""
    overlap = Overlap(grid)
    return overlap.from_octants(overlap(overlap.to_octants(patches), masked))


def make(config: MAEConfig = SMALL) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(config, DualMasking())


def blobs(count: int, seed: int, edge: int = 32) -> Tensor:
    coarse = torch.rand(count, 1, 5, 5, 5, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(edge,) * 3, mode="trilinear")


def train(model: MaskedAutoencoder, steps: int) -> MaskedAutoencoder:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        optimizer.zero_grad()
        model.loss(blobs(2, step), model.draw_mask(2, generator)).backward()
        optimizer.step()
    return model.eval()


def test_to_octants__is_undone_by_from_octants() -> None:
    overlap, patches = Overlap(GRID), torch.rand(2, 3, GRID.voxels_per_patch)
    assert torch.equal(overlap.from_octants(overlap.to_octants(patches)), patches)
    assert not torch.equal(overlap.to_octants(patches), patches)


def test_forward__of_one_value_per_patch_is_trilinear_interpolation() -> None:
    values = torch.rand(2, GRID.tokens, 1)
    patches = blended(GRID, values.expand(-1, -1, GRID.voxels_per_patch), every_token(GRID, 2))
    expected = F.interpolate(values.view(2, 1, *GRID.shape), size=GRID.superpatch, mode="trilinear")
    torch.testing.assert_close(GRID.unpatchify(patches), expected)


def test_forward__windows_add_up_to_one_at_the_border_and_beside_visible_patches() -> None:
    masked = masked_tokens(GRID)
    constant = torch.full((*masked.shape, GRID.voxels_per_patch), 3.0)
    torch.testing.assert_close(blended(GRID, constant, masked), constant)


def test_forward__a_token_reaches_half_a_patch_into_its_masked_neighbours_and_no_visible_one() -> None:
    grid = PatchGrid((8, 8, 24), (8, 8, 8))
    for masked, reached in (([0, 1, 2], range(4, 20)), ([1, 2], range(8, 20)), ([1], range(8, 16))):
        patches = torch.zeros(1, len(masked), 512)
        patches[0, masked.index(1)] = 1.0
        volume = torch.zeros(1, 3, 512)
        volume[0, masked] = blended(grid, patches, torch.tensor([masked]))[0]
        profile = grid.unpatchify(volume)[0, 0, 3, 3]
        assert profile.nonzero().flatten().tolist() == list(reached)


def test_forward__every_volume_can_be_predicted() -> None:
    grid = PatchGrid((8, 8, 8), (4, 4, 4))
    overlap = Overlap(grid)
    masked = torch.tensor([[0, 1, 2, 4, 6, 7]])
    unit = torch.eye(6 * 64).view(-1, 6, 64)
    matrix = overlap(unit, masked.expand(len(unit), -1)).flatten(1)
    assert torch.linalg.matrix_rank(matrix.double()) == 6 * 64


def test_forward__gradient_is_that_of_finite_differences() -> None:
    grid = PatchGrid((4, 4, 4), (2, 2, 2))
    overlap, masked = Overlap(grid).double(), torch.tensor([[0, 1, 3, 6], [2, 3, 4, 7]])
    patches = torch.rand(2, 4, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda tokens: overlap(tokens, masked), patches)


def test_forward__steps_across_faces_are_no_larger_than_inside() -> None:
    levels = torch.randn(1, GRID.tokens, 1, generator=torch.Generator().manual_seed(0))
    patches = levels.expand(-1, -1, GRID.voxels_per_patch)
    plain, overlapped = (GRID.unpatchify(one) for one in (patches, blended(GRID, patches, every_token(GRID))))
    for axis, edge in enumerate(GRID.patch):
        step, jump = (volume.diff(dim=2 + axis).abs().movedim(2 + axis, 0) for volume in (overlapped, plain))
        face = torch.arange(1, GRID.superpatch[axis]) % edge == 0
        assert jump[~face].max() == 0.0 < jump[face].mean()
        torch.testing.assert_close(step[face].amax(), step[~face].amax())


def test_loss__is_the_mean_squared_error_of_the_folded_volumes_masked_voxels() -> None:
    model = make()
    nn.init.normal_(model.decoder.head.weight, std=0.1)
    x, mask = blobs(2, 0), model.draw_mask(2, torch.Generator().manual_seed(0))
    rebuilt = model.reconstruct(x, mask)
    error = ((rebuilt.volume - x) / SMALL.input_std).square()[rebuilt.mask].mean()
    torch.testing.assert_close(model.loss(x, mask), error, rtol=1e-4, atol=1e-6)


def test_reconstruct__has_steps_at_faces_only_without_overlap() -> None:
    x = blobs(2, 0)
    for head, largest in (("patch", None), ("overlap", 2.0)):
        model = make(replace(SMALL, head=head))
        model.decoder.head.weight.data.copy_(torch.randn(SMALL.decoder_width))  # a value per patch
        mask = model.draw_mask(2, torch.Generator().manual_seed(0))
        rebuilt = model.reconstruct(x, mask)
        steps = rebuilt.volume.diff(dim=3).abs().movedim(3, 0)
        both = (rebuilt.mask[:, :, :, 1:] & rebuilt.mask[:, :, :, :-1]).movedim(3, 0)
        face = torch.arange(1, 32) % 8 == 0
        ratio = steps[face][both[face]].mean() / steps[~face][both[~face]].mean()
        assert (ratio > 100.0) if largest is None else (ratio < largest)


def test_visible_head__asks_nothing_of_the_network() -> None:
    x = blobs(2, 0)
    plain, with_head = make(), make(replace(SMALL, visible_head=True))
    gradients = []
    for model in (plain, with_head):
        nn.init.ones_(model.decoder.head.weight)
        model.loss(x, model.draw_mask(2, torch.Generator().manual_seed(0))).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    own = {name for name in gradients[1] if name.startswith("visible_head")}
    assert own == {"visible_head.weight", "visible_head.bias"}
    assert all(bool(gradients[1].pop(name).abs().sum() > 0) for name in own)
    assert all(torch.equal(gradients[1][name], gradient) for name, gradient in gradients[0].items())


def test_visible_head__its_error_counts_a_tenth() -> None:
    x, model = blobs(2, 0), make(replace(SMALL, visible_head=True))
    mask = model.draw_mask(2, torch.Generator().manual_seed(0))
    whole = model.loss(x, mask)
    assert model.visible_head is not None
    nn.init.zeros_(model.visible_head.weight)
    nn.init.zeros_(model.visible_head.bias)  # it predicts the mean of the data, 0 in normalised units
    seen = ~model.voxel_mask(mask)
    error = ((x - model.config.input_mean) / model.config.input_std)[seen].square().mean()
    without = model.loss(x, mask) - 0.1 * error
    model.visible_head = None
    torch.testing.assert_close(model.loss(x, mask), without)
    assert whole > without


def test_constant_volumes__come_back_without_a_pattern_before_training() -> None:
    for hu_share in (0.0, 0.5, 0.9):
        model = make(replace(SMALL, visible_head=True))
        x = torch.full((1, 1, *model.grid.superpatch), hu_share)
        mask = model.draw_mask(1, torch.Generator().manual_seed(0))
        rebuilt = model.reconstruct(x, mask)
        assert float(rebuilt.volume[rebuilt.mask].std()) * 2000.0 < 5.0, "HU, of a window of 2000"


def test_visible_head__rebuilds_visible_voxels_and_no_masked_one() -> None:
    x, steps = blobs(2, 100), (0, 40)
    for n in steps:
        model, other = (train(make(replace(SMALL, visible_head=on)), n) for on in (True, False))
        mask = model.draw_mask(2, torch.Generator().manual_seed(0))
        rebuilt, without = model.reconstruct(x, mask), other.reconstruct(x, mask)
        seen = ~rebuilt.mask
        error, before = ((one.volume - x)[seen].square().mean() for one in (rebuilt, without))
        assert error < (0.75 if n else 0.01) * before
        torch.testing.assert_close(rebuilt.volume[~seen], without.volume[~seen])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"rebuilt_share": 0.5}, "rebuilt_share is 0.5"),
        ({"normalize_targets": True}, "normalize_targets"),
        ({"patch": (1, 8, 8)}, "1x8x8 voxels have no halves"),
        ({"head": "patch", "visible_weight": 0.1, "visible_head": True}, "visible_weight"),
    ],
)
def test_config__refuses_options_that_contradict_each_other(more: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(SMALL, **more)


def test_reconstruct__takes_a_superpatch_without_masks() -> None:
    model, x = make(replace(SMALL, visible_head=True)), blobs(1, 0)
    rebuilt = model.reconstruct(x, torch.zeros(1, 64, dtype=torch.bool))
    assert rebuilt.volume.isfinite().all()
    assert gather_tokens(torch.zeros(1, 3, 2), torch.empty(1, 0, dtype=torch.long)).shape == (1, 0, 2)
