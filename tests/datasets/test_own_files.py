"""What maesil writes next to scans is left out when the folder is read again."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from layout_trees import btcv
from maesil.ct.geometry import Geometry
from maesil.ct.volume import Volume
from maesil.ct.write import MASK, write_nifti
from maesil.datasets import find_scans
from maesil.datasets.checking import not_checked
from maesil.errors import ConfigError
from maesil.screen import prepare_text
from maesil.store.prepare import PrepareReport

VOLUME = Volume(np.zeros((4, 5, 6), dtype=np.int16), Geometry.from_parts((4, 5, 6), (3.0, 1.0, 1.0)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A scan with an expert's labels, and what three commands made of it."""
    home = tmp_path / "set"
    home.mkdir()
    for name in ("a", "a_labels", f"a_old{MASK}"):
        write_nifti(home / f"{name}.nii.gz", VOLUME)
    for name, command in (("a_rebuilt", "reconstruct"), ("a_mask", "reconstruct"), ("a_seg", "predict")):
        write_nifti(home / f"{name}.nii.gz", VOLUME, made_by=command)
    return home


def test_find_scans__leaves_out_what_maesil_wrote(folder: Path) -> None:
    found = find_scans([folder])
    (scan,) = found.scans
    assert (scan.path.name, [path.name for path in scan.labels]) == ("a.nii.gz", ["a_labels.nii.gz"])
    assert (found.labels, found.problems, found.taken_for_labels) == (1, (), ())
    assert [path.name for path in found.outputs] == [
        "a_mask.nii.gz", f"a_old{MASK}.nii.gz", "a_rebuilt.nii.gz", "a_seg.nii.gz",
    ]  # fmt: skip
    assert any(
        f"4 files that maesil wrote are left out: {folder / 'a_mask.nii.gz'}" in line for line in not_checked(found)
    )


def test_find_scans__a_prediction_that_was_corrected_is_no_scan(folder: Path) -> None:
    for name in ("a_seg", "a_rebuilt"):  # the name of the first is that of labels
        image = nibabel.load(folder / f"{name}.nii.gz")
        nibabel.save(
            type(image)(np.asarray(image.dataobj) + np.int16(1), None, image.header), folder / f"{name}.nii.gz"
        )
    found = find_scans([folder])
    assert [scan.path.name for scan in found.scans] == ["a.nii.gz"]
    assert [path.name for path in found.scans[0].labels] == ["a_labels.nii.gz", "a_seg.nii.gz"]
    assert [path.name for path in found.taken_for_labels] == ["a_rebuilt.nii.gz"]


def test_prepare_text__names_what_maesil_wrote() -> None:
    text = prepare_text(PrepareReport(("a",), (), (), labels=0, outputs=("x.nii.gz",)), Path("store"))
    assert "1 file that maesil wrote is left out: x.nii.gz; to read one as a scan" in text


def test_find_scans__reads_a_file_of_maesil_that_is_given_by_name(folder: Path) -> None:
    found = find_scans([folder / "a_rebuilt.nii.gz"])
    assert ([scan.path.name for scan in found.scans], found.outputs) == (["a_rebuilt.nii.gz"], ())


def test_find_scans__leaves_out_what_maesil_wrote_of_several_files(folder: Path) -> None:
    found = find_scans(sorted(folder.iterdir()))
    assert found.scans == find_scans([folder]).scans
    assert (found.outputs, found.labels) == (find_scans([folder]).outputs, 1)
    assert [path.name for path in found.given_labels] == ["a_labels.nii.gz"], "outputs are told once, as outputs"


def test_not_checked__tells_a_given_label_file_without_a_scan_once(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b_labels.nii.gz"):
        write_nifti(tmp_path / name, VOLUME)
    lines = not_checked(find_scans(sorted(tmp_path.iterdir())))
    assert sum("b_labels.nii.gz" in line for line in lines) == 1


def test_find_scans__labels_beside_a_file_are_not_those_that_maesil_wrote(folder: Path) -> None:
    found = find_scans([folder / "a.nii.gz"])
    assert [path.name for path in found.scans[0].labels] == ["a_labels.nii.gz"]
    assert [path.name for path in found.outputs] == ["a_mask.nii.gz", "a_seg.nii.gz"]
    assert (len(found.scans), found.labels, found.taken_for_labels) == (1, 1, ())


def test_find_scans__labels_of_a_reconstruction_belong_to_no_scan(folder: Path) -> None:
    write_nifti(folder / "a_rebuilt_labels.nii.gz", VOLUME)
    assert [path.name for path in find_scans([folder]).taken_for_labels] == ["a_rebuilt_labels.nii.gz"]


def test_find_scans__a_tree_with_files_of_maesil_has_no_problem(tmp_path: Path) -> None:
    btcv(tmp_path)
    write_nifti(tmp_path / "rebuilt.nii.gz", VOLUME, made_by="reconstruct")
    found = find_scans([tmp_path])
    assert found.matched[0].layout == "btcv"
    assert (found.problems, found.outputs) == ((), (tmp_path / "rebuilt.nii.gz",))


def test_find_scans__a_folder_of_nothing_else_holds_no_scan(tmp_path: Path) -> None:
    write_nifti(tmp_path / "rebuilt.nii.gz", VOLUME, made_by="reconstruct")
    with pytest.raises(ConfigError, match="no scan was found") as raised:
        find_scans([tmp_path])
    assert "1 file that maesil wrote is left out" in (raised.value.fix or "")
