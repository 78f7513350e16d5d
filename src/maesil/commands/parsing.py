"""Parsing arguments into a command's settings, and output: messages on standard error, results on standard output."""

from __future__ import annotations

import inspect
import io
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, TypeVar

import tyro
from pydantic import ValidationError
from rich.console import Console

from maesil.catalog import nearest
from maesil.errors import ConfigError
from maesil.rank import is_first_rank

T = TypeVar("T")
TRUTHS = ("True", "False")
"""Values that switches took in version 0.1."""
VALUE = re.compile(r"Error parsing (?P<flag>--[\w.-]+): .* Argument helptext: .*?(?P=flag) \S*?(?P<kind>INT|FLOAT)")
"""tyro's words, on one line, for a value that is no number."""
KINDS = {"INT": "a whole number", "FLOAT": "a number"}
"""Kind of value in tyro's words to ours."""
CHOICE = re.compile(
    r"invalid choice '(?P<given>[^']*)' for argument '(?P<flag>[^' ]+)[^']*'.*? of \((?P<names>[^)]*)\)"
)
"""What tyro says, on one line, of a value that is none of those that a flag takes."""
Settings = Annotated[T, tyro.conf.arg(name="")]
"""A run's settings: flags without a prefix."""
NOTHING = re.compile(r"\(default: \)( {4}|$)", re.MULTILINE)
"""What tyro prints for a flag that is an empty list by default, with the spaces that a word can take in its box."""


class _Wrapping:
    """Standard output, on which a help's paragraphs are wrapped at the terminal's width, as tyro wraps all else.

    A default that is an empty list is called "none".
    """

    def __init__(self, output: Any) -> None:
        self._output = output

    def __getattr__(self, name: str) -> Any:
        return getattr(self._output, name)

    def write(self, text: str) -> int:
        """Writes the text; lines that start with a word or a flag are paragraphs, others boxes or examples."""
        width = shutil.get_terminal_size().columns
        lines = (
            textwrap.fill(line, width, break_on_hyphens=False) if line[:1].isalpha() or line.startswith("--") else line
            for line in text.split("\n")
        )
        return int(self._output.write(NOTHING.sub("(default: none)", "\n".join(lines))))


def parse(kind: type[T], command: str, words: Sequence[str], default: T | None = None) -> T:
    """Parses arguments into `kind`, a dataclass whose docstring is the command's help.

    Args:
        kind: The dataclass.
        command: The command's name.
        words: The arguments after the command's name.
        default: Values for everything that is not given; None: the fields' own defaults.

    Raises:
        ConfigError: A flag is unknown, a switch has a value, or a value is out of range.
        SystemExit: Help was requested (0), or the arguments are wrong in another way (2).
    """
    settings: dict[str, Any] = {} if default is None else {"default": default}
    config = (tyro.conf.AvoidSubcommands,)
    description = inspect.cleandoc(kind.__doc__ or "")  # tyro drops a docstring's examples
    run = partial(tyro.cli, kind, prog=f"maesil {command}", description=description, config=config, **settings)
    if {word.rpartition("=")[2] for word in words} & set(TRUTHS):
        _check_flags(words, run)
    messages = io.StringIO()
    try:
        with redirect_stdout(_Wrapping(sys.stdout)), redirect_stderr(messages):
            call: T = run(args=words)
    except SystemExit as stop:
        refused = _validation_behind(stop)
        if refused is not None:
            raise _explain(refused, command, words) from stop
        if stop.code:
            _check_flags(words, run)
            _check_choice(messages.getvalue(), run)
            _check_value(messages.getvalue(), words, run)
        sys.stderr.write(messages.getvalue())
        raise
    sys.stderr.write(messages.getvalue())
    return call


def lists(**names: Iterable[str]) -> Callable[[type[T]], type[T]]:
    """Fills the braces in a command's docstring, such as {presets}, with names of a catalogue or with a text."""

    def fill(kind: type[T]) -> type[T]:
        texts = {key: each if isinstance(each, str) else ", ".join(each) for key, each in names.items()}
        kind.__doc__ = inspect.cleandoc(kind.__doc__ or "").format(**texts)
        return kind

    return fill


def _check_flags(words: Sequence[str], run: partial[Any]) -> None:
    """Raises ConfigError for the first flag that does not exist, or is a switch that is given a value."""
    shown = io.StringIO()
    with redirect_stdout(shown), suppress(SystemExit):
        run(args=["--help"])
    known = sorted(set(re.findall(r"--\w[\w.-]*\w", shown.getvalue())))
    for word, following in pairwise([*words, ""]):
        flag, equals, value = word.partition("=")
        flag = flag.replace("_", "-")
        if flag.startswith("--") and flag not in known:
            off = _off(f"--{flag.removeprefix('--no-')}")
            guess = off if off in known else nearest(flag, known)
            hint = f": did you mean {guess}?" if guess else ""
            raise ConfigError(f"unknown flag {flag}{hint}", fix=f"{run.keywords['prog']} --help")
        off = _off(flag)
        given = value if equals else following
        if off in known and given in TRUTHS:
            new = flag if given == "True" else off
            raise ConfigError(f"a switch takes no value: write {new} in place of {flag} {given}")


def _off(flag: str) -> str:
    """The flag that turns a switch off: "no-" follows the section's name."""
    section, dot, name = flag.removeprefix("--").rpartition(".")
    return f"--{section}{dot}no-{name}"


def _unboxed(message: str) -> str:
    """The words of a message that tyro prints in a box, in one line."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", message).split())


def _check_value(message: str, words: Sequence[str], run: partial[Any]) -> None:
    """Raises ConfigError with the kind of value that a flag takes, if tyro says that it cannot parse one."""
    found = VALUE.search(_unboxed(message))
    if found is None:
        return
    flag, kind = found["flag"], KINDS[found["kind"]]
    given = next((follows for word, follows in pairwise([*words, ""]) if word.replace("_", "-") == flag), "")
    given = given or next((word.partition("=")[2] for word in words if word.startswith(f"{flag}=")), "wrong")
    raise ConfigError(f"{flag} is {given}: it should be {kind}", fix=f"{run.keywords['prog']} --help")


def _check_choice(message: str, run: partial[Any]) -> None:
    """Raises ConfigError with the nearest name, if tyro says that a value is none of those that a flag takes."""
    found = CHOICE.search(_unboxed(message))
    if found is None:
        return
    names = re.findall(r"'([^']*)'", found["names"])
    guess = nearest(found["given"], names)
    hint = f": did you mean {guess}?" if guess else ""
    where = f"{run.keywords['prog']} --help"
    raise ConfigError(f"{found['flag']} is {found['given']}{hint}", fix=f"one of: {', '.join(names)}; see {where}")


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


def console() -> Console:
    """The console for progress and messages: standard error, so that standard output holds only results."""
    return Console(stderr=True, highlight=False, soft_wrap=True, quiet=not is_first_rank())


def print_json(values: Mapping[str, Any] | Sequence[Any]) -> None:
    """Prints a machine-readable outcome on standard output."""
    if is_first_rank():
        print(json.dumps(values, indent=2, default=str))  # noqa: T201 (this is the command's output)
