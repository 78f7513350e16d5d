"""Prepares many scans into one store: in parallel, resumable, and no bad scan ever stops the others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from maesil.datasets import FoundScans, Problem, Scan, find_scans, kept_salt, salt_check
from maesil.datasets.copies import fingerprint
from maesil.datasets.labels import image_files, merged_names, read_entries, spelled_structures, unused_entries
from maesil.datasets.names_beside import with_names_beside
from maesil.errors import KeptScanError, ScanError, StoreError
from maesil.files import AnyPath, as_paths
from maesil.progress import Progress
from maesil.store.collection import write_atomically, write_collection, write_group
from maesil.store.format import DRAFT, FORMAT, MANIFEST, QUARANTINE, SCANS
from maesil.store.label_classes import LabelClass, classes_among
from maesil.store.lock import locked
from maesil.store.names_table import places_in, write_names
from maesil.store.parallel import refuse_in_starting_worker, run_all
from maesil.store.quarantine import Quarantined, quarantine_text, quarantined_problem, quarantined_scan
from maesil.store.settings import PrepareConfig, voxels
from maesil.store.writing import Written, kept_scan, stored_row, write_scan

__all__ = ["PrepareConfig", "PrepareReport", "Progress", "Quarantined", "prepare"]


@dataclass(frozen=True)
class PrepareReport:
    """Outcome of a `prepare`.

    Attributes:
        prepared: Scans that were written.
        skipped: Scans that were already there, from the same bytes.
        quarantined: Sources that were left out, with reasons.
        labels: Number of label files that were skipped.
        labelled: Number of scans in `prepared` and `skipped` that have labels in the store; None if none are wanted.
        labels_kept: Number of scans of the store that keep their labels, if none are wanted; 0 if some are.
        classes: Classes of these labels, and in how many of these scans they are.
        changed: Scans in `prepared` that replaced an earlier version, because files, labels or settings had changed.
        replaced: Scans in `changed` whose earlier version was made from other files.
        removed: Scans that were taken out of the store, because their files have changed and are now refused.
        kept: Scans that are refused with these settings, although their files have not changed: the store keeps them.
        repaired: Scans in `prepared` whose files in the store were damaged, and what was wrong with them.
        warnings: Scans and what had to be assumed about them; may contain paths.
        copies: Scans of the store that have the same bytes, a group each.
        namesakes: Patients of the store whose names occur in several datasets, with the name of a scan in each; they
            count as one patient.
        matched: Path of each source, the layout that was recognised, and the reason.
        voxels: Description of the store's voxels.
        hidden: Number of scans whose names are hashes.
        names: File beside the store that says which scan has which of these names; None if there is none.
        notices: Notes on the labels of sources, such as regions that are not read; none if no labels are wanted.
        outputs: Paths of files that maesil itself wrote, and that are left out.
        given_labels: Paths among several given ones that were taken for labels.
        named_by: Paths of files beside the scans that name the numbers of their labels; none if no labels are wanted.
        merged_names: Label names that differ only in spelling, and the class that they become; a text for each class.
        places: Map from scan to its file or folder: the scans of this call, and those of the table of hashed names. A
            stored scan has the file that it was made from, not another of its name that this call refused.
        taken_for_labels: Paths of label files that belong to no scan; a CT may be among them, as only names tell.
    """

    prepared: tuple[str, ...]
    skipped: tuple[str, ...]
    quarantined: tuple[Quarantined, ...]
    labels: int
    changed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()
    copies: tuple[tuple[str, ...], ...] = ()
    namesakes: tuple[tuple[str, Mapping[str, str]], ...] = ()
    matched: tuple[tuple[str, str, str], ...] = ()
    voxels: str = ""
    hidden: int = 0
    names: str | None = None
    notices: tuple[str, ...] = ()
    taken_for_labels: tuple[str, ...] = ()
    repaired: tuple[tuple[str, str], ...] = ()
    labelled: int | None = None
    labels_kept: int = 0
    classes: tuple[LabelClass, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    given_labels: tuple[str, ...] = ()
    named_by: tuple[str, ...] = ()
    merged_names: tuple[str, ...] = ()


def prepare(
    sources: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    config: PrepareConfig | None = None,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> PrepareReport:
    """Prepares scans into the store `out`, continuing where an interrupted call stopped.

    A stored scan is kept if its name now stands for other files, unless `config.replace` is set: these files are listed
    as left out. A scan is written as a draft and moved into place when it is complete; the manifest comes last. So a
    store that was killed at any point, and prepared again, has the same bytes as one that was not.

    A process needs less than 4 times the size of the scan that it reads, and at least about 100 MB. The size is that of
    the voxels as int16, or in the file's own type for formats that are read at once (NRRD, compressed MetaImage).

    Args:
        sources: Volume files, DICOM folders, or trees of these.
        out: Path of the store, created if missing; scans from earlier calls are kept.
        config: Settings of resampling, layout and naming; None: the defaults.
        scheduler: Address of a dask scheduler; None: processes on this machine.
        workers: Number of processes on this machine; None: one per core; 0: none.
        progress: Function called after every scan.

    Raises:
        ConfigError: A source does not exist, none holds a scan, the names of labels of all scans cannot be read, or no
            scheduler answers.
        StoreError: `out` has other settings or another salt, is being written by another process, or cannot be written.
    """
    sources, out = as_paths(sources), Path(out)
    refuse_in_starting_worker()
    config = config or PrepareConfig()
    config.named_labels()  # reports a file that cannot be read before any scan is read
    salt = config.salt if config.salt is not None else kept_salt
    found = find_scans(
        sources,
        config.dataset,
        salt,
        hash_names=config.hash_names,
        patient_pattern=config.patient_pattern,
        keep_names=config.keep_names,
        known=partial(_known_dataset, out),
        layout=config.layout,
    )
    found = _named(found, config)
    merged = _merged_names(found, config) if config.labels else ()  # now: files of names may be gone after hours
    _refuse_other_folder(out)
    out = out.absolute()  # workers may have another working folder
    with locked(out):
        hashing = any(scan.hashed for scan in found.scans)
        _guarded(out, lambda: _open_store(out, config, _check_of(salt) if hashing else None))
        # Compared with the store before the run, not with what workers saw: a scan may run twice if a worker dies.
        before = {scan.scan_id: stored_row(out, scan.scan_id) for scan in found.scans}
        table = write_names(out, found.scans, keep={name for name, row in before.items() if row is not None})
        places = places_in(out)
        outcomes = run_all(
            write_scan,
            out,
            found.scans,
            config,
            scheduler=scheduler,
            workers=workers,
            progress=progress,
            kept=kept_scan,
        )
        removed = _drop_refused(out, outcomes, before)
        bad = [quarantined_problem(problem) for problem in found.problems]
        bad += [
            quarantined_scan(scan, outcome, places.get(scan.scan_id))
            for scan, outcome in outcomes
            if isinstance(outcome, BaseException)
        ]
        write_names(out, [scan for scan, outcome in outcomes if isinstance(outcome, Written)])
        rows = _stored_rows(out)
        _guarded(out, lambda: _finish(out, config, rows, bad))
    used = sum(len(image_files(scan.labels)) for scan in found.scans) if config.labels else 0
    report = _report(found, outcomes, before, bad, removed)
    labelled = _labelled(outcomes) if config.labels else []
    return replace(
        report,
        labels=found.labels - used,
        copies=_copies(rows),
        namesakes=_namesakes(rows),
        names=table,
        voxels=voxels(config.recorded()),
        notices=tuple(map(_notice_text, found.notices)) if config.labels else (),
        named_by=tuple(map(str, found.named_by)) if config.labels else (),
        merged_names=merged,
        labelled=len(labelled) if config.labels else None,
        labels_kept=0 if config.labels else sum("labels" in row for row in rows),
        classes=classes_among(labelled),
        places=_places(places, found, report, rows),
    )


def _named(found: FoundScans, config: PrepareConfig) -> FoundScans:
    """The scans with the names of label numbers beside them, unless the settings name a file.

    A store keeps labels that are not asked for, so they keep their names, too; a file that cannot be read then does not
    matter. Where labels are asked for, the scans of such a file are left out.
    """
    if config.label_names is not None:
        unused = unused_entries(read_entries(config.label_names), config.label_names)
        return replace(found, notices=(*found.notices, *unused))
    return with_names_beside(found, None if config.labels else lambda _: None)


def _notice_text(notice: Problem) -> str:
    return f"{notice.path or notice.source}: {notice.reason}" + (f" ({notice.fix})" if notice.fix else "")


def _merged_names(found: FoundScans, config: PrepareConfig) -> tuple[str, ...]:
    """Names of labels that differ only in spelling, of each file of names and each scan with a file per structure."""
    files = [config.label_names] if config.label_names is not None else found.named_by
    sources = [[*read_entries(path).names.values()] for path in files]
    sources += [spelled_structures(scan) for scan in found.scans]
    return tuple(dict.fromkeys(text for names in sources for text in merged_names(names)))


def _places(
    table: Mapping[str, str], found: FoundScans, report: PrepareReport, rows: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """Map from scan to its file or folder; of a stored scan, these are not the files of its name that were refused."""
    stored = {row["scan_id"] for row in rows}
    others = stored - {*report.prepared, *report.skipped, *report.kept}
    return {**table, **{scan.scan_id: scan.place for scan in found.scans if scan.scan_id not in others}}


def _report(
    found: FoundScans,
    outcomes: Sequence[tuple[Scan, Any]],
    before: Mapping[str, dict[str, Any] | None],
    bad: Sequence[Quarantined],
    removed: tuple[str, ...],
) -> PrepareReport:
    written = {scan.scan_id: outcome for scan, outcome in outcomes if isinstance(outcome, Written)}
    repaired = tuple((name, one.damage) for name, one in written.items() if one.damage is not None)
    prepared = tuple(name for name, one in written.items() if before[name] != one.row or one.damage is not None)
    return PrepareReport(
        prepared=prepared,
        skipped=tuple(name for name in written if name not in prepared),
        quarantined=tuple(sorted(bad, key=lambda row: (row.source, row.reason))),
        labels=found.labels,
        changed=tuple(name for name in prepared if before[name] is not None and name not in dict(repaired)),
        replaced=tuple(
            name
            for name in prepared
            if (row := before[name]) is not None and row["source_sha256"] != written[name].row["source_sha256"]
        ),
        removed=removed,
        kept=tuple(
            scan.scan_id
            for scan, outcome in outcomes
            if _is_refused(outcome) and before[scan.scan_id] is not None and scan.scan_id not in removed
        ),
        warnings=tuple((name, text) for name, one in written.items() for text in one.warnings),
        hidden=sum(scan.hashed for scan in found.scans),
        matched=tuple((str(match.source), match.layout, match.because) for match in found.matched),
        taken_for_labels=tuple(map(str, found.taken_for_labels)),
        repaired=repaired,
        outputs=tuple(map(str, found.outputs)),
        given_labels=tuple(map(str, found.given_labels)),
    )


def _labelled(outcomes: Sequence[tuple[Scan, Any]]) -> list[tuple[dict[str, int], frozenset[int]]]:
    """The names of each labelled scan's numbers, and its numbers that have a voxel."""
    written = [one for _, one in outcomes if isinstance(one, Written) and "labels" in one.row]
    return [(one.row["labels"]["names"], one.marked) for one in written]


def _known_dataset(out: Path, scan_id: str) -> str | None:
    """Dataset of a scan of the store that is continued; None if the store has no such scan."""
    row = stored_row(out, scan_id)
    return None if row is None else str(row["dataset"])


def _check_of(salt: str | Callable[[], str]) -> str:
    return salt_check(salt if isinstance(salt, str) else salt())


def _guarded(out: Path, write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        fix = "make room or choose another --out; the same command then continues where it stopped"
        raise StoreError(f"the store cannot be written: {error.strerror or error}", where=out, fix=fix) from error


def _refuse_other_folder(out: Path) -> None:
    """Refuses a folder with other things in it, or with a group of another kind, before a lock is written there."""
    try:
        other = out.is_dir() and not (out / "zarr.json").exists()
        other = other and any(not entry.name.startswith(".") for entry in out.iterdir())
        if (out / "zarr.json").exists():
            _known_store(out)
    except OSError as error:
        raise StoreError(
            f"the store cannot be written: {error.strerror}", where=out, fix="choose another --out"
        ) from error
    if other:
        raise StoreError("this folder is not empty and is not a store", where=out, fix="choose another --out")


def _open_store(out: Path, config: PrepareConfig, check: str | None) -> None:
    """Makes the group, or checks its settings; removes drafts of a killed call (the lock proves that it has ended)."""
    if not (out / "zarr.json").exists():
        write_group(out, {"maesil": {"format": FORMAT, "settings": config.recorded()}})
    known = _known_store(out)
    _require_same_settings(out, known["settings"], config.recorded())
    if check is not None and known.setdefault("salt_check", check) != check:
        fix = "use the salt of the first call (--salt), or choose another --out"
        raise StoreError("the store's names were made with another salt", where=out, fix=fix)
    write_group(out, {"maesil": known})
    write_group(out / SCANS, {})
    for draft in (out / SCANS).glob(f"{DRAFT}*"):
        shutil.rmtree(draft, ignore_errors=True)


def _known_store(out: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads((out / "zarr.json").read_text(encoding="utf-8"))["attributes"]["maesil"]
        if known["format"] == FORMAT:
            return known
    except (KeyError, ValueError, TypeError):
        raise StoreError("this Zarr group is not a store of maesil", where=out, fix="choose another --out") from None
    raise StoreError(f"the store has format {known['format']}, not {FORMAT}", where=out, fix="choose another --out")


def _require_same_settings(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    before = {"codec": "zstd", **before}  # the only codec of early stores
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        listed = ", ".join(f"{key} {before.get(key)} -> {now.get(key)}" for key in changed)
        fix = "choose another --out, or use the settings of the first call"
        raise StoreError(f"the store was prepared with other settings: {listed}", where=out, fix=fix)


def _is_refused(outcome: object) -> bool:
    """Whether an outcome says that a scan's files are not sound."""
    return isinstance(outcome, ScanError) and not isinstance(outcome, KeptScanError)


def _drop_refused(
    out: Path, outcomes: Sequence[tuple[Scan, Any]], before: Mapping[str, dict[str, Any] | None]
) -> tuple[str, ...]:
    """Removes scans whose files have changed and are now refused: the stored version is out of date.

    A file that could not be opened this time, a worker that was killed, or a setting of this call says nothing about
    the earlier version.

    Returns:
        Names of the scans that were removed.
    """
    dropped = tuple(
        scan.scan_id
        for scan, outcome in outcomes
        if _is_refused(outcome) and (row := before[scan.scan_id]) is not None and _has_changed(scan, row)
    )
    for name in dropped:
        shutil.rmtree(out / SCANS / name, ignore_errors=True)
    return dropped


def _has_changed(scan: Scan, row: Mapping[str, Any]) -> bool:
    """Whether a scan's files differ from those of its row; False if they cannot be read."""
    try:
        return fingerprint(scan.files) != str(row["source_sha256"])
    except OSError:
        return False


def _stored_rows(out: Path) -> list[dict[str, Any]]:
    """The manifest rows of all complete scans, sorted by name."""
    names = sorted(entry.name for entry in (out / SCANS).iterdir() if not entry.name.startswith("."))
    return [row for name in names if (row := stored_row(out, name)) is not None]


def _copies(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], ...]:
    """The names of scans with the same bytes, a group each."""
    of_source: dict[str, list[str]] = {}
    for row in rows:
        of_source.setdefault(row["source_sha256"], []).append(row["scan_id"])
    return tuple(tuple(names) for names in of_source.values() if len(names) > 1)


def _namesakes(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, dict[str, str]], ...]:
    """Patients whose names occur in several datasets, with the first scan in each, sorted by name."""
    scans: dict[str, dict[str, str]] = {}
    for row in sorted(rows, key=lambda row: (row["patient"], row["dataset"], row["scan_id"])):
        scans.setdefault(row["patient"], {}).setdefault(row["dataset"], row["scan_id"])
    return tuple((name, first) for name, first in scans.items() if len(first) > 1)


def _finish(out: Path, config: PrepareConfig, rows: Sequence[Mapping[str, Any]], bad: Sequence[Quarantined]) -> None:
    """Lists what was left out and what is there, then writes the manifest, which shows that the store is complete."""
    manifest = {"format": FORMAT, "settings": config.recorded(), "scans": list(rows)}
    write_atomically(out / QUARANTINE, quarantine_text(bad))
    write_collection(out, rows)
    write_atomically(out / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
