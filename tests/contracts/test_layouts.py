"""Every layout of a collection keeps the promises of `maesil.datasets.layout.Layout`."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from layout_trees import btcv, folder, lidc, nifti, nnunet, slice_file, totalsegmentator
from maesil.ct.readers.base import Facts
from maesil.datasets import find_scans
from maesil.datasets.facts import facts_of
from maesil.datasets.labels import image_files
from maesil.datasets.layouts import LAYOUTS, matching_layout
from maesil.datasets.naming import Naming
from maesil.datasets.scan import FoundScans

TREES: dict[str, Callable[[Path], int]] = {
    "btcv": btcv, "lidc": lidc, "totalsegmentator": totalsegmentator, "nnunet": nnunet, "folder": folder,
}  # fmt: skip
every_layout = pytest.mark.parametrize("name", LAYOUTS)


@pytest.fixture
def tree(name: str, tmp_path: Path) -> Path:
    root = tmp_path / "Collection"
    root.mkdir()
    TREES[name](root)
    return root


@every_layout
def test_match__takes_its_own_tree_and_says_why(name: str, tree: Path) -> None:
    kind, because = matching_layout(tree)
    assert kind.name == name
    assert len(because) > 10
    assert [match.layout for match in find_scans([tree], salt="s").matched] == [name]


@every_layout
def test_match__is_not_taken_by_other_trees(name: str, tmp_path: Path) -> None:
    for other, make in TREES.items():
        root = tmp_path / other
        root.mkdir()
        make(root)
        if other != name:  # a plain folder takes whatever is there, after all others
            assert (LAYOUTS[name].match(root) is None) == (name != "folder")


@every_layout
def test_match__never_raises(name: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    file = tmp_path / "file.json"
    file.write_text("no json")
    for path in (empty, file, tmp_path / "nowhere"):
        because = LAYOUTS[name].match(path)
        assert (because is None) == (name != "folder" or not path.exists())


@every_layout
def test_find__every_case_once_with_names_that_stay(name: str, tree: Path, tmp_path: Path) -> None:
    again = tmp_path / "Again"
    again.mkdir()
    count = TREES[name](again)
    scans = find_scans([tree], salt="s").scans
    assert len(scans) == count
    assert len({scan.scan_id.lower() for scan in scans}) == count
    assert find_scans([tree], salt="s").scans == scans
    for scan in scans:
        assert str(tree) not in scan.shown
        assert scan.files
        assert all(file.is_file() for file in (*scan.files, *scan.labels))


@every_layout
def test_find__a_file_or_folder_of_the_tree_has_the_labels_that_the_tree_gives_it(name: str, tree: Path) -> None:
    for scan in find_scans([tree], salt="s").scans:
        wanted = (image_files(scan.labels), scan.label_names)
        for source in (scan.path, scan.path.parent):
            found = find_scans([source], salt="s")
            (alone,) = [one for one in found.scans if one.path == scan.path]
            assert (image_files(alone.labels), alone.label_names) == wanted
            assert (found.labels, found.taken_for_labels) == (sum(len(one.labels) for one in found.scans), ())


@every_layout
def test_find__pipes_beside_the_files_are_never_opened(name: str, tree: Path) -> None:
    before = find_scans([tree], salt="s")
    for path in sorted(path for path in tree.rglob("*") if path.is_file()):
        digits = re.sub(r"\d(?=\D*$)", "9", path.name)
        pipe = path.with_name(digits if digits != path.name else f"other{''.join(path.suffixes)}")
        if not pipe.exists():
            os.mkfifo(pipe)
    assert len([path for path in tree.rglob("*") if path.is_fifo()]) >= 2
    found = find_scans([tree], salt="s")
    assert (found.scans, found.problems) == (before.scans, before.problems)


@every_layout
def test_find__what_is_no_part_of_the_tree_is_told(name: str, tree: Path) -> None:
    whole = find_scans([tree], salt="s")
    assert not strangers(whole)
    nifti(tree / "loose.nii.gz")
    nifti(tree / "patient7" / "ct.nii.gz")
    nifti(tree / "patient7" / "ct_labels.nii.gz")
    slice_file(tree / "Smith" / "study" / "1.9.9" / "1-001.dcm", "1.9.9", 0)
    found = find_scans([tree], salt="s")
    if name == "folder":
        assert len(found.scans) == len(whole.scans) + 3
        return
    assert found.scans == whole.scans
    reason = f"3 files that may be scans are not part of this {name} tree: loose.nii.gz, patient7/ct.nii.gz and 1 more"
    assert strangers(found) == [reason]
    assert "loose" not in strangers(find_scans([tree], salt="s", hash_names=True))[0]


@every_layout
def test_find__collections_beside_each_other_are_not_taken_for_one(name: str, tmp_path: Path) -> None:
    """A folder above them is taken for one layout, and the files of the others are told."""
    for other, make in TREES.items():
        (tmp_path / other).mkdir()
        make(tmp_path / other)
    TREES[name](tmp_path)
    found = find_scans([tmp_path], salt="s")
    (match,) = found.matched
    assert match.layout == name
    assert bool(strangers(found)) == (name != "folder")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("btcv", "RawData/Training/img/case7.nii.gz"),
        ("totalsegmentator", "extra.nii.gz"),
        ("totalsegmentator", "s0000/other.nii.gz"),
        ("nnunet", "imagesTr/case.nii.gz"),
        ("lidc", "LIDC-IDRI/notes/a.mha"),
        ("lidc", "BTCV/RawData/Training/img/img0001.nii.gz"),
    ],
)
def test_find__one_stranger_is_told_by_its_name(name: str, place: str, tree: Path) -> None:
    (tree / place).parent.mkdir(parents=True, exist_ok=True)
    (tree / place).touch()
    assert strangers(find_scans([tree], salt="s")) == [
        f"1 file that may be a scan is not part of this {name} tree: {place}"
    ]


def strangers(found: FoundScans) -> list[str]:
    return [problem.reason for problem in found.problems if "not part of" in problem.reason]


@every_layout
def test_find__takes_another_name_and_hashes(name: str, tree: Path) -> None:
    assert {scan.dataset for scan in find_scans([tree], dataset="mine", salt="s").scans} == {"mine"}
    hashed = find_scans([tree], salt="s", hash_names=True).scans
    assert all(scan.hashed for scan in hashed)
    plain = {scan.patient for scan in find_scans([tree], salt="s").scans}
    assert not plain & {scan.patient for scan in hashed}


@every_layout
def test_facts__of_every_scan(name: str, tree: Path) -> None:
    for scan in find_scans([tree], salt="s").scans:
        facts = facts_of(scan)
        assert isinstance(facts, Facts)
        assert facts.slices == (3 if name == "lidc" else 4)
        assert facts.slice_mm == pytest.approx(2.0 if name == "lidc" else 3.0)


@every_layout
def test_documentation__says_how_the_tree_looks(name: str) -> None:
    text = inspect.getdoc(sys.modules[type(LAYOUTS[name]).__module__]) or ""
    assert "Tree" in text
    if LAYOUTS[name].dataset is not None:
        assert "Get it:" in text
        assert "Known faults:" in text
    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert f"`{name}`" in page


def test_find__of_a_layout_is_what_naming_says(tmp_path: Path) -> None:
    btcv(tmp_path)
    (first, *_) = LAYOUTS["btcv"].find(tmp_path, Naming()).scans
    assert (first.scan_id, first.dataset, first.patient) == ("BTCV-img0001", "BTCV", "img0001")
