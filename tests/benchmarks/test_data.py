"""The benchmark of the data path runs, on a small scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.data import main
from maesil.ct.geometry import Geometry
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    voxels = np.random.default_rng(0).integers(-1000, 1000, (40, 48, 44)).astype(np.int16)
    write_nifti(tmp_path / "scan.nii.gz", Volume(voxels, Geometry.from_parts(voxels.shape, (2.0, 2.0, 2.0))))
    return tmp_path / "scan.nii.gz"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_data__every_reader_takes_turns_another_checkouts_too(scan: Path) -> None:
    words = ["--parts", "superpatch,layout,loader,memory", "--edge", "16", "--rounds", "1", "--draws", "40"]
    report = main([*words, "--scan", str(scan)])
    timed = {row.name: row.seconds for row in report.rows if row.seconds}
    ours = {"maesil", "maesil, resident", "maesil, 8 in flight, all cores", "compressed", "resident"}
    assert ours | {"MONAI, NIfTI.gz", "zarr-python, lz4", "raw memory map"} <= timed.keys()
    assert all(seconds > 0 for seconds in timed.values())
    raced = main(["--parts", "superpatch", "--edge", "16", "--rounds", "1", "--scan", str(scan), "--before", str(ROOT)])
    assert {"the other version, read", "the other version, resident"} <= {row.name for row in raced.rows}
