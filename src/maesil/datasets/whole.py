"""Whether files are as long as their headers say: found before their voxels are read.

Formats that store voxels as they are tell their length; compressed ones (but gzip, which ends with its own) do not, and
are found cut short where they are read.
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
    """A plain file's size, or what gzip wrote last: the size of what it holds, modulo 2^32. Costs four bytes.

    Args:
        path: The file.
        expected: Its bytes, unpacked.

    Raises:
        ScanError: It is shorter.
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
    """That the file is there which a detached header (.mhd, .nhdr) names.

    Raises:
        ScanError: It is not.
    """
    data = data_file(path)
    if data is not None and not data.is_file():
        raise ScanError(f"its data file {data.name} is not here", where=path, fix="copy it, too")


def require_whole_image(path: Path, voxel_bytes: int) -> None:
    """The same for MetaImage and NRRD, whose voxels follow the header or lie in a file that it names.

    Args:
        path: The header.
        voxel_bytes: Of all voxels, uncompressed.

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
    """Whether a DICOM file holds the pixels that its header speaks of; compressed ones cannot be told.

    Args:
        header: Read from `file` up to the pixels.
        file: Stands where the pixels begin.
    """
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None or syntax.is_compressed or syntax.is_deflated:
        return True
    start = file.tell()
    voxels = int(header.Rows) * int(header.Columns) * int(header.get("NumberOfFrames", 1) or 1)
    expected = voxels * int(header.get("SamplesPerPixel", 1)) * int(header.get("BitsAllocated", 16)) // 8
    return file.seek(0, 2) - start >= expected + (8 if syntax.is_implicit_VR else 12)  # before them: tag, length
