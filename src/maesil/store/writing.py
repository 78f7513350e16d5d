"""Writes one scan into the store: read, reorient, clip, resample and write slab by slab, then move into place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maesil.ct.doubts import doubts_about_hounsfield, not_hounsfield
from maesil.ct.geometry import Geometry, GeometryWarning
from maesil.ct.hounsfield import unlike_hounsfield
from maesil.ct.readers import read
from maesil.ct.readers.options import ReadOptions
from maesil.ct.volume import TISSUE_HU, Volume
from maesil.datasets import Scan
from maesil.datasets.copies import fingerprint
from maesil.datasets.labels import image_files
from maesil.errors import KeptScanError, StoreError
from maesil.shapes import product
from maesil.store.arrays import ScanWriter
from maesil.store.check import fault_of
from maesil.store.conform import blocks, clip_in_place, target_geometry
from maesil.store.format import (
    DRAFT,
    HIGHEST_HU,
    LOWEST_HU,
    SCANS,
    array_names,
    files_of,
    multiscales,
    scan_path,
)
from maesil.store.label_classes import stored_numbers
from maesil.store.labels import write_labels
from maesil.store.settings import PrepareConfig
from maesil.store.shards import record_shards
from maesil.store.zarr3 import write_group

ACCEPTED = "accepted_values"
"""Key of a manifest row: what was seen in a scan that was accepted although its values are not Hounsfield units."""


OPTIONS = "read_options"
"""Key of a manifest row: the options that a scan was read with, if they are not the defaults."""


TOLERANCE = "slice_tolerance_mm"
"""The option of `ReadOptions` that decides how scans are read that are read without it, too."""


@dataclass(frozen=True)
class Written:
    """A scan that is in the store.

    Attributes:
        row: Row of the scan in the manifest.
        warnings: Assumptions that the reader had to make.
        damage: What was wrong with the files that it had in the store, and that were written again; None: nothing.
        marked: Numbers of its labels that have a voxel; none if no labels are wanted, or it has none.
    """

    row: dict[str, Any]
    warnings: tuple[str, ...] = ()
    damage: str | None = None
    marked: frozenset[int] = frozenset()


def stored_row(store: Path, scan_id: str) -> dict[str, Any] | None:
    """The manifest row of a scan that is complete in the store; None if it is not."""
    try:
        attributes = json.loads((scan_path(store, scan_id) / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        row: dict[str, Any] = attributes["maesil"]
    except (OSError, ValueError, KeyError):
        return None
    return row


def write_scan(store: Path, scan: Scan, config: PrepareConfig) -> Written:
    """Prepares one scan, unless it is already there from the same bytes, under the same names.

    Raises:
        ScanError: The scan cannot be read, or is not sound.
        KeptScanError: The store has this name from other files, and these are not to replace them; or it would lose
            labels.
        StoreError: The store cannot be written.
    """
    source, wanted = _source_of(scan), _label_source(scan, config)
    there = _already_there(store, scan, config, source, wanted)
    if there is not None:
        return there
    if not config.replace:
        _refuse_other_files(store, scan, source)
    config, wanted = _with_stored_labels(store, scan, config, wanted)
    damage = _damage(store, scan, config, source, wanted)
    volume, assumptions = _read(scan, config.options)
    if options := config.options.chosen():
        source[OPTIONS] = options
    if (seen := unlike_hounsfield(volume.array)) is not None:
        if not config.accept_any_values:
            anyway = "prepare the values as they are with --accept-any-values"
            raise not_hounsfield(volume.array, seen, where=scan.path, anyway=anyway)
        source[ACCEPTED] = seen
    else:
        assumptions = (*assumptions, *map(str, doubts_about_hounsfield(volume)))
    geometry = target_geometry(volume.geometry.reorient("SPL"), config)
    draft = store / SCANS / f"{DRAFT}{scan.scan_id}-{os.getpid()}"
    try:
        row = _write_draft(draft, scan, volume, geometry, config, source, wanted)
        _move_into_place(draft, scan_path(store, scan.scan_id))
    except OSError as error:
        raise _unwritable(store, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Written(row, (*assumptions, *_reminder(row)), damage, _marked(store, row, config))


def kept_scan(store: Path, scan: Scan, config: PrepareConfig) -> Written | None:
    """The scan if the store has it from the same bytes, under the same names; None if it must be prepared.

    Raises:
        OSError: A source file cannot be read.
    """
    if stored_row(store, scan.scan_id) is None:  # before any file is read
        return None
    return _already_there(store, scan, config, _source_of(scan), _label_source(scan, config))


def _source_of(scan: Scan) -> dict[str, Any]:
    """What a manifest row says of a scan's source."""
    names = {"scan_id": scan.scan_id, "dataset": scan.dataset, "patient": scan.patient}
    if scan.split is not None:
        names["split"] = scan.split
    return {**names, "source_sha256": fingerprint(scan.files)}


def _with_stored_labels(
    store: Path, scan: Scan, config: PrepareConfig, wanted: str | None
) -> tuple[PrepareConfig, str | None]:
    """The settings and the labels' fingerprint, with labels if the stored scan has some: written again, it keeps them.

    Raises:
        KeptScanError: The labels were stored with other settings than these, or from other files.
    """
    known = stored_row(store, scan.scan_id)
    if config.labels or known is None or "labels" not in known:
        return config, wanted
    config = replace(config, labels=True)
    wanted = _label_source(scan, config)
    if wanted != known["labels"]["source"]:
        fix = "add --labels, and the options for labels of the call that stored them"
        what = f"{scan.scan_id} would lose its labels if it was written again: the store keeps it as it was"
        raise KeptScanError(what, where=scan.path, fix=fix)
    return config, wanted


def _refuse_other_files(store: Path, scan: Scan, source: dict[str, Any]) -> None:
    """Raises KeptScanError if the stored scan of this name was made from other files."""
    known = stored_row(store, scan.scan_id)
    if known is None or known["source_sha256"] == source["source_sha256"]:
        return
    fix = "if its files have changed, replace it with --replace"
    if scan.series is None:
        fix += "; if this is another scan, rename it or give it another --dataset"
    raise KeptScanError(f"the store has {scan.scan_id} from other files, and keeps it", where=scan.path, fix=fix)


def _already_there(
    store: Path, scan: Scan, config: PrepareConfig, source: dict[str, Any], labels: str | None
) -> Written | None:
    known = stored_row(store, scan.scan_id)
    if known is None or not _is_current(known, source, scan.split, labels, config):
        return None
    if _damage(store, scan, config, source, labels) is not None:
        return None
    row = known if "arrays" in known else _recorded(scan_path(store, scan.scan_id), known, config)
    return Written(row, _reminder(row), marked=_marked(store, row, config))


def _marked(store: Path, row: dict[str, Any], config: PrepareConfig) -> frozenset[int]:
    """The numbers of a stored scan's labels, if labels are wanted and it has some."""
    if not config.labels or "labels" not in row:
        return frozenset()
    return stored_numbers(scan_path(store, row["scan_id"]), config.chunk)


def _damage(store: Path, scan: Scan, config: PrepareConfig, source: dict[str, Any], labels: str | None) -> str | None:
    """What is wrong with the files of a stored scan that is wanted as it is; None: nothing, or it is not wanted so."""
    known = stored_row(store, scan.scan_id)
    if known is None or not _is_current(known, source, scan.split, labels, config):
        return None
    return fault_of(scan_path(store, scan.scan_id), known, config.shard) or _fault_of_labels(store, known, config)


def _fault_of_labels(store: Path, row: dict[str, Any], config: PrepareConfig) -> str | None:
    """What is wrong with a stored scan's labels; None: nothing that keeps their numbers from being known."""
    try:
        _marked(store, row, config)
    except ValueError:
        return "its labels cannot be read"
    return None


def _is_current(
    known: dict[str, Any], source: dict[str, Any], split: str | None, labels: str | None, config: PrepareConfig
) -> bool:
    """Whether a stored scan has these bytes, names and options; labels that were not asked for are kept.

    Most options only admit scans that are refused otherwise, so one that was read with fewer of them is read alike.
    """
    same = known.get("split") == split and source.items() <= known.items()
    before, now = known.get(OPTIONS, {}), config.options.chosen()
    same = same and before.items() <= now.items() and before.get(TOLERANCE) == now.get(TOLERANCE)
    return same and labels in (None, known.get("labels", {}).get("source"))


def _label_source(scan: Scan, config: PrepareConfig) -> str | None:
    """Fingerprint of the source of a scan's stored labels; None if none are wanted, or it has none."""
    files = image_files(scan.labels)
    if not config.labels or not files:
        return None
    named = json.dumps(sorted({**dict(scan.label_names), **config.named_labels()}.items()))
    chosen = (config.labels_on_another_grid, config.missing_labels)
    how = "".join(each for each, own in zip(chosen, ("refuse", "absent"), strict=True) if each != own)
    return hashlib.sha256(f"{fingerprint(files)}{named}{how}".encode()).hexdigest()


def _unwritable(store: Path, error: OSError) -> StoreError:
    fix = "make room or choose another --out; the same command then continues where it stopped"
    return StoreError(f"the store cannot be written: {error.strerror or error}", where=store, fix=fix)


def _read(scan: Scan, options: ReadOptions) -> tuple[Volume, tuple[str, ...]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", GeometryWarning)
        volume = read(scan.path, series=scan.series, files=scan.files, options=options)
    return volume, tuple(str(warning.message) for warning in caught)


def _reminder(row: dict[str, Any]) -> tuple[str, ...]:
    """A warning about values that were accepted although they are not Hounsfield units; empty if none were."""
    return (f"prepared although {row[ACCEPTED]}",) if ACCEPTED in row else ()


def _write_draft(
    draft: Path,
    scan: Scan,
    volume: Volume,
    geometry: Geometry,
    config: PrepareConfig,
    source: dict[str, Any],
    labels: str | None,
) -> dict[str, Any]:
    source_geometry = volume.geometry
    volume = clip_in_place(volume, LOWEST_HU, HIGHEST_HU).reorient("SPL")
    writer = ScanWriter.create(draft, geometry.shape, config.chunk, config.shard, config.codec)
    tissue = 0
    for first, block in blocks(volume, geometry, config.shard):
        tissue += int((block > TISSUE_HU).sum())
        writer.write(first, block)
    row = {
        **source,
        "geometry": geometry.to_dict(),
        "tissue_share": round(tissue / product(geometry.shape), 6),
        "source_geometry": source_geometry.to_dict(),
    }
    if labels is not None:
        row["labels"] = {"names": write_labels(draft, scan, source_geometry, geometry, config), "source": labels}
    return _recorded(draft, row, config)


def _recorded(scan: Path, row: dict[str, Any], config: PrepareConfig) -> dict[str, Any]:
    """Adds the record of a scan's files to its row, and writes the row into the scan's folder."""
    geometry = Geometry.from_dict(row["geometry"])
    arrays = {
        name: record_shards(scan / name, *files_of(name, geometry.shape, config.shard))
        for name in array_names(labelled="labels" in row)
    }
    row = {**row, "arrays": arrays}
    write_group(scan, {"ome": multiscales(row["scan_id"], geometry), "maesil": row})
    return row


def _move_into_place(draft: Path, final: Path) -> None:
    """Replaces the scan's folder; a reader sees the old one, none, or the complete new one."""
    _flush(draft)
    if final.exists():
        shutil.rmtree(final)
    draft.rename(final)


def _flush(folder: Path) -> None:
    """Writes voxels to the disk before the name that says they are there, to survive a power cut."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
