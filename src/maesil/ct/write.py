"""Writes volumes as NIfTI, so that they overlay their scan in any viewer."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maesil.ct.geometry import MAX_SHEAR
from maesil.ct.readers import READERS, read, reader_of, require_there
from maesil.ct.readers.nifti import description, stored_voxels
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.volume import Volume
from maesil.errors import ConfigError, ScanError
from maesil.files import quoted, require_output

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SCANNER = 1

MARK = "written by maesil "
"""Beginning of the header's field descrip in files that commands write next to scans.

The command's name and a digest of the voxels follow: other programs keep the field when somebody corrects the file.
"""
LABELS_MARK = "labels by maesil "
"""The same in label files that a command writes: they are read as labels, and known until somebody changes them."""
MASK = "_maesil_mask"
"""End of the name of a file that says which voxels were masked: no collection's labels are named so."""


def write_nifti(path: str | Path, volume: Volume, *, made_by: str | None = None, mark: str = MARK) -> None:
    """Writes .nii or .nii.gz; the file appears complete or not at all.

    sform and qform are the same, both with code 1 (scanner), in millimetres. Array axes (0, 1, 2) become the file's
    (k, j, i), which `read` reverses.

    Args:
        path: File to write; one that is there is replaced.
        volume: Volume to write.
        made_by: Command that made the volume from a scan: the header then says so (`is_marked`), so that a folder of
            scans can be read again without it. None: the file is a scan, or labels of one.
        mark: How the header says so: `MARK`, or `LABELS_MARK` for labels that are to be read as labels.

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
        _write(part, volume, None if made_by is None else f"{mark}{made_by}")
        part.replace(path)


def is_marked(path: Path, mark: str = MARK) -> bool:
    """Whether a file is NIfTI that a command of maesil wrote next to scans, and whose voxels nobody has changed since.

    With `LABELS_MARK`: that a command of maesil wrote as labels.

    Files of others are told by their header alone; the voxels of one with the mark are read.
    """
    try:
        return has_mark(path, mark) and description(path).endswith(_digest(stored_voxels(path)))
    except Exception:  # libraries may raise anything for a damaged file, which reading it tells
        return False


def has_mark(path: Path, mark: str = MARK) -> bool:
    """Whether a command of maesil wrote a NIfTI file next to scans, even if somebody has changed its voxels since."""
    if READERS["NIfTI"].ending_of(path.name) is None or not path.is_file():
        return False
    try:
        return description(path).startswith(mark)
    except Exception:  # as above
        return False


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
    scan: Path,
    outputs: Sequence[Path],
    *,
    replace: bool = False,
    series: str | None = None,
    options: ReadOptions = STRICT,
) -> Volume:
    """Reads a scan from which other files are made, none of which may take the place of a file of someone else.

    Args:
        scan: The scan: a file or DICOM folder.
        outputs: The files that will be written, a NIfTI file first; one of another format goes with it.
        replace: Whether files may be replaced that maesil did not write; never those of the scan.
        series: The DICOM series to read, if the folder contains several.
        options: What to do about scans that are refused otherwise.

    Raises:
        ScanError: The scan cannot be read, or is invalid.
        ConfigError: A file to be written is one of the scan's, by this or another name, or is there and was not
            written by maesil; nothing is written.
    """
    files = _files_of(scan, series)
    for out in outputs:
        if out.exists() and any(out.samefile(file) for file in files):
            raise ConfigError("this file is the scan's own, and would be replaced", where=out, fix="give another --out")
    if not replace:
        _require_own(outputs)
    return read(scan, series=series, files=files, options=options)


def _require_own(outputs: Sequence[Path]) -> None:
    """Refuses files that are there and that maesil did not write, such as an expert's labels."""
    earlier = is_marked(outputs[0])  # what is no NIfTI has no mark: it was written with this one
    for out in outputs:
        is_own = is_marked(out) if READERS["NIfTI"].ending_of(out.name) else earlier
        if out.exists() and not is_own:
            fix = "give another --out, or replace the file with --replace"
            raise ConfigError("this file is there already, and nothing says that maesil wrote it", where=out, fix=fix)


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


def _write(path: Path, volume: Volume, maker: str | None) -> None:
    import nibabel

    image = _image(volume)
    if maker is not None:
        image.header["descrip"] = f"{maker}, voxels {_digest(np.asarray(image.dataobj))}"
    nibabel.save(image, path)


def _digest(voxels: npt.NDArray[Any]) -> str:
    """A short digest of voxels in the order of the file, whatever the byte order."""
    little = np.asfortranarray(voxels.astype(voxels.dtype.newbyteorder("<"), copy=False))
    return hashlib.blake2b(little.tobytes(order="F"), digest_size=8).hexdigest()


def _image(volume: Volume) -> Any:
    import nibabel

    affine = (_LPS_TO_RAS @ volume.geometry.affine)[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(volume.array.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=_SCANNER)
    image.set_qform(affine, code=_SCANNER)
    return image
