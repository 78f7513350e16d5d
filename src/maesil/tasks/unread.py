"""Errors for settings that a task would ignore, so that no flag is silently without effect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, NamedTuple

from maesil.catalog import NONE
from maesil.ct.window import Window
from maesil.encoder.card import Transfer
from maesil.errors import ConfigError
from maesil.sampling.config import HoldoutConfig
from maesil.tasks.classification.config import ClassificationConfig
from maesil.tasks.segmentation.config import FinetuneConfig
from maesil.training.config import EfficiencyConfig, TrainConfig


class Rule(NamedTuple):
    """A setting, and when it would be ignored.

    Attributes:
        flag: The setting's flag on the command line.
        vain: Whether it is set but would be ignored.
        why: Why it is ignored.
        fix: What to do instead.
    """

    flag: str
    vain: bool
    why: str
    fix: str = "leave it out"


def refuse(rules: Iterator[Rule]) -> None:
    """Raises ConfigError for the first setting that would be ignored."""
    for rule in rules:
        if rule.vain:
            raise ConfigError(f"{rule.flag} would have no effect: {rule.why}", fix=rule.fix)


def refuse_in_segmentation(config: FinetuneConfig) -> None:
    """Raises ConfigError if a segmentation would ignore a setting that differs from its default."""
    refuse(_common(config.init, config.preset, config.train, config.efficiency))
    refuse(_monitored(config))
    refuse(_drawn(config))
    refuse(_held_out(config))
    refuse(_modelled(config))


def refuse_in_classification(config: ClassificationConfig) -> None:
    """Raises ConfigError if a classification would ignore a setting that differs from its default."""
    refuse(_common(config.init, config.preset, config.train, config.efficiency))
    probes = config.mode in ("linear", "knn")
    why = f'mode "{config.mode}" uses tokens, not their mean or deviation'
    refuse(iter([Rule("--pool", config.pool != "mean" and not probes, why, "--mode linear or knn")]))
    if config.mode != "full":
        refuse(_untrained(config))


def require_window(window: Window, card: Transfer) -> Window:
    """Returns the encoder's HU window, the only one it works with.

    Args:
        window: The requested window; the default value requests none.
        card: The encoder's card.

    Raises:
        ConfigError: A different window is requested.
    """
    own, unasked = Window(card.low_hu, card.high_hu), Window()
    bounds = [(one.low_hu, one.high_hu) for one in (own, unasked)]
    if (window.low_hu, window.high_hu) not in bounds:
        raise ConfigError(
            f"the window is {window.low_hu:g} to {window.high_hu:g} HU, but the encoder's is {own.low_hu:g} to "
            f"{own.high_hu:g} HU",
            fix="leave out --data.window, or pre-train with this window",
        )
    return own


def _common(init: str, preset: str, train: TrainConfig, efficiency: EfficiencyConfig) -> Iterator[Rule]:
    yield Rule("--train.optimizer", train.optimizer != "adamw", "tasks are trained with AdamW, with a rate per layer")
    base = train.base_lr != TrainConfig().base_lr and train.peak_lr is not None
    yield Rule("--train.base-lr", base, f"the peak rate is {train.peak_lr}", "--train.peak-lr None")
    yield Rule("--efficiency.compile", efficiency.compile, "torch.compile is only used for pre-training")
    named = preset != "base" and init != NONE
    yield Rule("--preset", named, "the encoder has its own architecture", "leave it out, or --init none")


def _monitored(config: FinetuneConfig) -> Iterator[Rule]:
    yield Rule("--monitor.image-every", bool(config.monitor.image_every), "a segmentation reconstructs no images")


def _drawn(config: FinetuneConfig) -> Iterator[Rule]:
    data, model, own = config.data, config.model, type(config)()
    draws = {
        "--data.sampling": data.sampling != own.data.sampling,
        "--data.padded-crops": data.padded_crops != own.data.padded_crops,
        "--data.weighting": data.weighting != own.data.weighting,
        "--data.superpatches-per-pass": data.superpatches_per_pass is not None,
        "--model.foreground": model.foreground != own.model.foreground,
    }
    if config.labels.share is not None:
        for flag, given in draws.items():
            yield Rule(flag, given, "with --labels.share, superpatches are taken from the grid in turn")
    if data.sampling == "grid":
        for flag in ("--data.padded-crops", "--data.superpatches-per-pass"):
            yield Rule(flag, draws[flag], "the grid has no random crops", "--data.sampling random")
    cold = data.temperature != own.data.temperature and data.weighting != "temperature"
    yield Rule("--data.temperature", cold, f'the weighting is "{data.weighting}"', "--data.weighting temperature")


def _held_out(config: FinetuneConfig) -> Iterator[Rule]:
    labels, holdout, own = config.labels, config.data.holdout, HoldoutConfig()
    yield Rule("--labels.fold", bool(labels.fold) and labels.folds is None, "there are no folds", "--labels.folds N")
    if labels.folds is not None:
        by_fold = "the folds decide which patients are tested"
        yield Rule("--data.holdout.by", holdout.by != own.by, by_fold)
        yield Rule("--data.holdout.given", holdout.given != own.given, by_fold)
        yield Rule("--data.holdout.patients.fractions", holdout.patients.fractions != own.patients.fractions, by_fold)
        yield Rule("--data.holdout.patients.overrides", bool(holdout.patients.overrides), by_fold)
    if holdout.by == "patient":
        why, fix = "whole patients are held out", "--data.holdout.by superpatch"
        for name in ("val_superpatches", "test_superpatches", "held_tissue"):
            given = getattr(holdout, name) != getattr(own, name)
            yield Rule(_flag("data.holdout", name), given, why, fix)


def _modelled(config: FinetuneConfig) -> Iterator[Rule]:
    model, own = config.model, type(config)().model
    fixed = model.mode != "full" and model.layer_decay is not None
    # The architecture of --init gives the superpatch, so it may be given with random weights.
    started = model.mode == "unet" and config.init != NONE and not config.random_start
    yield Rule("--init", started, 'mode "unet" does not use the encoder', "add --random-start, or --init none")
    why = f'mode "{model.mode}" does not train the encoder'
    yield Rule("--model.layer-decay", fixed, why, "--model.mode full")
    for name in ("features", "resolution"):
        given = model.mode == "linear" and getattr(model, name) != getattr(own, name)
        yield Rule(_flag("model", name), given, 'mode "linear" has no decoder', "--model.mode frozen or full")


def _untrained(config: ClassificationConfig) -> Iterator[Rule]:
    """Settings that only mode "full" uses."""
    own = type(config)()
    why, fix = f'mode "{config.mode}" does not train the encoder', "--mode full"
    yield Rule("--layer-decay", config.layer_decay is not None, why, fix)
    means = replace(config.efficiency, resident_gib=own.efficiency.resident_gib)  # used in every mode
    for section, given, default in (("train", config.train, own.train), ("efficiency", means, own.efficiency)):
        for name in _changed(given, default):
            yield Rule(_flag(section, name), True, why, fix)


def _changed(given: Any, default: Any) -> list[str]:
    names = [field.name for field in fields(default)]
    return [name for name in names if getattr(given, name) != getattr(default, name)]


def _flag(section: str, name: str) -> str:
    return f"--{section}.{name.replace('_', '-')}"
