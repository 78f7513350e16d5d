"""Settings of a segmentation run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from maesil.catalog import NONE
from maesil.config import explain
from maesil.encoder.source import absolute_source
from maesil.errors import ConfigError
from maesil.runs.checkpoints import steps_done
from maesil.runs.claim import Differences, changed_settings, claim
from maesil.sampling.config import DataConfig
from maesil.tasks.segmentation.augmenter import NO_AUGMENTATION, AugmentConfig
from maesil.tasks.segmentation.network import Mode, SegmentationConfig
from maesil.training.checkpoint_folder import checkpoint_folder, read_config
from maesil.training.config import EfficiencyConfig, MonitorConfig, TrainConfig


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LabelsConfig:
    """Classes to segment, and how many labels to train on.

    Args:
        classes: Structures to segment; none: all that every labelled scan names. Only scans whose labels name every
            class are used, unless `partial`: in others, a class might be present but unmarked.
        partial: Whether scans are used, too, in which only some of the classes are marked. A class that is not marked
            in a scan is neither taught as background nor scored there. With no `classes`: all that any scan names.
        scans: Number of labelled training scans, the first in a fixed order; None: all.
        share: Share of the training scans' grid superpatches whose labels are used, the first in a fixed order; None:
            random crops anywhere.
        folds: Number of folds by patient; None: the store's split, or --data.holdout.
        fold: Number of the fold to test.
    """

    classes: tuple[str, ...] = ()
    partial: bool = False
    scans: PositiveInt | None = None
    share: float | None = None
    folds: PositiveInt | None = None
    fold: NonNegativeInt = 0

    def __post_init__(self) -> None:
        if self.share is not None and not 0 < self.share <= 1:
            raise ConfigError(f"share is {self.share}", fix="give a share of the superpatches in (0, 1]")
        if self.folds is not None and not (self.folds > 1 and self.fold < self.folds):
            raise ConfigError(f"fold {self.fold} of {self.folds}", fix="give at least 2 folds, numbered from 0")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class FinetuneConfig:
    """All settings of a segmentation run.

    Args:
        init: The pre-trained encoder, anything `maesil.load` accepts; "none": random weights, the preset's
            architecture.
        random_start: Use only the architecture of `init`, with random weights: the baseline without pre-training.
            Random weights learn at one rate in all layers, unless --model.layer-decay is given.
        preset: Preset whose architecture is used if `init` is "none", a name that `maesil pretrain --help` lists.
        data: Store, held-out patients, flips. No flips by default: left and right are different structures. No padded
            crops: a scan is segmented in windows that lie inside it. The window is the encoder's.
        labels: Classes to segment, and how many labels to train on.
        augment: Random changes of superpatches in training.
        model: Decoder and mode.
        train: Length and learning rate of AdamW.
        monitor: Logs, validation, checkpoints; no images.
        efficiency: Devices and precision.
        seed: Seed of decoder weights, data order and flips.
    """

    init: str = NONE
    random_start: bool = False
    preset: str = "base"
    data: DataConfig = field(default_factory=lambda: DataConfig(flip_axes=(), padded_crops=False))
    labels: LabelsConfig = field(default_factory=LabelsConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: SegmentationConfig = field(default_factory=SegmentationConfig)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=5000, batch=2, peak_lr=1e-3))
    monitor: MonitorConfig = field(
        default_factory=lambda: MonitorConfig(validate_every=500, validation_superpatches=32, image_every=0)
    )
    efficiency: EfficiencyConfig = field(default_factory=EfficiencyConfig)
    seed: int = 0


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ScratchConfig:
    """Settings of the encoder with random weights that differ from the pre-trained encoder's.

    Args:
        peak_lr: Peak learning rate; None: the one in `train`. --rates chooses one for each start.
        layer_decay: Ratio of each encoder block's learning rate to that of the block above; 1: all learn at one rate.
        mode: What is trained; None: the same as of the pre-trained start. "full" suits random weights beside a frozen
            pre-trained encoder, and "unet" compares with MONAI's U-Net.
    """

    peak_lr: PositiveFloat | None = None
    layer_decay: PositiveFloat = 1.0
    mode: Mode | None = None

    def __post_init__(self) -> None:
        if self.layer_decay > 1:
            raise ConfigError(f"scratch.layer_decay is {self.layer_decay}, but it is a share", fix="give at most 1")


_ADAPTER = TypeAdapter(FinetuneConfig)


def to_dict(config: FinetuneConfig) -> dict[str, Any]:
    """The settings as plain values."""
    plain: dict[str, Any] = _ADAPTER.dump_python(config, mode="json")
    return plain


def from_dict(values: Mapping[str, Any], *, where: object = None) -> FinetuneConfig:
    """Validates settings; raises ConfigError if they are invalid."""
    try:
        return _ADAPTER.validate_python(dict(values))
    except ValidationError as error:
        raise explain(error, FinetuneConfig, where) from error


def completed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an earlier run, with what they left out.

    Up to version 0.2.0, features were not normalised, superpatches were only flipped, and every scan was annotated for
    all classes.
    """
    augment = values.get("augment", to_dict(FinetuneConfig(augment=NO_AUGMENTATION))["augment"])
    model = {"feature_norm": "none", **values.get("model", {})}
    return {**values, "augment": augment, "model": model, "labels": {"partial": False, **values.get("labels", {})}}


def settle(config: FinetuneConfig, run: Path, store: str) -> None:
    """Writes the settings into a new run folder, or checks that they agree with an existing run's.

    Args:
        config: The settings.
        run: The run folder.
        store: Fingerprint of the store. A copy of the store that the run was trained on may take its place.

    Raises:
        ConfigError: The folder contains a run with other settings.
    """

    def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Differences:
        before = completed(before)
        before = {**before, "init": absolute_source(before.get("init", NONE))}  # up to version 0.2.0, as it was typed
        found = changed_settings(*({**each, "monitor": {}, "efficiency": {}} for each in (before, now)))
        if "data.store" in found and _trained_on(run, store):
            del found["data.store"]
        return found

    fix = (
        "resume with the same settings, or give another --run; --data.store may name a copy of the store with the same "
        "manifest"
    )
    claim(run / "config.yaml", to_dict(config), holds="a run", fix=fix, changed=changed)


def _trained_on(run: Path, store: str) -> bool:
    """Whether a run was trained on a store with this fingerprint, or has not begun."""
    return not steps_done(run) or read_config(checkpoint_folder(run)).get("store") == store
