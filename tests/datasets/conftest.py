"""Scans on disk that are only names and headers: finding reads no voxel."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

Touch = Callable[..., Path]


@pytest.fixture
def touch(tmp_path: Path) -> Touch:
    """Makes a file below the test's folder."""

    def make(name: str, text: str = "") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return make


@pytest.fixture
def dicom_header(tmp_path: Path) -> Touch:
    """Makes a DICOM file without pixels below the test's folder; keywords are its tags."""

    def make(name: str, **tags: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        file = pydicom.Dataset()
        file.file_meta = FileMetaDataset()
        file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = CTImageStorage
        file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        for tag, value in {"Modality": "CT", "SeriesInstanceUID": "1.2.3.4", **tags}.items():
            setattr(file, tag, value)
        file.save_as(path, enforce_file_format=True)
        return path

    return make


@pytest.fixture(scope="session")
def data_dir() -> Path:
    root = Path(os.environ.get("MAESIL_TEST_DATA", Path(__file__).parents[2] / ".." / "shared")) / "ct"
    if not root.is_dir():
        pytest.skip(f"no test data at {root}: set MAESIL_TEST_DATA")
    return root
