"""Uses a pre-trained encoder in MONAI: MONAI's ViT and transforms, with your own network on top.

`python examples/encoder_in_monai.py RUN SCAN.nii.gz`

RUN is a folder that `maesil pretrain` or `maesil export` wrote; SCAN is any CT that MONAI reads.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from monai import transforms as mt
from monai.networks.nets import ViT
from safetensors.torch import load_file
from torch import nn

from maesil import pipeline


def encoder_of(run: str) -> tuple[ViT, dict]:
    """Returns MONAI's ViT with the pre-trained weights, and the card that describes them."""
    with tempfile.TemporaryDirectory() as folder:
        out = pipeline.export(run, "monai", Path(folder) / "monai")
        card = json.loads((out / "transfer.json").read_text())
        vit = ViT(**card["notes"]["vit"])
        vit.load_state_dict(load_file(out / "vit.safetensors"))  # strict: every tensor must match
    return vit.eval(), card


def input_of(card: dict) -> mt.Compose:
    """Prepares a scan as in pre-training: spacing, HU window, and axes Superior, Posterior, Left."""
    size = card["model"]["superpatch"]
    return mt.Compose([
        mt.LoadImage(image_only=True, ensure_channel_first=True),
        mt.Orientation(axcodes="SPL", labels=(("R", "L"), ("A", "P"), ("I", "S"))),
        mt.Spacing(pixdim=[card["voxels"]["spacing_mm"]] * 3),
        mt.ScaleIntensityRange(card["low_hu"], card["high_hu"], 0.0, 1.0, clip=True),
        mt.SpatialPad(size),
        mt.CenterSpatialCrop(size),
    ])  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(f"usage: {__doc__.split('`')[1]}")
    vit, card = encoder_of(sys.argv[1])
    volume = input_of(card)(sys.argv[2])[None].as_tensor()
    with torch.inference_mode():
        tokens, _ = vit(volume)
    grid = [edge // patch for edge, patch in zip(volume.shape[2:], card["model"]["patch"], strict=True)]
    features = tokens.transpose(1, 2).reshape(1, -1, *grid)  # row-major over (Superior, Posterior, Left)
    scores = nn.Linear(features.shape[1], 2)(features.mean(dim=(2, 3, 4)))  # replace this layer with your network
    print(f"tokens {tuple(tokens.shape)}, feature map {tuple(features.shape)}, scores {tuple(scores.shape)}")
