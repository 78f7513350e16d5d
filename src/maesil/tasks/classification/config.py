"""Settings of a classification run."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from pydantic import ConfigDict, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from maesil.catalog import NONE
from maesil.encoder.pool import Pool
from maesil.errors import ConfigError
from maesil.training.config import EfficiencyConfig, TrainConfig


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ClassificationConfig:
    """All settings of a classification run.

    Args:
        init: The pre-trained encoder, anything `maesil.load` accepts; "none": random weights, the preset's
            architecture.
        random_start: Use only the architecture of `init`, with random weights.
        preset: Preset whose architecture is used if `init` is "none", a name that `maesil pretrain --help` lists.
        mode: "linear" or "knn" on the mean token, "attentive" pooling of frozen tokens (means of 4^3 patches), or
            "full": encoder and pooling trained on superpatches.
        pool: What "linear" and "knn" use of a scan's tokens: their "mean", or "mean_std", the mean and the standard
            deviation: how varied a scan is says more than its mean (docs/lab.md).
        folds: Number of folds by patient, stratified by class.
        train: Length and learning rate of AdamW ("full").
        layer_decay: Ratio of each encoder block's learning rate to that of the block above ("full"). None: 0.75 for a
            pre-trained encoder, 1 for random weights, which have as much to learn in every layer.
        efficiency: Devices and precision ("full").
        seed: Seed of folds, initial weights and data order.
    """

    init: str = NONE
    random_start: bool = False
    preset: str = "base"
    mode: Literal["linear", "knn", "attentive", "full"] = "linear"
    pool: Pool = "mean"
    folds: PositiveInt = 5
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=500, batch=4, peak_lr=3e-4))
    layer_decay: PositiveFloat | None = None
    efficiency: EfficiencyConfig = field(default_factory=EfficiencyConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.layer_decay is not None and self.layer_decay > 1:
            raise ConfigError(f"layer_decay is {self.layer_decay}, but it is a share", fix="give at most 1")
