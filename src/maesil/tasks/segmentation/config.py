"""Settings of a segmentation run; this module imports no MONAI, so that a wrong flag is answered soon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from maesil.catalog import NONE
from maesil.config import explain
from maesil.encoder.source import absolute_source
from maesil.errors import ConfigError
from maesil.runs.checkpoints import steps_done
from maesil.runs.claim import Differences, changed_settings, claim
from maesil.sampling.config import DataConfig
from maesil.training.checkpoint_folder import checkpoint_folder, read_config
from maesil.training.config import EfficiencyConfig, MonitorConfig, TrainConfig

Mode = Literal["full", "frozen", "linear", "unet"]


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
class AugmentConfig:
    """Random changes of labelled superpatches in training; flips are in `data.flip_axes`.

    What a rotation or zoom needs from outside of a superpatch is filled by mirroring image and labels. Both are in
    voxels: in stores whose voxels are not cubes, a rotation shears anatomy a little.

    Args:
        rotation: Largest angle about each axis, in degrees; 0: no rotation.
        zoom: Smallest and largest enlargement of the anatomy along each axis, drawn for each; 1 1: no zoom.
        contrast: Largest change of the HU values above the window's low end, as a share of them; 0: none.
        noise_hu: Largest standard deviation of the noise that is added, in HU; 0: none.
    """

    rotation: NonNegativeFloat = 15.0
    zoom: tuple[PositiveFloat, PositiveFloat] = (0.8, 1.25)
    contrast: NonNegativeFloat = 0.1
    noise_hu: NonNegativeFloat = 30.0

    def __post_init__(self) -> None:
        if not self.zoom[0] <= 1 <= self.zoom[1]:
            fix = "--augment.zoom LOW HIGH, with LOW at most 1 and HIGH at least 1"
            raise ConfigError(f"zoom is {self.zoom[0]:g} to {self.zoom[1]:g}", fix=fix)
        if self.rotation > 180:
            raise ConfigError(f"rotation is {self.rotation:g} degrees", fix="--augment.rotation 0 to 180")
        if self.contrast >= 1:
            raise ConfigError(f"contrast changes by {self.contrast:g}", fix="--augment.contrast below 1, such as 0.1")


NO_AUGMENTATION = AugmentConfig(rotation=0.0, zoom=(1.0, 1.0), contrast=0.0, noise_hu=0.0)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SegmentationConfig:
    """The network, and which of its parts are trained.

    Args:
        mode: "full" trains everything; "frozen" trains the decoder on a frozen encoder; "linear" trains one linear map
            of the frozen last features, upsampled to voxels, which measures the features as they are; "unet" trains
            MONAI's UNet with residual units, of `features` channels, from random weights and without the encoder: a
            baseline without pre-training.
        features: Channels of the decoder at its finest stage; doubled at each coarser one.
        resolution: Resolution of the finest stage along each axis, relative to the scan: "half" costs a sixth of
            "full", and its logits are upsampled to voxels.
        layer_decay: Ratio of each encoder block's learning rate to that of the block above ("full" only). None: 0.75
            for a pre-trained encoder, whose lower blocks need little change; 1 for random weights.
        feature_norm: Normalisation of the feature maps that the decoder sees. "batch": every channel to mean 0 and
            deviation 1 over the batch, as in linear probes of masked autoencoders (He et al. 2022, appendix A.1),
            because pre-training spreads the scales of channels; "none": none.
        foreground: Share of superpatches drawn around a labelled voxel, evenly over the classes.
        dice_weight: Weight of the Dice loss, relative to 1 for cross-entropy.
    """

    mode: Mode = "full"
    features: PositiveInt = 16
    resolution: Literal["full", "half"] = "full"
    layer_decay: PositiveFloat | None = None
    feature_norm: Literal["batch", "none"] = "batch"
    foreground: NonNegativeFloat = 0.67
    dice_weight: NonNegativeFloat = 1.0

    def __post_init__(self) -> None:
        if (self.layer_decay or 0) > 1 or self.foreground > 1:
            raise ConfigError(
                f"layer_decay {self.layer_decay} and foreground {self.foreground} are shares", fix="give at most 1"
            )


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
