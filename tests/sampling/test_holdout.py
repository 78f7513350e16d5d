"""Which patients of a store are held out, where some are copies of others."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import pytest

from maesil.datasets.splits import SplitConfig
from maesil.sampling.config import HoldoutConfig
from maesil.sampling.holdout import scan_splits
from maesil.sampling.regions import split_warnings
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
    copies = ", ".join(f"scans-{name} ({folder / name}.nii.gz)" for name in "aef")
    assert f"3 scans have the same bytes: {copies}; remove" in prepare_text(report, tmp_path)
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


@pytest.fixture
def two_sets(scans: Path, tmp_path: Path) -> Path:
    """A store of two datasets with the same names of patients, a to d."""
    for name in ("first", "second"):
        folder = tmp_path / name
        shutil.copytree(scans, folder)
        if name == "second":
            for path in folder.glob("*.nii.gz"):
                image = nibabel.load(path)
                nibabel.save(nibabel.Nifti1Image(image.dataobj[:] + 1, image.affine), path)
    config = PrepareConfig(spacing_mm=4.0)
    report = prepare([tmp_path / "first", tmp_path / "second"], tmp_path / "store", config, workers=0)
    assert report.namesakes == tuple((name, {"first": f"first-{name}", "second": f"second-{name}"}) for name in "abcd")
    files = [f"{each}: {each}-a ({tmp_path / each / 'a.nii.gz'})" for each in ("first", "second")]
    assert f"count as one: a ({'; '.join(files)}), b (" in prepare_text(report, tmp_path / "store")
    return tmp_path / "store"


def test_scan_splits__scans_of_a_patient_follow_the_one_that_has_its_split(two_sets: Path) -> None:
    """Whoever is trained on in one dataset is not tested on in another."""
    store = ScanStore(two_sets)
    for seed in range(20):
        holdout = HoldoutConfig(train_only=("second",), patients=SplitConfig(seed=seed))
        assert set(scan_splits(store, holdout).values()) == {"train"}
        assert not any("several splits" in line for line in split_warnings(store, holdout))


def test_split_warnings__of_a_patient_in_several_splits(two_sets: Path) -> None:
    manifest = json.loads((two_sets / "manifest.json").read_text())
    for row in manifest["scans"]:
        if row["patient"] == "a":
            row["split"] = "train" if row["dataset"] == "first" else "test"
    (two_sets / "manifest.json").write_text(json.dumps(manifest))
    (warning,) = (line for line in split_warnings(ScanStore(two_sets), HoldoutConfig()) if "several" in line)
    assert warning.startswith("scans of a are in several splits")


def test_scan_splits__copies_follow_the_one_that_has_its_split(copied: Path) -> None:
    holdout = HoldoutConfig(patients=SplitConfig(overrides={"e": "test"}))
    splits = splits_of(copied, holdout)
    assert splits["a"] == splits["e"] == splits["f"] == "test"
    apart = splits_of(copied, replace(holdout, patients=SplitConfig(overrides={"e": "test", "a": "train"})))
    assert (apart["a"], apart["e"]) == ("train", "test"), "a choice of the user stays"
