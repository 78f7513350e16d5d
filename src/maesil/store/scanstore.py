"""A prepared store: the only door to its voxels."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
import zarr
from jaxtyping import Int16, UInt, UInt8

from maesil.catalog import nearest
from maesil.ct.geometry import Geometry
from maesil.ct.volume import AIR_HU, Volume
from maesil.errors import StoreError
from maesil.shapes import Shape3, product
from maesil.store.layout import FORMAT, LABELS, MANIFEST, OCCUPANCY, OCCUPANCY_BLOCK, scan_path

__all__ = ["OCCUPANCY_BLOCK", "ScanEntry", "ScanStore"]


@dataclass(frozen=True)
class ScanEntry:
    """One scan of a store, as its manifest lists it.

    Attributes:
        scan_id: Unique in the store.
        dataset: The collection it is of.
        patient: What splits go by: a salted hash, or a public case name.
        geometry: Of the stored volume, orientation SPL.
        spacing_mm: Of the stored volume along (S, P, L).
        shape: Of the stored volume along (S, P, L).
        tissue_share: Share of voxels above -500 HU.
        source_sha256: Of the files it was made of.
        source_geometry: Of the scan as it was read.
        labels: Structure to its number in the scan's labels; None: it has none. A structure that is named and marks no
            voxel was looked for and is not there.
        split: Where its collection, or the list it was prepared from, puts it; None: to be drawn.
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
        """An entry from the manifest's row."""
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
    """Reads a prepared store. Opens arrays when they are first read, so it travels to worker processes by its path.

    Args:
        path: The store's folder.
        resident_gib: A store of at most this size is kept in memory once read: random superpatches of few scans cost
            more to look up and decompress than to copy.

    Raises:
        StoreError: There is no finished store, or one of a newer format.
    """

    def __init__(self, path: Path, *, resident_gib: float = 0.0) -> None:
        self.path = Path(path)
        self.manifest = _read_manifest(self.path)
        self.resident_gib = resident_gib
        self._arrays: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "manifest": self.manifest, "resident_gib": self.resident_gib}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._arrays = {}
        self._lock = threading.Lock()

    @cached_property
    def entries(self) -> tuple[ScanEntry, ...]:
        """All scans, sorted by name."""
        return tuple(ScanEntry.from_dict(row) for row in self.manifest["scans"])

    @cached_property
    def _by_id(self) -> dict[str, ScanEntry]:
        return {entry.scan_id: entry for entry in self.entries}

    def entry(self, scan_id: str) -> ScanEntry:
        """The scan of that name; raises StoreError where there is none."""
        try:
            return self._by_id[scan_id]
        except KeyError:
            guess = nearest(scan_id, self._by_id)
            hint = f"did you mean '{guess}'?" if guess else f"it has {len(self._by_id)} scans"
            raise StoreError(f"no scan '{scan_id}' in this store", where=self.path, fix=hint) from None

    def read(self, scan_id: str, start: Shape3, shape: Shape3, fill: int = AIR_HU) -> Int16[np.ndarray, "d h w"]:
        """Voxels of a box, in HU.

        Args:
            scan_id: The scan.
            start: First voxel; may lie outside the volume.
            shape: Voxels of the box; may reach outside.
            fill: HU of voxels outside the volume.
        """
        return self._box(self._array(scan_id, "0"), start, shape, np.int16, fill)

    def read_labels(self, scan_id: str, start: Shape3, shape: Shape3) -> UInt[np.ndarray, "d h w"]:
        """Label numbers of a box, uint8 or uint16; 0 outside the volume.

        Raises:
            StoreError: The scan was prepared without labels.
        """
        if self.entry(scan_id).labels is None:
            fix = "prepare it with --labels, its label file beside it"
            raise StoreError(f"'{scan_id}' has no labels in this store", where=self.path, fix=fix)
        array = self._array(scan_id, LABELS)
        return self._box(array, start, shape, array.dtype, 0)

    @staticmethod
    def _box(array: Any, start: Shape3, shape: Shape3, dtype: Any, fill: int) -> npt.NDArray[Any]:
        low = [max(0, first) for first in start]
        high = [min(size, first + count) for size, first, count in zip(array.shape, start, shape, strict=True)]
        inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        if any(part.stop <= part.start for part in inside):
            return np.full(shape, fill, dtype=dtype)
        voxels: np.ndarray[Any, Any] = np.asarray(array[inside])
        if voxels.shape == shape:
            return voxels if voxels.base is None else voxels.copy()
        box = np.full(shape, fill, dtype=dtype)
        box[tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))] = voxels
        return box

    def volume(self, scan_id: str) -> Volume:
        """The whole stored volume."""
        entry = self.entry(scan_id)
        return Volume(self.read(scan_id, (0, 0, 0), entry.shape), entry.geometry)

    def occupancy(self, scan_id: str) -> UInt8[np.ndarray, "bd bh bw"]:
        """Share of tissue (above -500 HU) per block of 16^3 voxels, 0 to 255."""
        return np.asarray(self._array(scan_id, OCCUPANCY)[:])

    @cached_property
    def _is_resident(self) -> bool:
        return sum(product(entry.shape) * 2 for entry in self.entries) <= self.resident_gib * 2**30

    def _array(self, scan_id: str, name: str) -> Any:
        key = (scan_id, name)
        with self._lock:
            if key not in self._arrays:
                array = self._opened(self.entry(scan_id), name)
                self._arrays[key] = array[:] if self._is_resident else array
            return self._arrays[key]

    def _opened(self, entry: ScanEntry, name: str) -> Any:
        try:
            array = zarr.open_array(scan_path(self.path, entry.scan_id) / name, mode="r")
        except (FileNotFoundError, ValueError, KeyError) as error:
            what, fix = f"the arrays of '{entry.scan_id}' are damaged", "run `maesil prepare` again"
            raise StoreError(what, where=self.path, fix=fix) from error
        if name == "0" and array.shape != entry.shape:
            what = f"'{entry.scan_id}' was prepared anew, and the manifest tells of its earlier version"
            raise StoreError(what, where=self.path, fix="let `maesil prepare` finish, then open the store again")
        return array


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        started = (path / "zarr.json").exists()
        what = "this store is not finished" if started else "there is no store here"
        fix = "run the same `maesil prepare` again" if started else "write one with `maesil prepare SCANS --out STORE`"
        raise StoreError(what, where=path, fix=fix) from None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"the manifest cannot be read: {error}", where=path, fix="run `maesil prepare` again"
        ) from error
    if manifest.get("format") != FORMAT:
        raise StoreError(
            f"the store has format {manifest.get('format')}, not {FORMAT}", where=path, fix="prepare it anew"
        )
    return manifest
