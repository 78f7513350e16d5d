"""A file in an output folder with the settings its contents were made with, so that other settings are refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from maesil.errors import ConfigError
from maesil.files import write_json, write_text

Settings = Mapping[str, Any]
Changed = Callable[[Settings, Settings], list[str]]
SETTINGS = "config.yaml"
"""The file with a run's settings in its folder."""
_ABSENT = object()


def changed_settings(before: Settings, now: Settings) -> list[str]:
    """Names of the settings that differ, or that only one of the two has."""
    return [key for key in {**now, **before} if before.get(key, _ABSENT) != now.get(key, _ABSENT)]


def claim(path: Path, settings: Settings, *, holds: str, fix: str, changed: Changed = changed_settings) -> None:
    """Writes settings into a folder, or checks that they agree with an earlier call's.

    Args:
        path: The settings file, .json or .yaml; its folder is created if absent.
        settings: Plain values.
        holds: What the folder contains, for the error message, such as "a run".
        fix: What to do if the settings differ, for the error message.
        changed: Returns the names of the settings that differ, given the earlier ones and these; settings that it does
            not return may change.

    Raises:
        ConfigError: The folder was made with other settings.
    """
    plain = path.suffix == ".json"
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        differing = changed((json.loads(text) if plain else yaml.safe_load(text)) or {}, settings)
        if differing:
            listed = ", ".join(differing)
            raise ConfigError(f"this folder contains {holds} with other settings: {listed}", where=path.parent, fix=fix)
    if plain:
        write_json(path, settings)
    else:
        write_text(path, yaml.safe_dump(dict(settings), sort_keys=False))
