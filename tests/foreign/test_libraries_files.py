"""The files that pydicom and nibabel test themselves with: every one of them is a scan, or is refused with a reason."""

from __future__ import annotations

import contextlib
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from maesil.ct.readers import read
from maesil.ct.readers.nifti import Nifti
from maesil.datasets.unify import unify
from maesil.errors import MaesilError, ScanError
from maesil.store.prepare import PrepareConfig, prepare

FOLDERS = {
    "pydicom": Path(pydicom.__file__).parent / "data" / "test_files",
    "nibabel": Path(nibabel.__file__).parent / "tests" / "data",
}


def _folder(name: str) -> Path:
    folder = FOLDERS[name]
    if not folder.is_dir():
        pytest.skip(f"this build of {name} has no test files")
    return folder


@pytest.mark.parametrize("name", FOLDERS)
def test_prepare__the_files_of_a_library(name: str, tmp_path: Path) -> None:
    config = PrepareConfig(policy="native", salt="test")
    report = prepare([_folder(name)], tmp_path / "store", config, workers=0)
    reasons = [row.reason for row in report.quarantined]
    assert reasons
    assert not [reason for reason in reasons if "unexpected" in reason]
    assert all(row.fix for row in report.quarantined)
    assert "please report" not in "".join(row.fix for row in report.quarantined)


@pytest.mark.parametrize("name", FOLDERS)
def test_datasets__the_files_of_a_library(name: str) -> None:
    unified = unify([_folder(name)])
    assert unified.problems
    assert all(problem.reason for problem in unified.problems)


@pytest.mark.filterwarnings("ignore")
def test_read__the_volumes_of_nibabel_are_nibabels() -> None:
    compared = 0
    for path in sorted(path for path in _folder("nibabel").iterdir() if Nifti().takes(path)):
        try:
            ours = read(path)
        except ScanError:
            continue
        theirs = np.asanyarray(nibabel.load(path).dataobj).reshape(ours.shape[::-1])
        np.testing.assert_allclose(ours.array, theirs.transpose(2, 1, 0), rtol=1e-5)
        compared += 1
    assert compared >= 1


@pytest.mark.filterwarnings("ignore")
def test_read__every_file_of_pydicom_is_read_or_refused() -> None:
    for path in sorted(path for path in _folder("pydicom").rglob("*") if path.is_file()):
        with contextlib.suppress(MaesilError):  # every other exception fails
            read(path)
