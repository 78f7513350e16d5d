"""A LIDC-IDRI series on disk and the marks that its readers' XML makes in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maesil.datasets.lidc_xml import Reading, read_xml
from maesil.datasets.nodules import Nodule, SliceStack, nodules_of
from maesil.datasets.scan import Scan
from maesil.errors import ScanError

XML_FIX = "put the folder of LIDC-XML-only (tcia-lidc-xml) beside the patients' folders"
"""What to do about a series without readings."""


def nodules_of_scan(scan: Scan) -> list[Nodule]:
    """The outlined nodules of a scan that the layout `lidc` found; masks lie on the scan's slices, lowest first.

    Raises:
        ScanError: It has no XML, or the XML is damaged or of another series.
    """
    if not scan.labels:
        raise ScanError("no readers' XML names this series", where=scan.path, fix=XML_FIX)
    stack = slice_stack(scan.files)
    return [nodule for path in scan.labels for nodule in nodules_of(read_xml(path), stack)]


def slice_stack(files: Sequence[Path]) -> SliceStack:
    """The slices of a series, sorted along their normal as `maesil.ct` reads them.

    Args:
        files: One slice each.
    """
    import pydicom

    tags = ["SOPInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"]
    headers = [pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags) for path in files]
    axes = np.array(headers[0].ImageOrientationPatient, dtype=np.float64)
    normal = np.cross(axes[:3], axes[3:])
    along = {
        str(header.SOPInstanceUID): float(normal @ np.array(header.ImagePositionPatient, float)) for header in headers
    }
    order = sorted(along, key=lambda sop: along[sop])
    steps = np.diff(sorted(along.values()))
    row_mm, column_mm = (float(size) for size in headers[0].PixelSpacing)
    return SliceStack(
        index={sop: place for place, sop in enumerate(order)},
        shape=(len(order), int(headers[0].Rows), int(headers[0].Columns)),
        spacing_mm=(float(np.median(steps)) if len(steps) else 1.0, row_mm, column_mm),
    )


def absent_marks(reading: Reading, files: Sequence[Path]) -> tuple[int, int]:
    """Marks on slices that are not among the files: how many, and on how many slices."""
    from pydicom.filereader import read_file_meta_info

    here = {str(read_file_meta_info(path).get("MediaStorageSOPInstanceUID", "")) for path in files}
    absent = [{outline.sop for outline in mark.outlines} - here for mark in reading.marks]
    return sum(bool(slices) for slices in absent), len(set().union(*absent)) if absent else 0
