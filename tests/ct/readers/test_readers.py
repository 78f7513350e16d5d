from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from maesil.ct.geometry import Geometry
from maesil.ct.readers import read
from maesil.ct.readers.dicom import Dicom
from maesil.ct.readers.options import ReadOptions
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.errors import ConfigError, NoScanError, ScanError

VOLUME = Volume(np.arange(24, dtype=np.int16).reshape(2, 3, 4), Geometry.from_parts((2, 3, 4), (3.0, 2.0, 1.0)))


@pytest.fixture
def dicom_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str | None]]:
    """Replaces what the DICOM reader finds and reads, so that only the choice of the reader is tested here."""
    calls: list[tuple[Path, str | None]] = []

    def files(self: Dicom, path: Path, series: str | None = None) -> tuple[Path, ...]:
        calls.append((path, series))
        return (path,)

    def read_dicom(self: Dicom, files: Sequence[Path], options: ReadOptions) -> Volume:
        return VOLUME

    monkeypatch.setattr(Dicom, "files", files)
    monkeypatch.setattr(Dicom, "read", read_dicom)
    return calls


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz", "V.NII.GZ"])
def test_read__nifti_by_name(tmp_path: Path, name: str) -> None:
    write_nifti(tmp_path / name, VOLUME)
    np.testing.assert_array_equal(read(str(tmp_path / name)).array, VOLUME.array)


@pytest.mark.parametrize("name", ["v.nrrd", "v.nhdr", "v.mha", "v.mhd"])
def test_read__itk_by_name(tmp_path: Path, name: str) -> None:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOLUME.array), str(tmp_path / name))
    np.testing.assert_array_equal(read(tmp_path / name).array, VOLUME.array)


def test_read__dicom_by_folder_ending_or_magic(tmp_path: Path, dicom_calls: list[tuple[Path, str | None]]) -> None:
    old, nameless = tmp_path / "old.DCM", tmp_path / "IM0001"
    old.write_bytes(b"no preamble")
    nameless.write_bytes(bytes(128) + b"DICM" + bytes(10))
    for path in (tmp_path, old, nameless):
        assert read(path, series="3") is VOLUME
    assert dicom_calls == [(tmp_path, "3"), (old, "3"), (nameless, "3")]


def test_read__refuses_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a scan")
    with pytest.raises(ScanError, match=r"NIfTI .*NRRD .*MetaImage .*DICOM"):
        read(path)


@pytest.mark.parametrize("name", ["absent.nii.gz", "absent"])
def test_read__refuses_what_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(NoScanError, match="no such file") as caught:
        read(tmp_path / name)
    assert caught.value.where == str(tmp_path / name)


def test_read__refuses_a_series_of_nifti(tmp_path: Path) -> None:
    write_nifti(tmp_path / "v.nii", VOLUME)
    with pytest.raises(ConfigError, match="NIfTI has no series"):
        read(tmp_path / "v.nii", series="1")
