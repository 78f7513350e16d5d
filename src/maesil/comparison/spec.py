"""The models of a comparison, given as words: `ae`, `ae:latent_channels=6`, `maesil:masking.name=uniform`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from maesil.catalog import NONE, unknown_name
from maesil.config import RunConfig, from_dict, to_dict
from maesil.errors import ConfigError
from maesil.models import CEILINGS, MODELS, UNTRAINED
from maesil.presets.baselines import baseline

SECTIONS = ("data", "masking", "model", "train", "efficiency", "monitor")
_COMMA = re.compile(r",(?![^\[\]]*\])")
_UNSAFE = re.compile(r"[^A-Za-z0-9._=-]+")


@dataclass(frozen=True)
class Spec:
    """One model of a comparison, and how it differs from its defaults.

    Attributes:
        label: The model's name in scores and folders.
        model: Kind of model, a name in `MODELS`, `UNTRAINED` or `CEILINGS`.
        settings: Dotted setting to value, such as {"model.latent_channels": 6} or {"model.fusion.width": 0}.
        title: The model's name in tables and figures, with spaces to break lines at; empty: the label.
    """

    label: str
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""

    def __post_init__(self) -> None:
        known = (*MODELS, *UNTRAINED, *CEILINGS)
        if self.model not in known:
            raise unknown_name("model", self.model, known)
        if not self.trained and self.settings:
            raise ConfigError(f"'{self.model}' learns nothing and has no settings", where=self.label)

    @property
    def trained(self) -> bool:
        """Whether the model is trained."""
        return self.model in MODELS

    @property
    def folder(self) -> str:
        """The label as a folder name."""
        return _UNSAFE.sub("_", self.label)

    def configure(self, preset: RunConfig) -> RunConfig:
        """This model's run, sized to match a preset of the masked autoencoder.

        The preset's `init` names weights of its own network; other models start from random ones.

        Raises:
            ConfigError: A setting is unknown or invalid; the message names the model.
        """
        values = to_dict(baseline(self.model, preset))
        if values["model"]["name"] != preset.model.name:
            values["init"] = NONE
        named = self.settings.get("masking.name")
        if named is not None:
            values["masking"] = {"name": named}  # another strategy has other settings
        for key, value in self.settings.items():
            _set(values, key.split("."), value)
        try:
            return from_dict(values, where=self.label)
        except ConfigError as error:
            raise ConfigError(error.what, where=f"model '{self.label}'", fix=error.fix) from error


def _set(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Sets a value in nested dictionaries; a path that leads nowhere is left for the check of the whole."""
    first, *rest = path
    if not rest:
        values[first] = value
        return
    inner = values.get(first)
    values[first] = inner = dict(inner) if isinstance(inner, dict) else {}
    _set(inner, rest, value)


def parse_models(words: Iterable[str]) -> tuple[Spec, ...]:
    """Parses models from words, each a name with optional settings, or several separated by commas.

    Args:
        words: Words such as ("maesil,ae", "vae:kl_per_voxel=1"). A setting without a section belongs to the model;
            values are YAML.

    Raises:
        ConfigError: A word cannot be parsed, or two models have the same label.
        UnknownNameError: There is no such model.
    """
    specs = tuple(_parse(part.strip()) for word in words for part in _COMMA.split(word) if part.strip())
    check_labels(specs)
    return specs


def check_labels(specs: Sequence[Spec]) -> None:
    """Raises ConfigError if there is no model, or if two would share a label or a folder."""
    if not specs:
        raise ConfigError("no model is given", fix=f"--models, any of: {', '.join((*MODELS, *UNTRAINED, *CEILINGS))}")
    folders = [spec.folder.lower() for spec in specs]
    twice = next((spec.label for spec in specs if folders.count(spec.folder.lower()) > 1), None)
    if twice is None:
        titles = [spec.title for spec in specs if spec.title]
        twice = next((title for title in titles if titles.count(title) > 1), None)
    if twice is not None:
        raise ConfigError(f"two models are called '{twice}'", fix="give them different settings, or list it once")


def _parse(text: str) -> Spec:
    name, *settings = text.split(":")
    title = ", ".join((name, *map(_titled, settings)))
    return Spec(text, name, dict(_setting(setting, text) for setting in settings), title)


def _titled(setting: str) -> str:
    """A setting in short form: "latent_channels=6" as "latent channels 6", "patch=[1, 8, 8]" as "patch 1x8x8"."""
    key, _, value = setting.partition("=")
    name = key.removeprefix("model.").removesuffix(".name")
    return f"{re.sub('[-_.]', ' ', name)} {re.sub(', *', 'x', value.strip('[]'))}"


def _setting(text: str, where: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"'{text}' is not a setting", where=where, fix="NAME:KEY=VALUE, as in ae:latent_channels=6")
    dotted = key.replace("-", "_")
    if "." not in dotted:
        dotted = f"model.{dotted}"
    if dotted.split(".")[0] not in SECTIONS:
        raise ConfigError(f"unknown section in '{key}'", where=where, fix=f"known: {', '.join(SECTIONS)}")
    return dotted, _value(value)


def _value(text: str) -> Any:
    try:
        return float(text) if re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", text) else yaml.safe_load(text)
    except yaml.YAMLError:
        return text
