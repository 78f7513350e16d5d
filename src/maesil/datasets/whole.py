"""Checks that files are as long as their headers say, before their voxels are read.

The length of a file is known for formats that store uncompressed voxels, and for gzip, which records it. Other
compressed files that are cut short are only detected when they are read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from maesil.datasets.volume_files import HEADER_BYTES, data_file
from maesil.errors import ScanError

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

FIX = "copy or download it again"

_COMPRESSED = re.compile(
    rb"^(?:CompressedData\s*=\s*True|BinaryData\s*=\s*False|encoding:\s*(?!raw\b)\S)", re.IGNORECASE | re.MULTILINE
)
_END_OF_HEADER = re.compile(rb"^ElementDataFile\s*=\s*LOCAL[ \t]*\r?\n|\r?\n\r?\n", re.IGNORECASE | re.MULTILINE)


def require_whole(path: Path, expected: int) -> None:
    """Checks a plain file's size, or the size (modulo 2^32) that gzip records in its last four bytes.

    Args:
        path: Path of the file.
        expected: Number of bytes, uncompressed.

    Raises:
        ScanError: The file is shorter.
    """
    with path.open("rb") as file:
        if path.suffix == ".gz":
            file.seek(-4, 2)
            held, expected = int.from_bytes(file.read(4), "little"), expected % 2**32
        else:
            held = file.seek(0, 2)
    if held < expected or (path.suffix == ".gz" and held != expected):
        raise ScanError("the file is cut short", where=path, fix=FIX)


def require_data(path: Path) -> None:
    """Checks that the file named by a detached header (.mhd, .nhdr) exists.

    Raises:
        ScanError: It does not exist.
    """
    data = data_file(path)
    if data is not None and not data.is_file():
        raise ScanError(f"its data file {data.name} is missing", where=path, fix="copy it too")


def require_whole_image(path: Path, voxel_bytes: int) -> None:
    """Checks MetaImage and NRRD, whose voxels follow the header or lie in a file that it names.

    Args:
        path: Path of the header.
        voxel_bytes: Number of bytes of all voxels, uncompressed.

    Raises:
        ScanError: The file with the voxels is shorter.
    """
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    data = data_file(path)
    if data is None:
        return
    end = _END_OF_HEADER.search(head)
    if not _COMPRESSED.search(head):
        require_whole(data, voxel_bytes + (end.end() if end is not None and data == path else 0))


def is_whole_dicom(header: FileDataset, file: BinaryIO) -> bool:
    """Whether a DICOM file has all pixels that its header declares; always True for compressed files.

    Args:
        header: Header, read from `file` up to the pixels.
        file: Open file, positioned at the start of the pixels.
    """
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None or syntax.is_compressed or syntax.is_deflated:
        return True
    start = file.tell()
    voxels = int(header.Rows) * int(header.Columns) * int(header.get("NumberOfFrames", 1) or 1)
    expected = voxels * int(header.get("SamplesPerPixel", 1)) * int(header.get("BitsAllocated", 16)) // 8
    return file.seek(0, 2) - start >= expected + (8 if syntax.is_implicit_VR else 12)  # a tag and a length come first
