"""A run is a Python function that returns its full configuration. Adapt with flags, or with `dataclasses.replace`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from maesil.catalog import Catalog
from maesil.config import RunConfig
from maesil.masking import DualMasking
from maesil.models.mae import MAEConfig
from maesil.training.config import MonitorConfig, TrainConfig


def paper() -> RunConfig:
    """The paper's method: 128^3 superpatches, 4,096 tokens of 768, dual masking of 75 % in total.

    ViT-B encoder and MAE's decoder (512 wide, 8 deep), AdamW at 1.5e-4 per 256, flips: the paper is silent on these
    (see docs/reproducing.md). About 2 TFLOP per superpatch and step; a single 80 GB GPU holds a batch of 16 in bf16.
    """
    return RunConfig(
        preset="paper",
        masking=DualMasking(plane_ratio=0.5, axis_ratio=0.5),
        model=MAEConfig(),
        train=TrainConfig(steps=200_000, batch=16, base_lr=1.5e-4),
        monitor=MonitorConfig(validate_every=5_000, checkpoint_every=1_000, image_every=5_000, log_every=50),
    )


def paper_union() -> RunConfig:
    """The literal §III-A: 75 % of every plane and half of the planes, 87.5 % in total, 512 visible tokens."""
    return replace(paper(), preset="paper_union", masking=DualMasking(plane_ratio=0.75, axis_ratio=0.5))


PRESETS: Catalog[Callable[[], RunConfig]] = Catalog("preset", {"paper": paper, "paper_union": paper_union})
