"""A file in an output folder with the settings its contents were made with, so that other settings are refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from maesil.counts import some_of
from maesil.errors import ConfigError
from maesil.files import write_json, write_text
from maesil.nested import flat

Settings = Mapping[str, Any]
Differences = Mapping[str, tuple[Any, Any]]
"""Dotted name of a setting to its value in an earlier call and in this one."""
Changed = Callable[[Settings, Settings], Differences]
SETTINGS = "config.yaml"
"""The file with a run's settings in its folder."""
ABSENT = "not recorded"
"""In place of a value that one of the two settings lacks."""
SHOWN, LONGEST = 5, 60
"""Number of differences that an error lists, and of characters that it shows of a value."""


def changed_settings(before: Settings, now: Settings) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, or that only one of the two has; nested ones by dotted name."""
    old, new = dict(flat(before)), dict(flat(now))
    pairs = {key: (old.get(key, ABSENT), new.get(key, ABSENT)) for key in {**new, **old}}
    return {key: (was, is_now) for key, (was, is_now) in pairs.items() if was != is_now}


def differences_text(differences: Differences) -> str:
    """The first differences in words, with both values: "seed is 0 there, 1 here"."""
    listed = [f"{key} is {' there, '.join(_apart(*values))} here" for key, values in differences.items()]
    return some_of(listed, SHOWN, separator="; ")


def _apart(was: Any, is_now: Any) -> tuple[str, str]:
    """Two values as short texts; of long ones, what follows their common beginning."""
    texts = [_plain(value) for value in (was, is_now)]
    if max(map(len, texts)) > LONGEST and (start := _parting(*texts)):
        texts = [f"...{text[start:]}" for text in texts]
    before, now = (text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..." for text in texts)
    return before, now


def _parting(one: str, other: str) -> int:
    """Where the word or the name of a folder begins in which two texts part; in a long one, a little before they do."""
    parts = (at for at, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1)
    same = next(parts, min(len(one), len(other)))
    return max(0, same - LONGEST // 2, *(one.rfind(sign, 0, same) for sign in " /\\"))


def _plain(value: Any) -> str:
    """A plain value as text, lists without brackets."""
    if isinstance(value, list | tuple):
        return " ".join(map(_plain, value)) or "empty"
    return "none" if value is None else str(value)


def claim(path: Path, settings: Settings, *, holds: str, fix: str, changed: Changed = changed_settings) -> None:
    """Writes settings into a folder, or checks that they agree with an earlier call's.

    Args:
        path: The settings file, .json or .yaml; its folder is created if absent.
        settings: Plain values.
        holds: What the folder contains, for the error message, such as "a run".
        fix: What to do if the settings differ, for the error message.
        changed: Returns the settings that differ, given the earlier ones and these; settings that it does not return
            may change.

    Raises:
        ConfigError: The folder was made with other settings; the message has both values of the first ones.
    """
    plain = path.suffix == ".json"
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        differing = changed((json.loads(text) if plain else yaml.safe_load(text)) or {}, settings)
        if differing:
            what = f"this folder contains {holds} with other settings: {differences_text(differing)}"
            raise ConfigError(what, where=path.parent, fix=fix)
    if plain:
        write_json(path, settings)
    else:
        write_text(path, yaml.safe_dump(dict(settings), sort_keys=False))
