"""A LIDC-IDRI series on disk, and the marks of its readers' XML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maesil.ct.readers.dicom_headers import read_header
from maesil.ct.readers.dicom_planes import slices_of
from maesil.datasets.lidc_xml import Reading, read_xml
from maesil.datasets.nodules import Nodule, SliceStack, nodules_of
from maesil.datasets.scan import Scan
from maesil.errors import ScanError

XML_FIX = "put the folder of LIDC-XML-only (tcia-lidc-xml) next to the patients' folders"
"""Advice for a series without readings."""


def nodules_of_scan(scan: Scan) -> list[Nodule]:
    """The outlined nodules of a scan found by the layout `lidc`; masks are on the scan's slices, lowest first.

    Raises:
        ScanError: The scan has no XML, or the XML is damaged or belongs to another series.
    """
    if not scan.labels:
        raise ScanError("no readers' XML names this series", where=scan.path, fix=XML_FIX)
    stack = slice_stack(scan.files)
    return [nodule for path in scan.labels for nodule in nodules_of(read_xml(path), stack)]


def slice_stack(files: Sequence[Path]) -> SliceStack:
    """The slices of a series, sorted along their normal as `maesil.ct` reads them.

    Args:
        files: Files of one slice each.

    Raises:
        ScanError: A file is damaged, or not a slice of a CT.
    """
    planes = slices_of((path, read_header(path)) for path in files)
    first = planes[0]
    along = {plane.uid: float(first.normal @ np.asarray(plane.position_mm)) for plane in planes}
    order = sorted(along, key=lambda sop: along[sop])
    steps = np.diff(sorted(along.values()))
    return SliceStack(
        index={sop: place for place, sop in enumerate(order)},
        shape=(len(order), first.rows, first.columns),
        spacing_mm=(float(np.median(steps)) if len(steps) else 1.0, *first.spacing_mm),
    )


def absent_marks(reading: Reading, files: Sequence[Path]) -> tuple[int, int]:
    """Number of marks on slices that are not among the files, and number of these slices."""
    here = {str(read_header(path, ["SOPClassUID", "SOPInstanceUID"]).get("SOPInstanceUID", "")) for path in files}
    absent = [{outline.sop for outline in mark.outlines} - here for mark in reading.marks]
    return sum(bool(slices) for slices in absent), len(set().union(*absent)) if absent else 0
