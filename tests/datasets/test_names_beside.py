from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from layout_trees import btcv, nifti, totalsegmentator
from maesil.cli import main
from maesil.datasets import find_scans
from maesil.datasets.names_beside import with_names_beside
from maesil.datasets.unify import unify
from maesil.errors import ConfigError
from maesil.store.scanstore import ScanStore

Touch = Callable[..., Path]
NAMES = '{"1": "Liver", "2": "spleen"}'


def names_of(*sources: Path) -> dict[str, dict[int, str]]:
    return {scan.scan_id: dict(scan.label_names) for scan in with_names_beside(find_scans(sources, "set")).scans}


def test_with_names_beside__the_nearest_file_up_to_the_source(touch: Touch, tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a_labels.nii.gz", "b.nii.gz", "in/c.nii.gz", "in/c_seg.nii.gz", "in/deep/d.nii.gz"):
        touch(f"set/{name}")
    touch("set/in/deep/d_seg.nii.gz")
    touch("label_names.json", '{"1": "not of this source"}')
    touch("set/label_names.json", NAMES)
    touch("set/in/deep/label_names.json", '{"1": "aorta"}')
    liver, aorta = {1: "liver", 2: "spleen"}, {1: "aorta"}
    found = with_names_beside(find_scans([tmp_path / "set"]))
    named = {scan.path.name[0]: dict(scan.label_names) for scan in found.scans}
    assert named == {"a": liver, "b": {}, "c": liver, "d": aorta}
    assert found.named_by == (tmp_path / "set/in/deep/label_names.json", tmp_path / "set/label_names.json")


def test_with_names_beside__of_a_scan_that_is_given_as_a_file(touch: Touch) -> None:
    touch("set/a_labels.nii.gz")
    touch("set/label_names.json", NAMES)
    assert names_of(touch("set/a.nii.gz")) == {"set-a": {1: "liver", 2: "spleen"}}


def test_with_names_beside__of_folders_that_are_given_with_it(touch: Touch, tmp_path: Path) -> None:
    """As `archive/*` gives them: the folders of patients, and the file beside these."""
    for patient in ("s1", "s2"):
        touch(f"archive/{patient}/ct.nii.gz")
        touch(f"archive/{patient}/ct_labels.nii.gz")
    names = touch("archive/label_names.json", NAMES)
    found = with_names_beside(find_scans(sorted((tmp_path / "archive").iterdir())))
    assert [dict(scan.label_names) for scan in found.scans] == [{1: "liver", 2: "spleen"}] * 2
    assert (found.named_by, found.problems) == ((names,), ())
    alone = with_names_beside(find_scans([tmp_path / "archive" / "s1"]))
    assert alone.named_by == (), "it is above the source, and was not given"


def test_with_names_beside__a_collections_own_names_and_files_of_a_structure_each_stay(tmp_path: Path) -> None:
    for make in (btcv, totalsegmentator):
        root = tmp_path / make.__name__
        make(root)
        before = find_scans([root])
        (root / "label_names.json").write_text(NAMES)
        assert with_names_beside(before) == before


def test_with_names_beside__names_numbers_that_a_collection_does_not(touch: Touch, tmp_path: Path) -> None:
    described = '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "cord": 2}, "file_ending": ".nii.gz"}'
    touch("Dataset001_X/dataset.json", described)
    touch("Dataset001_X/imagesTr/a_0000.nii.gz")
    touch("Dataset001_X/labelsTr/a.nii.gz")
    touch("Dataset001_X/labelsTr/label_names.json", NAMES)
    (named,) = names_of(tmp_path / "Dataset001_X").values()
    assert named == {1: "liver", 2: "cord"}, "a collection's own names take precedence"
    images = tmp_path / "Dataset001_X" / "imagesTr"
    (tmp_path / "Dataset001_X" / "labelsTr" / "label_names.json").rename(images / "label_names.json")
    (named,) = names_of(images).values()
    assert named == {1: "liver", 2: "cord"}, "in the folder that is given, though the labels are in another"


def test_with_names_beside__a_damaged_file_is_one_error(touch: Touch, tmp_path: Path) -> None:
    touch("set/a.nii.gz")
    damaged = touch("set/label_names.json", '{"1": "liver",\n "2" "spleen"}')
    found = find_scans([tmp_path / "set"])
    assert with_names_beside(found) == found, "no label file is there that it could name"
    touch("set/a_labels.nii.gz")
    with pytest.raises(ConfigError, match=r"not JSON: .*line 2 column 6") as raised:
        with_names_beside(find_scans([tmp_path / "set"]))
    assert str(damaged) in str(raised.value)


def test_unify__lists_the_names_beside_scans(tmp_path: Path) -> None:
    nifti(tmp_path / "set" / "a.nii.gz")
    nifti(tmp_path / "set" / "a_labels.nii.gz")
    beside = tmp_path / "set" / "label_names.json"
    beside.write_text(NAMES)
    unified = unify(tmp_path / "set", out=tmp_path / "list.json")
    assert unified.collections[0].classes == 2
    assert any(str(beside) in notice.reason for notice in unified.notices)
    assert dict(find_scans([tmp_path / "list.json"]).scans[0].label_names) == {1: "liver", 2: "spleen"}
    beside.write_text("[]")
    unified = unify(tmp_path / "set")
    assert [(problem.path, problem.reason) for problem in unified.problems] == [(beside, "this file names no labels")]
    assert len(unified.scans) == 1


def test_unify__a_damaged_file_of_names_spoils_no_other(tmp_path: Path) -> None:
    for name, text in (("a", NAMES), ("b", "{"), ("c", "[]")):
        for file in ("x.nii.gz", "x_labels.nii.gz"):
            nifti(tmp_path / name / file)
        (tmp_path / name / "label_names.json").write_text(text)
    unified = unify([tmp_path / name for name in "abc"])
    named = {scan.path.parent.name: dict(scan.label_names) for scan in unified.scans}
    assert named == {"a": {1: "liver", 2: "spleen"}, "b": {}, "c": {}}
    assert [problem.path for problem in unified.problems] == [tmp_path / name / "label_names.json" for name in "bc"]


def test_with_names_beside__entries_that_name_nothing_are_told(touch: Touch, tmp_path: Path) -> None:
    touch("set/a.nii.gz")
    touch("set/a_labels.nii.gz")
    names = touch(
        "set/label_names.json", '{"0": "background", "1": "liver", "2.5": "x", "3": 7, "4": "\u00e4", "-1": "y"}'
    )
    (notice,) = with_names_beside(find_scans([tmp_path / "set"])).notices
    assert notice.path == names
    assert '"2.5": "x", "3": 7, "4": "\\u00e4", "-1": "y"' in notice.reason


def test_nnunet__entries_that_name_nothing_are_told(touch: Touch, tmp_path: Path) -> None:
    described = '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "cord": 2, "lung": 1.5, "r": [1, 2]}}'
    touch("Dataset001_X/dataset.json", described)
    touch("Dataset001_X/imagesTr/a_0000.nii.gz")
    touch("Dataset001_X/labelsTr/a.nii.gz")
    told = [notice.reason for notice in find_scans([tmp_path / "Dataset001_X"]).notices]
    assert 'it has entries that give no label number a name: "lung": 1.5' in told


@pytest.mark.parametrize("labels", [True, False])
def test_prepare__leaves_out_the_scans_of_a_damaged_file_of_names(
    labels: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of many collections, the others are stored. Without labels, the file does not matter."""
    for name, text in (("a", NAMES), ("b", "{")):
        for file in ("x.nii.gz", "x_labels.nii.gz"):
            nifti(tmp_path / name / file)
        (tmp_path / name / "label_names.json").write_text(text)
    nifti(tmp_path / "b" / "unlabelled.nii.gz")
    words = ["prepare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "store"), "--workers", "0"]
    assert main([*words, "--keep-names", "--accept-any-values", *(["--labels"] if labels else [])]) == labels
    said = " ".join(capsys.readouterr().err.split())
    assert ("1 scan with labels that it names is left out" in said) == labels
    assert (str(tmp_path / "b" / "label_names.json") in said.replace(" ", "")) == labels
    stored = {entry.scan_id for entry in ScanStore(tmp_path / "store").entries}
    assert stored == {"a-x", "b-unlabelled"} | (set() if labels else {"b-x"})
