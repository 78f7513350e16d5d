"""The paper's baselines, sized to match a preset of the masked autoencoder: same data, masks, batch, steps and seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial

from maesil.catalog import Catalog
from maesil.config import RunConfig
from maesil.errors import ConfigError
from maesil.models import MODELS, AEConfig, MAEConfig, SliceMAEConfig, UNetConfig, VAEConfig, VQVAEConfig
from maesil.models.autoencoder import AutoencoderConfig
from maesil.models.cost import autoencoder_flops, mae_flops, unet_flops
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
    MODELS[name]  # raises for an unknown name and suggests the nearest one
    if name == preset.model.name:
        return preset
    if not isinstance(preset.model, MAEConfig):
        raise ConfigError(f"baselines are sized to match a masked autoencoder, not '{preset.model.name}'")
    return SIZES[name](preset, preset.model)


def _adamw(preset: RunConfig, rate: float) -> TrainConfig:
    return replace(preset.train, optimizer="adamw", peak_lr=rate)


def unet_beside(preset: RunConfig, ours: MAEConfig) -> RunConfig:
    """A U-Net with a preset's FLOPs per superpatch, each level twice as wide as the one before."""
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
    network = min(networks, key=lambda one: abs(math.log(unet_flops(one) / wanted)))
    return replace(preset, model=network, train=_adamw(preset, UNET_LR))


def slice_beside(preset: RunConfig, ours: MAEConfig) -> RunConfig:
    """The slice MAE with a 3D model's Transformers: all settings that both have, except the patch."""
    shared = {field.name for field in fields(SliceMAEConfig)} - {"name", "patch"}
    settings = {field.name: getattr(ours, field.name) for field in fields(ours) if field.name in shared}
    return replace(preset, model=SliceMAEConfig(**settings, mask_patch=ours.patch))


def autoencoder_beside(preset: RunConfig, ours: MAEConfig, kind: type[AutoencoderConfig]) -> RunConfig:
    """An autoencoder with a preset's FLOPs, whose latent has as many numbers as the preset's encoder output."""
    visible = preset.masking.visible_count(ours.grid)
    bodies = [_body(kind, ours, width) for width in WIDTHS]
    wanted = mae_flops(ours, visible)
    body = min(bodies, key=lambda one: abs(math.log(autoencoder_flops(one) / wanted)))
    elements = visible * ours.encoder_width
    sized = replace(body, latent_channels=max(1, round(elements / body.positions)))
    return replace(preset, model=sized, train=_adamw(preset, AUTOENCODER_LR))


def _body(kind: type[AutoencoderConfig], ours: MAEConfig, width: int) -> AutoencoderConfig:
    return kind(
        superpatch=ours.superpatch,
        patch=ours.patch,
        channels=(width, 2 * width, 4 * width),
        input_mean=ours.input_mean,
        input_std=ours.input_std,
    )


SIZES: Catalog[Callable[[RunConfig, MAEConfig], RunConfig]] = Catalog(
    "size of model",
    {
        "ae": partial(autoencoder_beside, kind=AEConfig),
        "vae": partial(autoencoder_beside, kind=VAEConfig),
        "vqvae": partial(autoencoder_beside, kind=VQVAEConfig),
        "slice_mae": slice_beside,
        "unet": unet_beside,
    },
)
"""Name of a baseline to the function that sizes it: takes a preset and its masked autoencoder, returns a preset."""
