"""The store as a collection of images that other readers of Zarr and OME-Zarr show: the metadata of its root.

Readers of OME-Zarr open a collection in the layout of bioformats2raw: the group `OME` lists the images, and OME-XML
beside it describes them. Consolidated metadata lists all members, so that zarr-python does not look at the store's
own files, of which it would warn, and can list a store behind an address.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from maesil.ct.geometry import Geometry
from maesil.files import read_json
from maesil.store.format import NGFF, SCANS, array_names

OME, XML = "OME", "METADATA.ome.xml"
SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
CONSOLIDATED_SCANS = 1000
"""Most scans whose metadata are consolidated: zarr-python reads all of them to open the root."""

_LAYOUT = {"version": NGFF, "bioformats2raw.layout": 3}
_METADATA = "zarr.json"


def write_collection(store: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Lists the scans in the metadata of the store's root.

    Args:
        store: Folder of the store; its root is a group.
        rows: Manifest rows of its scans.
    """
    series = [f"{SCANS}/{row['scan_id']}" for row in rows]
    write_group(store / OME, {"ome": {"version": NGFF, "series": series}})
    write_atomically(store / OME / XML, ome_xml(rows))
    attributes = {**read_json(store / _METADATA)["attributes"], "ome": _LAYOUT}
    few = len(rows) <= CONSOLIDATED_SCANS
    write_group(store, attributes, _members(store, rows) if few else None)


def write_group(folder: Path, attributes: Mapping[str, Any], members: Mapping[str, Any] | None = None) -> None:
    """Writes the metadata of a group atomically.

    Args:
        folder: Folder of the group; it is created if missing.
        attributes: Attributes of the group.
        members: Consolidated metadata of all groups and arrays below it; None: readers list the folder.
    """
    folder.mkdir(exist_ok=True)
    group = {"attributes": dict(attributes), "node_type": "group", "zarr_format": 3}
    if members is not None:
        group["consolidated_metadata"] = dict(members)
    write_atomically(folder / _METADATA, json.dumps(group, indent=1, sort_keys=True) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Writes a file of the store; what a killed call leaves has a name that the next call replaces."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def ome_xml(rows: Sequence[Mapping[str, Any]]) -> str:
    """OME-XML of the scans; the id of an image is its path in the store.

    Args:
        rows: Manifest rows of the scans.
    """
    ET.register_namespace("", SCHEMA)
    root = ET.Element(f"{{{SCHEMA}}}OME")
    for number, row in enumerate(rows):
        scan_id, geometry = row["scan_id"], Geometry.from_dict(row["geometry"])
        image = ET.SubElement(root, f"{{{SCHEMA}}}Image", ID=f"Image:{SCANS}/{scan_id}", Name=scan_id)
        extent: dict[str, str] = {}
        for axis, size, step in zip("ZYX", geometry.shape, geometry.spacing_mm, strict=True):
            extent |= {f"Size{axis}": str(size), f"PhysicalSize{axis}": f"{step:g}", f"PhysicalSize{axis}Unit": "mm"}
        fixed = {"DimensionOrder": "XYZCT", "Type": "int16", "SizeC": "1", "SizeT": "1"}
        pixels = ET.SubElement(image, f"{{{SCHEMA}}}Pixels", {"ID": f"Pixels:{number}", **fixed, **extent})
        ET.SubElement(pixels, f"{{{SCHEMA}}}Channel", ID=f"Channel:{number}:0", SamplesPerPixel="1")
        ET.SubElement(pixels, f"{{{SCHEMA}}}MetadataOnly")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _members(store: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Consolidated metadata, in the form of zarr-python; a damaged member is left out."""
    paths = [OME, SCANS]
    for row in rows:
        scan = f"{SCANS}/{row['scan_id']}"
        paths += [scan, *(f"{scan}/{name}" for name in array_names(labelled="labels" in row))]
    found = {path: _metadata_of(store / path) for path in paths}
    known = {path: metadata for path, metadata in found.items() if metadata is not None}
    return {"kind": "inline", "must_understand": False, "metadata": known}


def _metadata_of(member: Path) -> dict[str, Any] | None:
    try:
        metadata: dict[str, Any] = read_json(member / _METADATA)
    except (OSError, ValueError):
        return None
    return metadata
