"""Formats of scans that are not read: named, so that no scan is passed over in silence."""

from __future__ import annotations

import zipfile
from pathlib import Path

_BY_NIBABEL = "convert it to .nii.gz with nibabel"
_PAIR = "convert it to .nii.gz (fslchfiletype, or nibabel); check left and right if it is Analyze, which has no sides"

UNREAD: dict[str, tuple[str, str]] = {
    ".nii.bz2": ("NIfTI compressed with bzip2", "decompress it (bunzip2)"),
    ".nii.xz": ("NIfTI compressed with xz", "decompress it (unxz)"),
    ".nii.zst": ("NIfTI compressed with zstd", "decompress it (unzstd)"),
    ".nii.zip": ("zipped NIfTI", "unpack it"),
    ".hdr": ("a pair .hdr and .img (NIfTI or Analyze)", _PAIR),
    ".img": ("a pair .hdr and .img (NIfTI or Analyze)", _PAIR),
    ".hdr.gz": ("a pair .hdr and .img (NIfTI or Analyze)", _PAIR),
    ".img.gz": ("a pair .hdr and .img (NIfTI or Analyze)", _PAIR),
    ".mgz": ("FreeSurfer's MGH", _BY_NIBABEL),
    ".mgh": ("FreeSurfer's MGH", _BY_NIBABEL),
    ".mnc": ("MINC", _BY_NIBABEL),
    ".nrrd.gz": ("NRRD in gzip", "decompress it (gunzip); NRRD can compress its own voxels"),
    ".mha.gz": ("MetaImage in gzip", "decompress it (gunzip); MetaImage can compress its own voxels"),
    ".gipl": ("GIPL", "convert it to .nii.gz with SimpleITK"),
    ".vtk": ("VTK", "convert it to .nii.gz with SimpleITK"),
    ".vti": ("VTK", "convert it to .nii.gz with VTK or 3D Slicer"),
}
"""Ending of a file's name, in lower case, to what it is and what to do about it."""
ZIP = ("a zip archive with scans", "unpack it")

_SEARCHED = 50
"""Number of files in an archive that are looked at."""


def unread_format(path: Path) -> tuple[str, str] | None:
    """What a file is, and what to do about it, if it may be a scan in a format that is not read; else None."""
    name = path.name.lower()
    found = next((UNREAD[ending] for ending in UNREAD if name.endswith(ending)), None)
    if found is not None and path.is_file():
        return found
    return ZIP if name.endswith(".zip") and _holds_scans(path) else None


def _holds_scans(path: Path) -> bool:
    """Whether an archive has DICOM files or volumes among its first files."""
    from maesil.ct.readers import volume_endings

    try:
        with zipfile.ZipFile(path) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()][:_SEARCHED]
            if any(info.filename.lower().endswith((*volume_endings(), ".dcm", ".ima")) for info in files):
                return True
            return any(_is_dicom(archive, info) for info in files if not info.flag_bits & 1)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, RuntimeError):
        return False


def _is_dicom(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bool:
    with archive.open(info) as file:
        return file.read(132)[128:] == b"DICM"
