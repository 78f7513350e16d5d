"""Memory per worker stays under 4 times the volume being read, at a real scan's size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("memory_script.py")
SHAPE = (512, 512, 133)
SPACING = (0.703, 0.703, 2.5)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large") / "set"
    folder.mkdir()
    affine = np.diag([*SPACING, 1.0])
    random = np.random.default_rng(0)
    plane = random.integers(-1024, 1500, (512, 512)).astype(np.int16)
    large = np.asfortranarray(np.stack([np.roll(plane, shift, 0) for shift in range(SHAPE[2])], axis=-1))
    nibabel.save(nibabel.Nifti1Image(large, affine), folder / "large.nii")
    nibabel.save(nibabel.Nifti1Image(large[:64, :64, :40], affine), folder / "small.nii")
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs getrusage")
@pytest.mark.parametrize("policy", ["spacing", "native", "cube"])
def test_prepare__memory_stays_under_four_times_the_volume(scans: Path, tmp_path: Path, policy: str) -> None:
    words = [sys.executable, str(SCRIPT), str(scans), str(tmp_path / "store"), policy]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    risen = json.loads((tmp_path / "store" / "peak.json").read_text())
    volume = 2 * np.prod(SHAPE)
    assert risen < 4 * volume, f"{risen / volume:.2f} times the volume"
    assert risen > 0.5 * volume  # else nothing was measured
    print(f"{policy}: {risen / volume:.2f} times the volume")  # noqa: T201
