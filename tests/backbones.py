"""A small random encoder with a grid that is not a cube, and its card."""

from __future__ import annotations

from dataclasses import asdict, replace

import torch
from torch import nn

from maesil.encoder.card import Transfer
from maesil.models import MAEConfig
from maesil.models.backbone import Backbone

CONFIG = MAEConfig(
    superpatch=(32, 16, 24), patch=(8, 8, 8), encoder_width=48, encoder_depth=3, encoder_heads=4,
    decoder_width=24, decoder_depth=1, decoder_heads=2, position_wavelengths=(4.0, 40.0),
)  # fmt: skip

EVA = replace(CONFIG, encoder_block="eva", mlp_ratio=8 / 3)
"""The same with the blocks of nnU-Net's Primus."""


def small_backbone(config: MAEConfig = CONFIG) -> Backbone:
    """Random in every tensor, biases and norms too, so that a tensor in the wrong place shows."""
    torch.manual_seed(0)
    backbone = Backbone(config).eval()
    for name, parameter in backbone.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if "norm" in name and name.endswith("weight") else 0.0, std=0.15)
    return backbone


def small_card(config: MAEConfig = CONFIG) -> Transfer:
    return Transfer(
        model=asdict(config), low_hu=-1000.0, high_hu=1000.0, voxels={"policy": "spacing", "spacing_mm": 2.0},
        masking={"name": "dual", "plane_ratio": 0.5}, datasets={"thorax": 3}, preset="small", maesil="0.1.0",
        commit="abc", step=7,
    )  # fmt: skip


def random_volume(backbone: Backbone, batch: int = 2, seed: int = 1) -> torch.Tensor:
    return torch.rand(batch, 1, *backbone.config.superpatch, generator=torch.Generator().manual_seed(seed))


def with_patch(patch: tuple[int, int, int], superpatch: tuple[int, int, int], depth: int = 3) -> MAEConfig:
    return replace(CONFIG, patch=patch, superpatch=superpatch, encoder_depth=depth)
