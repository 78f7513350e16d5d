"""The file of a table of features."""

from __future__ import annotations

from pathlib import Path

from maesil.errors import ConfigError
from maesil.extras import optional
from maesil.files import quoted, require_output


def require_table(path: Path) -> None:
    """Checks, before the work, that `features.write_features` can write here.

    Raises:
        ConfigError: The suffix is another one, the folder does not exist, or the path is that of a folder.
        MissingExtraError: Parquet needs pyarrow.
    """
    if path.suffix not in (".parquet", ".csv", ".npz"):
        raise ConfigError(f"features can't be a '{path.suffix}' file", where=path, fix="use .parquet, .csv or .npz")
    if not path.resolve().parent.is_dir():
        raise ConfigError("its folder does not exist", where=path, fix=f"mkdir -p {quoted(path.parent)}")
    require_output(path)
    if path.suffix == ".parquet":
        optional("pyarrow", "tables")


def require_features(path: Path) -> None:
    """Raises ConfigError if there is no such file."""
    if not path.is_file():
        what = "this is a folder, not a table of features" if path.is_dir() else "there is no such file"
        raise ConfigError(what, where=path, fix="write a table: maesil embed RUN STORE --out FILE")
