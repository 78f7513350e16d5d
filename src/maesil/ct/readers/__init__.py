"""Readers: they turn a file or folder into a `Volume` in HU, or raise a `ScanError` that says what is wrong."""

from __future__ import annotations

from pathlib import Path

from maesil.ct.volume import Volume
from maesil.errors import ConfigError, NoScanError, ScanError

NIFTI = (".nii", ".nii.gz")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
DICOM = (".dcm", ".ima")
READABLE = "NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), a DICOM file or a folder of them"


def read(path: str | Path, *, series: str | None = None) -> Volume:
    """Reads one scan.

    The array keeps the file's own axes (slowest first); `Volume.reorient()` brings it to "SPL". Voxels are int16 if
    every value of the file is a whole number (values outside the type's range are clipped), else float32.

    Args:
        path: A NIfTI, NRRD or MetaImage file, a DICOM file, or a folder with DICOM files.
        series: Series of a DICOM folder; required if the folder has several.

    Raises:
        NoScanError: The path does not exist.
        ScanError: The format is not supported, the file is damaged, or it is not a sound 3D scan.
        ConfigError: `series` is given for something that is not DICOM.
    """
    path = Path(path)
    kind = _kind_of(path)
    if kind == "dicom":
        from maesil.ct.readers.dicom import read_dicom

        return read_dicom(path, series=series)
    if series is not None:
        raise ConfigError("only DICOM has series", where=path, fix="leave the series out for this file")
    if kind == "nifti":
        from maesil.ct.readers.nifti import read_nifti

        return read_nifti(path)
    from maesil.ct.readers.itk import read_itk

    return read_itk(path)


def _kind_of(path: Path) -> str:
    if not path.exists():
        raise NoScanError("no such file or folder", where=path, fix="check the path")
    name = path.name.lower()
    if path.is_dir() or name.endswith(DICOM):
        return "dicom"
    for kind, endings in (("nifti", NIFTI), ("itk", ITK)):
        if name.endswith(endings):
            return kind
    if has_dicom_magic(path):
        return "dicom"
    raise ScanError("maesil cannot read this file as a scan", where=path, fix=f"readable: {READABLE}")


def has_dicom_magic(path: Path) -> bool:
    """Whether a file has the preamble of a DICOM file; raises ScanError if it cannot be opened."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError as error:
        raise ScanError(f"the file cannot be opened: {error.strerror}", where=path) from error
