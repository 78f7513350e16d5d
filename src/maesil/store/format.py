"""Where things lie in a store, and the metadata of a scan's arrays (Zarr v3, OME-NGFF 0.5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maesil.ct.geometry import Geometry
from maesil.shapes import Shape3

FORMAT = 1
"""Version of the store's format; increased when an old reader cannot read a new store."""

NGFF = "0.5"
"""Version of OME-NGFF's metadata."""

MANIFEST, QUARANTINE, LOCK, SCANS, OCCUPANCY = "manifest.json", "quarantine.jsonl", ".lock", "scans", "occupancy"
LABELS = "labels"
DRAFT = ".draft-"
"""Prefix of a scan's folder until the scan is complete."""

LEVELS = 3
"""Number of resolutions of a scan: the first is for training, each further one halves it for viewers."""

OCCUPANCY_BLOCK = 16
"""Edge, in voxels, of the blocks whose share of tissue is stored."""

LOWEST_HU, HIGHEST_HU = -1024, 3071
"""Stored HU are clipped to the 12-bit range: scanner padding lies below it, metal above."""


def scan_path(store: Path, scan_id: str) -> Path:
    """The folder of a scan's group."""
    return store / SCANS / scan_id


def level_shape(shape: Shape3, level: int) -> Shape3:
    """Voxels at a resolution level; odd sizes round up."""
    step = 2**level
    return (-(-shape[0] // step), -(-shape[1] // step), -(-shape[2] // step))


def array_names(*, labelled: bool) -> list[str]:
    """Names of a scan's arrays: resolution levels, tissue map and, if it has them, labels."""
    return [*map(str, range(LEVELS)), OCCUPANCY, *([LABELS] if labelled else [])]


def files_of(name: str, shape: Shape3, shard: int) -> tuple[Shape3, int]:
    """Shape in voxels of one of a scan's arrays, and the edge in voxels of what one file holds.

    Args:
        name: Name of the array: a resolution level, the tissue map or the labels.
        shape: Shape of the scan in voxels.
        shard: Edge of a shard in voxels, from the store's settings.
    """
    if name == OCCUPANCY:
        d, h, w = (-(-size // OCCUPANCY_BLOCK) for size in shape)
        return (d, h, w), max(d, h, w)  # one file
    level = 0 if name == LABELS else int(name)
    return level_shape(shape, level), shard // 2**level


DIRECTIONS = {"z": "inferior-to-superior", "y": "anterior-to-posterior", "x": "right-to-left"}
"""Axis to its direction in a scan of orientation SPL, in the words of OME-NGFF's RFC 4."""


def multiscales(name: str, geometry: Geometry) -> dict[str, Any]:
    """OME-NGFF 0.5 metadata: axes z, y, x along S, P, L in millimetres, with exact voxel centres.

    The directions of the axes are said as RFC 4 has it, which readers of 0.5 may ignore.
    OME-NGFF scales and translates but does not rotate: an oblique scan's exact affine is in `maesil.geometry`.
    """
    spacing = [float(step) for step in geometry.spacing_mm]
    first = [float(value) for value in _along_axes(geometry)]
    datasets = []
    for level in range(LEVELS):
        factor = 2.0**level
        scale = [step * factor for step in spacing]
        # The centre of a voxel merged from 2^level others is shifted by half of the gain in size.
        shift = [start + step * (factor - 1) / 2 for start, step in zip(first, spacing, strict=True)]
        transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    axes = [
        {"name": axis, "type": "space", "unit": "millimeter", "orientation": {"type": "anatomical", "value": direction}}
        for axis, direction in DIRECTIONS.items()
    ]
    return {"version": NGFF, "multiscales": [{"name": name, "axes": axes, "datasets": datasets, "type": "mean"}]}


def _along_axes(geometry: Geometry) -> Sequence[float]:
    """The first voxel's position along the array's own axes, so that scale and translation agree."""
    along: Sequence[float] = (geometry.direction.T @ geometry.origin_mm).tolist()
    return along
