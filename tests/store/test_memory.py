"""Memory per worker stays under 4 times the int16 size of the volume being read, at a real scan's size.

Of formats that are read whole (NRRD, compressed MetaImage) it is one volume in the file's own type more.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from dicom_slices import write_slice

SCRIPT = Path(__file__).with_name("memory_script.py")
SHAPE = (133, 512, 512)
SPACING = (2.5, 0.703, 0.703)
INT16_BYTES = 2 * int(np.prod(SHAPE))


def voxels(shape: tuple[int, int, int]) -> np.ndarray:
    plane = np.random.default_rng(0).integers(-1024, 1500, shape[1:]).astype(np.int16)
    return np.stack([np.roll(plane, shift, 0) for shift in range(shape[0])])


def write_nifti(path: Path, hu: np.ndarray) -> None:
    image = nibabel.Nifti1Image(hu.transpose(2, 1, 0), np.diag([*SPACING[::-1], 1.0]))
    image.header.set_xyzt_units("mm")
    data = image.to_bytes()
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)


def write_labelled(path: Path, hu: np.ndarray) -> None:
    write_nifti(path, hu)
    write_nifti(path.with_name("scan_labels.nii"), (hu > 0).astype(np.int16))


def write_itk(path: Path, hu: np.ndarray) -> None:
    image = SimpleITK.GetImageFromArray(hu)
    image.SetSpacing(SPACING[::-1])
    SimpleITK.WriteImage(image, str(path))


def write_series(path: Path, hu: np.ndarray) -> None:
    path.mkdir()
    for index, plane in enumerate(hu):
        write_slice(path / f"{index}.dcm", plane, index, {"SeriesInstanceUID": "1.2.3", "StudyInstanceUID": "1.2"})


def of_type(write: Callable[[Path, np.ndarray], None], change: Callable[[np.ndarray], np.ndarray]) -> Callable:  # type: ignore[type-arg]
    return lambda path, hu: write(path, change(hu))


FORMATS = {
    "nii": ("scan.nii", write_nifti, "spacing", 4),
    "nii-native": ("scan.nii", write_nifti, "native", 4),
    "nii-cube": ("scan.nii", write_nifti, "cube", 4),
    "nii-labels": ("scan.nii", write_labelled, "native", 4),
    "nii.gz": ("scan.nii.gz", write_nifti, "spacing", 4),
    "mha-float64": ("scan.mha", of_type(write_itk, lambda hu: hu + np.float64(0.25)), "spacing", 4),
    "nrrd-float64": ("scan.nrrd", of_type(write_itk, lambda hu: hu.astype(np.float64)), "spacing", 6),
    "dicom": ("series", write_series, "spacing", 4),
}
"""File name, its writer, policy, and the most memory, in int16 sizes; NRRD has four of them in float64 alone."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs getrusage")
@pytest.mark.parametrize("kind", list(FORMATS))
def test_prepare__memory_stays_under_four_times_the_volume(tmp_path: Path, kind: str) -> None:
    name, write, policy, most = FORMATS[kind]
    paths = []
    for size, shape in (("small", (40, 64, 64)), ("large", SHAPE)):
        (tmp_path / size).mkdir()
        paths.append(tmp_path / size)
        write(paths[-1] / name, voxels(shape))
    words = [sys.executable, str(SCRIPT), *map(str, paths), str(tmp_path / "store"), policy]
    done = subprocess.run(words, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    risen = json.loads((tmp_path / "store" / "peak.json").read_text())
    assert risen < most * INT16_BYTES, f"{risen / INT16_BYTES:.2f} times the volume as int16"
    assert risen > 0.5 * INT16_BYTES  # else nothing was measured
    print(f"{kind}: {risen / INT16_BYTES:.2f} times the volume as int16")  # noqa: T201
