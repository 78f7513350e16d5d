from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from maesil.datasets import find_scans
from maesil.errors import ConfigError

Make = Callable[..., Path]


def test_find_scans__a_series_is_a_scan_known_by_hashes(dicom_header: Make, tmp_path: Path) -> None:
    for number in range(3):
        dicom_header(f"tree/P1/STUDY/{number}.dcm", SeriesInstanceUID="1.2.3", PatientID="P1", PatientName="Doe^Jane")
    (scan,) = find_scans([tmp_path / "tree"], salt="s").scans
    assert scan.hashed
    assert len(scan.files) == 3
    assert scan.series == "1.2.3"
    assert scan.path == tmp_path / "tree" / "P1" / "STUDY"
    told = f"{scan.scan_id} {scan.dataset} {scan.patient} {scan.shown}"
    assert not any(secret in told for secret in ("P1", "Doe", "Jane", "1.2.3", "STUDY"))


def test_find_scans__series_of_one_folder_are_told_apart(dicom_header: Make, tmp_path: Path) -> None:
    dicom_header("tree/a/1", SeriesInstanceUID="1.2.3", PatientID="P1")
    dicom_header("tree/a/2", SeriesInstanceUID="1.2.4", PatientID="P1")
    dicom_header("tree/b/1", SeriesInstanceUID="1.2.5", PatientID="P2")
    scans = find_scans([tmp_path / "tree"], salt="s").scans
    assert len({scan.scan_id for scan in scans}) == 3
    assert len({scan.patient for scan in scans}) == 2


def test_find_scans__names_follow_the_salt_and_nothing_else(dicom_header: Make, tmp_path: Path) -> None:
    dicom_header("here/P1/1", SeriesInstanceUID="1.2.3", PatientID="P1")
    dicom_header("there/other/x", SeriesInstanceUID="1.2.3", PatientID="P1")
    here, there = (find_scans([tmp_path / name], salt="s").scans[0] for name in ("here", "there"))
    assert (here.scan_id, here.patient) == (there.scan_id, there.patient)
    salted = find_scans([tmp_path / "here"], salt="t").scans[0]
    assert salted.scan_id != here.scan_id
    assert salted.patient != here.patient


def test_find_scans__without_an_id_the_outermost_folder_is_the_patient(dicom_header: Make, tmp_path: Path) -> None:
    for name, uid in (("p1/a/1", "1.1"), ("p1/b/1", "1.2"), ("p2/a/1", "1.3")):
        dicom_header(f"tree/{name}", SeriesInstanceUID=uid)
    patients = {scan.series: scan.patient for scan in find_scans([tmp_path / "tree"], salt="s").scans}
    assert patients["1.1"] == patients["1.2"] != patients["1.3"]


@pytest.mark.parametrize(
    "folder",
    ["P-001", "p001 export", "Jane Doe", "scan_20200131", "1.2.3", "Wu_Li", "17.02.1953", "20170913", "someone"],
)
def test_find_scans__a_folder_named_for_the_patient_names_no_dataset(
    dicom_header: Make, tmp_path: Path, folder: str
) -> None:
    tags = {"PatientID": "P001", "PatientName": "Doe^Jane", "StudyDate": "20200131", "SeriesInstanceUID": "1.2.3"}
    further = {"OtherPatientNames": "Li^Wu", "PatientBirthDate": "19530217", "AcquisitionDate": "20170913"}
    dicom_header(f"{folder}/sub/1", **tags, **further)
    assert find_scans([tmp_path / folder], salt="s").scans[0].dataset == "scans"
    assert find_scans([tmp_path / folder], "lidc", salt="s").scans[0].dataset == "lidc"


def test_find_scans__a_folder_with_the_images_themselves_names_no_dataset(dicom_header: Make, tmp_path: Path) -> None:
    dicom_header("someone/1", PatientID="P001")
    assert find_scans([tmp_path / "someone"], salt="s").scans[0].dataset == "scans"


def test_find_scans__a_tree_of_patients_names_the_dataset(dicom_header: Make, tmp_path: Path) -> None:
    dicom_header("LIDC/P001/1", PatientID="LIDC-P001")
    assert find_scans([tmp_path / "LIDC"], salt="s").scans[0].dataset == "LIDC"


def test_find_scans__only_a_header_can_hide_a_name_that_is_kept(dicom_header: Make, tmp_path: Path) -> None:
    dicom_header("ward7/p/1", PatientName="Doe^Jane")
    dicom_header("Doe/p/1", PatientName="Doe^Jane")
    kept = [find_scans([tmp_path / name], salt="s", keep_names=True).scans[0].dataset for name in ("ward7", "Doe")]
    assert kept == ["ward7", "scans"]
    (hidden,) = find_scans([tmp_path / "ward7"], salt="s").scans
    assert hidden.dataset == "scans"
    again = find_scans([tmp_path / "ward7"], salt="s", known={hidden.scan_id: "ward7"}.get).scans[0]
    assert again.dataset == "ward7"


def test_find_scans__other_modalities_are_listed(dicom_header: Make, tmp_path: Path) -> None:
    dicom_header("tree/a/1.dcm", SeriesInstanceUID="1.1")
    dicom_header("tree/b/1.dcm", SeriesInstanceUID="1.2", Modality="MR")
    found = find_scans([tmp_path / "tree"], salt="s")
    assert len(found.scans) == 1
    (problem,) = found.problems
    assert "MR" in problem.reason
    assert "1.2" not in problem.source
    assert problem.path == tmp_path / "tree" / "b"


def test_find_scans__only_known_modalities_are_quoted(dicom_header: Make, tmp_path: Path) -> None:
    dicom_header("tree/a/1.dcm")
    dicom_header("tree/b/1.dcm", SeriesInstanceUID="1.2", Modality="DOE JANE")
    (problem,) = find_scans([tmp_path / "tree"], salt="s").problems
    assert problem.reason == "1 DICOM file of an unknown modality, not CT"


def test_find_scans__segmentations_count_as_labels(dicom_header: Make, tmp_path: Path) -> None:
    dicom_header("tree/a/1.dcm", SeriesInstanceUID="1.1")
    dicom_header("tree/a/2.dcm", SeriesInstanceUID="1.2", Modality="SEG")
    found = find_scans([tmp_path / "tree"], salt="s")
    assert (len(found.scans), found.problems, found.labels) == (1, (), 1)


def test_find_scans__damaged_files_are_listed(dicom_header: Make, touch: Make, tmp_path: Path) -> None:
    dicom_header("tree/a/1.dcm")
    touch("tree/b/1.dcm", "no DICOM at all")
    found = find_scans([tmp_path / "tree"], salt="s")
    assert len(found.scans) == 1
    assert [(one.path, one.reason) for one in found.problems] == [
        (tmp_path / "tree/b/1.dcm", "the file cannot be read as DICOM")
    ]


def test_find_scans__many_damaged_files_of_a_folder_are_counted(
    dicom_header: Make, touch: Make, tmp_path: Path
) -> None:
    dicom_header("tree/a/1.dcm")
    for number in range(6):
        touch(f"tree/b/{number}.dcm", "no DICOM at all")
    (problem,) = find_scans([tmp_path / "tree"], salt="s").problems
    assert problem.path == tmp_path / "tree/b"
    assert problem.reason == "6 DICOM files in a folder: the file cannot be read as DICOM"


def test_find_scans__a_folder_of_segmentations_holds_no_scan(dicom_header: Make, tmp_path: Path) -> None:
    dicom_header("tree/a/2.dcm", Modality="SEG")
    with pytest.raises(ConfigError, match="no scan was found"):
        find_scans([tmp_path / "tree"], salt="s")


def test_find_scans__copies_of_a_series_are_one_scan(dicom_header: Make, tmp_path: Path) -> None:
    dicom_header("one/a/1.dcm")
    dicom_header("two/a/1.dcm")
    found = find_scans([tmp_path / "one", tmp_path / "two"], salt="s")
    assert len(found.scans) == 1
    assert "once" in found.problems[0].fix
