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
        ConfigError: The file cannot be read, a row has not a cell per column, a column is absent or ambiguous, a scan
            is unknown or has two classes, or there are fewer than two classes.
    """
    rows, columns, key = _rows(path)
    others = [name for name in columns if name not in ("scan_id", "patient")]
    if not others:
        raise ConfigError("there is no column of classes", where=path, fix="add one with the class of each row")
    if column is None and len(others) != 1:
        raise ConfigError("several columns could be the classes", where=path, fix=f"--label {' | '.join(others)}")
    chosen = column or others[0]
    if chosen not in columns:
        raise ConfigError(f"there is no column '{chosen}'", where=path, fix=f"it has: {', '.join(columns)}")
    named: dict[str, str] = {}
    for row in rows:
        name, value = row[key], row[chosen]
        if value and named.setdefault(name, value) != value:
            raise ConfigError(f"'{name}' has two classes: {named[name]} and {value}", where=path)
    if not named:
        raise ConfigError(f"no row has a class in column '{chosen}'", where=path, fix="label at least two classes")
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


def _rows(path: Path) -> tuple[list[dict[str, str]], list[str], str]:
    """The rows with a cell for each column, without blanks around it; the columns; and the one that names the scans."""
    try:
        columns, rows = _cells(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        fix = "give a CSV file with a column scan_id (or patient) and a column of classes"
        raise ConfigError(f"the labels cannot be read: {reason(error)}", where=path, fix=fix) from error
    key = next((name for name in ("scan_id", "patient") if name in columns), None)
    if key is None:
        found = f"but the columns are: {', '.join(map(repr, columns))}" if columns else "but the file is empty"
        other = next((sign for sign in (";", "\t") if any(sign in name for name in columns)), None)
        separated = f"separate the columns by commas, not by {other!r}"
        renamed = "name one of them in the first line: scan_id for names of scans, patient for those of patients"
        fix = separated if other else renamed
        raise ConfigError(f"the labels need a column scan_id or patient, {found}", where=path, fix=fix)
    if not rows:
        raise ConfigError("the labels have no rows", where=path, fix="add one with the class of each scan")
    return rows, columns, key


def _cells(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    table = csv.reader(path.read_text(encoding="utf-8-sig").splitlines())
    columns = [name.strip() for name in next(table, [])]
    rows = list[dict[str, str]]()
    for cells in table:
        if not cells:  # an empty line
            continue
        if len(cells) != len(columns):
            raise ConfigError(
                f"line {table.line_num} has {count_of(len(cells), 'cell')}, the header {len(columns)}",
                where=path,
                fix="give every row a cell for each column; quote cells that contain a comma",
            )
        rows.append({name: cell.strip() for name, cell in zip(columns, cells, strict=True)})
    return columns, rows


def fold_of(cases: Cases, folds: int, seed: int) -> Int[np.ndarray, " s"]:
    """Assigns every case a fold: by patient, each class dealt out in turn.

    Raises:
        ConfigError: There are fewer than two folds, or a fold would lack a class to train on, or have only one class to
            test; the message says which.
    """
    if folds < 2:
        raise ConfigError("a single fold leaves no case to train on", fix="use --folds 2 or more")
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
            fewer = "use fewer --folds" if folds > 2 else "label more patients of each class"
            fix = f"leave out or add patients to: {', '.join(alone)}" if alone else fewer
            raise ConfigError(f"fold {number} of {folds} has {what}; patients per class: {listed}", fix=fix)
    return fold
