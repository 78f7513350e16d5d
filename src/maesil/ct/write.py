"""Writes volumes as NIfTI, so that they overlay their scan in any viewer."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maesil.ct.geometry import MAX_SHEAR
from maesil.ct.readers import READERS, read, reader_of, require_there
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.volume import Volume
from maesil.errors import ConfigError, ScanError
from maesil.files import quoted, require_output

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SCANNER = 1


def write_nifti(path: str | Path, volume: Volume) -> None:
    """Writes .nii or .nii.gz; the file appears complete or not at all.

    sform and qform are the same, both with code 1 (scanner), in millimetres. Array axes (0, 1, 2) become the file's
    (k, j, i), which `read` reverses.

    Raises:
        ConfigError: The path ends in neither .nii nor .nii.gz, its folder does not exist, or it is a folder.
        ScanError: The geometry is sheared, which a qform cannot represent, or is too large for NIfTI-1.
    """
    path = Path(path)
    ending = nifti_ending(path)
    _require_writable(volume, path)
    # In the same folder, as only a rename within one file system is atomic.
    with tempfile.TemporaryDirectory(prefix=".maesil-", dir=path.parent) as folder:
        part = Path(folder) / f"part{ending}"
        _write(part, volume)
        part.replace(path)


def nifti_bytes(volume: Volume, *, labels: bool = False) -> bytes:
    """The content of an uncompressed NIfTI file.

    Args:
        volume: Volume to write.
        labels: Whether its values are numbers of structures; the header then says so.

    Raises:
        ScanError: As `write_nifti`.
    """
    _require_writable(volume, None)
    image = _image(volume)
    if labels:
        image.header.set_intent("label")
    content: bytes = image.to_bytes()
    return content


def nifti_ending(path: Path) -> str:
    """The ending of the name of a NIfTI file; call it before long work to check that the file can be written.

    Raises:
        ConfigError: The name ends in neither .nii nor .nii.gz, its folder does not exist, or it is a folder.
    """
    ending = READERS["NIfTI"].ending_of(path.name)
    if ending is None:
        raise ConfigError(
            f"'{path.name}' is not the name of a NIfTI file", where=path, fix="end the name in .nii.gz or .nii"
        )
    if not path.parent.is_dir():
        raise ConfigError("the folder of the file does not exist", where=path, fix=f"mkdir -p {quoted(path.parent)}")
    require_output(path)
    return ending


def sibling_path(path: Path, suffix: str) -> Path:
    """The path NAME and a suffix, next to a NIfTI file NAME.nii.gz; raises like `nifti_ending`."""
    return require_output(path.with_name(path.name[: -len(nifti_ending(path))] + suffix))


def read_apart(
    scan: Path, outputs: Sequence[Path], *, series: str | None = None, options: ReadOptions = STRICT
) -> Volume:
    """Reads a scan from which other files are made, none of which may take the place of its own.

    Args:
        scan: The scan: a file or DICOM folder.
        outputs: The files that will be written.
        series: The DICOM series to read, if the folder contains several.
        options: What to do about scans that are refused otherwise.

    Raises:
        ScanError: The scan cannot be read, or is invalid.
        ConfigError: A file to be written is one of the scan's, by this or another name; nothing is written.
    """
    files = _files_of(scan, series)
    for out in outputs:
        if out.exists() and any(out.samefile(file) for file in files):
            raise ConfigError("this file is the scan's own, and would be replaced", where=out, fix="give another --out")
    return read(scan, series=series, files=files, options=options)


def _files_of(scan: Path, series: str | None) -> tuple[Path, ...]:
    """The files of a scan; none if they cannot be found: reading the scan says why."""
    try:
        return reader_of(require_there(scan)).files(scan, series)
    except ScanError:
        return ()


def _require_writable(volume: Volume, path: Path | None) -> None:
    if volume.geometry.shear > MAX_SHEAR:
        raise ScanError("the voxel grid is sheared", where=path, fix="resample it onto a rectangular grid first")
    if max(volume.shape) > np.iinfo(np.int16).max:
        raise ScanError(f"{volume.shape} voxels are too many for NIfTI-1", where=path, fix="crop the volume")


def _write(path: Path, volume: Volume) -> None:
    import nibabel

    nibabel.save(_image(volume), path)


def _image(volume: Volume) -> Any:
    import nibabel

    affine = (_LPS_TO_RAS @ volume.geometry.affine)[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(volume.array.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=_SCANNER)
    image.set_qform(affine, code=_SCANNER)
    return image
