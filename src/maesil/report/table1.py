"""Table I as a file."""

from __future__ import annotations

from pathlib import Path

from maesil.datasets.overview import HEADER, rows_of
from maesil.datasets.unify import Unified
from maesil.errors import ConfigError
from maesil.evaluation.sheet import Sheet, sheet_to_csv, sheet_to_latex, sheet_to_markdown
from maesil.files import AnyPath, require_output, require_own, write_text

TITLE = "Table I"
WRITERS = {".md": sheet_to_markdown, ".tex": sheet_to_latex, ".csv": sheet_to_csv}
BEGINNINGS = {
    ".md": f"### {TITLE}\n\n| {HEADER[0]} | {HEADER[1]} |",
    ".tex": f"% {TITLE}\n\\begin{{tabular}}",
    ".csv": f"{HEADER[0]},{HEADER[1]},",
}
"""Suffix to how each such table begins, that of an earlier version with other columns, too."""


def write_table1(unified: Unified, path: AnyPath) -> None:
    """Writes Table I in the format of the file's suffix: .md, .tex or .csv.

    Raises:
        ConfigError: The suffix is another one, the file cannot be written, or it is there and no Table I.
    """
    path = require_table1(Path(path))
    sheet = Sheet(HEADER, rows_of(unified.collections, unified.patients), texts=3, title=TITLE)
    write_text(path, WRITERS[path.suffix](sheet))


def require_table1(path: Path) -> Path:
    """Checks, before the work, that `write_table1` can write here; returns the path.

    Raises:
        ConfigError: The suffix is another one, the file cannot be written, or it is there and no Table I.
    """
    if path.suffix not in WRITERS:
        raise ConfigError(f"a table can't be a '{path.suffix}' file", where=path, fix="use .md, .tex or .csv")
    return require_own(require_output(path), _is_table1, "datasets --table")


def _is_table1(path: Path) -> bool:
    return path.read_text(encoding="utf-8").startswith(BEGINNINGS[path.suffix])
