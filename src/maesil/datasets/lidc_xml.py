"""LIDC-IDRI's XML: what up to four radiologists marked in one series.

A reader outlines a nodule of 3 mm or more slice by slice. The outline runs through the pixels just outside the nodule,
so they are not part of it; with `inclusion` FALSE it encloses a hole. A mark of a single point is a nodule under 3 mm.
Marks of non-nodules are read as such.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maesil.errors import ScanError

_ROOT = "LidcReadMessage"
_RADIOGRAPH = b"IdriReadMessage"
_SERIES = re.compile(rb"<SeriesInstanceUID>\s*([\d.]+)\s*<", re.IGNORECASE)
_HEAD_BYTES = 4096


@dataclass(frozen=True)
class Outline:
    """A closed outline in one slice.

    Attributes:
        sop: SOP instance UID of the slice.
        z_mm: Position of the slice according to the XML.
        points: Pixels (column, row) of the outline, in order.
        inclusion: Whether it encloses the nodule; False for a hole.
    """

    sop: str
    z_mm: float
    points: tuple[tuple[int, int], ...]
    inclusion: bool = True


@dataclass(frozen=True)
class Mark:
    """One finding of one reader.

    Attributes:
        reader: Number of the reader, 0 to 3, in the order of the XML; the radiologists are anonymous.
        name: ID that the reader gave it.
        kind: Kind of finding: "nodule" (3 mm or more, outlined), "small" (a nodule under 3 mm) or "non-nodule".
        outlines: Outlines, slice by slice; single points for the last two kinds.
        ratings: Characteristics from 1 to 6, such as {"malignancy": 4}; only for outlined nodules.
    """

    reader: int
    name: str
    kind: str
    outlines: tuple[Outline, ...]
    ratings: dict[str, int]


@dataclass(frozen=True)
class Reading:
    """All marks of one series.

    Attributes:
        series: Series instance UID of the series that was read.
        readers: Number of reading sessions.
        marks: Marks of all readers.
    """

    series: str
    readers: int
    marks: tuple[Mark, ...]


def series_of(path: Path) -> str | None:
    """The series that a readers' XML names; None for the XML of a radiograph. Reads only the head of the file.

    Raises:
        ScanError: The XML is damaged, or of neither kind.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise ScanError(f"this XML cannot be read: {error.strerror}", where=path, fix="download it again") from error
    if _RADIOGRAPH in head:
        return None
    found = _SERIES.search(head)
    if found is None or _ROOT.encode() not in head:
        raise ScanError("this XML is not a reading of a CT series", where=path, fix="download it again")
    return found.group(1).decode()


def read_xml(path: Path) -> Reading:
    """Reads a readers' XML.

    Raises:
        ScanError: The XML is damaged, or not of this kind.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise ScanError(f"this XML cannot be read: {error}", where=path, fix="download it again") from error
    if _plain(root) != _ROOT:
        raise ScanError(f"this is an XML of {_plain(root)}, not of CT readers", where=path, fix=f"give one of {_ROOT}")
    try:
        header = _child(root, "ResponseHeader")
        series = next(node.text or "" for node in header if _plain(node).lower() == "seriesinstanceuid")
        sessions = [node for node in root if _plain(node) == "readingSession"]
        marks = tuple(mark for reader, session in enumerate(sessions) for mark in _marks(session, reader))
    except (StopIteration, ValueError) as error:
        raise ScanError("this XML lacks required parts of a reading", where=path, fix="download it again") from error
    return Reading(series.strip(), len(sessions), marks)


def _marks(session: ElementTree.Element, reader: int) -> Iterator[Mark]:
    for node in session:
        if _plain(node) == "unblindedReadNodule":
            outlines = tuple(_outline(roi) for roi in node if _plain(roi) == "roi")
            single = all(len(outline.points) == 1 for outline in outlines)
            yield Mark(reader, _text(node, "noduleID"), "small" if single else "nodule", outlines, _ratings(node))
        elif _plain(node) == "nonNodule":
            spot = _child(node, "locus")
            outline = Outline(_text(node, "imageSOP_UID"), float(_text(node, "imageZposition")), (_point(spot),))
            yield Mark(reader, _text(node, "nonNoduleID"), "non-nodule", (outline,), {})


def _outline(roi: ElementTree.Element) -> Outline:
    points = tuple(_point(node) for node in roi if _plain(node) == "edgeMap")
    if not points:
        raise ValueError("an outline without a point")
    inclusion = _text(roi, "inclusion").upper() != "FALSE"
    return Outline(_text(roi, "imageSOP_UID"), float(_text(roi, "imageZposition")), points, inclusion)


def _point(node: ElementTree.Element) -> tuple[int, int]:
    return int(_text(node, "xCoord")), int(_text(node, "yCoord"))


def _ratings(node: ElementTree.Element) -> dict[str, int]:
    described = next((child for child in node if _plain(child) == "characteristics"), None)
    pairs = [] if described is None else [(_plain(child), child.text or "") for child in described]
    return {name: int(value) for name, value in pairs if value.strip().isdigit()}


def _child(node: ElementTree.Element, name: str) -> ElementTree.Element:
    return next(child for child in node if _plain(child) == name)


def _text(node: ElementTree.Element, name: str) -> str:
    return (_child(node, name).text or "").strip()


def _plain(node: Any) -> str:
    """The tag without its namespace, which differs between the collection's files."""
    return str(node.tag).rpartition("}")[2]
