"""Position (i, j, k) is the same token everywhere: encoder, decoder, mask, loss, feature map, every exported form.

Blocks are silenced (their residual branches add nothing), so a token can only act on itself: whatever an impulse in one
patch moves, or a gradient reaches, is where that part of the code believes the patch to be. The grids are no cubes, so
that a pair of swapped axes cannot hide.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from backbones import CONFIG, small_backbone, small_card
from exported import LOADED_BACK
from maesil.export import TARGETS
from maesil.export.targets import export
from maesil.grid import PatchGrid
from maesil.masking import MASKINGS, DualMasking, UniformMasking
from maesil.models import MAEConfig, MaskedAutoencoder
from maesil.models.transformer import Block

SHAPES = {"no cube": (32, 16, 24), "cube": (24, 24, 24), "one plane": (8, 24, 16)}
every_shape = pytest.mark.parametrize("superpatch", list(SHAPES.values()), ids=list(SHAPES))


def silenced(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, Block):
            for layer in (module.attention.out, module.mlp[2]):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)


def config_of(superpatch: tuple[int, int, int]) -> MAEConfig:
    return replace(CONFIG, superpatch=superpatch, visible_weight=1.0)


def model_of(superpatch: tuple[int, int, int], masking: object = None) -> MaskedAutoencoder:
    torch.manual_seed(0)
    model = MaskedAutoencoder(config_of(superpatch), masking or DualMasking())
    nn.init.normal_(model.decoder.head.weight, std=0.1)
    silenced(model)
    return model.eval()


def places(grid: PatchGrid) -> list[tuple[int, int, int]]:
    gd, gh, gw = grid.shape
    return [(i, j, k) for i in range(gd) for j in range(gh) for k in range(gw)]


def impulses(grid: PatchGrid) -> torch.Tensor:
    """One volume per patch, with one voxel set at a place within the patch that differs along the axes."""
    volumes = torch.zeros(grid.tokens, 1, *grid.superpatch)
    pd, ph, pw = grid.patch
    for number, (i, j, k) in enumerate(places(grid)):
        volumes[number, 0, i * pd + pd // 2, j * ph + 1, k * pw + pw - 1] = 1.0
    return volumes


def moved(features: torch.Tensor, still: torch.Tensor) -> list[list[tuple[int, int, int]]]:
    """Per volume, the positions of the feature map that an impulse has changed."""
    change = (features - still).abs().amax(dim=1) > 1e-3
    return [[tuple(place.tolist()) for place in one.nonzero()] for one in change]


@every_shape
@torch.no_grad()
def test_backbone__impulse_moves_its_own_position(superpatch: tuple[int, int, int]) -> None:
    backbone = small_backbone(config_of(superpatch))
    silenced(backbone)
    grid = backbone.config.grid
    still = backbone(torch.zeros(1, 1, *superpatch))
    assert moved(backbone(impulses(grid)), still) == [[place] for place in places(grid)]


@pytest.mark.interop
@pytest.mark.parametrize("target", list(TARGETS))
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@torch.no_grad()
def test_exported__impulse_moves_its_own_position(target: str, tmp_path: Path) -> None:
    backbone = small_backbone()
    silenced(backbone)
    grid = backbone.config.grid
    folder = export(backbone, small_card(), target, tmp_path / target)
    volumes = torch.cat([torch.zeros(1, 1, *grid.superpatch), impulses(grid)])
    features = LOADED_BACK[target](folder, volumes)
    assert moved(features[1:], features[:1]) == [[place] for place in places(grid)]


@every_shape
@torch.no_grad()
def test_mask__hides_the_voxels_of_its_tokens(superpatch: tuple[int, int, int]) -> None:
    model = model_of(superpatch)
    grid = model.grid
    for number, (i, j, k) in enumerate(places(grid)):
        mask = torch.zeros(1, grid.tokens, dtype=torch.bool)
        mask[0, number] = True
        voxels = torch.zeros(1, 1, *superpatch, dtype=torch.bool)
        pd, ph, pw = grid.patch
        voxels[..., i * pd : (i + 1) * pd, j * ph : (j + 1) * ph, k * pw : (k + 1) * pw] = True
        assert torch.equal(model.voxel_mask(mask), voxels)


@pytest.mark.parametrize("name", ["plane", "axis", "dual"])
def test_masking__planes_are_axial(name: str) -> None:
    """Every strategy that speaks of planes means tokens of one Superior-Inferior index, in the grid's order."""
    grid = PatchGrid((64, 32, 48), (8, 8, 8))
    masks = MASKINGS[name]().draw(8, grid, torch.Generator().manual_seed(0)).view(8, *grid.shape)
    per_plane = masks.flatten(2).sum(dim=2)
    if name in ("plane", "shared_plane"):
        assert (per_plane == per_plane[:, :1]).all()
    if name == "shared_plane":
        assert (masks.all(dim=1).flatten(1).sum(dim=1) >= grid.tokens_per_plane // 2).all(), "columns are hidden whole"
    if name in ("axis", "dual"):
        hidden = per_plane == grid.tokens_per_plane
        assert (hidden.sum(dim=1) == grid.planes // 2).all()
        for row in hidden.tolist():
            assert row.index(True) + sum(row) == len(row) - row[::-1].index(True), "the block is contiguous"


@every_shape
def test_encoder__gradient_of_a_visible_token_reaches_its_own_patch(superpatch: tuple[int, int, int]) -> None:
    model = model_of(superpatch, UniformMasking(mask_ratio=0.5))
    grid = model.grid
    mask = model.draw_mask(1, torch.Generator().manual_seed(3))
    visible = (~mask[0]).nonzero()[:, 0]
    volume = torch.rand(1, 1, *superpatch, requires_grad=True)
    latent = model.encoder(grid.patchify(volume), visible[None])
    for row, token in enumerate(visible.tolist()):
        (gradient,) = torch.autograd.grad(latent[0, row].square().sum(), volume, retain_graph=True)
        reached = grid.patchify(gradient)[0].abs().amax(dim=1).nonzero()[:, 0].tolist()
        assert reached == [token]


@every_shape
def test_decoder__latents_return_to_their_own_patch(superpatch: tuple[int, int, int]) -> None:
    """An impulse in a visible patch changes the reconstruction of that patch alone."""
    model = model_of(superpatch, UniformMasking(mask_ratio=0.5))
    grid = model.grid
    mask = model.draw_mask(1, torch.Generator().manual_seed(3))
    still = model.reconstruct(torch.zeros(1, 1, *superpatch), mask).volume
    for number, volume in enumerate(impulses(grid)):
        change = grid.patchify(model.reconstruct(volume[None], mask).volume - still)[0].abs().amax(dim=1) > 1e-4
        assert change.nonzero()[:, 0].tolist() == ([] if mask[0, number] else [number])


@pytest.mark.parametrize("visible_weight", [0.0, 0.5])
@every_shape
def test_loss__scores_exactly_the_masked_voxels(superpatch: tuple[int, int, int], visible_weight: float) -> None:
    """The targets' gradient: where it is not zero, a voxel is scored."""
    model = MaskedAutoencoder(replace(config_of(superpatch), visible_weight=visible_weight), DualMasking())
    mask = model.draw_mask(1, torch.Generator().manual_seed(5))
    patches: list[torch.Tensor] = []
    original = type(model)._targets

    def recorded(self: MaskedAutoencoder, chosen: torch.Tensor) -> torch.Tensor:
        patches.append(chosen)
        return original(self, chosen)

    volume = torch.rand(1, 1, *superpatch, requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model), "_targets", recorded)
        model.loss(volume, mask)
    scored = torch.autograd.grad(sum(one.sum() for one in patches), volume)[0] != 0
    wanted = torch.ones_like(scored) if visible_weight else model.voxel_mask(mask)
    assert torch.equal(scored, wanted)
