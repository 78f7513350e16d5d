"""Reads a prepared store: all access to its voxels goes through here."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
import tensorstore as ts
from jaxtyping import Int16, Integer, UInt, UInt8

from maesil.catalog import nearest
from maesil.counts import count_of
from maesil.ct.geometry import Geometry
from maesil.ct.volume import AIR_HU, Volume
from maesil.errors import NoStoreError, StoreError
from maesil.shapes import Shape3
from maesil.store.format import FORMAT, LABELS, MANIFEST, OCCUPANCY, OCCUPANCY_BLOCK, SCANS, files_of
from maesil.store.location import address_of, kvstore_of
from maesil.store.ranges import require_ranges
from maesil.store.shards import Shards, Slices3, shard_name
from maesil.store.zarr3 import check_process, open_array, read_error, read_file, reading_context

__all__ = ["OCCUPANCY_BLOCK", "BegunRead", "ScanEntry", "ScanStore"]

STORE, OWN_NAME, SETTINGS_OF_ALL = "store", "own_name", "settings_of_all"
"""Keys of several stores' manifest: number of a scan's store, its name there, and the settings of all stores."""
OPEN_ARRAYS = 1024
"""Number of arrays kept open per process."""


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
        arrays: Map from array to the record of its shards; empty in stores of version 0.1.
        store: Number of its store, where several are read as one.
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
    arrays: Mapping[str, Any] = field(default_factory=dict)
    store: int = 0

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
            arrays=row.get("arrays", {}),
            store=row.get(STORE, 0),
        )


@final
class BegunRead:
    """A read that is under way.

    Args:
        future: The end of it; None: there is nothing to wait for.
        store: Folder or address of the store, for messages.
        scan_id: Name of the scan, for messages.
        check: Function that raises StoreError if what was read cannot be what was written.
    """

    def __init__(self, future: Any, store: str, scan_id: str, check: Callable[[], None]) -> None:
        self._future, self._store, self._scan_id, self._check = future, store, scan_id, check

    def wait(self) -> None:
        """Returns when all voxels are in the caller's array.

        Raises:
            StoreError: They cannot be read.
        """
        if self._future is None:
            return
        try:
            self._future.result()
        except (ValueError, OSError) as error:
            what = f"voxels of '{self._scan_id}' cannot be read"
            fix = "check the disk, then run `maesil prepare` again"
            raise read_error(error, what, self._store, fix) from error
        self._check()


@final
class ScanStore:
    """Reader of a prepared store, or of several as one. It opens arrays on first use, so it can be sent to processes.

    Several stores may have different voxels. A scan's name that two of them have gets the number of its store in front.

    Reads run in threads of tensorstore, which do not survive a fork: processes that read a store must be spawned.

    Args:
        path: Folder of the store, or its address: http(s)://, s3:// or gs://; or a sequence of them.
        resident_gib: Size in GiB of the cache of decoded voxels. Random superpatches of few scans cost more to look up
            and decompress than to copy.
        threads: Number of threads that decode; None: one per core.

    Raises:
        StoreError: No store is given; or one is missing or unfinished, has another format, or cannot be reached.
    """

    def __init__(
        self, path: Path | str | Sequence[Path | str], *, resident_gib: float = 0.0, threads: int | None = None
    ) -> None:
        self.paths = (Path(path),) if isinstance(path, (str, Path)) else tuple(map(Path, path))
        if not self.paths:
            raise NoStoreError("no store is given", fix="--data.store STORE, a folder that `maesil prepare` wrote")
        self.resident_gib, self.threads = resident_gib, threads
        self._prepare()
        parts = zip(self.paths, self._kvstores, strict=True)
        self.manifest = as_one([_read_manifest(path, kvstore, self._context) for path, kvstore in parts])

    def _prepare(self) -> None:
        self._kvstores = [kvstore_of(path) for path in self.paths]
        self._context = reading_context(self.resident_gib, self.threads)
        self._array = lru_cache(OPEN_ARRAYS)(self._opened)
        self._shards = lru_cache(OPEN_ARRAYS)(self._recorded)
        self._found: set[str] = set()

    @property
    def path(self) -> Path:
        """The folder or address of the store; of several, the first."""
        return self.paths[0]

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("paths", "manifest", "resident_gib", "threads")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    @property
    def where(self) -> str:
        """The folders or addresses, for messages."""
        return ", ".join(address_of(path) or str(path) for path in self.paths)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the manifest: equal for a copy of the store, wherever it is."""
        return hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()

    @cached_property
    def entries(self) -> tuple[ScanEntry, ...]:
        """All scans, sorted by name; those of several stores, store by store."""
        return tuple(ScanEntry.from_dict(row) for row in self.manifest["scans"])

    @cached_property
    def _by_id(self) -> dict[str, ScanEntry]:
        return {entry.scan_id: entry for entry in self.entries}

    @cached_property
    def _own_names(self) -> dict[str, str]:
        """Map from scan to its name in its own store."""
        return {row["scan_id"]: row.get(OWN_NAME, row["scan_id"]) for row in self.manifest["scans"]}

    @property
    def settings_of_all(self) -> Sequence[Mapping[str, Any]]:
        """The settings that each store was prepared with."""
        settings: Sequence[Mapping[str, Any]] = self.manifest.get(SETTINGS_OF_ALL, [self.manifest["settings"]])
        return settings

    def entry(self, scan_id: str) -> ScanEntry:
        """The scan of that name; raises StoreError if there is none."""
        try:
            return self._by_id[scan_id]
        except KeyError:
            guess = nearest(scan_id, self._by_id)
            hint = f"did you mean '{guess}'?" if guess else f"it has {count_of(len(self._by_id), 'scan')}"
            raise StoreError(f"no scan '{scan_id}' in this store", where=self.where, fix=hint) from None

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
        self.begin(box, scan_id, start, fill).wait()

    def begin(self, box: Int16[np.ndarray, "d h w"], scan_id: str, start: Shape3, fill: int = AIR_HU) -> BegunRead:
        """Begins to read as `read_into` does, and returns at once; several reads run side by side."""
        return self._begin(box, scan_id, "0", start, fill)

    def read_labels(self, scan_id: str, start: Shape3, shape: Shape3) -> UInt[np.ndarray, "d h w"]:
        """Label numbers of a box, uint8 or uint16; 0 outside the volume.

        Raises:
            StoreError: The scan was prepared without labels.
        """
        self._require_labels(scan_id)
        box = np.empty(shape, dtype=self._array(scan_id, LABELS).dtype.numpy_dtype)
        self.begin_labels(box, scan_id, start).wait()
        return box

    def begin_labels(self, box: Integer[np.ndarray, "d h w"], scan_id: str, start: Shape3) -> BegunRead:
        """Begins to read the label numbers of a box into an array, of uint16 or wider; 0 outside the volume."""
        self._require_labels(scan_id)
        return self._begin(box, scan_id, LABELS, start, 0)

    def _require_labels(self, scan_id: str) -> None:
        if self.entry(scan_id).labels is None:
            fix = "prepare it with --labels, with its label file next to it"
            raise StoreError(f"'{scan_id}' has no labels in this store", where=self.where, fix=fix)

    def _begin(self, box: npt.NDArray[Any], scan_id: str, name: str, start: Shape3, fill: int) -> BegunRead:
        check_process()
        array = self._array(scan_id, name)
        low = [max(0, first) for first in start]
        high = [min(size, first + count) for size, first, count in zip(array.shape, start, box.shape, strict=True)]
        d, h, w = (slice(a, b) for a, b in zip(low, high, strict=True))
        local = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
        empty = any(part.stop <= part.start for part in (d, h, w))
        if empty or any(part.stop - part.start < size for part, size in zip((d, h, w), box.shape, strict=True)):
            box[:] = fill
        if empty:
            return BegunRead(None, self.where, scan_id, lambda: None)
        read = box[local]
        future = ts.array(read, copy=False, write=True).write(array[d, h, w].translate_to[0, 0, 0])
        return BegunRead(future, self.where, scan_id, partial(self._require_files, read, scan_id, name, (d, h, w)))

    def _require_files(self, read: npt.NDArray[Any], scan_id: str, name: str, box: Slices3) -> None:
        """Raises StoreError if a shard that was written is gone: a reader cannot tell it from one of air alone."""
        shards = self._shards(scan_id, name)
        if shards is None:
            return
        air = AIR_HU if name == "0" else 0
        for place, part in shards.touched(box):
            file = f"{SCANS}/{self._own_names[scan_id]}/{name}/{shard_name(place)}"
            known = f"{self.entry(scan_id).store}:{file}"
            if known in self._found or not _is_all(read[part], air):
                continue
            if not self._exists(scan_id, file):
                fix = "copy the store again, or run `maesil prepare` again"
                raise StoreError(
                    f"voxels of '{scan_id}' are missing: there is no file {file}", where=self.where, fix=fix
                )
            self._found.add(known)

    def _recorded(self, scan_id: str, name: str) -> Shards | None:
        entry = self.entry(scan_id)
        if name not in entry.arrays:
            return None
        return Shards.from_dict(
            entry.arrays[name], *files_of(name, entry.shape, self.settings_of_all[entry.store]["shard"])
        )

    def _exists(self, scan_id: str, file: str) -> bool:
        number = self.entry(scan_id).store
        if address_of(self.paths[number]) is None:
            return (self.paths[number] / file).is_file()
        return read_file(self._kvstores[number], file, self._context) is not None

    def volume(self, scan_id: str) -> Volume:
        """The whole stored volume."""
        entry = self.entry(scan_id)
        return Volume(self.read(scan_id, (0, 0, 0), entry.shape), entry.geometry)

    def occupancy(self, scan_id: str) -> UInt8[np.ndarray, "bd bh bw"]:
        """Share of tissue (above -500 HU) per block of 16^3 voxels, 0 to 255."""
        box = np.empty(self._array(scan_id, OCCUPANCY).shape, dtype=np.uint8)
        self._begin(box, scan_id, OCCUPANCY, (0, 0, 0), 0).wait()
        return box

    def _opened(self, scan_id: str, name: str) -> ts.TensorStore:
        entry, damaged = self.entry(scan_id), f"the arrays of '{scan_id}' are damaged"
        try:
            kvstore = self._kvstores[entry.store]
            array = open_array(kvstore, f"{SCANS}/{self._own_names[scan_id]}/{name}", self._context)
        except (ValueError, OSError) as error:
            raise read_error(error, damaged, self.where, "run `maesil prepare` again") from error
        if name == "0" and array.shape != entry.shape:
            what = f"'{scan_id}' was prepared again, but the manifest describes its earlier version"
            raise StoreError(what, where=self.where, fix="let `maesil prepare` finish, then open the store again")
        return array


def as_one(manifests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The manifest of several stores that are read as one; that of a single store is returned unchanged.

    Its settings are those of the first store; the key `SETTINGS_OF_ALL` lists those of each. Scans keep the order of
    the stores, and their names, except those that are taken.
    """
    if len(manifests) == 1:
        return manifests[0]
    taken = Counter(row["scan_id"] for manifest in manifests for row in manifest["scans"])
    scans = []
    for number, manifest in enumerate(manifests):
        for row in manifest["scans"]:
            own = row["scan_id"]
            name = f"{number + 1}.{own}" if taken[own] > 1 else own
            scans.append({**row, "scan_id": name, OWN_NAME: own, STORE: number})
    return {**manifests[0], SETTINGS_OF_ALL: [each["settings"] for each in manifests], "scans": scans}


def _is_all(voxels: npt.NDArray[Any], value: int) -> bool:
    """Whether all voxels have the value; a few of them usually settle it."""
    return bool((voxels[::8, ::8, ::8] == value).all()) and bool((voxels == value).all())


def _read_manifest(path: Path, kvstore: Mapping[str, Any], context: ts.Context) -> dict[str, Any]:
    address, again = address_of(path), "run `maesil prepare` again"
    try:
        found = read_file(kvstore, MANIFEST, context)
        manifest: Any = {} if found is None else json.loads(found)
    except (OSError, ValueError) as error:
        raise read_error(error, "the manifest cannot be read", path, again) from error
    if found is None:
        if address is None and (path / "zarr.json").exists():
            raise StoreError("this store is not finished", where=path, fix="run the same `maesil prepare` again")
        fix = "write one with `maesil prepare SCANS --out STORE`"
        raise NoStoreError("there is no store here", where=path, fix=fix)
    if not isinstance(manifest, dict):
        raise StoreError("the manifest was not written by maesil", where=path, fix="prepare it again")
    if manifest.get("format") != FORMAT:
        raise StoreError(
            f"the store has format {manifest.get('format')}, not {FORMAT}", where=path, fix="prepare it again"
        )
    if address is not None:
        require_ranges(f"{address}/{MANIFEST}")
    return dict(manifest)
