"""Readers: they turn a file or folder into a `Volume` in HU, or raise a `ScanError` that says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maesil.catalog import Catalog
from maesil.ct.readers.base import Reader
from maesil.ct.readers.dicom import Dicom
from maesil.ct.readers.metaimage import MetaImage
from maesil.ct.readers.nifti import Nifti
from maesil.ct.readers.not_read import unread_format
from maesil.ct.readers.nrrd import Nrrd
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.volume import Volume
from maesil.errors import ConfigError, NoScanError, ScanError

_IN_ORDER = (Nifti(), Nrrd(), MetaImage(), Dicom())
READERS: Catalog[Reader] = Catalog("reader", {reader.name: reader for reader in _IN_ORDER})
"""The readers in the order in which they are tried: DICOM last, as it also opens files of other names."""


def read(
    path: str | Path, *, series: str | None = None, files: Sequence[Path] = (), options: ReadOptions = STRICT
) -> Volume:
    """Reads one scan.

    The array keeps the file's own axes (slowest first); `Volume.reorient()` brings it to "SPL". Voxels are int16 if
    every value of the file is a whole number (values outside the type's range are clipped), else float32.

    Args:
        path: A file in one of the formats of `READERS`, or a folder with DICOM files.
        series: Series of a DICOM folder; required if the folder has several.
        files: Files of the scan, if they are known, as `find_scans` lists them; `path` is then not searched.
        options: What to do about scans that are refused otherwise.

    Raises:
        NoScanError: The path does not exist.
        ScanError: The format is not supported, the file is damaged, or it is not a sound 3D scan.
        ConfigError: `series` is given for something that is not DICOM.
    """
    path = require_there(path)
    reader = reader_of(path)
    if series is not None and not reader.has_series:
        raise ConfigError(f"{reader.name} has no series", where=path, fix="leave the series out for this file")
    try:
        return reader.read(files or reader.files(path, series), options)
    except ScanError as error:
        raise ScanError(error.what, where=error.where or path, fix=error.fix) from error


def read_labels(path: Path, options: ReadOptions = STRICT) -> Volume:
    """Reads a file of label numbers, as uint16: none is clipped, as another number is another structure.

    Args:
        path: A file in one of the formats of `READERS`.
        options: What to do about files that are refused otherwise.

    Raises:
        NoScanError: The path does not exist.
        ScanError: The file cannot be read, or a value is not a whole number from 0 to 65535.
    """
    reader = reader_of(require_there(path))
    try:
        return reader.read_labels(reader.files(path), options)
    except ScanError as error:
        raise ScanError(error.what, where=error.where or path, fix=error.fix) from error


def require_there(path: str | Path) -> Path:
    """The path of a file or folder.

    Raises:
        NoScanError: It does not exist.
    """
    path = Path(path)
    if not path.exists():
        raise NoScanError("no such file or folder", where=path, fix="check the path")
    if not (path.is_file() or path.is_dir()):
        raise ScanError("it is neither a file nor a folder", where=path, fix="give a file or folder with a scan")
    return path


def reader_of(path: Path) -> Reader:
    """The reader of a file or folder.

    Raises:
        ScanError: No reader takes it.
    """
    for reader in READERS.values():
        if reader.takes(path):
            return reader
    if (unread := unread_format(path)) is not None:
        raise ScanError(f"this file is {unread[0]}, which is not read", where=path, fix=unread[1])
    raise ScanError("this file cannot be read as a scan", where=path, fix=f"readable: {readable()}")


def readable() -> str:
    """The readable formats with their endings, for messages."""
    formats = (f"{reader.name} ({', '.join(reader.endings)})" for reader in READERS.values())
    return f"{', '.join(formats)}, folders of DICOM files"


def volume_endings() -> tuple[str, ...]:
    """The endings of files that are one scan each: those of all formats but DICOM."""
    return tuple(end for reader in READERS.values() if not reader.has_series for end in reader.endings)
