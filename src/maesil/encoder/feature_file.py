"""The file of a table of features."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile, ZipFile

from maesil.errors import ConfigError
from maesil.extras import optional
from maesil.files import quoted, require_output

FIRST = frozenset(("level", "scan_id", "dataset", "patient"))
"""Columns that every table of features has, those of earlier versions, too."""


def require_table(path: Path) -> None:
    """Checks, before the work, that `features.write_features` can write here.

    Raises:
        ConfigError: The suffix is another one, the folder does not exist, or the path is that of a folder or of a file
            that is no table of features, such as a table of patients.
        MissingExtraError: Parquet needs pyarrow.
    """
    if path.suffix not in (".parquet", ".csv", ".npz"):
        raise ConfigError(f"features can't be a '{path.suffix}' file", where=path, fix="use .parquet, .csv or .npz")
    if not path.resolve().parent.is_dir():
        raise ConfigError("its folder does not exist", where=path, fix=f"mkdir -p {quoted(path.parent)}")
    require_output(path)
    if path.suffix == ".parquet":
        optional("pyarrow", "tables")
    if path.is_file() and path.stat().st_size and not _column_names(path) >= FIRST:
        fix = "give another --out, or delete the file"
        raise ConfigError("this file is there already, and is no table of features", where=path, fix=fix)


def _column_names(path: Path) -> set[str]:
    """Names of a table's columns, without its rows; none if it cannot be read as a table."""
    try:
        if path.suffix == ".npz":
            with ZipFile(path) as file:
                return {name.removesuffix(".npy") for name in file.namelist()}
        if path.suffix == ".parquet":
            return set(optional("pyarrow.parquet", "tables").read_schema(path).names)
        with path.open(encoding="utf-8") as file:
            return set(file.readline().strip().split(","))
    except (OSError, ValueError, BadZipFile):  # pyarrow's errors are ValueErrors or OSErrors
        return set()


def require_features(path: Path) -> None:
    """Raises ConfigError if there is no such file."""
    if not path.is_file():
        what = "this is a folder, not a table of features" if path.is_dir() else "there is no such file"
        raise ConfigError(what, where=path, fix="write a table: maesil embed RUN STORE --out FILE")
