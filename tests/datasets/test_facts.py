"""Files that are shorter than their headers say, in every format that tells its length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from layout_trees import nifti, slice_file
from maesil.ct.readers.base import Facts
from maesil.datasets import find_scans
from maesil.datasets.facts import facts_of_all
from maesil.errors import ScanError


def looked(root: Path) -> list[Facts | str]:
    return [
        found.what if isinstance(found, ScanError) else found
        for found in facts_of_all(find_scans([root], salt="s").scans)
    ]


def image(path: Path, *, compressed: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(0).integers(-1000, 1000, (7, 6, 5)).astype(np.int16)
    made = SimpleITK.GetImageFromArray(voxels)
    made.SetSpacing((10.0, 10.0, 10.0))
    SimpleITK.WriteImage(made, str(path), useCompression=compressed)
    return path


def cut(path: Path, count: int = 1) -> None:
    path.write_bytes(path.read_bytes()[:-count])


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr", ".nii"])
def test_facts_of__a_raw_file_that_lacks_a_byte_is_cut_short(tmp_path: Path, ending: str) -> None:
    path = image(tmp_path / "set" / f"a{ending}")
    (whole,) = looked(tmp_path / "set")
    assert isinstance(whole, Facts)
    assert whole.shape == (5, 6, 7)
    detached = ending in (".mhd", ".nhdr")
    cut(path.with_suffix(".raw") if detached else path)
    (what,) = looked(tmp_path / "set")
    assert str(what).startswith(f"{'a data file of it' if detached else 'the file'} is cut short")


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_facts_of__a_header_without_its_data_is_told(tmp_path: Path, ending: str) -> None:
    image(tmp_path / "set" / f"a{ending}")
    (tmp_path / "set" / "a.raw").unlink()
    assert looked(tmp_path / "set") == ["a data file that its header names is missing"]


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_facts_of__compressed_files_are_shorter_than_their_voxels(tmp_path: Path, ending: str) -> None:
    image(tmp_path / "set" / f"a{ending}", compressed=True)
    assert isinstance(looked(tmp_path / "set")[0], Facts)


def test_facts_of__every_one_of_several_data_files_is_looked_for(tmp_path: Path) -> None:
    header = image(tmp_path / "set" / "a.mhd")
    voxels = (tmp_path / "set" / "a.raw").read_bytes()
    header.write_text(header.read_text().replace("a.raw", "a%03d.raw 1 7 1"))
    for number in range(7):
        (tmp_path / "set" / f"a{number + 1:03d}.raw").write_bytes(voxels[number * 60 : (number + 1) * 60])
    assert isinstance(looked(tmp_path / "set")[0], Facts)
    (tmp_path / "set" / "a004.raw").unlink()
    assert looked(tmp_path / "set") == ["a data file that its header names is missing"]


def test_facts_of__a_series_says_how_many_of_its_files_are_cut_short(tmp_path: Path) -> None:
    for index in range(3):
        slice_file(tmp_path / "set" / "p" / "q" / "r" / f"{index}.dcm", "1.2.3", index)
    assert isinstance(looked(tmp_path / "set")[0], Facts)
    cut(tmp_path / "set" / "p" / "q" / "r" / "1.dcm")
    assert looked(tmp_path / "set") == ["1 of its 3 files is cut short"]


def test_facts_of__an_empty_file_is_told(tmp_path: Path) -> None:
    nifti(tmp_path / "set" / "a.nii.gz")
    (tmp_path / "set" / "b.nii.gz").touch()
    first, second = looked(tmp_path / "set")
    assert isinstance(first, Facts)
    assert "the file is damaged" in str(second)
