"""What `maesil view` is given: stores, runs and scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from maesil.ct.readers import read, reader_of
from maesil.ct.resample import resample_to
from maesil.ct.volume import Volume, cast_voxels
from maesil.errors import ConfigError, NoScanError
from maesil.evaluation.protocol import Protocol
from maesil.evaluation.runner import rebuild_region
from maesil.evaluation.whole_scan import rebuild_whole
from maesil.runs.load import LoadedModel, load_run, run_store
from maesil.runs.published import published_names
from maesil.sampling.ahead import box_reader
from maesil.sampling.regions import Region, regions_of, split_to_score
from maesil.store.conform import conform
from maesil.store.format import MANIFEST
from maesil.store.location import address_of
from maesil.store.scanstore import ScanStore
from maesil.view.pictures import Pictures, Shown, rebuilt_pictures

Which = Literal["last", "best"]


def open_sources(
    paths: Sequence[Path],
    *,
    split: str | None = None,
    store: Path | None = None,
    labels: Path | None = None,
    checkpoint: Which = "last",
) -> list[Shown]:
    """The scans to list, in the order of the paths; no voxel is read yet.

    A store has all of its scans. A run has the scans of a split, as it rebuilds them. Scans that are given after a run
    are rebuilt by it.

    Args:
        paths: Stores, runs and scans.
        split: Split of the runs' scans; None: the one that `evaluate` scores.
        store: Store of the runs' scans; None: the runs' own.
        labels: Labels of the scan, if one is given.
        checkpoint: Which of the runs' checkpoints to load.

    Raises:
        ConfigError: Labels are given for more or less than one scan.
        CheckpointError: There is no such run.
        StoreError: There is no such store, or the split is empty.
        NoScanError: A path does not exist.
        ScanError: A path is none of the three.
    """
    kinds = [kind_of(path) for path in paths]
    if labels is not None and kinds.count("scan") != 1:
        raise ConfigError("labels belong to one scan", where=labels, fix="give one scan, or leave --labels out")
    shown: list[Shown] = []
    model: LoadedModel | None = None
    for path, kind in zip(paths, kinds, strict=True):
        if kind == "store":
            shown += _of_store(ScanStore(path))
        elif kind == "run":
            model = load_run(path, checkpoint=checkpoint)
            if "scan" not in kinds:
                shown += _of_run(model, path, store or run_store(path), split)
        else:
            _require_scan(path)
            shown.append(Shown(path.name, _rebuilt_by(model), partial(_scan, path, model, labels)))
    return shown


def kind_of(path: Path) -> Literal["store", "run", "scan"]:
    """What a path is: also "run" for the name of published weights, which loading a run refuses with what takes it.

    Anything that is neither a store nor a run is for the readers of scans.
    """
    if address_of(path) is not None or (path / MANIFEST).is_file() or (path / "zarr.json").is_file():
        return "store"
    if any((path / name).exists() for name in ("config.yaml", "config.json", "checkpoints")):
        return "run"
    return "run" if str(path) in published_names() and not path.exists() else "scan"


def _require_scan(path: Path) -> None:
    if not path.exists():
        raise NoScanError("no such store, run, file or folder", where=path, fix="check the path")
    reader_of(path)


def _rebuilt_by(model: LoadedModel | None) -> str:
    return "scans" if model is None else f"rebuilt at step {model.record['step']}"


def _of_store(store: ScanStore) -> list[Shown]:
    return [Shown(entry.scan_id, "store", partial(_stored, store, entry.scan_id)) for entry in store.entries]


def _stored(store: ScanStore, scan_id: str) -> Pictures:
    return _labelled(Pictures(store.volume(scan_id)), store, scan_id)


def _labelled(pictures: Pictures, store: ScanStore, scan_id: str) -> Pictures:
    """The volumes with the labels that the store has of the scan, if any."""
    entry = store.entry(scan_id)
    if entry.labels is None:
        return pictures
    numbers = cast_voxels(store.read_labels(scan_id, (0, 0, 0), entry.shape), np.dtype(np.int16))
    return replace(pictures, labels=Volume(numbers, entry.geometry), names=entry.labels)


def _of_run(model: LoadedModel, run: Path, place: Path | tuple[Path, ...], split: str | None) -> list[Shown]:
    store, data = ScanStore(place), model.config.data
    superpatch = model.config.model.superpatch
    split = split or split_to_score(store, data, superpatch) or "train"
    regions = regions_of(store, data, superpatch, split)
    group = f"{run.name}, split {split}, {_rebuilt_by(model)}"
    return [Shown(region.entry.scan_id, group, partial(_rebuilt, model, store, region)) for region in regions]


def _rebuilt(model: LoadedModel, store: ScanStore, region: Region) -> Pictures:
    """A scan of the store under the first of the masks that `evaluate` scores it with."""
    protocol = Protocol(window=model.config.data.window)
    rebuilt = rebuild_region(model.model, store, region, protocol)
    pictures = rebuilt_pictures(rebuilt, region.entry.geometry, protocol.window)
    return _labelled(pictures, store, region.entry.scan_id)


def _scan(path: Path, model: LoadedModel | None, labels: Path | None) -> Pictures:
    """A scan from its file: as it is, or as the run rebuilds it on the voxels that it was trained on."""
    volume = read(path)
    if model is None:
        pictures = Pictures(volume.astype(np.int16))
    else:
        volume, window = conform(volume, model.record["prepare"], where=path), model.config.data.window
        rebuilt = rebuild_whole(model.model, box_reader(volume), volume.shape, window, 0)
        pictures = rebuilt_pictures(rebuilt, volume.geometry, window)
    if labels is None:
        return pictures
    numbers = resample_to(read(labels), volume.geometry, fill=0, order="nearest").astype(np.int16)
    return replace(
        pictures, labels=numbers, names={str(number): int(number) for number in np.unique(numbers.array) if number}
    )
