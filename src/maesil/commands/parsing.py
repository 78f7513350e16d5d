"""Words to a command's settings, and the two places output goes: a person's and a machine's."""

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
"""Where torchrun, Lightning and SLURM say which process of a run this one is; the first that is set counts."""
TRUTHS = ("True", "False")
"""What a switch is set to."""
Settings = Annotated[T, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff]
"""A run's settings: flags without a prefix, switches with a value."""


def parse(kind: type[T], command: str, words: Sequence[str], default: T | None = None) -> T:
    """Reads words into `kind`, a dataclass whose docstring is the command's help.

    Args:
        kind: The dataclass.
        command: The command's name.
        words: What follows it.
        default: Values for everything that is not given; None: the fields' own.

    Raises:
        ConfigError: A value is out of range.
        SystemExit: Help was asked for (0), or a word is not understood (2).
    """
    settings: dict[str, Any] = {} if default is None else {"default": default}
    config = (tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff)
    description = inspect.cleandoc(kind.__doc__ or "")  # tyro's own reading of a docstring drops its examples
    given = with_values(words, set(_switches(getattr(default, "config", None))))
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            call: T = tyro.cli(
                kind, prog=f"maesil {command}", description=description, args=given, config=config, **settings
            )
    except SystemExit as stop:
        refused = _validation_behind(stop)
        if refused is not None:
            raise _explain(refused, command, words) from stop
        sys.stderr.write(told.getvalue())
        raise
    sys.stderr.write(told.getvalue())
    return call


def with_values(words: Sequence[str], switches: Collection[str]) -> list[str]:
    """Words with a value behind every switch: `--x` alone is `--x True`, and `--no-x` is `--x False`.

    So a run's switches can be set and, where a preset or file has set them, taken back, in any of the usual ways.

    Args:
        words: What follows a command's name.
        switches: The flags that are true or false.
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
    """The flags of settings, and of settings in them, that are true or false."""
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
    """What a part's own check said, where that is why tyro gave up; its text is made for developers."""
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
    """The value of a flag that must be known before the words are parsed, as it decides which other flags there are."""
    named = next((words[i + 1] for i, word in enumerate(words[:-1]) if word == flag), None)
    return next((word.split("=", 1)[1] for word in words if word.startswith(f"{flag}=")), named)


def speaks() -> bool:
    """Whether this process is the one of its run that prints: of many devices' processes, the first."""
    return next((os.environ[name] for name in RANKS if name in os.environ), "0") == "0"


def console() -> Console:
    """Where progress and messages go: standard error, so that standard output stays for results."""
    return Console(stderr=True, highlight=False, soft_wrap=True, quiet=not speaks())


def print_json(values: Mapping[str, Any]) -> None:
    """Prints a machine-readable outcome on standard output."""
    if speaks():
        print(json.dumps(values, indent=2, default=str))  # noqa: T201 (this is the command's output)
