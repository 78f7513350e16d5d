"""The paper's baselines, sized to match a preset of the masked autoencoder: same data, masks, batch, steps and seed."""

from __future__ import annotations

import math
from dataclasses import fields, replace

from maesil.config import RunConfig
from maesil.errors import ConfigError
from maesil.models import MODELS, AnyModel, MAEConfig, SliceMAEConfig
from maesil.models.autoencoder import AutoencoderConfig
from maesil.models.cost import autoencoder_flops, mae_flops, unet_flops
from maesil.models.unet import UNetConfig
from maesil.training.config import TrainConfig

AUTOENCODER_LR = 3e-3
"""AdamW's peak learning rate for the convolutional autoencoders; see docs/lab.md."""
WIDTHS = range(16, 513, 16)
"""Channels of an autoencoder's finest level to choose from."""
UNET_LR = 3e-3
"""AdamW's peak learning rate for the U-Net; see docs/lab.md."""
UNET_WIDTHS = range(8, 257, 4)
"""Channels of a U-Net's finest level to choose from."""
UNET_LEVELS = 5
"""Levels of the U-Net: at the coarsest, a hidden block of planes is a few positions thick."""


def baseline(name: str, preset: RunConfig) -> RunConfig:
    """Returns a preset with its model replaced by a baseline.

    Autoencoders get the channels that cost the same FLOPs, a latent with as many numbers as the preset's encoder
    output, and AdamW, because Muon is meant for the Transformers' matrices; so does the U-Net, but it has no
    bottleneck. The slice MAE gets the preset's own Transformers and optimiser.

    Args:
        name: A name in `maesil.models.MODELS`.
        preset: A preset of the masked autoencoder.

    Raises:
        UnknownNameError: There is no such model.
        ConfigError: The preset's model is itself a baseline.
    """
    ours, (kind, _) = preset.model, MODELS[name]
    if name == ours.name:
        return preset
    if not isinstance(ours, MAEConfig):
        raise ConfigError(f"baselines are sized to match a masked autoencoder, not '{ours.name}'")
    if kind is SliceMAEConfig:
        return replace(preset, model=slice_beside(ours))
    if kind is UNetConfig:
        return replace(preset, model=unet_beside(preset), train=_adamw(preset, UNET_LR))
    train = _adamw(preset, AUTOENCODER_LR)
    return replace(preset, model=autoencoder_beside(kind, preset), train=train)


def _adamw(preset: RunConfig, rate: float) -> TrainConfig:
    return replace(preset.train, optimizer="adamw", peak_lr=rate)


def unet_beside(preset: RunConfig) -> UNetConfig:
    """A U-Net with a preset's FLOPs per superpatch, each level twice as wide as the one before."""
    ours = preset.model
    assert isinstance(ours, MAEConfig)
    wanted = mae_flops(ours, preset.masking.visible_count(ours.grid))
    networks = [
        UNetConfig(
            superpatch=ours.superpatch,
            patch=ours.patch,
            channels=tuple(width * 2**level for level in range(UNET_LEVELS)),
            input_mean=ours.input_mean,
            input_std=ours.input_std,
        )
        for width in UNET_WIDTHS
    ]
    return min(networks, key=lambda one: abs(math.log(unet_flops(one) / wanted)))


def slice_beside(ours: MAEConfig) -> SliceMAEConfig:
    """The slice MAE with a 3D model's Transformers: all settings that both have, except the patch."""
    shared = {field.name for field in fields(SliceMAEConfig)} - {"name", "patch"}
    settings = {field.name: getattr(ours, field.name) for field in fields(ours) if field.name in shared}
    return SliceMAEConfig(**settings, mask_patch=ours.patch)


def autoencoder_beside(kind: type[AutoencoderConfig], preset: RunConfig) -> AnyModel:
    """An autoencoder with a preset's FLOPs, whose latent has as many numbers as the preset's encoder output."""
    ours = preset.model
    assert isinstance(ours, MAEConfig)
    visible = preset.masking.visible_count(ours.grid)
    bodies = [_body(kind, ours, width) for width in WIDTHS]
    wanted = mae_flops(ours, visible)
    body = min(bodies, key=lambda one: abs(math.log(autoencoder_flops(one) / wanted)))
    elements = visible * ours.encoder_width
    sized: AnyModel = replace(body, latent_channels=max(1, round(elements / body.positions)))  # type: ignore[assignment]
    return sized


def _body(kind: type[AutoencoderConfig], ours: MAEConfig, width: int) -> AutoencoderConfig:
    return kind(
        superpatch=ours.superpatch,
        patch=ours.patch,
        channels=(width, 2 * width, 4 * width),
        input_mean=ours.input_mean,
        input_std=ours.input_std,
    )
