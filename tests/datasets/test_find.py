from __future__ import annotations

import ntpath
import os
import sys
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from types import FrameType
from typing import Any

import pytest

from maesil.datasets import find, find_scans
from maesil.datasets.names_beside import with_names_beside
from maesil.errors import ConfigError

Touch = Callable[..., Path]


def no_salt() -> str:
    raise AssertionError("no name is a hash here")


def test_find_scans__names_volume_files_by_dataset_and_case(touch: Touch, tmp_path: Path) -> None:
    for name in ("btcv/img0001.nii.gz", "btcv/img0002.mha", "btcv/s1/ct.nii.gz", "btcv/readme.txt"):
        touch(name)
    found = find_scans([tmp_path / "btcv"], salt=no_salt)
    assert [(scan.scan_id, scan.dataset, scan.patient, scan.shown) for scan in found.scans] == [
        ("btcv-img0001", "btcv", "img0001", "img0001.nii.gz"),
        ("btcv-img0002", "btcv", "img0002", "img0002.mha"),
        ("btcv-s1", "btcv", "s1", "s1/ct.nii.gz"),
    ]
    assert found.problems == ()


def test_find_scans__a_scan_has_one_name_however_it_is_given(touch: Touch, tmp_path: Path) -> None:
    file = touch("collection/s0001/ct.nii.gz")
    touch("collection/s0002/ct.nii.gz")
    names = [
        {scan.scan_id: scan.patient for scan in find_scans([source]).scans}["collection-s0001"]
        for source in (tmp_path / "collection", tmp_path / "collection" / "s0001", file)
    ]
    assert names == ["s0001"] * 3


def test_find_scans__names_do_not_depend_on_what_else_is_found(touch: Touch, tmp_path: Path) -> None:
    touch("one/a.nii.gz")
    touch("two/a.nii.gz")
    alone = find_scans([tmp_path / "one"]).scans
    together = find_scans([tmp_path / "one", tmp_path / "two"]).scans
    assert [scan.scan_id for scan in together] == ["one-a", "two-a"]
    assert together[0] == alone[0]


def test_find_scans__passes_over_labels_and_counts_them(touch: Touch, tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a_labels.nii.gz", "mask.nii.gz", "s1/ct.nii.gz", "s1/segmentations/liver.nii.gz"):
        touch(f"set/{name}")
    found = find_scans([tmp_path / "set"])
    assert [scan.scan_id for scan in found.scans] == ["set-a", "set-s1"]
    assert found.labels == 3
    assert found.problems == ()


def test_find_scans__a_file_that_is_named_itself_is_no_label(touch: Touch) -> None:
    assert len(find_scans([touch("set/mask.nii.gz")]).scans) == 1


def test_find_scans__a_scan_that_is_given_as_a_file_has_its_own_labels(touch: Touch, tmp_path: Path) -> None:
    own = {touch(f"set/{name}") for name in ("P1_labels.nii.gz", "p1_tumour.nrrd")}
    for name in ("P1_a_labels.nii.gz", "P10_labels.nii.gz", "P1_labels.json", "P1_labels_old.nii.gz", "labels.nii.gz"):
        touch(f"set/{name}")
    (tmp_path / "set" / "P1_mask.nii.gz").mkdir()
    scan = touch("set/P1.nii.gz")
    alone = find_scans([scan], "set")
    assert set(alone.scans[0].labels) == own
    assert (len(alone.scans), alone.labels, alone.taken_for_labels, alone.problems) == (1, 2, (), ())
    folder = find_scans([tmp_path / "set"], "set")
    assert alone.scans[0] in folder.scans
    for sources in ([scan, tmp_path / "set"], [tmp_path / "set", scan]):
        both = find_scans(sources, "set")
        assert (both.scans, both.labels) == (folder.scans, folder.labels), "no label file is counted twice"


def test_find_scans__of_several_files_those_that_say_labels_are_labels(touch: Touch, tmp_path: Path) -> None:
    names = ("a.nii.gz", "a_labels.nii.gz", "b.nii.gz", "c_seg.nrrd", "mask.nii.gz")
    files = [touch(f"set/{name}") for name in names]
    folder = find_scans([tmp_path / "set"])
    given = find_scans([*files, files[1]])
    assert given.scans == folder.scans
    assert (given.labels, given.taken_for_labels) == (folder.labels, folder.taken_for_labels) == (3, tuple(files[3:]))
    assert given.given_labels == (files[1], files[3], files[4])
    assert [match.source for match in given.matched] == [files[0], files[2]]
    both = find_scans([tmp_path / "set", *files])
    assert (both.scans, both.labels, both.taken_for_labels) == (given.scans, 3, tuple(files[3:]))
    with_folder = find_scans([tmp_path / "set", files[4]])
    assert "mask.nii.gz" in {scan.path.name for scan in with_folder.scans}, "the only file of a call is read"
    assert (with_folder.given_labels, len(find_scans([files[4], files[4]]).scans)) == ((), 1)


def test_find_scans__of_several_files_those_in_a_folder_of_labels_are_labels(touch: Touch, tmp_path: Path) -> None:
    images = [touch(f"set/imagesTr/p{number}.nii.gz") for number in (1, 2)]
    labels = [touch(f"set/labelsTr/p{number}.nii.gz") for number in (1, 2)]
    found = find_scans([*images, *labels])
    assert [scan.path for scan in found.scans] == images
    assert found.given_labels == found.taken_for_labels == tuple(labels)
    assert len(find_scans(labels).scans) == 2, "as in the folder of labels, if it alone is given"


def test_find_scans__files_that_all_say_labels_are_no_scans(touch: Touch) -> None:
    files = [touch(f"set/{name}_seg.nii.gz") for name in "ab"]
    with pytest.raises(ConfigError, match="only 2 files whose name or folder says that they hold labels") as raised:
        find_scans(files)
    assert f"the only file of a call: {files[0]}" in (raised.value.fix or "")


def test_find_scans__a_scan_whose_name_says_labels_is_told(touch: Touch, tmp_path: Path) -> None:
    file = touch("set/liver-tumor.nii.gz")
    with pytest.raises(ConfigError, match="only 1 file whose name or folder says that it holds labels") as raised:
        find_scans([tmp_path / "set"])
    assert str(file) in (raised.value.fix or "")
    touch("set/a.nii.gz")
    assert find_scans([tmp_path / "set"]).taken_for_labels == (file,)


def test_find_scans__a_folder_above_called_labels_does_not_matter(touch: Touch, tmp_path: Path) -> None:
    touch("labels/set/a.nii.gz")
    assert len(find_scans([tmp_path / "labels" / "set"]).scans) == 1


def test_find_scans__overlapping_sources_are_one(touch: Touch, tmp_path: Path) -> None:
    touch("set/a.nii.gz")
    found = find_scans([tmp_path / "set", tmp_path / "set" / ".." / "set", tmp_path / "set" / "a.nii.gz"])
    assert [scan.scan_id for scan in found.scans] == ["set-a"]
    assert found.problems == ()


@pytest.mark.parametrize("other", ["set/a.mha", "set/A.nii.gz", "again/set/a.nii.gz"])
def test_find_scans__never_gives_two_scans_one_name(touch: Touch, tmp_path: Path, other: str) -> None:
    touch("set/a.nii.gz")
    touch(other)
    sources = [tmp_path / "set"] if other.startswith("set") else [tmp_path / "set", tmp_path / "again" / "set"]
    found = find_scans(sources)
    assert len(found.scans) == 1
    assert len(found.problems) == 1
    assert "name" in found.problems[0].reason


def test_find_scans__does_not_look_into_hidden_folders_and_stores(touch: Touch, tmp_path: Path) -> None:
    for name in ("a.nii.gz", ".cache/b.nii.gz", ".c.nii.gz", "store/zarr.json", "store/scans/d.nii.gz"):
        touch(f"set/{name}")
    assert [scan.scan_id for scan in find_scans([tmp_path / "set"]).scans] == ["set-a"]


def test_find_scans__a_link_to_a_folder_above_ends(touch: Touch, tmp_path: Path) -> None:
    touch("set/a.nii.gz")
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set", target_is_directory=True)
    assert [scan.scan_id for scan in find_scans([tmp_path / "set"]).scans] == ["set-a"]


def test_find_scans__hashes_names_where_asked(touch: Touch, tmp_path: Path) -> None:
    touch("Smith John/Smith John.nii.gz")
    (scan,) = find_scans([tmp_path / "Smith John"], salt="s", hash_names=True).scans
    assert scan.hashed
    told = f"{scan.scan_id} {scan.dataset} {scan.patient} {scan.shown}"
    assert "mith" not in told
    assert find_scans([tmp_path / "Smith John"], salt="t", hash_names=True).scans[0].scan_id != scan.scan_id


@pytest.mark.parametrize("name", ["Kim Min-jun 1962-03-04", "환자", "Wu_Li", "17.02.1953"])
def test_find_scans__hashes_names_that_may_be_a_patients(touch: Touch, tmp_path: Path, name: str) -> None:
    touch(f"set/{name}.nii.gz")
    touch(f"{name}/case_001.nii.gz")
    touch("set/case_001.nii.gz")
    found = find_scans([tmp_path / "set", tmp_path / name], salt="s")
    hidden = [scan for scan in found.scans if scan.hashed]
    assert [scan.scan_id for scan in found.scans if not scan.hashed] == ["set-case_001"]
    assert sorted((scan.dataset, len(scan.patient)) for scan in hidden) == [("scans", 8), ("set", 16)]
    told = " ".join(f"{scan.scan_id} {scan.dataset} {scan.patient} {scan.shown}" for scan in found.scans)
    assert not any(word in told for word in (name, *name.split(), *name.split("_")))


def test_find_scans__two_names_beyond_ascii_are_two_scans(touch: Touch, tmp_path: Path) -> None:
    for name in ("김민준", "박지훈", "Ä", "Ö"):
        touch(f"환자/{name}.nii.gz")
    found = find_scans([tmp_path / "환자"], salt="s")
    assert (len(found.scans), found.problems) == (4, ())
    assert len({scan.patient for scan in found.scans}) == 4


def test_find_scans__keeps_names_where_asked(touch: Touch, tmp_path: Path) -> None:
    touch("ward7/hosp_001.nii.gz")
    (scan,) = find_scans([tmp_path / "ward7"], salt=no_salt, keep_names=True).scans
    assert (scan.scan_id, scan.patient, scan.shown) == ("ward7-hosp_001", "hosp_001", "hosp_001.nii.gz")
    (named,) = find_scans([tmp_path / "ward7"], "mine", salt="s").scans
    assert named.dataset == "mine"
    assert named.hashed
    with pytest.raises(ConfigError, match="both hashed and kept"):
        find_scans([tmp_path / "ward7"], hash_names=True, keep_names=True)


def test_find_scans__scans_that_are_known_keep_their_names(touch: Touch, tmp_path: Path) -> None:
    touch("ward7/hosp_001.nii.gz")
    touch("ward7/hosp_002.nii.gz")
    scans = find_scans([tmp_path / "ward7"], salt="s", known={"ward7-hosp_001": "ward7"}.get).scans
    assert {scan.patient: scan.dataset for scan in scans if not scan.hashed} == {"hosp_001": "ward7"}
    assert len([scan for scan in scans if scan.hashed]) == 1


def test_find_scans__a_file_whose_name_begins_like_a_hash_has_its_name(touch: Touch, tmp_path: Path) -> None:
    touch("set/scan 12.nii.gz")
    (scan,) = find_scans([tmp_path / "set"], salt=no_salt).scans
    assert not scan.hashed


def test_find_scans__a_pattern_names_the_patients(touch: Touch, tmp_path: Path) -> None:
    touch("set/p1/early.nii.gz")
    touch("set/p1/late.nii.gz")
    found = find_scans([tmp_path / "set"], patient_pattern="^([^/]+)/")
    assert [scan.patient for scan in found.scans] == ["p1", "p1"]


def test_find_scans__a_detached_header_brings_its_data(touch: Touch, tmp_path: Path) -> None:
    touch("set/a.mhd", "NDims = 3\nElementDataFile = a.zraw\n")
    data = touch("set/a.zraw")
    touch("set/b.nhdr", "NRRD0005\ndata file: b.raw\n")
    touch("set/c.mhd", "ElementDataFile = LOCAL\n")
    files = {scan.scan_id: scan.files for scan in find_scans([tmp_path / "set"]).scans}
    assert files["set-a"] == (tmp_path / "set" / "a.mhd", data)
    assert files["set-b"] == (tmp_path / "set" / "b.nhdr",)  # its data is missing: reading will say so
    assert files["set-c"] == (tmp_path / "set" / "c.mhd",)


def test_find_scans__an_empty_source_beside_others_is_a_problem(touch: Touch, tmp_path: Path) -> None:
    touch("set/a.nii.gz")
    note = touch("notes/readme.txt")
    found = find_scans([tmp_path / "set", note])
    assert len(found.scans) == 1
    assert [(problem.source, problem.path) for problem in found.problems] == [(".", note)]


@pytest.mark.parametrize("names", [(), ("readme.txt", "a.raw")])
def test_find_scans__says_that_there_is_nothing(touch: Touch, tmp_path: Path, names: tuple[str, ...]) -> None:
    (tmp_path / "set").mkdir()
    for name in names:
        touch(f"set/{name}")
    with pytest.raises(ConfigError, match="no scan was found") as raised:
        find_scans([tmp_path / "set"])
    assert "NIfTI" in str(raised.value)


def test_find_scans__says_that_a_source_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist") as raised:
        find_scans([tmp_path / "nowhere"])
    assert str(tmp_path / "nowhere") in str(raised.value)


def test_find_scans__needs_a_source() -> None:
    with pytest.raises(ConfigError, match="no source"):
        find_scans([])


def test_find_scans__finds_the_real_scans(data_dir: Path) -> None:
    found = find_scans(
        [data_dir / name for name in ("corpus2mm", "dicom", "lidc", "totalsegmentator", "sts")], salt="s"
    )
    datasets = {scan.dataset: [one for one in found.scans if one.dataset == scan.dataset] for scan in found.scans}
    assert {name: len(scans) for name, scans in datasets.items()} == {
        "corpus2mm": 16, "dicom": 2, "LIDC-IDRI": 1, "TotalSegmentator": 1, "sts": 35,
    }  # fmt: skip
    assert found.problems == ()
    assert found.labels == 4 + 117 + 35 + 1  # the last one is the readers' XML
    assert sorted(len(scan.files) for scan in datasets["dicom"]) == [28, 41]


def test_find_scans__names_of_labels_among_given_files_are_no_scan(touch: Touch, tmp_path: Path) -> None:
    """As `scans/*` gives them, and as they are none in a folder."""
    files = [touch(f"set/{name}") for name in ("a.nii.gz", "a_labels.nii.gz")]
    beside = touch("set/label_names.json", '{"1": "liver"}')
    found = find_scans([*files, beside])
    assert (len(found.scans), found.problems) == (1, ())
    elsewhere = touch("other/label_names.json", '{"1": "liver"}')
    (problem,) = find_scans([*files, elsewhere]).problems
    assert problem.path == elsewhere, "it names the labels of no given scan"


def calls_of(function: Callable[[], object]) -> int:
    """Number of functions of Python that a call takes: what its time grows with, and the same on every machine."""
    calls = 0

    def count(_frame: FrameType, event: str, _value: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize("given", ["a folder", "files of one folder", "a file of each folder"])
def test_find_scans__work_grows_no_faster_than_the_files(touch: Touch, tmp_path: Path, given: str) -> None:
    def calls(count: int) -> int:
        place = "{0}/x" if given == "a file of each folder" else "x{0}"
        names = [f"set{count}/{place.format(number)}" for number in range(count)]
        files = [touch(f"{name}{end}") for name in names for end in (".nii.gz", "_labels.nii.gz")]
        sources = [tmp_path / f"set{count}"] if given == "a folder" else files
        return calls_of(lambda: with_names_beside(find_scans(sources, salt="s")))

    calls(2)
    assert calls(400) < 2.3 * calls(200)


def test_find_scans__lists_the_folder_of_given_files_as_often_for_many_as_for_few(
    touch: Touch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listing a folder of thousands once per file is quadratic; calls of functions do not show it."""
    listed = list[str]()

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def listing(folder: object = ".") -> Any:
            listed.append(str(folder))
            return real(folder)

        return listing

    monkeypatch.setattr(os, "listdir", counted(os.listdir))
    monkeypatch.setattr(os, "scandir", counted(os.scandir))

    def listings(count: int) -> int:
        files = [touch(f"set{count}/x{number}{end}") for number in range(count) for end in (".nii.gz", "_seg.nii.gz")]
        listed.clear()
        found = with_names_beside(find_scans(files, salt="s"))
        assert sum(len(scan.labels) for scan in found.scans) == count
        return listed.count(str(files[0].parent))

    assert listings(20) == listings(3) == 1


def test_labels_among__files_on_two_drives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths of Windows on two drives have no folder in common, which `ntpath.commonpath` answers with a ValueError."""
    monkeypatch.setattr(find.os.path, "commonpath", ntpath.commonpath)
    names = (r"C:\scans\a.nii.gz", r"C:\scans\a_seg.nii.gz", r"D:\labels\b.nii.gz", r"D:\labels\masks\b.nii.gz")
    given = {PureWindowsPath(name) for name in names}
    assert find._labels_among(given) == (PureWindowsPath(names[1]), PureWindowsPath(names[3]))


def test_find_scans__a_source_that_is_given_twice_counts_once(touch: Touch, tmp_path: Path) -> None:
    lone = [touch(f"set/{name}.nii.gz") for name in ("a", "b_seg")][1]
    found = find_scans([tmp_path / "set", tmp_path / "set" / ".." / "set"])
    assert (len(found.matched), found.labels, found.taken_for_labels) == (1, 1, (lone,))
