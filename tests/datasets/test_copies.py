"""Scans with the same bytes, under whatever names."""

from __future__ import annotations

from pathlib import Path

import pytest

from maesil import pipeline
from maesil.datasets import SplitConfig, find_scans
from maesil.datasets.copies import GLANCE_BYTES, copies_among, same_patients
from maesil.datasets.overview import rows_of
from maesil.sampling.config import HoldoutConfig
from maesil.sampling.holdout import scan_splits
from maesil.store.prepare import PrepareConfig
from maesil.store.scanstore import ScanStore


def test_copies_among__same_bytes_whatever_the_name(tmp_path: Path) -> None:
    long = bytes(3 * GLANCE_BYTES)
    contents = {"a": b"one", "b": b"two", "c": b"one", "d": b"three", "e": long, "f": long[:-1] + b"1", "g": long}
    for name, content in contents.items():
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / f"{name}.nii").write_bytes(content)
    found = copies_among(find_scans([tmp_path / "set"]).scans)
    assert [[scan.patient for scan in group] for group in found] == [["a", "c"], ["e", "g"]]


def test_copies_among__what_is_gone_is_no_copy(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.nii").write_bytes(b"one")
    scans = find_scans([tmp_path]).scans
    (tmp_path / "a.nii").unlink()
    assert copies_among(scans) == ()


def test_same_patients__joins_through_a_third() -> None:
    sources = [("x", "1"), ("z", "2"), ("y", "1"), ("y", "2"), ("w", "3")]
    assert same_patients(sources) == {"x": "x", "y": "x", "z": "x", "w": "w"}


def test_unify__a_patient_in_two_collections_counts_once_in_the_total(scans: Path, tmp_path: Path) -> None:
    for folder, names in (("one", "ab"), ("two", "bd")):
        (tmp_path / folder).mkdir()
        for name in names:
            copy = tmp_path / folder / f"{folder}{name}.nii.gz"
            copy.write_bytes((scans / f"{name}.nii.gz").read_bytes())
    unified = pipeline.datasets([tmp_path / "one", tmp_path / "two"])
    assert [row.patients for row in unified.collections] == [2, 2]
    assert unified.patients == 3
    assert rows_of(unified.collections, unified.patients)[-1][3:5] == ("4", "3")


@pytest.mark.parametrize("seed", range(4))
def test_unify__copies_are_told_and_in_one_split_as_in_training(scans: Path, tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for name, copy in (("a", "p"), ("a", "q"), ("b", "r"), ("d", "s")):
        (folder / f"{copy}.nii.gz").write_bytes((scans / f"{name}.nii.gz").read_bytes())
    splits = SplitConfig(seed=seed)
    unified = pipeline.datasets([folder], splits=splits, out=tmp_path / "list.json")
    told = ", ".join(f"set-{copy} ({folder / copy}.nii.gz)" for copy in "pq")
    assert [n.reason for n in unified.notices] == [f"2 scans have the same bytes: {told}"]
    assert sum(row.patients for row in unified.collections) == len({scan.patient for scan in unified.scans}) - 1
    listed = {scan.patient: scan.split for scan in unified.scans}
    assert listed["p"] == listed["q"]
    pipeline.prepare([folder], tmp_path / "store", PrepareConfig(spacing_mm=4.0), workers=0)
    store = ScanStore(tmp_path / "store")
    drawn = scan_splits(store, HoldoutConfig(patients=splits))
    assert {entry.patient: drawn[entry.scan_id] for entry in store.entries} == listed
