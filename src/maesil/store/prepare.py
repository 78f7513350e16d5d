"""Many scans into one store: in parallel, resumable, one bad scan never stopping the others."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from maesil.datasets import Scan, find_scans, kept_salt
from maesil.errors import MaesilError, StoreError
from maesil.store.layout import FORMAT, LOCK, MANIFEST, QUARANTINE, SCANS
from maesil.store.parallel import run_all
from maesil.store.settings import PrepareConfig
from maesil.store.writing import stored_row, write_scan

__all__ = ["PrepareConfig", "PrepareReport", "Progress", "Quarantined", "prepare"]

Progress = Callable[[int, int, str], None]
"""Called with scans done, scans in all, and the last one's name."""


@dataclass(frozen=True)
class Quarantined:
    """A source that was left out.

    Attributes:
        source: Relative to what was given, or a hash; never a patient's name.
        scan_id: Its name in the store, had it been sound.
        reason: Why.
        fix: What to do about it.
    """

    source: str
    scan_id: str | None
    reason: str
    fix: str


@dataclass(frozen=True)
class PrepareReport:
    """What a `prepare` did.

    Attributes:
        prepared: Scans written now.
        skipped: Scans that were there already, from the same bytes.
        quarantined: Sources left out, with reasons.
        labels: Label files passed over.
    """

    prepared: tuple[str, ...]
    skipped: tuple[str, ...]
    quarantined: tuple[Quarantined, ...]
    labels: int


def prepare(
    sources: Sequence[Path],
    out: Path,
    config: PrepareConfig,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> PrepareReport:
    """Prepares scans into the store `out`, continuing what an interrupted call left.

    A scan is written beside its place and moved there whole; the manifest comes last. So a store that was killed at any
    point, and prepared again, has the same bytes as one that was not.

    Args:
        sources: Volume files, DICOM folders, or trees of these.
        out: The store, made if absent; scans it has from earlier calls stay.
        config: Resampling, layout, naming.
        scheduler: Address of a dask scheduler; None: processes on this machine.
        workers: Processes on this machine; None: one per core; 0: none.
        progress: Called after every scan.

    Raises:
        ConfigError: A source does not exist, or none holds a scan.
        StoreError: `out` has other settings, or is being written by another process.
    """
    salt = config.salt if config.salt is not None else kept_salt()
    found = find_scans(sources, config.dataset, salt, hash_names=config.hash_names)
    out = out.absolute()  # workers may have another working folder
    with _locked(out):
        _open_store(out, config)
        _sweep(out)
        outcomes = run_all(
            write_scan, out, found.scans, config, scheduler=scheduler, workers=workers, progress=progress
        )
        bad = [Quarantined(problem.source, None, problem.reason, problem.fix) for problem in found.problems]
        bad += [_quarantined(scan, outcome) for scan, outcome in outcomes if isinstance(outcome, BaseException)]
        for scan, outcome in outcomes:
            if isinstance(outcome, BaseException):
                shutil.rmtree(out / SCANS / scan.scan_id, ignore_errors=True)  # made of bytes that are no more
        written = {scan.scan_id: now for scan, (_, now) in _good(outcomes)}
        bad.sort(key=lambda row: (row.source, row.reason))
        _write_atomically(out / QUARANTINE, "".join(json.dumps(vars(row)) + "\n" for row in bad))
        _write_manifest(out, config)
    prepared = tuple(name for name, now in written.items() if now)
    skipped = tuple(name for name, now in written.items() if not now)
    return PrepareReport(prepared, skipped, tuple(bad), found.labels)


def _good(outcomes: Sequence[tuple[Scan, Any]]) -> list[tuple[Scan, Any]]:
    return [(scan, outcome) for scan, outcome in outcomes if not isinstance(outcome, BaseException)]


def _quarantined(scan: Scan, error: BaseException) -> Quarantined:
    if isinstance(error, MaesilError):
        return Quarantined(scan.shown, scan.scan_id, error.what, error.fix or "")
    if isinstance(error, OSError):
        return Quarantined(
            scan.shown, scan.scan_id, f"{error.strerror or type(error).__name__}", "check disk and rights"
        )
    reason = f"unexpected {type(error).__name__}" if scan.hashed else f"unexpected {type(error).__name__}: {error}"
    return Quarantined(scan.shown, scan.scan_id, reason, "please report this scan's kind as a bug")


def _open_store(out: Path, config: PrepareConfig) -> None:
    """Makes the group, or checks that the settings are those it was made with."""
    settings = config.recorded()
    if not (out / "zarr.json").exists():
        if out.exists() and any(entry.name != LOCK for entry in out.iterdir()):
            raise StoreError("this folder is not empty and is no store", where=out, fix="give another --out")
        group = zarr.open_group(out, mode="a", zarr_format=3)
        group.attrs.put({"maesil": {"format": FORMAT, "settings": settings}})
    try:
        before = json.loads((out / "zarr.json").read_text(encoding="utf-8"))["attributes"]["maesil"]["settings"]
    except (KeyError, ValueError):
        raise StoreError("this is a Zarr group of another kind", where=out, fix="give another --out") from None
    changed = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
    if changed:
        listed = ", ".join(f"{key} {before.get(key)} -> {settings.get(key)}" for key in changed)
        raise StoreError(f"the store was prepared with other settings: {listed}", where=out, fix="give another --out")
    (out / SCANS).mkdir(exist_ok=True)


def _sweep(out: Path) -> None:
    """Removes drafts that a killed call left behind; the lock says that no other call is at work."""
    for draft in (out / SCANS).glob(".draft-*"):
        shutil.rmtree(draft, ignore_errors=True)


def _write_manifest(out: Path, config: PrepareConfig) -> None:
    names = sorted(entry.name for entry in (out / SCANS).iterdir() if not entry.name.startswith("."))
    rows = [row for name in names if (row := stored_row(out, name)) is not None]
    manifest = {"format": FORMAT, "settings": config.recorded(), "scans": rows}
    _write_atomically(out / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def _write_atomically(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """One `prepare` at a time; the lock goes with its process, so a killed one leaves none."""
    import fcntl

    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / LOCK).open("w")
    except OSError as error:
        raise StoreError(
            f"the store cannot be written: {error.strerror}", where=out, fix="give another --out"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError("another `maesil prepare` is writing this store", where=out, fix="wait for it") from None
        yield
