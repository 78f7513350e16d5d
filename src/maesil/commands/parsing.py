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


def value_of(words: Sequence[str], flag: str) -> str | None:
    """The value of a flag that must be known before the words are parsed, as it decides which other flags there are."""
    named = next((words[i + 1] for i, word in enumerate(words[:-1]) if word == flag), None)
    return next((word.split("=", 1)[1] for word in words if word.startswith(f"{flag}=")), named)


def console() -> Console:
    """Where progress and messages go: standard error, so that standard output stays for results."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(values: Mapping[str, Any]) -> None:
    """Prints a machine-readable outcome on standard output."""
    print(json.dumps(values, indent=2, default=str))  # noqa: T201 (this is the command's output)
