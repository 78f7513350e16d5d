"""Words to a command's settings, and the two places output goes: a person's and a machine's."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import tyro
from rich.console import Console

T = TypeVar("T")


def parse(kind: type[T], command: str, words: Sequence[str], default: T | None = None) -> T:
    """Reads words into `kind`, a dataclass whose docstring is the command's help.

    Args:
        kind: The dataclass.
        command: The command's name.
        words: What follows it.
        default: Values for everything that is not given; None: the fields' own.
    """
    settings: dict[str, Any] = {} if default is None else {"default": default}
    config = (tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff)
    description = inspect.cleandoc(kind.__doc__ or "")  # tyro's own reading of a docstring drops its examples
    call: T = tyro.cli(kind, prog=f"maesil {command}", description=description, args=words, config=config, **settings)
    return call


def take(words: Sequence[str], flag: str) -> tuple[str | None, list[str]]:
    """The value of a flag that must be known before the others are parsed, and the words without it."""
    rest = list(words)
    for place, word in enumerate(rest):
        if word == flag and place + 1 < len(rest):
            return rest[place + 1], rest[:place] + rest[place + 2 :]
        if word.startswith(f"{flag}="):
            return word.split("=", 1)[1], rest[:place] + rest[place + 1 :]
    return None, rest


def console() -> Console:
    """Where progress and messages go: standard error, so that standard output stays for results."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(values: Mapping[str, Any]) -> None:
    """Prints a machine-readable outcome on standard output."""
    print(json.dumps(values, indent=2, default=str))  # noqa: T201 (this is the command's output)
