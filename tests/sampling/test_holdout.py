"""Which patients of a store are held out, where some are copies of others."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from maesil.datasets.splits import SplitConfig
from maesil.sampling.config import HoldoutConfig
from maesil.sampling.holdout import scan_splits
from maesil.screen import prepare_text
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanStore


@pytest.fixture
def copied(scans: Path, tmp_path: Path) -> Path:
    """A store of the scans a to d, in which e and f are copies of a, and g is a copy of d."""
    folder = tmp_path / "scans"
    shutil.copytree(scans, folder)
    for name, copy in (("a", "e"), ("a", "f"), ("d", "g")):
        shutil.copy(folder / f"{name}.nii.gz", folder / f"{copy}.nii.gz")
    report = prepare([folder], tmp_path / "store", PrepareConfig(spacing_mm=4.0), workers=0)
    assert report.copies == (("scans-a", "scans-e", "scans-f"), ("scans-d", "scans-g"))
    assert "3 scans have the same bytes: scans-a, scans-e, scans-f; remove" in prepare_text(report, tmp_path)
    return tmp_path / "store"


def splits_of(store: Path, holdout: HoldoutConfig) -> dict[str, str]:
    opened = ScanStore(store)
    splits = scan_splits(opened, holdout)
    return {entry.patient: splits[entry.scan_id] for entry in opened.entries}


def test_scan_splits__copies_of_a_scan_are_in_one_split(copied: Path) -> None:
    for seed in range(20):
        splits = splits_of(copied, HoldoutConfig(patients=SplitConfig(seed=seed)))
        assert splits["a"] == splits["e"] == splits["f"]
        assert splits["d"] == splits["g"]
        assert set(splits.values()) == {"train", "val", "test"}


def test_scan_splits__copies_follow_the_one_that_has_its_split(copied: Path) -> None:
    holdout = HoldoutConfig(patients=SplitConfig(overrides={"e": "test"}))
    splits = splits_of(copied, holdout)
    assert splits["a"] == splits["e"] == splits["f"] == "test"
    apart = splits_of(copied, replace(holdout, patients=SplitConfig(overrides={"e": "test", "a": "train"})))
    assert (apart["a"], apart["e"]) == ("train", "test"), "a choice of the user stays"
