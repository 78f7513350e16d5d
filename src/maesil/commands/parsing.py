"""Parsing arguments into a command's settings, and output: messages on standard error, results on standard output."""

from __future__ import annotations

import inspect
import io
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, TypeVar

import tyro
from pydantic import ValidationError
from rich.console import Console

from maesil.errors import ConfigError

T = TypeVar("T")
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
"""Environment variables of torchrun, Lightning and SLURM with the process's rank in a run; the first one set counts."""
TRUTHS = ("True", "False")
"""Values of a boolean flag."""
Settings = Annotated[T, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff]
"""A run's settings: flags without a prefix, boolean flags with a value."""


def parse(kind: type[T], command: str, words: Sequence[str], default: T | None = None) -> T:
    """Parses arguments into `kind`, a dataclass whose docstring is the command's help.

    Args:
        kind: The dataclass.
        command: The command's name.
        words: The arguments after the command's name.
        default: Values for everything that is not given; None: the fields' own defaults.

    Raises:
        ConfigError: A value is out of range.
        SystemExit: Help was requested (0), or an argument is unknown (2).
    """
    settings: dict[str, Any] = {} if default is None else {"default": default}
    config = (tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff)
    description = inspect.cleandoc(kind.__doc__ or "")  # tyro drops a docstring's examples
    given = with_values(words, set(_switches(getattr(default, "config", None))))
    messages = io.StringIO()
    try:
        with redirect_stderr(messages):
            call: T = tyro.cli(
                kind, prog=f"maesil {command}", description=description, args=given, config=config, **settings
            )
    except SystemExit as stop:
        refused = _validation_behind(stop)
        if refused is not None:
            raise _explain(refused, command, words) from stop
        sys.stderr.write(messages.getvalue())
        raise
    sys.stderr.write(messages.getvalue())
    return call


def with_values(words: Sequence[str], switches: Collection[str]) -> list[str]:
    """Returns the arguments with a value after every boolean flag: `--x` becomes `--x True`, `--no-x` `--x False`.

    So boolean settings can be set, or unset where a preset or file has set them, in any of the usual ways.

    Args:
        words: The arguments after the command's name.
        switches: The boolean flags.
    """
    offs = {_off(switch): switch for switch in switches}
    found: list[str] = []
    for place, word in enumerate(words):
        flag = word.replace("_", "-")
        following = words[place + 1] if place + 1 < len(words) else ""
        if flag in offs:
            found += [offs[flag], "False"]
        elif flag in switches and following not in TRUTHS:
            found += [flag, "True"]
        else:
            found.append(word)
    return found


def _switches(settings: object, prefix: str = "--") -> Iterator[str]:
    """The boolean flags of settings, nested ones included."""
    if not is_dataclass(settings):
        return
    for field in fields(settings):
        value, flag = getattr(settings, field.name), prefix + field.name.replace("_", "-")
        if isinstance(value, bool):
            yield flag
        else:
            yield from _switches(value, f"{flag}.")


def _off(switch: str) -> str:
    section, dot, name = switch.removeprefix("--").rpartition(".")
    return f"--{section}{dot}no-{name}"


def _validation_behind(stop: SystemExit) -> ValidationError | None:
    """The validation error that made tyro exit, if there is one: tyro's own text for it is written for developers."""
    cause: BaseException | None = stop
    while cause is not None and not isinstance(cause, ValidationError):
        cause = cause.__context__
    return cause


def _explain(error: ValidationError, command: str, words: Sequence[str]) -> ConfigError:
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else error.title
    flags = [word.split("=", 1)[0] for word in words if word.startswith("--")]
    flag = next((word for word in flags if word.lstrip("-").split(".")[-1].replace("-", "_") == key), key)
    what = str(first["msg"]).removeprefix("Value error, ").replace("Input should", "it should")
    return ConfigError(f"{flag} is {first['input']}: {what}", fix=f"maesil {command} --help")


def value_of(words: Sequence[str], flag: str) -> str | None:
    """The value of a flag that must be known before parsing, because it decides which other flags exist."""
    named = next((words[i + 1] for i, word in enumerate(words[:-1]) if word == flag), None)
    return next((word.split("=", 1)[1] for word in words if word.startswith(f"{flag}=")), named)


def speaks() -> bool:
    """Whether this process prints: with one process per device, only the first does."""
    return next((os.environ[name] for name in RANKS if name in os.environ), "0") == "0"


def console() -> Console:
    """The console for progress and messages: standard error, so that standard output holds only results."""
    return Console(stderr=True, highlight=False, soft_wrap=True, quiet=not speaks())


def print_json(values: Mapping[str, Any]) -> None:
    """Prints a machine-readable outcome on standard output."""
    if speaks():
        print(json.dumps(values, indent=2, default=str))  # noqa: T201 (this is the command's output)
