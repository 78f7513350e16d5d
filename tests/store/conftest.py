"""Small scans on disk, and a store's bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dicom_slices import write_slice
from maesil.ct.geometry import Geometry
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.shapes import Shape3

SECRETS = {
    "PatientID": "ID-77123-X",
    "PatientName": "Doe^Jane",
    "PatientBirthDate": "19520607",
    "StudyDate": "20190823",
    "SeriesDate": "20190824",
    "AccessionNumber": "ACC889977",
    "InstitutionName": "Saint Elsewhere",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.111",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.222",
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.333",
}
"""Header fields of the series that `write_series` writes."""


def texture(seed: int, shape: Shape3) -> np.ndarray:
    """A block of soft tissue with structure, in air; int16 HU."""
    random = np.random.default_rng(seed)
    hu = np.full(shape, -1000.0)
    inner = tuple(slice(size // 5, -(size // 5)) for size in shape)
    hu[inner] = 40 + 60 * np.sin(np.linspace(0, 9, hu[inner].shape[0]))[:, None, None]
    return (hu + random.normal(0, 12, shape)).clip(-1024, None).astype(np.int16)


def write_scan_file(
    path: Path, seed: int = 0, shape: Shape3 = (40, 48, 44), spacing: tuple[float, float, float] = (2.0, 2.0, 2.0)
) -> Volume:
    volume = Volume(texture(seed, shape), Geometry.from_parts(shape, spacing, (10.0, -20.0, 30.5)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, volume)
    return volume


@pytest.fixture
def make_scan(tmp_path: Path) -> Callable[..., Volume]:
    """Writes a scan below the test's folder."""
    return lambda name, *args, **options: write_scan_file(tmp_path / name, *args, **options)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder "set" of three sound scans, a, b and c."""
    for seed, name in enumerate("abc"):
        write_scan_file(tmp_path / "set" / f"{name}.nii.gz", seed)
    return tmp_path / "set"


@pytest.fixture
def hashes() -> Callable[[Path], dict[str, str]]:
    """sha256 of every file below a folder."""

    def hash_all(store: Path) -> dict[str, str]:
        files = sorted(path for path in store.rglob("*") if path.is_file())
        return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return hash_all


@pytest.fixture
def write_series(tmp_path: Path) -> Callable[..., Path]:
    """Writes a CT series of 8 slices, full of what must not be told, below the test's folder."""

    def write(folder: str, skip: tuple[int, ...] = (), **tags: str) -> Path:
        path = tmp_path / folder
        path.mkdir(parents=True, exist_ok=True)
        voxels = texture(3, (8, 24, 20)).astype(np.int16)
        for index in range(8):
            if index not in skip:
                write_slice(path / f"{index}.dcm", voxels[index], index, {**SECRETS, **tags})
        return path

    return write


@pytest.fixture
def secrets() -> dict[str, str]:
    return dict(SECRETS)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    root = Path(os.environ.get("MAESIL_TEST_DATA", Path(__file__).parents[2] / ".." / "shared")) / "ct"
    if not root.is_dir():
        pytest.skip(f"no test data at {root}: set MAESIL_TEST_DATA")
    return root
