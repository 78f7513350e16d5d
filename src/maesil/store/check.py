"""Compares a store's files with its records, and takes damaged or unwanted scans out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from maesil.ct.geometry import Geometry
from maesil.errors import ConfigError
from maesil.files import AnyPath
from maesil.progress import Progress
from maesil.store.collection import write_atomically, write_collection
from maesil.store.format import MANIFEST, array_names, files_of, scan_path
from maesil.store.location import address_of
from maesil.store.lock import locked
from maesil.store.scanstore import ScanStore
from maesil.store.shards import Shards

Action = Literal["check", "repair", "remove"]


def store(
    action: Action,
    store: AnyPath,
    scans: Sequence[str] = (),
    *,
    progress: Progress | None = None,
) -> dict[str, str]:
    """Checks the files of a store, or takes scans out of it.

    Args:
        action: "check" reads all files and compares them with what was written; "repair" also removes the damaged
            scans, which `prepare` then writes again; "remove" removes `scans`.
        store: Folder of the store.
        scans: Names of the scans to remove.
        progress: Called after every scan that is checked.

    Returns:
        Map from scan to what is wrong with it, or to "removed".

    Raises:
        ConfigError: Scans are named for another action than "remove", or none for it.
        StoreError: There is no store, a scan is not in it, or another process is writing it.
    """
    if (action == "remove") != bool(scans):
        raise ConfigError("--scans names the scans to remove", fix="maesil store remove STORE --scans NAME ...")
    folder = Path(store)
    if action == "remove":
        remove_scans(folder, scans)
        return dict.fromkeys(scans, "removed")
    return check_store(folder, progress) if action == "check" else repair_store(folder, progress)


def refuse_address(store: AnyPath) -> None:
    """Raises ConfigError for a store behind an address, whose files are not checked."""
    if (address := address_of(store)) is not None:
        raise ConfigError("files behind an address are not checked", where=address, fix="give the folder of a store")


def fault_of(scan: Path, row: Mapping[str, Any], edge: int, *, contents: bool = False) -> str | None:
    """What is wrong with the files of a scan; None: nothing.

    Args:
        scan: Folder of the scan.
        row: Row of the scan in the manifest; that of version 0.1 does not say which files there are.
        edge: Edge of a shard in voxels.
        contents: Whether to read all files and compare their contents, too.
    """
    for name in array_names(labelled="labels" in row):
        if not (scan / name / "zarr.json").is_file():
            return f"{name}: zarr.json is missing"
    for name, record in row.get("arrays", {}).items():
        shards = Shards.from_dict(record, *files_of(name, Geometry.from_dict(row["geometry"]).shape, edge))
        if fault := shards.fault(scan / name, contents=contents):
            return f"{name}: {fault}"
    return None


def check_store(store: Path, progress: Progress | None = None) -> dict[str, str]:
    """Reads all files of a store; returns a map from damaged scan to what is wrong with it.

    Args:
        store: Folder of the store.
        progress: Called after every scan.

    Raises:
        StoreError: There is no store, or its manifest cannot be read.
    """
    manifest = _opened(store).manifest
    edge, rows, faults = manifest["settings"]["shard"], manifest["scans"], {}
    for done, row in enumerate(rows, start=1):
        scan_id = row["scan_id"]
        if (fault := fault_of(scan_path(store, scan_id), row, edge, contents=True)) is not None:
            faults[scan_id] = fault
        if progress is not None:
            progress(done, len(rows), scan_id)
    return faults


def repair_store(store: Path, progress: Progress | None = None) -> dict[str, str]:
    """Removes the damaged scans, which `prepare` then writes again; returns what was wrong with them.

    Args:
        store: Folder of the store.
        progress: Called after every scan that is checked.

    Raises:
        StoreError: As `check_store` and `remove_scans` do.
    """
    faults = check_store(store, progress)
    if faults:
        remove_scans(store, tuple(faults))
    return faults


def remove_scans(store: Path, scan_ids: Sequence[str]) -> None:
    """Removes scans from a store: from its manifest first, so that no reader finds half a scan.

    Raises:
        StoreError: A scan is not in the store, or the store is being written by another process.
    """
    _opened(store)  # a lock makes its folder, also where there is no store
    with locked(store):
        opened = _opened(store)
        for scan_id in scan_ids:
            opened.entry(scan_id)  # raises for an unknown name and suggests the nearest one
        manifest = opened.manifest
        manifest["scans"] = [row for row in manifest["scans"] if row["scan_id"] not in scan_ids]
        write_atomically(store / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
        write_collection(store, manifest["scans"])
        for scan_id in scan_ids:
            shutil.rmtree(scan_path(store, scan_id), ignore_errors=True)


def _opened(store: Path) -> ScanStore:
    refuse_address(store)
    return ScanStore(store)
