"""The full configuration of a run: the configurations of its parts, and their YAML round trip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro
import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from maesil.catalog import NONE, unknown_name
from maesil.errors import ConfigError, UnknownNameError
from maesil.files import read_yaml
from maesil.masking import MASKINGS, DualMasking, Masking
from maesil.models import MODELS, MAEConfig, ModelConfig
from maesil.models.vae import renew_settings
from maesil.nested import flat
from maesil.sampling.config import DataConfig
from maesil.training.config import EfficiencyConfig, MonitorConfig, TrainConfig


@dataclass(frozen=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))
class RunConfig:
    """All settings of a run: of its masking strategy and its model (science), and of the parts below.

    Args:
        preset: Name of the preset that it started from.
        data: Store, splits, sampling and window (science).
        train: Optimiser and length of training (science).
        monitor: Logging, validation and checkpoints.
        efficiency: Devices and precision.
        seed: Seed of initialisation, data order, flips and masks.
        init: A run, a checkpoint, an exported encoder or the name of published weights, which a new run starts from;
            "none": random weights. All weights are used if they fit the model; all but the fusion's if only these do
            not fit; or else those of the encoder.
        lengthened: Steps at which the run was made longer, each with the number of steps it had before; set by
            `pretrain`. From there on, the learning rate moves from that of the shorter run's schedule to the longer
            one's, linearly over the share `train.warmup` of the steps that are left.
    """

    preset: Annotated[str, tyro.conf.Suppress] = "paper"
    data: DataConfig = field(default_factory=DataConfig)
    masking: Masking = field(default_factory=DualMasking)
    model: ModelConfig = field(default_factory=MAEConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    efficiency: EfficiencyConfig = field(default_factory=EfficiencyConfig)
    seed: int = 0
    init: str = NONE
    lengthened: Annotated[tuple[tuple[int, int], ...], tyro.conf.Suppress] = ()


_ADAPTER = TypeAdapter(RunConfig)
SCIENCE = ("data", "masking", "model", "train", "seed", "init", "lengthened")
"""Sections that a resumed run may not change."""
NAMED: dict[str, tuple[Callable[[str], type[Any]], str]] = {
    "model": (lambda name: MODELS[name][0], "maesil"),
    "masking": (lambda name: MASKINGS[name], "dual"),
}
"""Sections whose settings depend on a name: the settings of a name, and the default."""
UNKNOWN = "unexpected_keyword_argument"
"""Pydantic's type of error for an unknown setting."""


def to_dict(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain values, for JSON and YAML."""
    plain: dict[str, Any] = _ADAPTER.dump_python(config, mode="json")
    return plain


def from_dict(values: Mapping[str, Any], *, where: object = None) -> RunConfig:
    """A validated configuration; settings of older runs are renamed to their current names.

    Args:
        values: Nested plain values; missing ones get their defaults.
        where: File that they come from, for error messages.

    Raises:
        ConfigError: A key is unknown (the message names the nearest one) or a value is invalid.
    """
    try:
        return _ADAPTER.validate_python({**values, **_named(values, where)})
    except ValidationError as error:
        raise explain(error, RunConfig, where) from error
    except UnknownNameError as error:
        raise UnknownNameError(error.what, where=where, fix=error.fix) from error


def load_yaml(path: Path) -> RunConfig:
    """Reads a configuration; raises ConfigError if it does not parse or validate."""
    return from_dict(read_yaml(path), where=path)


def dump_yaml(config: RunConfig) -> str:
    """The configuration as YAML, with sections in the order of the fields."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def changed_values(
    before: RunConfig, after: RunConfig, sections: Sequence[str] = SCIENCE
) -> dict[str, tuple[Any, Any]]:
    """Dotted keys of `sections` on which two configurations differ, with both values."""
    flat_before, flat_after = (
        {key: value for key, value in flat(to_dict(config)) if key.split(".")[0] in sections}
        for config in (before, after)
    )
    pairs = {key: (flat_before.get(key), flat_after.get(key)) for key in {**flat_before, **flat_after}}
    return {key: (was, is_now) for key, (was, is_now) in pairs.items() if was != is_now}


def _named(values: Mapping[str, Any], where: object) -> dict[str, Any]:
    """Model and masking, validated; settings of older runs are renamed to their current names."""
    parts = {}
    for part, (kind_of, default) in NAMED.items():
        if isinstance(values.get(part), Mapping):
            settings: Mapping[str, Any] = {"name": default, **values[part]}
            kind = kind_of(str(settings["name"]))  # raises for an unknown name and suggests the nearest one
            if settings["name"] == "vae":
                settings = renew_settings(settings)
            try:
                parts[part] = TypeAdapter(kind).validate_python(settings)
            except ValidationError as error:
                raise explain(error, kind, where, section=part) from error
    return parts


def explain(error: ValidationError, kind: Any, where: object = None, *, section: str = "") -> ConfigError:
    """One of pydantic's errors as ours, an unknown setting before others; it names the nearest setting.

    Args:
        error: The error of validating values as `kind`.
        kind: A dataclass of settings.
        where: File that the values come from.
        section: Section of a configuration that the values are; empty: the whole.
    """
    first = min(error.errors(), key=lambda each: each["type"] != UNKNOWN)
    setting, owner = [section] if section else [], kind
    for step in first["loc"]:
        if is_dataclass(kind):  # pydantic's location also has the places within a value
            owner, kind = kind, get_type_hints(kind).get(str(step))
            setting.append(str(step))
    dotted = ".".join(setting)
    if first["type"] == UNKNOWN:
        hint = unknown_name("setting", setting[-1], (known.name for known in fields(owner))).fix
        return ConfigError(f"unknown setting '{dotted}'", where=where, fix=hint)
    return ConfigError(f"setting '{dotted}': {first['msg']}", where=where, fix=f"given: {first.get('input')!r}")
