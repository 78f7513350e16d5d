"""Compares a store's files with its records, and takes damaged or unwanted scans out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from maesil.catalog import nearest
from maesil.errors import ConfigError, StoreError
from maesil.files import AnyPath, replacing
from maesil.store.format import LABELS, MANIFEST, OCCUPANCY, scan_path
from maesil.store.lock import locked
from maesil.store.shards import Shards


def store(action: Literal["check", "repair", "remove"], store: AnyPath, scans: Sequence[str] = ()) -> dict[str, str]:
    """Checks the files of a store, or takes scans out of it.

    Args:
        action: "check" reads all files and compares them with what was written; "repair" also removes the damaged
            scans, which `prepare` then writes again; "remove" removes `scans`.
        store: Folder of the store.
        scans: Names of the scans to remove.

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
    return check_store(folder) if action == "check" else repair_store(folder)


def fault_of(scan: Path, row: Mapping[str, Any], edge: int, *, contents: bool = False) -> str | None:
    """What is wrong with the files of a scan; None: nothing.

    Args:
        scan: Folder of the scan.
        row: Row of the scan in the manifest; that of version 0.1 does not say which files there are.
        edge: Edge of a shard in voxels.
        contents: Whether to read all files and compare their contents, too.
    """
    names = ["0", OCCUPANCY, *([LABELS] if "labels" in row else [])]
    for name in names:
        if not (scan / name / "zarr.json").is_file():
            return f"{name}: zarr.json is missing"
    for name, record in row.get("arrays", {}).items():
        shards = Shards.from_dict(record, tuple(row["geometry"]["shape"]), edge)
        if fault := shards.fault(scan / name, contents=contents):
            return f"{name}: {fault}"
    return None


def check_store(store: Path) -> dict[str, str]:
    """Reads all files of a store; returns a map from damaged scan to what is wrong with it.

    Raises:
        StoreError: There is no store, or its manifest cannot be read.
    """
    manifest = _manifest(store)
    edge = manifest["settings"]["shard"]
    faults = {
        row["scan_id"]: fault_of(scan_path(store, row["scan_id"]), row, edge, contents=True)
        for row in manifest["scans"]
    }
    return {scan_id: fault for scan_id, fault in faults.items() if fault is not None}


def repair_store(store: Path) -> dict[str, str]:
    """Removes the damaged scans, which `prepare` then writes again; returns what was wrong with them.

    Raises:
        StoreError: As `check_store` and `remove_scans` do.
    """
    faults = check_store(store)
    if faults:
        remove_scans(store, tuple(faults))
    return faults


def remove_scans(store: Path, scan_ids: Sequence[str]) -> None:
    """Removes scans from a store: from its manifest first, so that no reader finds half a scan.

    Raises:
        StoreError: A scan is not in the store, or the store is being written by another process.
    """
    with locked(store):
        manifest = _manifest(store)
        known = {row["scan_id"] for row in manifest["scans"]}
        for scan_id in scan_ids:
            if scan_id not in known:
                guess = nearest(scan_id, known)
                hint = f"did you mean '{guess}'?" if guess else f"it has {len(known)} scans"
                raise StoreError(f"no scan '{scan_id}' in this store", where=store, fix=hint)
        manifest["scans"] = [row for row in manifest["scans"] if row["scan_id"] not in scan_ids]
        with replacing(store / MANIFEST) as fresh:
            fresh.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        for scan_id in scan_ids:
            shutil.rmtree(scan_path(store, scan_id), ignore_errors=True)


def _manifest(store: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((store / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fix = "give the folder of a finished store, or run `maesil prepare` again"
        raise StoreError(f"the manifest cannot be read: {error}", where=store, fix=fix) from error
    return manifest
