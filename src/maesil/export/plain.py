"""Plain safetensors: the encoder with our own parameter names, for `maesil.load` and any other PyTorch code."""

from __future__ import annotations

from pathlib import Path

from maesil.encoder.card import WEIGHTS, Transfer, save_weights
from maesil.models.backbone import Backbone

USAGE = """
import maesil
import torch

encoder = maesil.load(".")                          # a torch module, frozen or not
hu = torch.full((1, 1, *{shape}), -1000.0)          # (batch, 1, S, P, L) in HU
features = encoder(encoder.from_hu(hu))             # (batch, width, S / patch, P / patch, L / patch)
"""


def write_plain(backbone: Backbone, transfer: Transfer, out: Path) -> str:
    """Writes model.safetensors; returns the usage example for the model card."""
    save_weights(backbone.state_dict(), out / WEIGHTS)
    return USAGE.format(shape=tuple(transfer.config().superpatch))
