"""Every `maesil ...` line of the documentation, the helps and the recipes is one that the commands understand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from maesil import cli, presets
from maesil.commands import finetune, parsing, pretrain
from maesil.errors import MaesilError

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "RELEASING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "src" / "maesil" / "weights").glob("*/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "results").rglob("*.md")),
    *sorted((ROOT / "benchmarks").glob("*.md")),
]
SCRIPTS = [*sorted((ROOT / "recipes").glob("*.sh")), *sorted((ROOT / "results").glob("*.py"))]
HELPS = [ROOT / "src" / "maesil" / "cli.py", *sorted((ROOT / "src" / "maesil" / "commands").glob("*.py"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELLS = ("", "bash", "sh", "console", "text")
REMARK = re.compile(r"\s{2,}\S.*$")
"""What stands behind a command in a help, two blanks apart."""
GENERAL = ("COMMAND", "TASK")
"""Words that stand for any command."""
VARIABLES = {"$preset": "base", "${pretrain[@]}": "base", "$gpus": "1", "$nodes": "1", "$@": ""}
"""What shell variables hold, where the parser has to know."""
DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")
"""A shell variable with a default."""


class Line(NamedTuple):
    """A command as it is written somewhere."""

    where: str
    words: tuple[str, ...]


class UnderstoodError(Exception):
    """The words were parsed; nothing was done."""


def joined(text: str) -> str:
    """The text with continued lines in one."""
    return re.sub(r"\\\n\s*", " ", text)


def in_shell(text: str) -> Iterator[list[str]]:
    """The words behind `maesil` in a shell's lines."""
    for line in joined(text).splitlines():
        found = re.search(r"(?:^|[\s;&|(])maesil (?=\w)", line)
        if found is None or line.lstrip().startswith("#"):
            continue
        words = [DEFAULT.sub(r"\1", word) for word in shlex.split(line[found.end() :], comments=True)]
        words = [word for word in (VARIABLES.get(word, word) for word in words) if word]
        ends = [place for place, word in enumerate(words) if word in (";", "&&", "|", ">", ">>", "2>&1", "&", "||")]
        yield words[: min(ends, default=len(words))]


def in_help(text: str) -> Iterator[list[str]]:
    """The words behind `maesil` in the indented lines of a docstring."""
    for line in text.splitlines():
        if re.match(r"\s+maesil \w", line):
            yield shlex.split(REMARK.sub("", line.strip()))[1:]


def written() -> list[Line]:
    found = []
    for path in DOCUMENTS:
        blocks = BLOCK.findall(path.read_text(encoding="utf-8"))
        for block in (block for language, block in blocks if language in SHELLS):
            found += [Line(str(path.relative_to(ROOT)), tuple(words)) for words in in_shell(block)]
    for path in SCRIPTS:
        reader = in_shell if path.suffix == ".sh" else in_help
        found += [Line(str(path.relative_to(ROOT)), tuple(words)) for words in reader(path.read_text(encoding="utf-8"))]
    for path in HELPS:
        found += [Line(path.name, tuple(words)) for words in in_help(path.read_text(encoding="utf-8"))]
    named = [line for line in found if line.words and line.words[0] not in GENERAL]
    return [line for line in named if not {"-h", "--help", "--version"} & set(line.words)]


def understood(words: tuple[str, ...]) -> None:
    """Parses the words with the command's own parser, and does nothing.

    Raises:
        MaesilError: They are not understood.
        SystemExit: The same, as tyro says it.
    """
    real = parsing.parse

    def parse_only(*settings: Any, **more: Any) -> None:
        real(*settings, **more)
        raise UnderstoodError

    module = import_module(f"maesil.commands.{words[0].replace('-', '_')}")
    with pytest.MonkeyPatch.context() as patched:
        for one in (module, *(import_module(f"maesil.commands.finetune_{task}") for task in finetune.TASKS)):
            if hasattr(one, "parse"):
                patched.setattr(one, "parse", parse_only)
        patched.setattr(pretrain, "load_yaml", lambda path: presets.base())  # the file is the reader's own
        if hasattr(module, "load_yaml"):
            patched.setattr(module, "load_yaml", lambda path: presets.base())
        if hasattr(module, "_settings_of"):  # so is the run
            patched.setattr(module, "_settings_of", lambda *_: presets.base())
        with pytest.raises(UnderstoodError):
            module.main(list(words[1:]))


LINES = written()


@pytest.mark.parametrize("path", [*DOCUMENTS, *SCRIPTS, *HELPS], ids=lambda path: str(path.relative_to(ROOT)))
def test_text__writes_no_switch_with_a_value(path: Path) -> None:
    """Prose names flags, too, where no parser sees them."""
    assert re.findall(r"--[a-z][\w.-]*[ =](?:True|False)\b", path.read_text(encoding="utf-8")) == []


def test_written__finds_the_lines_of_every_kind_of_text() -> None:
    places = {line.where for line in LINES}
    assert {"README.md", "docs/reproducing.md", "docs/downstream.md", "cli.py", "compare.py"} <= places
    assert len(LINES) > 60
    assert {line.words[0] for line in LINES} >= set(cli.COMMANDS) - {"masks", "similar"}


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.where}: {' '.join(line.words)[:60]}")
def test_line__is_understood(line: Line) -> None:
    understood(line.words)


@pytest.mark.parametrize(
    "words",
    [
        "pretrain base --data.store store --run runs/base --train.stepz 5",
        "pretrain bsae --data.store store --run runs/base",
        "evaluate runs/base --split tset",
        "evaluate runs/base --reading nothing",
        "export runs/base --out encoder",
        "finetune segmentation --init runs/base --labels.classes liver --labels.shares 0.5",
        "compare store --out compared --budget steps=5 --seeds none",
    ],
)
def test_understood__refuses_what_the_commands_refuse(words: str) -> None:
    with pytest.raises((MaesilError, SystemExit)):
        understood(tuple(shlex.split(words)))
