"""Table I as a file."""

from __future__ import annotations

from pathlib import Path

from maesil.datasets.overview import HEADER, rows_of
from maesil.datasets.unify import Unified
from maesil.errors import ConfigError
from maesil.evaluation.sheet import Sheet, sheet_to_csv, sheet_to_latex, sheet_to_markdown
from maesil.files import AnyPath, write_text


def write_table1(unified: Unified, path: AnyPath) -> None:
    """Writes Table I in the format of the file's suffix: .md, .tex or .csv.

    Raises:
        ConfigError: The suffix is another one.
    """
    path = Path(path)
    sheet = Sheet(HEADER, rows_of(unified.collections, unified.patients), texts=3, title="Table I")
    writers = {".md": sheet_to_markdown, ".tex": sheet_to_latex, ".csv": sheet_to_csv}
    if path.suffix not in writers:
        raise ConfigError(f"a table can't be a '{path.suffix}' file", where=path, fix="use .md, .tex or .csv")
    write_text(path, writers[path.suffix](sheet))
