"""Settings of a classification."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from maesil.training.config import EfficiencyConfig, TrainConfig


@dataclass(frozen=True)
class ClassificationConfig:
    """Everything that decides a classification run.

    Args:
        init: The pre-trained encoder, as `maesil.load` takes it; "none": random weights, the preset's architecture.
        random_start: Take the architecture of `init` alone, with random weights.
        preset: Architecture where `init` is "none".
        mode: "linear" or "knn" on the mean token, "attentive" pooling of fixed tokens (means of 4^3 patches), or
            "full": encoder and pooling trained on superpatches.
        pool: What "linear" and "knn" see of a scan's tokens: their "mean", or "mean_std", their standard deviation
            beside it: how varied a scan is says more than its mean (docs/lab.md).
        folds: By patient, stratified by class.
        train: Length and rate of AdamW ("full").
        layer_decay: Learning rate of each encoder block, as a share of the block's above it ("full"). None: 0.75 for a
            pre-trained encoder, 1 for random weights, which have as much to learn in every layer.
        efficiency: Devices, precision, workers of "full".
        seed: Of folds, starts and order.
    """

    init: str = "none"
    random_start: bool = False
    preset: Literal["paper", "base", "demo"] = "base"
    mode: Literal["linear", "knn", "attentive", "full"] = "linear"
    pool: Literal["mean", "mean_std"] = "mean"
    folds: PositiveInt = 5
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=500, batch=4, peak_lr=3e-4))
    layer_decay: PositiveFloat | None = None
    efficiency: EfficiencyConfig = field(default_factory=EfficiencyConfig)
    seed: int = 0
