"""A pre-trained encoder inside MONAI: its ViT, its transforms, and a network of your own on top.

`python examples/encoder_in_monai.py RUN SCAN.nii.gz`

RUN is what `maesil pretrain` or `maesil export` wrote, SCAN any CT that MONAI reads.
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
    """MONAI's own ViT with the pre-trained weights, and what is to be known of them."""
    with tempfile.TemporaryDirectory() as folder:
        out = pipeline.export(run, "monai", Path(folder) / "monai")
        card = json.loads((out / "transfer.json").read_text())
        vit = ViT(**card["notes"]["vit"])
        vit.load_state_dict(load_file(out / "vit.safetensors"))  # strict: every tensor has its place
    return vit.eval(), card


def input_of(card: dict) -> mt.Compose:
    """What the encoder saw in pre-training: its voxels, its window, axes Superior, Posterior, Left."""
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
    vit, card = encoder_of(sys.argv[1])
    volume = input_of(card)(sys.argv[2])[None].as_tensor()
    with torch.inference_mode():
        tokens, _ = vit(volume)
    grid = [edge // patch for edge, patch in zip(volume.shape[2:], card["model"]["patch"], strict=True)]
    features = tokens.transpose(1, 2).reshape(1, -1, *grid)  # row-major over (Superior, Posterior, Left)
    scores = nn.Linear(features.shape[1], 2)(features.mean(dim=(2, 3, 4)))  # your network begins here
    print(f"tokens {tuple(tokens.shape)}, feature map {tuple(features.shape)}, scores {tuple(scores.shape)}")
