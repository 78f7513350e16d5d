"""Pages and texts that the site takes from the rest of the project, when it is built.

The repository's own documents (results, changes, contributing) become pages, links between them and `docs/` are adapted
to the site's tree, and `<!-- help: COMMAND -->` and `<!-- settings -->` are replaced by what the commands print and by
the presets' fields, so that neither can be out of date.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from maesil import cli, presets
from maesil.commands.finetune import TASKS

ROOT = Path(__file__).parents[2]
TAKEN_IN = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md", "results/**/README.md")
"""Documents outside `docs/` that become pages, as patterns."""
SHOWN = (
    "results/**/*.png",
    "results/**/*.md",
    "results/*.json",
    "results/*.py",
    "results/bench/*.json",
    "examples/*.py",
)
"""Files outside `docs/` that pages link to, as patterns."""
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
"""A link, but no picture."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the repository's own documents, and the files that they link to."""
    have = {file.src_uri for file in files}
    for path in sorted({path for pattern in (*TAKEN_IN, *SHOWN) for path in ROOT.glob(pattern)}):
        uri = path.relative_to(ROOT).as_posix()
        if uri not in have:
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Adapts links to the site's tree, and fills in helps and settings."""
    uri = page.file.src_uri
    place = uri if page.file.generated_by else f"docs/{uri}"
    text = LINK.sub(lambda found: _relink(found, place, uri, files), markdown)
    text = re.sub(r"<!-- help: ([\w -]+) -->", lambda found: help_of(found[1].split()), text)
    return text.replace("<!-- settings -->", settings()).replace("<!-- commands -->", helps())


def _relink(found: re.Match[str], place: str, uri: str, files: Files) -> str:
    """A link of a document in the repository as a link of its page; text alone, where the site has no page for it."""
    text, target, anchor = found[1], found[2], found[3] or ""
    if "://" in target or target.startswith("mailto:"):
        return found[0]
    meant = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
    inside = meant.removeprefix("docs/")
    if (ROOT / meant).is_dir():
        inside = f"{inside}/README.md"
    if files.get_file_from_path(inside) is not None:
        return f"[{text}]({posixpath.relpath(inside, posixpath.dirname(uri) or '.')}{anchor})"
    return text if (ROOT / meant).exists() else found[0]  # a link to nothing stays, for the build to refuse


def help_of(words: list[str]) -> str:
    """The help of a command as a code block."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        cli.main([*words, "--help"])
    return f"```text\n{printed.getvalue().strip()}\n```"


def helps() -> str:
    """A section with the help of every command."""
    names = [[name] for name in cli.COMMANDS if name != "finetune"] + [["finetune", task] for task in TASKS]
    return "\n\n".join(f"## {' '.join(words)}\n\n{help_of(words)}" for words in sorted(names))


def settings() -> str:
    """A table per section of the settings of a run, with the values of each preset."""
    configs = {name: make() for name, make in presets.PRESETS.items()}
    first = next(iter(configs.values()))
    return "\n\n".join(
        f"## {field.name}\n\n{_table(field.name, configs)}"
        for field in dataclasses.fields(first)
        if dataclasses.is_dataclass(getattr(first, field.name))
    )


def _table(section: str, configs: dict[str, Any]) -> str:
    values = {name: dict(_flat(section, getattr(config, section))) for name, config in configs.items()}
    keys = list(dict.fromkeys(key for of_one in values.values() for key in of_one))
    lines = ["| setting | " + " | ".join(f"`{name}`" for name in values) + " |", "|---" * (len(values) + 1) + "|"]
    for key in keys:
        cells = " | ".join(f"`{of_one[key]}`" if key in of_one else "" for of_one in values.values())
        lines.append(f"| `--{key}` | {cells} |")
    return "\n".join(lines)


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if not dataclasses.is_dataclass(value):
        return [(prefix.replace("_", "-"), value)]
    return [
        pair
        for field in dataclasses.fields(value)
        for pair in _flat(f"{prefix}.{field.name}", getattr(value, field.name))
    ]
