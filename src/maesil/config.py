"""The full configuration of a run: the configurations of its parts, and their YAML round trip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from maesil.catalog import nearest
from maesil.errors import ConfigError
from maesil.masking import MASKINGS, AnyMasking, DualMasking
from maesil.models import MODELS, AnyModel, MAEConfig
from maesil.models.vae import renew_settings
from maesil.sampling.config import DataConfig
from maesil.training.config import EfficiencyConfig, MonitorConfig, TrainConfig


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RunConfig:
    """All settings of a run.

    Args:
        preset: Name of the preset that it started from.
        data: Store, splits, sampling and window (science).
        masking: Masking strategy (science).
        model: Network (science).
        train: Optimiser and length of training (science).
        monitor: Logging, validation and checkpoints.
        efficiency: Devices, precision and workers.
        seed: Seed of initialisation, data order, flips and masks.
    """

    preset: Annotated[str, tyro.conf.Suppress] = "paper"
    data: DataConfig = field(default_factory=DataConfig)
    masking: AnyMasking = field(default_factory=DualMasking)
    model: AnyModel = field(default_factory=MAEConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    efficiency: EfficiencyConfig = field(default_factory=EfficiencyConfig)
    seed: int = 0


_ADAPTER = TypeAdapter(RunConfig)
SCIENCE = ("data", "masking", "model", "train", "seed")
"""Sections that a resumed run may not change."""


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
    values = _renewed(values)
    _check_keys(values, _pattern(values), (), where)
    try:
        return _ADAPTER.validate_python(_with_names(values))
    except ValidationError as error:
        raise _explain(error, where) from error


def load_yaml(path: Path) -> RunConfig:
    """Reads a configuration; raises ConfigError if it does not parse or validate."""
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read the configuration: {error.strerror}", where=path) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}", where=path) from error
    if not isinstance(values, dict):
        raise ConfigError("a configuration must be a mapping of sections", where=path)
    return from_dict(values, where=path)


def dump_yaml(config: RunConfig) -> str:
    """The configuration as YAML, with sections in the order of the fields."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def changed_keys(before: RunConfig, after: RunConfig, sections: Sequence[str] = SCIENCE) -> list[str]:
    """Dotted keys of `sections` on which two configurations differ."""
    flat_before, flat_after = (
        {key: value for key, value in _flatten(to_dict(config)) if key.split(".")[0] in sections}
        for config in (before, after)
    )
    keys = dict.fromkeys([*flat_before, *flat_after])
    return [key for key in keys if flat_before.get(key) != flat_after.get(key)]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _renewed(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values, with model settings of older runs renamed to their current names."""
    model = values.get("model")
    if not isinstance(model, Mapping) or _named(values, "model", "maesil") != "vae":
        return values
    return {**values, "model": renew_settings(model)}


def _pattern(values: Mapping[str, Any]) -> RunConfig:
    """A configuration with the fields that `values` may have; those of masking and model depend on their names."""
    network, _ = MODELS[_named(values, "model", "maesil")]
    masking = MASKINGS[_named(values, "masking", "dual")]
    return replace(RunConfig(), masking=masking(), model=network())  # type: ignore[arg-type]


def _with_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the names of model and masking, which decide how the rest of these parts is read."""
    named = dict(values)
    for part, default in (("model", "maesil"), ("masking", "dual")):
        if isinstance(values.get(part), Mapping):
            named[part] = {"name": default, **values[part]}
    return named


def _named(values: Mapping[str, Any], part: str, default: str) -> str:
    settings = values.get(part)
    return str(settings.get("name", default)) if isinstance(settings, Mapping) else default


def _check_keys(values: Mapping[str, Any], part: Any, path: tuple[str, ...], where: object) -> None:
    """Pydantic's dataclasses accept unknown keys in nested parts; a mistyped setting must not pass silently."""
    known = {field.name for field in fields(part)}
    for key, value in values.items():
        if key not in known:
            guess = nearest(key, known)
            hint = f"did you mean '{guess}'? " if guess else ""
            dotted = ".".join([*path, key])
            raise ConfigError(
                f"unknown setting '{dotted}'", where=where, fix=f"{hint}known: {', '.join(sorted(known))}"
            )
        child = getattr(part, key)
        if isinstance(value, Mapping) and is_dataclass(child):
            _check_keys(value, child, (*path, key), where)


def _explain(error: ValidationError, where: object) -> ConfigError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    return ConfigError(f"setting '{key}': {first['msg']}", where=where, fix=f"given: {first.get('input')!r}")
