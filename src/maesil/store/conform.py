"""Resampling of a volume to the voxels that a store's policy requires."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from maesil.ct.geometry import Geometry
from maesil.ct.readers.soundness import require_body_sized
from maesil.ct.resample import resampled_slabs
from maesil.ct.respace import respace, respace_cube
from maesil.ct.volume import Volume
from maesil.errors import ScanError
from maesil.shapes import product
from maesil.store.settings import PrepareConfig

MOST_VOXELS = 2**31
"""Largest size of a stored scan: a body of 2 m at 0.5 mm. Anything larger comes from a wrong header."""

Blocks = Iterator[tuple[tuple[int, int], npt.NDArray[np.int16]]]
_SLAB_PLANES = 32


def conform(volume: Volume, settings: Mapping[str, Any], *, where: object = None) -> Volume:
    """A scan as a store with these settings would hold it: orientation SPL, HU clipped, resampled by the policy.

    Args:
        volume: Volume of any orientation and spacing.
        settings: Settings of the store, as its manifest records them.
        where: The scan, for the error.

    Raises:
        ScanError: The scan is too small or too large for a body, or would have too many voxels.
    """
    known = {key: settings[key] for key in ("policy", "spacing_mm", "cube") if key in settings}
    low, high = settings["clip_hu"]
    volume = Volume(np.clip(volume.array, low, high), volume.geometry).reorient("SPL")
    try:
        geometry = target_geometry(volume.geometry, PrepareConfig(**known))
    except ScanError as error:
        raise ScanError(error.what, where=where, fix=error.fix) from error
    array = np.empty(geometry.shape, dtype=np.int16)
    for (start, row), block in blocks(volume, geometry, settings["shard"]):
        array[start : start + len(block), row : row + block.shape[1]] = block
    return Volume(array, geometry)


def clip_in_place(volume: Volume, low: int, high: int) -> Volume:
    """The volume with its voxels clipped, in place if they are writeable.

    Call this before resampling: padding below air, and metal, would bleed into neighbouring voxels.
    """
    writeable = volume.array.flags.writeable
    return Volume(np.clip(volume.array, low, high, out=volume.array if writeable else None), volume.geometry)


def target_geometry(geometry: Geometry, config: PrepareConfig) -> Geometry:
    """The stored geometry of a scan in orientation SPL, according to the policy.

    Raises:
        ScanError: The scan is too small or too large for a body, or would have too many voxels.
    """
    require_body_sized(geometry.shape, geometry.spacing_mm)
    target = geometry
    if config.policy == "spacing" and not np.allclose(geometry.spacing_mm, config.spacing_mm, rtol=1e-4, atol=0.0):
        target = respace(geometry, config.spacing_mm)
    if config.policy == "cube":
        target = respace_cube(geometry, config.cube)
    if product(target.shape) > MOST_VOXELS:
        extent = " x ".join(f"{edge:.0f}" for edge in geometry.extent_mm)
        what = f"the scan would have {target.shape} voxels: its header says that it covers {extent} mm"
        raise ScanError(what, fix="correct the spacing in its header, or choose a larger spacing_mm")
    return target


def blocks(volume: Volume, geometry: Geometry, edge: int) -> Blocks:
    """The volume resampled to `geometry`, in blocks of at most edge x edge x width voxels: whole shards.

    Blocks come row by row, each row from its first plane to its last. Blocks of a row share one buffer: use each one
    before you ask for the next.

    Yields:
        The first plane and first row of a block, and its voxels (int16).
    """
    for row in range(0, geometry.shape[1], edge):
        band = geometry.crop((0, row, 0), (geometry.shape[0], min(edge, geometry.shape[1] - row), geometry.shape[2]))
        same = geometry == volume.geometry
        parts = _native(volume.crop((0, row, 0), band.shape)) if same else resampled_slabs(volume, band)
        for start, block in _thick(parts, edge):
            yield (start, row), block


def _native(volume: Volume) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    for start in range(0, volume.shape[0], _SLAB_PLANES):
        yield start, volume.array[start : start + _SLAB_PLANES]


def _thick(parts: Iterator[tuple[int, npt.NDArray[Any]]], depth: int) -> Iterator[tuple[int, npt.NDArray[np.int16]]]:
    """Regroups slabs of any thickness into slabs of `depth` planes, the last one thinner."""
    start, filled, buffer = 0, 0, np.empty((0, 0, 0), dtype=np.int16)
    for _, part in parts:
        whole = np.rint(part) if part.dtype.kind == "f" else part
        taken = 0
        while taken < len(whole):
            if not buffer.size:
                buffer = np.empty((depth, *whole.shape[1:]), dtype=np.int16)
            count = min(depth - filled, len(whole) - taken)
            buffer[filled : filled + count] = whole[taken : taken + count]
            taken, filled = taken + count, filled + count
            if filled == depth:
                yield start, buffer
                start, filled = start + depth, 0
    if filled:
        yield start, buffer[:filled]
