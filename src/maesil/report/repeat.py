"""How to repeat a run and its page: the commands, and the settings that differ from the preset's."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from maesil.config import from_dict, to_dict
from maesil.evaluation.protocol import Protocol
from maesil.evaluation.record import Evaluated
from maesil.files import quoted
from maesil.nested import flat
from maesil.presets import PRESETS

REPEATED = "REPEATED"
"""The new run folder in the commands."""
NAMES = "data.holdout.patients.overrides"
"""The setting that names patients: the page only counts them, because pages are passed on."""
NOT_CHOSEN = ("preset", "data.store", "init")
"""Settings that are not the preset's: names and paths."""


def repeat_commands(
    run: Path, evaluated: Evaluated, split: str, scans: Sequence[str] = (), stores: Sequence[Path] = ()
) -> tuple[str, ...]:
    """Commands that train the run again with all of its settings, score it, and make its page.

    Args:
        run: The run folder, whose config.yaml has every setting.
        evaluated: What was scored.
        split: The split that was scored.
        scans: Scans that were requested for the page.
        stores: The stores that were scored, if they are not the run's own.
    """
    where = scored_words(split, stores)
    which = [] if evaluated.checkpoint == "last" else ["--checkpoint", evaluated.checkpoint]
    shown = ["--scans", *scans] if scans else []
    return (
        f"maesil pretrain --config {quoted(run / 'config.yaml')} --run {REPEATED}",
        shlex.join(["maesil", "evaluate", REPEATED, *where, *which, *protocol_flags(evaluated.protocol)]),
        shlex.join(["maesil", "report", REPEATED, *where, *shown]),
    )


def scored_words(split: str, stores: Sequence[Path] | None) -> list[str]:
    """Words that tell `maesil evaluate` and `maesil report` what is scored.

    Args:
        split: The split.
        stores: The stores, if they are not the run's own.
    """
    return [*([] if split == "test" else ["--split", split]), *(["--data.store", *map(str, stores)] if stores else [])]


def protocol_flags(protocol: Protocol) -> list[str]:
    """Flags of `maesil evaluate` for the settings of a protocol that differ from the default.

    The window is the run's. `scored_window` has no flags: only the reading "unmasked", which has no page, sets it.
    """
    own = Protocol()
    words: list[str] = []
    for name in (field.name for field in fields(protocol)):
        value = getattr(protocol, name)
        if name not in ("window", "scored_window") and value != getattr(own, name):
            words += _flag(name, value)
    return words


def _flag(name: str, value: Any) -> list[str]:
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--protocol.{'' if value else 'no-'}{dashed}"]
    values = value if isinstance(value, (tuple, list)) else [value]
    return [f"--protocol.{dashed}", *map(str, values)]


def preset_changes(config: Mapping[str, Any]) -> dict[str, str]:
    """Dotted name to value of the settings that differ from the preset's; empty if there is no such preset.

    Args:
        config: The run's settings as plain values.
    """
    if config["preset"] not in PRESETS:
        return {}
    plain = dict(flat(to_dict(PRESETS[config["preset"]]())))
    return dict(_differing(plain, dict(flat(to_dict(from_dict(config))))))


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    named = [key for key in now if key.startswith(NAMES)]
    if named:
        yield NAMES, f"{len(named)} patients"
    for key, value in now.items():
        if key not in (*named, *NOT_CHOSEN) and (key not in before or before[key] != value):
            yield key, str(value)
