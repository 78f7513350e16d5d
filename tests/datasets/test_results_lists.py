"""The lists of scans from which the stores for the results are made."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from maesil.datasets.manifest import read_manifest

LISTS = Path(__file__).parents[2] / "results" / "lists.py"


@pytest.fixture
def lists(data_dir: Path, tmp_path: Path) -> Path:
    out = tmp_path / "lists"
    subprocess.run([sys.executable, LISTS, data_dir, "--out", out], check=True, capture_output=True)
    return out


def test_lists__sarcoma_has_the_limbs_with_their_tumours_in_the_splits_of_the_2_mm_list(lists: Path) -> None:
    limbs = read_manifest(lists / "sarcoma.json")
    assert Counter(scan.split for scan in limbs) == {"train": 14, "val": 5, "test": 16}
    assert [path.name for scan in limbs for path in scan.labels] == [f"{scan.scan_id}_tumour.nii.gz" for scan in limbs]
    splits = {scan.scan_id: scan.split for scan in read_manifest(lists / "2mm.json")}
    assert all(splits[scan.scan_id] == scan.split for scan in limbs)


def test_lists__no_patient_is_in_two_splits(lists: Path) -> None:
    for name in ("2mm", "4mm", "sarcoma"):
        scans = read_manifest(lists / f"{name}.json")
        splits = {(scan.patient, scan.split) for scan in scans}
        assert len(splits) == len({scan.patient for scan in scans})
