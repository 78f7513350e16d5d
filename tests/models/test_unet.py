"""The inpainting U-Net: what it sees, what it is trained for, what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from maesil.comparison.measure import count_flops
from maesil.errors import ConfigError
from maesil.masking import DualMasking
from maesil.models import MAEConfig, UNetConfig, make_model
from maesil.models.cost import mae_flops, unet_flops
from maesil.models.masked_loss import ssim_loss
from maesil.presets import PRESETS
from maesil.presets.baselines import baseline

SMALL = UNetConfig(superpatch=(32, 32, 32), channels=(4, 8, 16))


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    superpatch = torch.rand(2, 1, 32, 32, 32, generator=generator)
    return superpatch, DualMasking().draw(2, SMALL.grid, generator)


def test_loss__is_the_error_of_the_masked_voxels_alone() -> None:
    torch.manual_seed(0)
    model = make_model(SMALL, DualMasking())
    x, mask = inputs()
    rebuilt = model.reconstruct(x, mask)
    error = (rebuilt.volume - x)[rebuilt.mask].square().mean() / SMALL.input_std**2
    assert float(model.loss(x, mask).detach()) == pytest.approx(float(error), rel=1e-5)


def test_reconstruct__is_told_which_voxels_are_masked() -> None:
    torch.manual_seed(0)
    model = make_model(SMALL, DualMasking())
    level = torch.full((1, 1, 32, 32, 32), SMALL.input_mean)  # masked voxels look like visible ones here
    generator = torch.Generator().manual_seed(0)
    first, second = (model.draw_mask(1, generator) for _ in range(2))
    assert not torch.equal(model.reconstruct(level, first).volume, model.reconstruct(level, second).volume)


@pytest.mark.parametrize("preset", ["demo", "base", "paper"])
def test_baseline__costs_our_flops(preset: str) -> None:
    beside = PRESETS[preset]()
    ours, theirs = beside.model, baseline("unet", beside).model
    assert isinstance(ours, MAEConfig)
    assert isinstance(theirs, UNetConfig)
    wanted = mae_flops(ours, beside.masking.visible_count(ours.grid))
    assert unet_flops(theirs) == pytest.approx(wanted, rel=0.15)


@pytest.mark.parametrize("channels", [(4, 8), (4, 8, 16), (6, 12, 24, 48)])
def test_unet_flops__agrees_with_pytorchs_count(channels: tuple[int, ...]) -> None:
    config = UNetConfig(superpatch=(32, 32, 32), channels=channels)
    counted = count_flops(make_model(config, DualMasking()))
    assert unet_flops(config) == pytest.approx(counted, rel=0.15)  # the input needs no gradient


def test_config__refuses_what_cannot_be_halved() -> None:
    with pytest.raises(ConfigError, match="do not halve"):
        UNetConfig(superpatch=(24, 24, 24), channels=(4, 8, 16, 32, 64))
    with pytest.raises(ConfigError, match="at least two levels"):
        UNetConfig(superpatch=(32, 32, 32), channels=(4,))


def test_ssim_weight__adds_1_minus_ssim_of_masked_voxels() -> None:
    torch.manual_seed(0)
    model = make_model(replace(SMALL, ssim_weight=2.0), DualMasking())
    x, mask = inputs()
    rebuilt = model.reconstruct(x, mask)
    volume = torch.where(rebuilt.mask, rebuilt.volume, x)
    error = (volume - x)[rebuilt.mask].square().mean() / SMALL.input_std**2
    expected = error + 2.0 * ssim_loss(volume, x, rebuilt.mask)
    assert float(model.loss(x, mask).detach()) == pytest.approx(float(expected), rel=1e-5)
    assert float(expected) > float(error) + 1.0


def test_ssim_weight__needs_superpatches_that_hold_a_window() -> None:
    with pytest.raises(ConfigError, match=r"windows of 11 voxels, and the superpatch is 8x8x8"):
        UNetConfig(superpatch=(8, 8, 8), patch=(4, 4, 4), channels=(4, 8), ssim_weight=1.0)
