from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from dicom_slices import write_slice
from maesil.ct.readers import dicom, read
from maesil.ct.readers.dicom_headers import read_header
from maesil.datasets import dicom_files, find_scans
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
    """The most complete of them, wherever it lies."""
    dicom_header("one/a/1.dcm")
    for number in (1, 2):
        dicom_header(f"two/a/{number}.dcm")
    dicom_header("three/a/1.dcm")
    found = find_scans([tmp_path / name for name in ("one", "two", "three")], salt="s")
    assert [scan.path for scan in found.scans] == [tmp_path / "two" / "a"]
    assert len(found.problems) == 2
    assert "leave one of the copies out" in found.problems[0].fix
    assert all(str(tmp_path / "two" / "a") in problem.told for problem in found.problems)
    assert not any(str(tmp_path) in problem.reason for problem in found.problems)


def test_find_scans__a_lost_slice_without_an_ending_is_told(dicom_header: Make, touch: Make, tmp_path: Path) -> None:
    for number in range(3):
        dicom_header(f"tree/im{number:02d}")
    touch("tree/im03")
    touch("tree/im04", "zeros")
    touch("tree/last")
    for harmless in ("notes.txt", "LICENSE", "empty.xml"):
        touch(f"tree/{harmless}", "" if harmless.startswith("empty") else "text")
    found = find_scans([tmp_path / "tree"], salt="s")
    assert len(found.scans[0].files) == 3
    assert {(one.path.name, one.reason) for one in found.problems if one.path is not None} == {
        ("im03", "the file is empty"),
        ("im04", "the file is named like a slice, but is not DICOM"),
        ("last", "the file is empty"),
    }
    assert "im0" not in "".join(one.source + one.reason for one in found.problems)


def test_find_scans__a_file_that_cannot_be_opened_is_told(
    dicom_header: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        dicom_header(f"tree/im{number:02d}")
    opened = Path.open

    def refuse(self: Path, *how: Any, **more: Any) -> Any:
        if self.name == "im02":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *how, **more)

    monkeypatch.setattr(Path, "open", refuse)
    found = find_scans([tmp_path / "tree"], salt="s")
    assert len(found.scans[0].files) == 2
    (problem,) = found.problems
    assert (problem.path, problem.reason) == (tmp_path / "tree/im02", "the file cannot be opened: Permission denied")


def test_find_scans__folders_that_cannot_be_listed_are_told(
    dicom_header: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dicom_header("tree/a/1")
    dicom_header("tree/locked/1", SeriesInstanceUID="1.9")
    (tmp_path / "tree/link").symlink_to("nowhere")
    listed = Path.iterdir

    def refuse(self: Path) -> Any:
        if self.name in ("locked", "alone"):
            raise PermissionError(13, "Permission denied", str(self))
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    (tmp_path / "alone").mkdir()
    found = find_scans([tmp_path / "tree", tmp_path / "alone"], salt="s")
    assert len(found.scans) == 1
    assert [(one.path, one.reason) for one in found.problems] == [
        (tmp_path / "tree/link", "it cannot be read: its target does not exist"),
        (tmp_path / "tree/locked", "it cannot be read: permission denied"),
        (tmp_path / "alone", "it cannot be read: permission denied"),
    ]


def test_find_scans__a_pipe_or_device_is_no_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for source in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ConfigError, match="neither a file nor a folder"):
            find_scans([source], salt="s")


def test_find_scans__a_source_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, **_: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(ConfigError, match="cannot be reached: Permission denied"):
        find_scans([tmp_path], salt="s")


def test_find_scans__a_directory_of_a_cd_is_no_problem(dicom_header: Make, tmp_path: Path) -> None:
    dicom_header("cd/IMAGES/1")
    header = pydicom.Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    header.file_meta.MediaStorageSOPInstanceUID, header.FileSetID = "1.2.3", "CD"
    header.save_as(tmp_path / "cd/DICOMDIR", enforce_file_format=True)
    found = find_scans([tmp_path / "cd"], salt="s")
    assert (len(found.scans), found.problems) == (1, ())


def test_find_scans__files_given_one_by_one_are_one_scan(dicom_header: Make, tmp_path: Path) -> None:
    files = [dicom_header(f"tree/{number}.dcm") for number in range(4)]
    (whole,) = find_scans([tmp_path / "tree"], salt="s").scans
    found = find_scans(files[:3], salt="s")
    (scan,) = found.scans
    assert (scan.files, found.problems) == (tuple(files[:3]), ())
    assert scan.scan_id == whole.scan_id
    (single,) = find_scans([files[2]], salt="s").scans
    assert single.files == (files[2],)


@pytest.mark.parametrize("name", ["a/1.dcm", "a/1"])
def test_find_scans__a_damaged_uid_is_that_files_problem(dicom_header: Make, tmp_path: Path, name: str) -> None:
    dicom_header("tree/a/0.dcm")
    path = dicom_header(f"tree/{name}")
    path.write_bytes(path.read_bytes().replace(b"\x20\x00\x0e\x00UI", b"\x20\x00\x0e\x00UK"))
    found = find_scans([tmp_path / "tree"], salt="s")
    assert len(found.scans[0].files) == 1
    assert [(one.path, one.reason) for one in found.problems] == [(path, "the file cannot be read as DICOM")]


def test_find_scans__reads_each_header_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many series lie in a folder; a series' own headers are read once more, when it is read."""
    files = [tmp_path / f"{series}-{index}.dcm" for series in range(5) for index in range(3)]
    for number, path in enumerate(files):
        write_slice(path, np.zeros((4, 4), dtype=np.int16), number % 3, {"SeriesInstanceUID": f"1.{number // 3}"})
    calls: Counter[Path] = Counter()

    def counted(path: Path, *how: Any) -> Any:
        calls[path] += 1
        return read_header(path, *how)

    for module in (dicom_files, dicom):
        monkeypatch.setattr(module, "read_header", counted)
    scans = find_scans([tmp_path], salt="s").scans
    assert calls == dict.fromkeys(files, 1)
    for scan in scans:
        read(scan.path, series=scan.series, files=scan.files)
    assert calls == dict.fromkeys(files, 2)
