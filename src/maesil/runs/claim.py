"""A folder remembers the settings that its contents were made with, and refuses others."""

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
_ABSENT = object()


def changed_settings(before: Settings, now: Settings) -> list[str]:
    """Names of the settings that only one of the two has, or that differ."""
    return [key for key in {**now, **before} if before.get(key, _ABSENT) != now.get(key, _ABSENT)]


def claim(path: Path, settings: Settings, *, holds: str, fix: str, changed: Changed = changed_settings) -> None:
    """Writes settings into a folder, or checks that those of an earlier call agree with them.

    Args:
        path: The file that keeps them, .json or .yaml; its folder is made if absent.
        settings: Plain values.
        holds: What the folder holds, for the error, such as "a run".
        fix: What to do about other settings.
        changed: Names of the settings that differ, given the earlier ones and these; those that it leaves out may
            change.

    Raises:
        ConfigError: The folder was made with other settings.
    """
    plain = path.suffix == ".json"
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        differing = changed((json.loads(text) if plain else yaml.safe_load(text)) or {}, settings)
        if differing:
            listed = ", ".join(differing)
            raise ConfigError(f"this folder holds {holds} with other settings: {listed}", where=path.parent, fix=fix)
    if plain:
        write_json(path, settings)
    else:
        write_text(path, yaml.safe_dump(dict(settings), sort_keys=False))
