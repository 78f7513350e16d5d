"""Reads a prepared store: all access to its voxels goes through here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
from jaxtyping import Int16, UInt, UInt8

from maesil.catalog import nearest
from maesil.ct.geometry import Geometry
from maesil.ct.volume import AIR_HU, Volume
from maesil.errors import StoreError
from maesil.shapes import Shape3, product
from maesil.store.files import Files, files_of
from maesil.store.layout import FORMAT, LABELS, MANIFEST, OCCUPANCY, OCCUPANCY_BLOCK, SCANS
from maesil.store.location import address_of
from maesil.store.plain import open_plain
from maesil.store.recent import Recent
from maesil.store.resident import Resident
from maesil.store.shards import DamagedChunkError, Indices, ShardedArray, layout_of, read_metadata

__all__ = ["OCCUPANCY_BLOCK", "ScanEntry", "ScanStore"]

KEPT_ARRAYS, KEPT_INDICES = 512, 512
"""Number of open arrays and of shard indices cached per process.

Kept low, because an index is small and long-lived among large short-lived buffers, and may keep a heap from shrinking.
"""


@dataclass(frozen=True)
class ScanEntry:
    """One scan of a store, as its manifest lists it.

    Attributes:
        scan_id: Name of the scan, unique in the store.
        dataset: Collection that it belongs to.
        patient: Name that splits go by: a salted hash, or a public case name.
        geometry: Geometry of the stored volume, in orientation SPL.
        spacing_mm: Voxel size of the stored volume along (S, P, L).
        shape: Shape of the stored volume in voxels, along (S, P, L).
        tissue_share: Share of voxels above -500 HU.
        source_sha256: SHA-256 of its source files.
        source_geometry: Geometry of the scan as it was read.
        labels: Map from structure to its number in the scan's labels; None if it has no labels. A structure that is
            named but has no voxel was looked for and is not there.
        split: Split given by its collection or by the list it was prepared from; None: still to be drawn.
    """

    scan_id: str
    dataset: str
    patient: str
    geometry: Geometry
    spacing_mm: tuple[float, float, float]
    shape: Shape3
    tissue_share: float
    source_sha256: str
    source_geometry: Geometry
    split: str | None = None
    labels: Mapping[str, int] | None = None

    @staticmethod
    def from_dict(row: dict[str, Any]) -> ScanEntry:
        """The entry of a row of the manifest."""
        geometry = Geometry.from_dict(row["geometry"])
        return ScanEntry(
            scan_id=row["scan_id"],
            dataset=row["dataset"],
            patient=row["patient"],
            geometry=geometry,
            spacing_mm=geometry.spacing_mm,
            shape=geometry.shape,
            tissue_share=row["tissue_share"],
            source_sha256=row["source_sha256"],
            source_geometry=Geometry.from_dict(row["source_geometry"]),
            split=row.get("split"),
            labels=row.get("labels", {}).get("names"),
        )


@final
class ScanStore:
    """Reader of a prepared store. It opens arrays on first use, so it can be sent to worker processes.

    Args:
        path: Folder of the store, or its address: http(s)://, s3:// or gs://.
        resident_gib: Size up to which a store is kept in memory once read, shared with forked workers: random
            superpatches of few scans cost more to look up and decompress than to copy.

    Raises:
        StoreError: The store is missing or unfinished, has another format, or cannot be reached.
        MissingExtraError: The address needs a package that is not installed.
    """

    def __init__(self, path: Path | str, *, resident_gib: float = 0.0) -> None:
        self.path = Path(path)
        self.resident_gib = resident_gib
        self._files = files_of(path)
        self.manifest = _read_manifest(self.path, self._files)
        self._forget()

    def _forget(self) -> None:
        self._arrays: Recent[tuple[str, str], Any] = Recent(KEPT_ARRAYS)
        self._indices: Indices = Recent(KEPT_INDICES)
        shapes = {entry.scan_id: entry.shape for entry in self.entries} if self.resident_gib else {}
        size_gib = sum(product(shape) * 2 for shape in shapes.values()) / 2**30
        self._resident = Resident(shapes) if 0 < size_gib <= self.resident_gib else None

    def __getstate__(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "manifest": self.manifest,
            "resident_gib": self.resident_gib,
            "_files": self._files,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    @cached_property
    def entries(self) -> tuple[ScanEntry, ...]:
        """All scans, sorted by name."""
        return tuple(ScanEntry.from_dict(row) for row in self.manifest["scans"])

    @cached_property
    def _by_id(self) -> dict[str, ScanEntry]:
        return {entry.scan_id: entry for entry in self.entries}

    def entry(self, scan_id: str) -> ScanEntry:
        """The scan of that name; raises StoreError if there is none."""
        try:
            return self._by_id[scan_id]
        except KeyError:
            guess = nearest(scan_id, self._by_id)
            hint = f"did you mean '{guess}'?" if guess else f"it has {len(self._by_id)} scans"
            raise StoreError(f"no scan '{scan_id}' in this store", where=self.path, fix=hint) from None

    def read(self, scan_id: str, start: Shape3, shape: Shape3, fill: int = AIR_HU) -> Int16[np.ndarray, "d h w"]:
        """Voxels of a box, in HU.

        Args:
            scan_id: Name of the scan.
            start: First voxel of the box; may lie outside the volume.
            shape: Shape of the box in voxels; may extend outside.
            fill: HU of voxels outside the volume.
        """
        box = np.empty(shape, dtype=np.int16)
        self.read_into(box, scan_id, start, fill)
        return box

    def read_into(self, box: Int16[np.ndarray, "d h w"], scan_id: str, start: Shape3, fill: int = AIR_HU) -> None:
        """Reads the voxels of a box, in HU, into an existing array, such as a batch.

        Args:
            box: Array to overwrite; its shape is that of the box.
            scan_id: Name of the scan.
            start: First voxel of the box; may lie outside the volume.
            fill: HU of voxels outside the volume.
        """
        array = self._array(scan_id, "0")
        if self._resident is not None:
            array = self._resident.get(scan_id, lambda: self._whole(array, scan_id))
        self._fill(box, array, start, fill, scan_id)

    def _whole(self, array: Any, scan_id: str) -> npt.NDArray[np.int16]:
        voxels = np.empty(array.shape, dtype=np.int16)
        self._fill(voxels, array, (0, 0, 0), AIR_HU, scan_id)
        return voxels

    def read_labels(self, scan_id: str, start: Shape3, shape: Shape3) -> UInt[np.ndarray, "d h w"]:
        """Label numbers of a box, uint8 or uint16; 0 outside the volume.

        Raises:
            StoreError: The scan was prepared without labels.
        """
        if self.entry(scan_id).labels is None:
            fix = "prepare it with --labels, with its label file next to it"
            raise StoreError(f"'{scan_id}' has no labels in this store", where=self.path, fix=fix)
        array = self._array(scan_id, LABELS)
        box = np.empty(shape, dtype=array.dtype)
        self._fill(box, array, start, 0, scan_id)
        return box

    def _fill(self, box: npt.NDArray[Any], array: Any, start: Shape3, fill: int, scan_id: str) -> None:
        low = [max(0, first) for first in start]
        high = [min(size, first + count) for size, first, count in zip(array.shape, start, box.shape, strict=True)]
        inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        local = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
        empty = any(part.stop <= part.start for part in inside)
        if empty or any(part.stop - part.start < size for part, size in zip(inside, box.shape, strict=True)):
            box[:] = fill
        if empty:
            return
        try:
            if isinstance(array, ShardedArray):
                array.read_into(box[local], inside)
            else:
                box[local] = array[inside]
        except (DamagedChunkError, OSError) as error:
            what = f"voxels of '{scan_id}' cannot be read: {error}"
            raise StoreError(what, where=self.path, fix="check the disk, then run `maesil prepare` again") from error

    def volume(self, scan_id: str) -> Volume:
        """The whole stored volume."""
        entry = self.entry(scan_id)
        return Volume(self.read(scan_id, (0, 0, 0), entry.shape), entry.geometry)

    def occupancy(self, scan_id: str) -> UInt8[np.ndarray, "bd bh bw"]:
        """Share of tissue (above -500 HU) per block of 16^3 voxels, 0 to 255."""
        return np.array(self._opened(self.entry(scan_id), OCCUPANCY)[...])

    def _array(self, scan_id: str, name: str) -> Any:
        return self._arrays.get((scan_id, name), lambda: self._opened(self.entry(scan_id), name))

    def _opened(self, entry: ScanEntry, name: str) -> Any:
        folder = f"{SCANS}/{entry.scan_id}/{name}"
        try:
            metadata = read_metadata(self._files, folder)
            layout = layout_of(metadata)
            if layout is not None:
                array: Any = ShardedArray(self._files, folder, layout, self._indices)
            else:
                array = open_plain(self._files, self.path, folder, metadata)
        except (FileNotFoundError, ValueError, KeyError) as error:
            what, fix = f"the arrays of '{entry.scan_id}' are damaged", "run `maesil prepare` again"
            raise StoreError(what, where=self.path, fix=fix) from error
        if name == "0" and array.shape != entry.shape:
            what = f"'{entry.scan_id}' was prepared again, but the manifest describes its earlier version"
            raise StoreError(what, where=self.path, fix="let `maesil prepare` finish, then open the store again")
        return array


def _read_manifest(path: Path, files: Files) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(files.whole(MANIFEST))
    except FileNotFoundError:
        started = address_of(path) is None and (path / "zarr.json").exists()
        what = "this store is not finished" if started else "there is no store here"
        fix = "run the same `maesil prepare` again" if started else "write one with `maesil prepare SCANS --out STORE`"
        raise StoreError(what, where=path, fix=fix) from None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"the manifest cannot be read: {error}", where=path, fix="run `maesil prepare` again"
        ) from error
    if manifest.get("format") != FORMAT:
        raise StoreError(
            f"the store has format {manifest.get('format')}, not {FORMAT}", where=path, fix="prepare it again"
        )
    return manifest
