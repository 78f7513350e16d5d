"""What is particular to each collection's files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from layout_trees import SECOND_0132, btcv, lidc, nifti, nnunet, slice_file, totalsegmentator
from maesil.datasets import find_scans
from maesil.datasets.btcv import ORGANS
from maesil.errors import ConfigError


def by_id(root: Path, **more: object) -> dict[str, object]:
    return {scan.scan_id: scan for scan in find_scans([root], salt="s", **more).scans}  # type: ignore[arg-type]


def notices(root: Path) -> list[str]:
    return [f"{notice.source}: {notice.reason}" for notice in find_scans([root], salt="s").notices]


def test_btcv__monais_arrangement_has_the_same_names_and_its_splits(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        nifti(tmp_path / "imagesTr" / f"img{number:04d}.nii.gz")
    nifti(tmp_path / "labelsTr" / "label0001.nii.gz")
    lists = {
        "training": [{"image": "imagesTr/img0001.nii.gz", "label": "labelsTr/label0001.nii.gz"}],
        "validation": [{"image": "imagesTr/img0002.nii.gz"}],
        "test": ["imagesTr/img0003.nii.gz"],
    }
    (tmp_path / "dataset_0.json").write_text(json.dumps(lists))
    found = find_scans([tmp_path])
    assert {scan.scan_id: scan.split for scan in found.scans} == {
        "BTCV-img0001": "train", "BTCV-img0002": "val", "BTCV-img0003": "test",
    }  # fmt: skip
    assert [len(scan.labels) for scan in found.scans] == [1, 0, 0]


def test_btcv__nnunets_arrangement_has_the_same_names(tmp_path: Path) -> None:
    nifti(tmp_path / "imagesTr" / "img0001_0000.nii.gz")
    nifti(tmp_path / "labelsTr" / "img0001.nii.gz")
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "CT"}}')
    (scan,) = find_scans([tmp_path]).scans
    assert (scan.scan_id, len(scan.labels), scan.split) == ("BTCV-img0001", 1, None)


def test_btcv__a_missing_label_is_told_and_the_case_stays(tmp_path: Path) -> None:
    btcv(tmp_path)
    (tmp_path / "RawData/Training/label/label0002.nii.gz").unlink()
    assert len(find_scans([tmp_path]).scans) == 3
    assert notices(tmp_path) == ["RawData/Training/img/img0002.nii.gz: it has no label file"]
    assert len(ORGANS) == 13


def test_btcv__without_the_folder_of_labels_says_so_once(tmp_path: Path) -> None:
    btcv(tmp_path)
    shutil.rmtree(tmp_path / "RawData/Training/label")
    assert len(find_scans([tmp_path]).scans) == 3
    assert notices(tmp_path) == ["RawData/Training/label: this folder is missing: 3 cases have no label file"]


def test_btcv__a_label_without_its_image_is_told(tmp_path: Path) -> None:
    btcv(tmp_path)
    (tmp_path / "RawData/Training/img/img0002.nii.gz").unlink()
    assert notices(tmp_path) == ["RawData/Training/label/label0002.nii.gz: no image here has this label"]


@pytest.mark.parametrize("place", ["RawData/Testing/img/img0061.nii.gz", "imagesTs/img0061_0000.nii.gz"])
def test_btcv__the_challenges_test_cases_are_the_test_split(tmp_path: Path, place: str) -> None:
    btcv(tmp_path)
    nifti(tmp_path / place)
    found = find_scans([tmp_path])
    assert {scan.patient: scan.split for scan in found.scans if scan.split} == {"img0061": "test"}
    assert (len(found.scans), found.notices) == (4, ())


def test_btcv__lists_that_cannot_be_read_or_name_absent_cases_are_told(tmp_path: Path) -> None:
    btcv(tmp_path)
    (tmp_path / "dataset_0.json").write_text(
        '{"validation": [{"image": "img0001.nii.gz"}, "img0077.nii.gz"], "test": 5}'
    )
    (tmp_path / "dataset_1.json").write_text("{")
    found = find_scans([tmp_path])
    assert [scan.split for scan in found.scans] == ["val", None, None]
    told = notices(tmp_path)
    assert ".: 1 case of MONAI's list is missing: img0077" in told
    assert any(line.startswith("dataset_1.json: it cannot be read") for line in told)
    assert len(told) == 2


def test_nnunet__a_label_without_its_image_is_told(tmp_path: Path) -> None:
    nnunet(tmp_path)
    nifti(tmp_path / "labelsTr" / "liver_9.nii.gz")
    assert notices(tmp_path) == ["labelsTr/liver_9.nii.gz: no image here has this label"]


@pytest.mark.parametrize("text", ["{", "[]"])
def test_nnunet__a_description_that_cannot_be_read_is_told(tmp_path: Path, text: str) -> None:
    nnunet(tmp_path)
    (tmp_path / "dataset.json").write_text(text)
    assert len(find_scans([tmp_path]).scans) == 3
    (told,) = notices(tmp_path)
    assert told.startswith("dataset.json: it cannot be read")


def test_nnunet__regions_of_several_numbers_are_told(tmp_path: Path) -> None:
    nnunet(tmp_path)
    labels = {"background": 0, "liver": 1, "both_kidneys": [9, 10]}
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "labels": labels}))
    assert {scan.label_names for scan in find_scans([tmp_path]).scans if scan.labels} == {((1, "liver"),)}
    assert notices(tmp_path) == ["dataset.json: its labels of several numbers are not read: both_kidneys"]


def test_lidc__patients_with_two_scans_have_one_name_and_radiographs_none(tmp_path: Path) -> None:
    lidc(tmp_path)
    scans = by_id(tmp_path)
    assert {name: scan.patient for name, scan in scans.items()} == {  # type: ignore[attr-defined]
        "LIDC-IDRI-0001": "LIDC-IDRI-0001",
        "LIDC-IDRI-0132": "LIDC-IDRI-0132",
        "LIDC-IDRI-0132-2": "LIDC-IDRI-0132",
    }
    told = notices(tmp_path)
    assert ".: 1 series of chest radiographs was skipped" in told
    assert sum("no readers' XML" in line for line in told) == 3


def test_lidc__newer_names_of_study_and_series_change_nothing(tmp_path: Path) -> None:
    for index in range(3):
        path = tmp_path / "LIDC-IDRI-0007" / "01-01-2000-NA-NA-12" / "3000566.000000-NA-03192" / f"1-{index}.dcm"
        slice_file(path, "1.2.7", index)
    assert list(by_id(tmp_path)) == ["LIDC-IDRI-0007"]


def test_lidc__a_scans_name_stays_when_the_patients_other_scan_comes(tmp_path: Path) -> None:
    second = tmp_path / "LIDC-IDRI-0132" / "study" / "b"
    slice_file(second / "1-001.dcm", SECOND_0132, 0)
    assert list(by_id(tmp_path)) == ["LIDC-IDRI-0132-2"]
    slice_file(tmp_path / "LIDC-IDRI-0132" / "study" / "a" / "1-001.dcm", "1.2.2", 0)
    assert list(by_id(tmp_path)) == ["LIDC-IDRI-0132", "LIDC-IDRI-0132-2"]


def test_lidc__a_series_that_is_not_the_collections_takes_no_ones_name(tmp_path: Path) -> None:
    for series in ("1.2.1", "1.2.5"):
        slice_file(tmp_path / "LIDC-IDRI-0001" / "study" / series / "1-001.dcm", series, 0)
    found = find_scans([tmp_path], salt="s")
    assert [scan.scan_id for scan in found.scans] == ["LIDC-IDRI-0001"]
    assert [problem.reason for problem in found.problems] == [
        "another scan of this call already has the name LIDC-IDRI-0001"
    ]


READING = (
    "<LidcReadMessage><ResponseHeader><SeriesInstanceUid>{}</SeriesInstanceUid></ResponseHeader>{}</LidcReadMessage>"
)


def test_lidc__xml_goes_with_the_series_it_names(tmp_path: Path) -> None:
    lidc(tmp_path)
    own = tmp_path / "LIDC-IDRI-0001" / "study" / "1.2.1" / "069.xml"
    own.write_text(READING.format("1.2.1", ""))
    other = tmp_path / "LIDC-IDRI-0132" / "study" / "1.2.2" / "070.xml"
    other.write_text(READING.format("1.2.77", ""))
    radiograph = tmp_path / "LIDC-IDRI-0001" / "study" / "1.2.9" / "071.xml"
    radiograph.write_text("<IdriReadMessage><SeriesInstanceUid>1.2.9</SeriesInstanceUid></IdriReadMessage>")
    assert by_id(tmp_path)["LIDC-IDRI-0001"].labels == (own,)  # type: ignore[attr-defined]
    told = notices(tmp_path)
    assert "LIDC-IDRI-0132/study/1.2.2/070.xml: this XML belongs to a missing series" in told
    assert not any("071.xml" in line for line in told)


def test_lidc__xml_that_came_apart_is_found_and_a_copy_is_no_second_reading(tmp_path: Path) -> None:
    lidc(tmp_path)
    own = tmp_path / "LIDC-IDRI-0001" / "study" / "1.2.1" / "069.xml"
    own.write_text(READING.format("1.2.1", ""))
    apart = tmp_path / "tcia-lidc-xml" / "157"
    apart.mkdir(parents=True)
    (apart / "158.xml").write_text(READING.format(SECOND_0132, ""))
    (apart / "069.xml").write_text(READING.format("1.2.1", "\n"))
    for number, series in (("159", "1.2.88"), ("160", "1.2.89")):
        (apart / f"{number}.xml").write_text(READING.format(series, ""))
    scans = by_id(tmp_path)
    assert scans["LIDC-IDRI-0132-2"].labels == (apart / "158.xml",)  # type: ignore[attr-defined]
    assert scans["LIDC-IDRI-0001"].labels == (own,)  # type: ignore[attr-defined]
    assert "tcia-lidc-xml: 2 XML files belong to missing series" in notices(tmp_path)


def test_lidc__two_readings_of_one_series_are_told(tmp_path: Path) -> None:
    lidc(tmp_path)
    for number, session in enumerate(("", "<readingSession/>")):
        (tmp_path / "LIDC-IDRI-0001" / f"{number}.xml").write_text(READING.format("1.2.1", session))
    assert len(by_id(tmp_path)["LIDC-IDRI-0001"].labels) == 2  # type: ignore[attr-defined]
    assert "LIDC-IDRI-0001: 2 XML files mark this series in different ways" in notices(tmp_path)


def test_lidc__a_damaged_xml_is_told_and_is_no_label(tmp_path: Path) -> None:
    lidc(tmp_path)
    folder = tmp_path / "LIDC-IDRI-0001"
    (folder / "cut.xml").write_text(READING.format("1.2.1", "")[:-9])
    (folder / "empty.xml").touch()
    found = find_scans([tmp_path], salt="s")
    assert found.labels == 0
    assert not any(scan.labels for scan in found.scans)
    told = [f"{notice.source}: {notice.reason}" for notice in found.notices]
    assert any(line.startswith("LIDC-IDRI-0001/cut.xml: this XML cannot be read") for line in told)
    assert "LIDC-IDRI-0001/empty.xml: this XML is not a reading of a CT series" in told
    assert "LIDC-IDRI-0001: no readers' XML names this series" in told


def test_totalsegmentator__uses_the_collections_split(tmp_path: Path) -> None:
    totalsegmentator(tmp_path)
    nifti(tmp_path / "s0002" / "ct.nii.gz")
    (tmp_path / "s0003" / "segmentations").mkdir(parents=True)
    found = find_scans([tmp_path])
    assert {scan.patient: scan.split for scan in found.scans} == {"s0000": "train", "s0001": "test", "s0002": None}
    assert [(problem.source, problem.reason) for problem in found.problems] == [("s0003", "it has no ct.nii.gz")]
    assert "s0002: meta.csv does not list it" in notices(tmp_path)
    assert "s0002: it has no masks in segmentations/" in notices(tmp_path)


@pytest.mark.parametrize(("masks", "version"), [(104, "v1"), (117, "v2"), (3, "of no known release")])
def test_totalsegmentator__says_which_version_it_is(tmp_path: Path, masks: int, version: str) -> None:
    totalsegmentator(tmp_path)
    for case in ("s0000", "s0001"):
        for number in range(masks - 1):  # the tree has one
            (tmp_path / case / "segmentations" / f"rib_{number}.nii.gz").touch()
    (match,) = find_scans([tmp_path]).matched
    assert match.because == f"2 folders s0000 with ct.nii.gz, {masks} masks each: {version}, meta.csv"
    (tmp_path / "s0001" / "segmentations" / "rib_0.nii.gz").unlink()
    assert f", {masks - 1} to {masks} masks: {version}" in find_scans([tmp_path]).matched[0].because
    assert notices(tmp_path) == ["s0001: it lacks 1 of the masks that others have: rib_0"]
    (notice,) = find_scans([tmp_path]).notices
    assert notice.fix == "unpack the archive again; s0000 has the most masks to compare with"


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("between", [";", ","])
def test_totalsegmentator__its_table_may_have_commas_and_a_byte_order_mark(
    tmp_path: Path, between: str, mark: str
) -> None:
    totalsegmentator(tmp_path)
    text = f"{mark}image_id;age;split\ns0000;58;val\ns0001;;test\n".replace(";", between)
    (tmp_path / "meta.csv").write_text(text, encoding="utf-8")
    assert [scan.split for scan in find_scans([tmp_path]).scans] == ["val", "test"]
    assert notices(tmp_path) == []


@pytest.mark.parametrize("text", ["nothing;here\n1;2\n", "image_id;split\ns0000;training\n"])
def test_totalsegmentator__an_odd_table_is_told(tmp_path: Path, text: str) -> None:
    totalsegmentator(tmp_path)
    (tmp_path / "meta.csv").write_text(text)
    assert len(find_scans([tmp_path]).scans) == 2
    assert any(line.startswith("meta.csv: ") for line in notices(tmp_path))


def test_nnunet__other_channels_are_no_scans_and_other_modalities_no_ct(tmp_path: Path) -> None:
    nnunet(tmp_path)
    nifti(tmp_path / "imagesTr" / "liver_1_0001.nii.gz")
    found = find_scans([tmp_path])
    assert [scan.scan_id for scan in found.scans] == ["Liver-liver_1", "Liver-liver_2", "Liver-liver_3"]
    assert [scan.split for scan in found.scans] == [None, None, "test"]
    assert notices(tmp_path) == [".: 1 file of a further channel was skipped"]
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "MRI"}}')
    (problem,) = find_scans([tmp_path]).problems
    assert problem.reason == "channel 0 is MRI, not CT"


def test_find_scans__a_layout_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    btcv(root)
    with pytest.raises(ConfigError, match="does not match the layout 'lidc'"):
        find_scans([root], layout="lidc")
    as_folder = find_scans([root], layout="folder").scans
    assert all(scan.dataset == "set" for scan in as_folder)


def test_find_scans__duplicate_ids_are_told(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        btcv(tmp_path / name)
    found = find_scans([tmp_path / "one", tmp_path / "two"])
    assert len(found.scans) == 3
    assert all("another scan of this call already has the name" in problem.reason for problem in found.problems)
    assert len(found.problems) == 3


def test_find_scans__says_that_a_file_has_the_labels_of_its_collection(tmp_path: Path) -> None:
    totalsegmentator(tmp_path)
    image = tmp_path / "s0000" / "ct.nii.gz"
    (match,) = find_scans([image]).matched
    assert (match.layout, match.because) == (
        "folder",
        "one file, with the labels of its totalsegmentator tree",
    )
    own = nifti(tmp_path / "s0000" / "ct_labels.nii.gz")
    found = find_scans([image])
    assert (found.scans[0].labels, found.matched[0].because) == ((own,), "one file"), (
        "labels of its own name come first"
    )
    (match,) = find_scans([tmp_path / "s0001"]).matched
    assert match.because == "everything readable in it, with the labels of its totalsegmentator tree"


def test_nnunet__of_a_folder_of_images_its_description_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lists every case, so reading it for each of them takes time in proportion to their square."""
    nnunet(tmp_path)
    read, loads = list[str](), json.loads
    monkeypatch.setattr("maesil.datasets.nnunet.json.loads", lambda text: (read.append(text), loads(text))[1])
    assert sum(bool(scan.labels) for scan in find_scans([tmp_path / "imagesTr"]).scans) > 1
    assert len(read) == 1
    described = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps({**described, "labels": {"another name": 1}}))
    found = find_scans([tmp_path / "imagesTr"])
    assert {name for scan in found.scans for _, name in scan.label_names} == {"another_name"}


def test_nnunet__names_that_differ_only_in_spelling_are_told(tmp_path: Path) -> None:
    nnunet(tmp_path)
    described = json.loads((tmp_path / "dataset.json").read_text())
    described["labels"] = {"background": 0, "Left Kidney": 1, "left_kidney": 2, "liver": 3}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    told = "label names that differ only in spelling are one class: Left Kidney, left_kidney (left_kidney)"
    images = [tmp_path / "imagesTr" / f"liver_{number}_0000.nii.gz" for number in (1, 2)]
    for sources in ([tmp_path], images):
        assert [notice.reason for notice in find_scans(sources).notices] == [told]
