"""One scan into the store: read, turn, resample, clip, write; slab by slab, then moved into place whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Int16, UInt8
from zarr.codecs import BloscCodec

from maesil.ct.geometry import Geometry
from maesil.ct.readers import read
from maesil.ct.resample import resampled_slabs
from maesil.ct.respace import respace, respace_cube
from maesil.ct.volume import AIR_HU, Volume
from maesil.datasets.scan import Scan
from maesil.shapes import Shape3, product
from maesil.store.layout import (
    HIGHEST_HU,
    LEVELS,
    LOWEST_HU,
    OCCUPANCY,
    OCCUPANCY_BLOCK,
    SCANS,
    TISSUE_HU,
    level_shape,
    multiscales,
    scan_path,
)
from maesil.store.settings import PrepareConfig

Slab = Int16[np.ndarray, "d h w"]


def fingerprint(files: tuple[Path, ...]) -> str:
    """sha256 of the files' contents, in their order."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def stored_row(store: Path, scan_id: str) -> dict[str, Any] | None:
    """The manifest row of a scan that is whole in the store; None where it is not."""
    try:
        attributes = json.loads((scan_path(store, scan_id) / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        row: dict[str, Any] = attributes["maesil"]
    except (OSError, ValueError, KeyError):
        return None
    return row


def write_scan(store: Path, scan: Scan, config: PrepareConfig) -> tuple[dict[str, Any], bool]:
    """Prepares one scan, unless it is there already from the same bytes.

    Returns:
        The scan's manifest row, and whether it was written now.

    Raises:
        ScanError: The scan cannot be read, or is not sound.
    """
    source_sha256 = fingerprint(scan.files)
    known = stored_row(store, scan.scan_id)
    if known is not None and known["source_sha256"] == source_sha256:
        return known, False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which of two agreeing affines was used is no news for a whole folder
        volume = read(scan.path, series=scan.series)
    draft = store / SCANS / f".draft-{scan.scan_id}-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        row = _write_draft(draft, scan, volume, config, source_sha256)
        _move_into_place(draft, scan_path(store, scan.scan_id))
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return row, True


def _write_draft(draft: Path, scan: Scan, volume: Volume, config: PrepareConfig, source_sha256: str) -> dict[str, Any]:
    source_geometry = volume.geometry
    volume = volume.reorient("SPL")
    geometry = target_geometry(volume.geometry, config)
    writer = _ScanWriter.create(draft, geometry, config)
    tissue = 0
    for start, slab in _thick(slabs(volume, geometry), config.shard):
        clipped = np.clip(slab, LOWEST_HU, HIGHEST_HU).astype(np.int16, copy=False)
        tissue += int((clipped > TISSUE_HU).sum())
        writer.write(start, clipped)
    row = {
        "scan_id": scan.scan_id,
        "dataset": scan.dataset,
        "patient": scan.patient,
        "geometry": geometry.to_dict(),
        "tissue_share": round(tissue / product(geometry.shape), 6),
        "source_sha256": source_sha256,
        "source_geometry": source_geometry.to_dict(),
    }
    attributes: dict[str, Any] = {"ome": multiscales(scan.scan_id, geometry), "maesil": row}
    writer.group.attrs.put(attributes)
    return row


def target_geometry(geometry: Geometry, config: PrepareConfig) -> Geometry:
    """The stored voxels of a scan in orientation SPL, by the policy."""
    if config.policy == "spacing":
        return respace(geometry, config.spacing_mm)
    if config.policy == "cube":
        return respace_cube(geometry, config.cube)
    return geometry


def slabs(volume: Volume, geometry: Geometry) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """The volume on the voxels of `geometry`, along axis 0, a part at a time."""
    if geometry == volume.geometry:
        yield 0, np.rint(volume.array) if volume.array.dtype.kind == "f" else volume.array
        return
    yield from resampled_slabs(volume, geometry)


def _thick(parts: Iterator[tuple[int, np.ndarray[Any, Any]]], depth: int) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """Regroups slabs into slabs of whole shards, so that each shard is written once."""
    start, kept = 0, list[np.ndarray[Any, Any]]()
    for _, part in parts:
        kept.append(part)
        while sum(map(len, kept)) >= depth:
            joined = kept[0] if len(kept) == 1 else np.concatenate(kept)
            yield start, joined[:depth]
            start, kept = start + depth, [joined[depth:]]
    if sum(map(len, kept)):
        yield start, np.concatenate(kept)


def _move_into_place(draft: Path, final: Path) -> None:
    """Replaces the scan's folder; a reader sees the old one, none, or the whole new one."""
    if final.exists():
        shutil.rmtree(final)
    draft.rename(final)


@dataclass(frozen=True)
class _ScanWriter:
    group: zarr.Group
    levels: tuple[zarr.Array[Any], ...]
    occupancy: zarr.Array[Any]

    @staticmethod
    def create(path: Path, geometry: Geometry, config: PrepareConfig) -> _ScanWriter:
        group = zarr.open_group(path, mode="w", zarr_format=3)
        levels = tuple(_make_level(group, level, geometry.shape, config) for level in range(LEVELS))
        blocks = tuple(-(-size // OCCUPANCY_BLOCK) for size in geometry.shape)
        occupancy = group.create_array(OCCUPANCY, shape=blocks, chunks=blocks, dtype=np.uint8, fill_value=0)
        return _ScanWriter(group, levels, occupancy)

    def write(self, start: int, slab: Slab) -> None:
        """Writes planes from `start`, a multiple of the shard, to all levels."""
        first_block = start // OCCUPANCY_BLOCK
        shares = tissue_blocks(slab)
        self.occupancy[first_block : first_block + len(shares)] = shares
        for level, array in enumerate(self.levels):
            first = start // 2**level
            array[first : first + len(slab)] = slab
            slab = halved(slab) if level + 1 < LEVELS else slab


def _make_level(group: zarr.Group, level: int, shape: Shape3, config: PrepareConfig) -> zarr.Array[Any]:
    """Level 0 in shards of chunks that divide a superpatch; the viewers' levels in chunks as deep as a slab."""
    edge = config.chunk if level == 0 else max(1, config.shard // 2**level)
    return group.create_array(
        str(level),
        shape=level_shape(shape, level),
        chunks=(edge,) * 3,
        shards=(config.shard,) * 3 if level == 0 else None,
        dtype=np.int16,
        fill_value=AIR_HU,
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=2),
        dimension_names=("z", "y", "x"),
    )


def tissue_blocks(voxels: Slab) -> UInt8[np.ndarray, "bd bh bw"]:
    """Share of tissue per block of 16^3 voxels, 0 to 255; what a block lacks at the far ends counts as air."""
    padding = [(0, -size % OCCUPANCY_BLOCK) for size in voxels.shape]
    tissue = np.pad(voxels > TISSUE_HU, padding)
    d, h, w = (size // OCCUPANCY_BLOCK for size in tissue.shape)
    edge = OCCUPANCY_BLOCK
    share = tissue.reshape(d, edge, h, edge, w, edge).mean(axis=(1, 3, 5), dtype=np.float32)
    blocks: np.ndarray[Any, Any] = np.rint(share * 255).astype(np.uint8)
    return blocks


def halved(voxels: Slab) -> Int16[np.ndarray, "half_d half_h half_w"]:
    """The mean of every 2^3 voxels; an odd last one is repeated."""
    padded = np.pad(voxels, [(0, size % 2) for size in voxels.shape], mode="edge")
    d, h, w = (size // 2 for size in padded.shape)
    mean = padded.reshape(d, 2, h, 2, w, 2).mean(axis=(1, 3, 5), dtype=np.float32)
    coarse: np.ndarray[Any, Any] = np.rint(mean).astype(np.int16)
    return coarse
