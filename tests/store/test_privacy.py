"""No header field beyond what is needed: every byte of a store is searched for what the headers told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from maesil.cli import main
from maesil.datasets import Scan
from maesil.errors import ConfigError, ScanError
from maesil.screen import prepare_text
from maesil.store.prepare import PrepareConfig, PrepareReport, prepare
from maesil.store.privacy import check_privacy
from maesil.store.quarantine import quarantined_scan

CONFIG = PrepareConfig(spacing_mm=3.0, chunk=16, shard=32, salt="test")


def told_by(store: Path) -> bytes:
    """Every name and every byte of a store; metadata are not compressed, voxels are not text."""
    return b"\n".join(
        str(path.relative_to(store)).encode() + b"\n" + (path.read_bytes() if path.is_file() else b"")
        for path in sorted(store.rglob("*"))
    ).lower()


def assert_untold(store: Path, secrets: list[str]) -> None:
    told = told_by(store)
    assert [secret for secret in secrets if secret.lower().encode() in told] == []


def test_prepare__a_store_tells_nothing_of_the_headers(
    write_series: Callable[..., Path], tmp_path: Path, secrets: dict[str, str]
) -> None:
    write_series("Doe_Jane/20190823/1.2.826.0.1.3680043.8.498.222")
    other = {"SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.555", "PatientID": "ID-9"}
    write_series("Doe_Jane/20190823/second", skip=(3,), **other)
    report: PrepareReport = prepare([tmp_path / "Doe_Jane"], tmp_path / "store", CONFIG, workers=0)
    assert (len(report.prepared), len(report.quarantined)) == (1, 1)
    words = [*secrets.values(), *other.values(), "Doe", "Jane", "1.2.826", "second", "someone", str(tmp_path)]
    assert_untold(tmp_path / "store", words)


def test_prepare__series_of_a_patient_have_one_name(write_series: Callable[..., Path], tmp_path: Path) -> None:
    write_series("tree/a")
    write_series("tree/b", SeriesInstanceUID="1.2.826.0.1.3680043.8.498.666")
    write_series("tree/c", SeriesInstanceUID="1.2.826.0.1.3680043.8.498.777", PatientID="another")
    prepare([tmp_path / "tree"], tmp_path / "store", CONFIG, workers=0)
    rows = json.loads((tmp_path / "store" / "manifest.json").read_text())["scans"]
    assert len(rows) == 3
    assert len({row["patient"] for row in rows}) == 2


def test_prepare__hashed_names_hide_file_names(sources: Path, tmp_path: Path) -> None:
    folder = sources.rename(tmp_path / "Doe_Jane")
    (folder / "a.nii.gz").rename(folder / "JaneDoe.nii.gz")
    (folder / "JaneDoe_bad.nii.gz").write_bytes(b"no scan")
    hidden = PrepareConfig(spacing_mm=3.0, salt="test", hash_names=True)
    report = prepare([folder], tmp_path / "store", hidden, workers=0)
    assert (len(report.prepared), len(report.quarantined)) == (3, 1)
    assert_untold(tmp_path / "store", ["jane", "doe", str(tmp_path)])


def test_check_privacy__finds_what_a_store_repeats(
    write_series: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series("scans/p1/s1")
    write_series("scans/Roe_Ann/s1", PatientName="Roe^Ann", SeriesInstanceUID="1.2.826.0.1.3680043.8.498.41222")
    store = tmp_path / "store"
    prepare([tmp_path / "scans"], store, CONFIG, workers=0)
    words = ["doctor", "--privacy", str(store), str(tmp_path / "scans")]
    assert main(words) == 0
    assert "nothing is repeated" in capsys.readouterr().out
    for text, what in (
        ("jane-DOE", "PatientName"), ("23.08.2019", "StudyDate"), ("Saint_Elsewhere", "InstitutionName"),
        ("...41222", "SeriesInstanceUID"), ("ann roe", "PatientName"), ("id 77123 x", "PatientID"),
    ):  # fmt: skip
        (store / "note.txt").write_text(f"a scan of {text}, 0.5 mm\n")
        assert main([*words, "--json"]) == 1
        found = json.loads(capsys.readouterr().out)["repeated"]
        assert {"place": "note.txt", "what": what} in found
    (tmp_path / "none").mkdir()
    assert main(["doctor", "--privacy", str(store), str(tmp_path / "none")]) == 0
    assert "nothing was compared" in capsys.readouterr().out
    (store / "note.txt").write_text("a number, 20.190823, and 1952.0607\n")
    assert main(words) == 0
    with pytest.raises(ConfigError, match="no such file or folder"):
        check_privacy(tmp_path / "nowhere", store)


def test_prepare__names_that_may_be_a_patients_are_hashed(sources: Path, tmp_path: Path) -> None:
    folder = sources.rename(tmp_path / "Wu_Li")
    (folder / "a.nii.gz").rename(folder / "Kim Min-jun 1962-03-04.nii.gz")
    (folder / "Li bad.nii.gz").write_bytes(b"no scan")
    report = prepare([folder], tmp_path / "store", CONFIG, workers=0)
    assert (len(report.prepared), len(report.quarantined), report.hidden) == (3, 1, 4)
    assert_untold(tmp_path / "store", ["kim min", "min-jun", "1962-03", "wu_li", "li bad", str(tmp_path)])
    assert report.names is not None
    table = Path(report.names)
    assert tmp_path / "store" not in table.parents
    assert "Kim Min-jun 1962-03-04" in table.read_text()
    said = prepare_text(report, tmp_path / "store")
    assert f"patient is; {table} lists the originals; keep it as private as the scans; --keep-names keeps" in said
    assert "4 names are hashes, as names of files" in said
    again = prepare([folder], tmp_path / "store", CONFIG, workers=0)
    assert (again.prepared, len(again.skipped)) == ((), 3)


def test_prepare__tells_the_files_of_hashed_names(sources: Path, tmp_path: Path) -> None:
    """A user knows files, not hashes; a later call on other files knows them from the table of names."""
    folder = sources.rename(tmp_path / "Wu_Li")
    (folder / "a.nii.gz").rename(folder / "Kim Min-jun.nii.gz")
    (folder / "b.nii.gz").write_bytes((folder / "Kim Min-jun.nii.gz").read_bytes())
    shown = list[str]()
    for source in (folder, folder / "c.nii.gz"):
        report = prepare([source], tmp_path / "store", CONFIG, workers=0, progress=lambda *call: shown.append(call[2]))
        (line,) = [line for line in prepare_text(report, tmp_path / "store").splitlines() if "same bytes" in line]
        assert f"({folder / 'Kim Min-jun.nii.gz'})" in line
        assert f"({folder / 'b.nii.gz'})" in line
    assert sorted(shown) == ["", "", "Kim Min-jun.nii.gz", "b.nii.gz", "c.nii.gz", "c.nii.gz"]


def test_prepare__names_the_files_that_the_store_has_under_a_hash(sources: Path, tmp_path: Path) -> None:
    """Folders of one name, in two places: the table goes on naming the files that the store was made from."""
    first = sources.rename(tmp_path / "Wu_Li")
    (tmp_path / "other").mkdir()
    second = tmp_path / "other" / "Wu_Li"
    second.mkdir()
    (second / "a.nii.gz").write_bytes((first / "b.nii.gz").read_bytes())
    prepare([first], tmp_path / "store", CONFIG, workers=0)
    report = prepare([second], tmp_path / "store", CONFIG, workers=0)
    line = prepare_text(report, tmp_path / "store").splitlines()[-1]
    assert line.startswith(f"  {second / 'a.nii.gz'}: the store has ")
    assert f"from other files, and keeps it: {first / 'a.nii.gz'} (if" in line
    assert_untold(tmp_path / "store", [str(tmp_path)])
    table = Path(report.names or "").read_text()
    assert str(first / "a.nii.gz") in table
    assert str(second / "a.nii.gz") not in table
    prepare([second], tmp_path / "store", replace(CONFIG, replace=True), workers=0)
    assert str(second / "a.nii.gz") in Path(report.names or "").read_text()


def test_prepare__tells_the_files_of_stored_scans_not_those_refused(sources: Path, tmp_path: Path) -> None:
    first = sources.rename(tmp_path / "Wu_Li")
    (first / "b.nii.gz").write_bytes((first / "a.nii.gz").read_bytes())
    second = tmp_path / "other" / "Wu_Li"
    second.mkdir(parents=True)
    (second / "a.nii.gz").write_bytes((first / "c.nii.gz").read_bytes())
    prepare([first], tmp_path / "store", CONFIG, workers=0)
    report = prepare([second], tmp_path / "store", CONFIG, workers=0)
    (names,), (refused,) = report.copies, report.quarantined
    assert refused.path == str(second / "a.nii.gz")
    assert {report.places[name] for name in names} == {str(first / "a.nii.gz"), str(first / "b.nii.gz")}
    (line,) = [line for line in prepare_text(report, tmp_path / "store").splitlines() if "same bytes" in line]
    assert str(second) not in line
    (tmp_path / "moved").mkdir()
    moved = first.rename(tmp_path / "moved" / "Wu_Li")
    again = prepare([moved], tmp_path / "store", CONFIG, workers=0)
    assert {again.places[name] for name in names} == {str(moved / "a.nii.gz"), str(moved / "b.nii.gz")}


def test_prepare__prints_no_table_of_names_as_json(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It lists the files of hashed names, of earlier calls too; only its owner can read it."""
    first = sources.rename(tmp_path / "Wu_Li")
    second = tmp_path / "other" / "Wu_Li"
    second.mkdir(parents=True)
    (second / "a.nii.gz").write_bytes((first / "b.nii.gz").read_bytes())
    words = ["--out", str(tmp_path / "store"), "--workers", "0", "--spacing-mm", "2", "--salt", "test", "--json"]
    assert main(["prepare", str(first), *words]) == 0
    capsys.readouterr()
    assert main(["prepare", str(second), *words]) == 1
    printed = capsys.readouterr().out
    assert str(first) not in printed
    told = json.loads(printed)
    assert told["names"] == str(tmp_path / "store-names.private.csv")
    assert [row["path"] for row in told["quarantined"]] == [str(second / "a.nii.gz")]


def test_prepare__names_the_copy_of_a_series_that_it_takes(
    write_series: Callable[..., Path], tmp_path: Path, secrets: dict[str, str]
) -> None:
    for name in ("one", "two"):
        write_series(f"{name}/s1")
    report = prepare([tmp_path / "one", tmp_path / "two"], tmp_path / "store", CONFIG, workers=0)
    (copy,) = report.quarantined
    line = prepare_text(report, tmp_path / "store").splitlines()[-1]
    assert line.startswith(f"  {copy.path}: another scan of this call already has the name")
    (kept,) = {str(tmp_path / name / "s1") for name in ("one", "two")} - {copy.path}
    assert f": {kept}, series {secrets['SeriesInstanceUID']} (leave one" in line
    assert_untold(tmp_path / "store", [str(tmp_path)])


def test_prepare__scans_of_a_store_keep_the_names_that_it_has(sources: Path, tmp_path: Path) -> None:
    folder = sources.rename(tmp_path / "hosp")
    kept = replace(CONFIG, keep_names=True)
    first = prepare([folder], tmp_path / "store", kept, workers=0)
    assert first.prepared == ("hosp-a", "hosp-b", "hosp-c")
    assert (first.hidden, first.names) == (0, None)
    assert prepare([folder], tmp_path / "store", CONFIG, workers=0).skipped == first.prepared


@pytest.mark.parametrize(
    "message",
    [
        "two series: 1.2.826.0.1.3680043.8.498.222 and another",
        "the series ...1.2.3 of /data/Doe_Jane/CT is damaged",
        "cannot read Doe_Jane",
        "acquired on 20190823, or 2019-08-23",
        "slice Jane.dcm is missing",
    ],
)
def test_quarantined_scan__keeps_no_reason_that_tells_who(message: str) -> None:
    folder = Path("/data/Doe_Jane")
    scan = Scan("0123456789abcdef", "set", "p", folder, "1.2.3", (folder / "Jane.dcm",), "scan 0123456789abcdef")
    row = quarantined_scan(scan, ScanError(message)).row()
    text = json.dumps(row)
    assert not any(secret in text for secret in ("Doe", "Jane", "1.2.", "2019", "/data"))
    assert "(withheld)" in text


@pytest.mark.parametrize("folder", ["a", "1", "is", "slice"])
def test_quarantined_scan__a_folder_called_like_a_word_garbles_no_reason(folder: str) -> None:
    reason = "1 slice is missing: gaps of up to 6.00 mm where 3.00 mm is usual"
    path = Path("/data") / folder
    scan = Scan("0123456789abcdef", "set", "p", path, "1.2.3", (path / "1.dcm",), "scan 0123456789abcdef")
    assert quarantined_scan(scan, ScanError(reason)).reason == reason


def test_quarantined_scan__a_path_with_spaces_is_withheld_whole() -> None:
    folder = Path("/data/Kim Min-jun/CT 1")
    scan = Scan("0123456789abcdef", "set", "p", folder, None, (folder / "im 1.dcm",), "scan 0123456789abcdef")
    for text in (f"{folder / 'im 1.dcm'} is cut", f"{folder.parent}/other is cut", "Kim Min-jun is cut", "17.02.1953"):
        row = quarantined_scan(scan, ScanError(text)).row()
        assert not any(word in str(row) for word in ("Kim", "jun", "1953", "im 1", "CT"))


def test_quarantined_scan__an_unexpected_error_is_not_quoted() -> None:
    row = quarantined_scan(Scan("set-a", "set", "a", Path("a.nii"), shown="a.nii"), ValueError("odd byte in Doe^Jane"))
    assert row.reason == "unexpected ValueError"


def test_quarantined_scan__public_names_keep_their_reasons() -> None:
    scan = Scan("set-a", "set", "a", Path("/data/set/a.nii.gz"), None, (Path("/data/set/a.nii.gz"),), "a.nii.gz")
    row = quarantined_scan(scan, ScanError("a.nii.gz (/data/set/a.nii.gz) has spacing 0.5.1.2 mm")).row()
    assert row["reason"] == "a.nii.gz ((withheld)) has spacing 0.5.1.2 mm"


def test_prepare__real_headers_stay_out_of_the_store(data_dir: Path, tmp_path: Path) -> None:
    sources = [data_dir / "lidc", data_dir / "dicom"]
    config = PrepareConfig(policy="native", salt="test")
    report = prepare(sources, tmp_path / "store", config, workers=0)
    assert (len(report.prepared), len(report.quarantined)) == (2, 1)
    tags = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "StudyDate")
    secrets = set[str]()
    public = {"LIDC-IDRI-0314"}  # the collection's own case name
    for source in sources:
        for path in source.rglob("*.dcm"):
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags))
            secrets |= {str(header.get(tag, "")) for tag in tags} | {path.parent.name}
    assert_untold(tmp_path / "store", sorted(secret for secret in secrets - public if len(secret) > 3))


@pytest.mark.parametrize("name", ["names", "shape", "Min"])
def test_check_privacy__words_of_the_format_tell_nobody(
    write_series: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    write_series(f"{name}/a")
    prepare([tmp_path / name], tmp_path / "store", CONFIG, workers=0)
    assert check_privacy(tmp_path / "store", tmp_path / name).repeated == ()
