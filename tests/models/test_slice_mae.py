"""The 2D baseline: slices apart from each other, and masks that hide as much as ours."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from maesil.errors import ConfigError
from maesil.masking import DualMasking, PlaneMasking
from maesil.models import SliceMAEConfig, make_model
from maesil.models.slice_mae import SliceMAE
from maesil.presets import demo
from maesil.presets.baselines import baseline

CONFIG = SliceMAEConfig(
    superpatch=(16, 32, 32), patch=(1, 8, 8), encoder_width=24, encoder_depth=1, encoder_heads=2,
    decoder_width=12, decoder_depth=1, decoder_heads=2,
)  # fmt: skip
SHARED = replace(CONFIG, masks="shared", mask_patch=(8, 8, 8))


def model_of(config: SliceMAEConfig) -> SliceMAE:
    torch.manual_seed(0)
    model = make_model(config, DualMasking())
    assert isinstance(model, SliceMAE)
    torch.nn.init.normal_(model.decoder.head.weight, std=0.1)
    return model


def test_own_masks__hide_the_same_share_of_every_slice() -> None:
    model = model_of(CONFIG)
    mask = model.draw_mask(3, torch.Generator().manual_seed(0)).view(3, 16, 16)
    assert (mask.sum(dim=2) == 12).all()
    assert isinstance(model.masking, PlaneMasking)
    assert len({tuple(row.tolist()) for row in mask[0]}) > 8  # drawn anew for each slice


def test_shared_masks__hide_the_very_voxels_that_the_3d_model_does_not_see() -> None:
    preset = demo()
    ours = make_model(preset.model, preset.masking)
    config = replace(baseline("slice_mae", preset).model, masks="shared", patch=(1, 8, 8))
    flat = make_model(config, preset.masking)
    voxels = [model.voxel_mask(model.draw_mask(2, torch.Generator().manual_seed(5))) for model in (ours, flat)]
    assert torch.equal(*voxels)


@pytest.mark.parametrize("config", [CONFIG, SHARED], ids=["own", "shared"])
def test_reconstruct__a_slice_says_nothing_of_another(config: SliceMAEConfig) -> None:
    model = model_of(config).eval()
    generator = torch.Generator().manual_seed(1)
    x, mask = torch.rand(1, 1, 16, 32, 32, generator=generator), model.draw_mask(1, generator)
    seen = int((~mask.view(16, 16)).any(dim=1).nonzero()[0])
    changed = x.clone()
    changed[:, :, seen] = 1.0 - x[:, :, seen]
    difference = (model.reconstruct(x, mask).volume - model.reconstruct(changed, mask).volume).abs().amax(dim=(3, 4))
    assert difference[0, 0, seen] > 0
    others = torch.arange(16) != seen
    assert (difference[0, 0, others] < 1e-6).all()


def test_reconstruct__slices_that_show_nothing_are_all_rebuilt_alike() -> None:
    model = model_of(SHARED).eval()
    generator = torch.Generator().manual_seed(1)
    x, mask = torch.rand(1, 1, 16, 32, 32, generator=generator), model.draw_mask(1, generator)
    hidden = mask.view(16, 16).all(dim=1)
    assert int(hidden.sum()) == 8
    rebuilt = model.reconstruct(x, mask).volume[0, 0, hidden]
    torch.testing.assert_close(rebuilt, rebuilt[:1].expand_as(rebuilt))


def test_loss__counts_masked_patches_only() -> None:
    model = model_of(SHARED)
    generator = torch.Generator().manual_seed(1)
    x, mask = torch.rand(2, 1, 16, 32, 32, generator=generator), model.draw_mask(2, generator)
    rebuilt = model.eval().reconstruct(x, mask)
    error = ((rebuilt.volume - x) / CONFIG.input_std).square()[rebuilt.mask].mean()
    torch.testing.assert_close(model.loss(x, mask).detach(), error)


def test_config__refuses_what_is_no_slice() -> None:
    with pytest.raises(ConfigError, match="one voxel thick"):
        replace(CONFIG, patch=(8, 8, 8))
    with pytest.raises(ConfigError, match="do not divide"):
        replace(SHARED, patch=(1, 16, 16))
