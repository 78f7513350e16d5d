"""Labelled scans from a CSV file, and their folds by patient."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from maesil.counts import count_of
from maesil.datasets.splits import SplitConfig, rank_of
from maesil.errors import ConfigError, reason
from maesil.store.scanstore import ScanStore


@dataclass(frozen=True)
class Cases:
    """Labelled scans.

    Attributes:
        scans: Scan names in the store.
        patients: Patient of each scan.
        truth: Class number of each scan.
        classes: Class names, in the order of their numbers.
    """

    scans: tuple[str, ...]
    patients: tuple[str, ...]
    truth: Int[np.ndarray, " s"]
    classes: tuple[str, ...]


def read_cases(path: Path, store: ScanStore, column: str | None = None) -> Cases:
    """Reads a CSV file with a column scan_id (or patient) and a column of classes.

    Args:
        path: The CSV file.
        store: The store of the scans.
        column: The column of classes; None: the only other column.

    Raises:
        ConfigError: The file cannot be read, a column is absent or ambiguous, a scan is unknown or has two classes,
            or there is only one class.
    """
    rows, key = _rows(path)
    others = [name for name in rows[0] if name not in ("scan_id", "patient")]
    if not others:
        raise ConfigError("there is no column of classes", where=path, fix="add one with the class of each row")
    if column is None and len(others) != 1:
        raise ConfigError("several columns could be the classes", where=path, fix=f"--label {' | '.join(others)}")
    chosen = column or others[0]
    if chosen not in rows[0]:
        raise ConfigError(f"there is no column '{chosen}'", where=path, fix=f"it has: {', '.join(rows[0])}")
    named: dict[str, str] = {}
    for row in rows:
        value = (row[chosen] or "").strip()
        if value and named.setdefault(row[key].strip(), value) != value:
            raise ConfigError(f"'{row[key]}' has two classes: {named[row[key]]} and {value}", where=path)
    entries = [entry for entry in store.entries if (entry.scan_id if key == "scan_id" else entry.patient) in named]
    known = {entry.scan_id if key == "scan_id" else entry.patient for entry in entries}
    strangers = [name for name in named if name not in known]
    if strangers:
        verb = "is" if len(strangers) == 1 else "are"
        raise ConfigError(
            f"{len(strangers)} of {count_of(len(named), 'name')} in column '{key}' {verb} not in the store, "
            f"such as '{strangers[0]}'",
            where=path,
            fix=f"the store's names look like '{getattr(store.entries[0], key)}'",
        )
    labels = [named[entry.scan_id if key == "scan_id" else entry.patient] for entry in entries]
    classes = tuple(sorted(set(labels)))
    if len(classes) < 2:
        raise ConfigError(f"all cases are of the class '{classes[0]}'", where=path, fix="label at least two classes")
    truth = np.array([classes.index(label) for label in labels], dtype=np.int64)
    return Cases(tuple(e.scan_id for e in entries), tuple(e.patient for e in entries), truth, classes)


def _rows(path: Path) -> tuple[list[dict[str, str]], str]:
    try:
        table = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
        rows, columns = list(table), list(table.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        fix = "give a CSV file with a column scan_id (or patient) and a column of classes"
        raise ConfigError(f"the labels cannot be read: {reason(error)}", where=path, fix=fix) from error
    key = next((name for name in ("scan_id", "patient") if name in columns), None)
    if key is None:
        found = f"but the columns are: {', '.join(map(repr, columns))}" if columns else "but the file is empty"
        other = next((sign for sign in (";", "\t") if any(sign in name for name in columns)), None)
        separated = f"separate the columns by commas, not by {other!r}"
        fix = separated if other else "give a CSV file with a header line"
        raise ConfigError(f"the labels need a column scan_id or patient, {found}", where=path, fix=fix)
    if not rows:
        raise ConfigError("the labels have no rows", where=path, fix="add one with the class of each scan")
    return rows, key


def fold_of(cases: Cases, folds: int, seed: int) -> Int[np.ndarray, " s"]:
    """Assigns every case a fold: by patient, each class dealt out in turn.

    Raises:
        ConfigError: A fold would lack a class to train on, or have only one class to test; the message says which.
    """
    order = SplitConfig(seed=seed)
    of_patient = {patient: int(k) for patient, k in zip(cases.patients, cases.truth, strict=True)}
    dealt: dict[str, int] = {}
    for k in range(len(cases.classes)):
        own = sorted((name for name, other in of_patient.items() if other == k), key=lambda name: rank_of(name, order))
        for name in own:
            dealt[name] = len(dealt) % folds
    fold = np.array([dealt[patient] for patient in cases.patients], dtype=np.int64)
    for number in range(folds):
        tested, taught = cases.truth[fold == number], cases.truth[fold != number]
        absent = [name for k, name in enumerate(cases.classes) if not (taught == k).any()]
        if absent or len(set(tested.tolist())) < 2:
            counts = Counter(cases.classes[k] for k in of_patient.values())
            listed = ", ".join(f"{name}: {n}" for name, n in sorted(counts.items()))
            what = f"no case of '{absent[0]}' to train on" if absent else "only one class to test"
            alone = [name for name, n in sorted(counts.items()) if n == 1]
            fix = f"leave out or add patients to: {', '.join(alone)}" if alone else "use fewer --folds"
            raise ConfigError(f"fold {number} of {folds} has {what}; patients per class: {listed}", fix=fix)
    return fold
