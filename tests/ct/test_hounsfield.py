"""Other modalities, labels and missing offsets are told from CT by the range of their values."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from maesil.ct.hounsfield import unlike_hounsfield
from maesil.ct.readers import read

RANDOM = np.random.default_rng(0)
TISSUE = RANDOM.normal(35, 12, (20, 20, 20))
"""The inside of a head: no air, no fat, but noise around water."""
TISSUE[:5] -= 30


@pytest.mark.parametrize(
    ("array", "seen"),
    [
        (np.full((4, 4, 4), 7, np.int16), "every voxel is 7"),
        (RANDOM.uniform(0, 1, (9, 9, 9)).astype(np.float32), "no voxel is below 0 HU; the values run from 0"),
        (RANDOM.uniform(-1, 1, (9, 9, 9)).astype(np.float32), "all values lie within 100 HU of each other"),
        (RANDOM.integers(0, 1500, (9, 9, 9)).astype(np.int16), "no voxel is below 0 HU"),
        (TISSUE.astype(np.int16) + 1024, "no voxel is below 0 HU"),
        (np.where(np.arange(100) < 75, 0, 5).astype(np.uint8), r"from 0 \(75.0% of voxels\) to 5 \(25.0% of voxels\)"),
    ],
)
def test_unlike_hounsfield__says_what_was_seen(array: np.ndarray, seen: str) -> None:
    said = unlike_hounsfield(array)
    assert said is not None
    assert re.search(seen, said)


@pytest.mark.parametrize(
    "array",
    [
        TISSUE,
        TISSUE.clip(-100, 100).astype(np.int16),
        np.array([-32768, 32767], np.int16),
        np.array([-1024, 40], np.int16),
    ],
)
def test_unlike_hounsfield__passes_ct(array: np.ndarray) -> None:
    assert unlike_hounsfield(array) is None


def test_unlike_hounsfield__passes_real_ct() -> None:
    root = Path(os.environ.get("MAESIL_TEST_DATA", Path(__file__).parents[2] / ".." / "shared")) / "ct"
    if not root.is_dir():
        pytest.skip(f"no test data at {root}: set MAESIL_TEST_DATA")
    files = [*(root / "corpus2mm").glob("*[0-9a-z].nii.gz"), *sorted((root / "openkbp").glob("*[0-9].nii.gz"))[::10]]
    scans = [path for path in files if "labels" not in path.name]
    assert len(scans) > 20
    for path in scans:
        assert unlike_hounsfield(read(path).array) is None, path
    labels = sorted((root / "corpus2mm").glob("*_labels.nii.gz"))
    assert all(unlike_hounsfield(read(path).array) is not None for path in labels)
