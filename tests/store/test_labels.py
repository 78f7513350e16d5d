from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from conftest import blob
from maesil.cli import main
from maesil.ct.geometry import Geometry
from maesil.ct.readers.options import ReadOptions
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.datasets import find_scans
from maesil.datasets.labels import classes_of, read_names
from maesil.errors import ConfigError, StoreError
from maesil.screen import prepare_text
from maesil.store.label_classes import numbers_in
from maesil.store.prepare import PrepareConfig, PrepareReport, prepare
from maesil.store.scanstore import ScanStore

SETTINGS = PrepareConfig(spacing_mm=2.0, salt="test", labels=True)


def marks(volume: Volume, **boxes: tuple[slice, slice, slice]) -> Volume:
    """Labels 1, 2, ... in boxes of the volume's voxels."""
    array = np.zeros(volume.shape, dtype=np.uint8)
    for number, box in enumerate(boxes.values(), start=1):
        array[box] = number
    return Volume(array, volume.geometry)


BOXES = {
    "low": (slice(5, 20), slice(20, 40), slice(30, 50)),
    "high": (slice(40, 60), slice(20, 40), slice(10, 30)),
}


def made(tmp_path: Path, config: PrepareConfig = SETTINGS, source: str = "scans") -> tuple[PrepareReport, ScanStore]:
    report = prepare([tmp_path / source], tmp_path / "store", config, workers=0)
    return report, ScanStore(tmp_path / "store")


@pytest.fixture
def scan(tmp_path: Path) -> Volume:
    volume = blob(0)
    (tmp_path / "scans").mkdir()
    write_nifti(tmp_path / "scans" / "a.nii.gz", volume)
    return volume


def test_prepare__one_file_of_numbers(tmp_path: Path, scan: Volume) -> None:
    labels = marks(scan, **BOXES)
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", labels)
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"1": "Low thing", "2": "high"}))
    report, store = made(tmp_path, replace(SETTINGS, label_names=names))
    assert (len(report.prepared), report.labels) == (1, 0)
    (entry,) = store.entries
    assert entry.labels == {"low_thing": 1, "high": 2}
    stored = store.read_labels(entry.scan_id, (0, 0, 0), entry.shape)
    assert np.array_equal(stored, labels.reorient("SPL").array)
    assert not store.read_labels(entry.scan_id, (-50, 0, 0), (40, 8, 8)).any()


def test_prepare__numbers_of_one_name_are_one_structure(tmp_path: Path, scan: Volume) -> None:
    labels = marks(scan, **BOXES)
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", labels)
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"2": "Kidney", "1": "kidney"}))
    for meaning in ("absent", "unmarked"):
        _, store = made(tmp_path, replace(SETTINGS, label_names=names, missing_labels=meaning))
        (entry,) = store.entries
        assert entry.labels == {"kidney": 1}
        stored = store.read_labels(entry.scan_id, (0, 0, 0), entry.shape)
        assert np.bincount(stored.ravel()).tolist() == [(labels.array == 0).sum(), (labels.array > 0).sum()]


def test_prepare__tells_which_names_are_one_but_for_their_spelling(tmp_path: Path, scan: Volume) -> None:
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    names = tmp_path / "scans" / "label_names.json"
    told = "label names that differ only in spelling are one class: Left Kidney, left_kidney (left_kidney)"
    for given in (None, names):
        names.write_text(json.dumps({"2": "left_kidney", "1": "Left Kidney"}))
        said = prepare_text(made(tmp_path, replace(SETTINGS, label_names=given))[0], tmp_path / "store")
        assert told in said.splitlines()
        names.write_text(json.dumps({"1": "kidney", "2": "kidney"}))
        said = prepare_text(made(tmp_path, replace(SETTINGS, label_names=given))[0], tmp_path / "store")
        assert "spelling" not in said, "numbers of one name are meant to be one class"


def test_prepare__tells_which_files_of_a_structure_are_one_but_for_their_spelling(tmp_path: Path) -> None:
    for case in ("s0001", "s0002"):
        folder = tmp_path / "scans" / case / "segmentations"
        folder.mkdir(parents=True)
        write_nifti(folder.parent / "ct.nii.gz", blob(int(case[1:])))
        for name, box in zip(("Left-Kidney", "left_kidney"), BOXES.values(), strict=True):
            write_nifti(folder / f"{name}.nii.gz", marks(blob(1), one=box))
    said = prepare_text(made(tmp_path)[0], tmp_path / "store").splitlines()
    assert "label names that differ only in spelling are one class: Left-Kidney, left_kidney (left_kidney)" in said
    said = prepare_text(made(tmp_path, replace(SETTINGS, labels=False))[0], tmp_path / "store").splitlines()
    assert not any("spelling" in line for line in said)


def image(path: Path, array: np.ndarray, geometry: Geometry) -> None:
    """Writes labels of any type: `Volume` has but some of them."""
    made = SimpleITK.GetImageFromArray(array)
    made.SetSpacing(geometry.spacing_mm[::-1])
    made.SetOrigin(geometry.origin_mm)
    made.SetDirection(geometry.direction[:, ::-1].ravel().tolist())
    SimpleITK.WriteImage(made, str(path))


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_prepare__high_numbers_are_not_clipped(tmp_path: Path, dtype: type, ending: str) -> None:
    scan = blob(0)
    (tmp_path / "scans").mkdir()
    write_nifti(tmp_path / "scans" / "a.nii.gz", scan)
    array = np.full(scan.shape, 40000, dtype=dtype)  # more than the share of voxels that is clipped in a scan
    array[BOXES["low"]], array[BOXES["high"]] = 50000, 65535
    image(tmp_path / "scans" / f"a_seg{ending}", array, scan.geometry)
    report, store = made(tmp_path)
    assert report.quarantined == ()
    (entry,) = store.entries
    assert entry.labels == {"label_40000": 40000, "label_50000": 50000, "label_65535": 65535}
    stored = store.read_labels(entry.scan_id, (0, 0, 0), entry.shape)
    assert np.unique(stored, return_counts=True)[1].tolist() == np.unique(array, return_counts=True)[1].tolist()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (65536, "the label number 65536 is too high"),
        (-1, "not whole numbers from 0"),
        (0.5, "not whole numbers from 0"),
    ],
)
def test_prepare__values_that_are_no_label_are_refused(tmp_path: Path, scan: Volume, value: float, told: str) -> None:
    array = np.zeros(scan.shape, dtype=np.float32 if value == 0.5 else np.int32)
    array[3, 3, 3] = value
    image(tmp_path / "scans" / "a_seg.nii.gz", array, scan.geometry)
    report, _ = made(tmp_path)
    (row,) = report.quarantined
    assert told in row.reason


def test_prepare__a_number_without_a_voxel_is_absent_or_unmarked(tmp_path: Path, scan: Volume) -> None:
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"1": "low", "2": "high", "3": "nowhere"}))
    settings = replace(SETTINGS, label_names=names)
    _, store = made(tmp_path, settings)
    assert store.entries[0].labels == {"low": 1, "high": 2, "nowhere": 3}
    report, store = made(tmp_path, replace(settings, missing_labels="unmarked"))
    assert (len(report.prepared), store.entries[0].labels) == (1, {"low": 1, "high": 2})
    report, _ = made(tmp_path, replace(settings, missing_labels="unmarked"))
    assert report.prepared == ()


def test_prepare__a_lone_number_that_no_given_name_is_for_keeps_its_number(tmp_path: Path, scan: Volume) -> None:
    write_nifti(tmp_path / "scans" / "a_seg.nii.gz", marks(scan, low=BOXES["low"]))
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"2": "liver"}))
    _, store = made(tmp_path, replace(SETTINGS, label_names=names, missing_labels="unmarked"))
    assert store.entries[0].labels == {"label_1": 1}


def test_write_labels__a_file_without_a_voxel_is_absent_or_unmarked(tmp_path: Path) -> None:
    scan = blob(0)
    (tmp_path / "all" / "s0001" / "segmentations").mkdir(parents=True)
    for number, name in enumerate(("liver", "spleen")):
        array = np.zeros(scan.shape, dtype=np.uint8)
        array[5:9, 5:9, 5:9] = number
        write_nifti(tmp_path / "all" / "s0001" / "segmentations" / f"{name}.nii.gz", Volume(array, scan.geometry))
    write_nifti(tmp_path / "all" / "s0001" / "ct.nii.gz", scan)
    names = {}
    for meaning in ("absent", "unmarked"):
        settings = replace(SETTINGS, missing_labels=meaning)
        prepare([tmp_path / "all"], tmp_path / meaning, settings, workers=0)
        names[meaning] = set(ScanStore(tmp_path / meaning).entries[0].labels or ())
    assert names == {"absent": {"liver", "spleen"}, "unmarked": {"spleen"}}


def test_prepare__resampled_with_the_nearest_neighbour(tmp_path: Path, scan: Volume) -> None:
    write_nifti(tmp_path / "scans" / "a_seg.nii.gz", marks(scan, **BOXES))
    _, store = made(tmp_path, replace(SETTINGS, spacing_mm=3.0))
    (entry,) = store.entries
    stored = store.read_labels(entry.scan_id, (0, 0, 0), entry.shape)
    assert set(np.unique(stored)) == {0, 1, 2}
    assert entry.labels == {"label_1": 1, "label_2": 2}
    for number, box in enumerate(BOXES.values(), start=1):
        # centre of mass in millimetres, before and after
        before = scan.geometry.index_to_mm(np.array([[(part.start + part.stop - 1) / 2 for part in box]]))
        after = entry.geometry.index_to_mm(np.argwhere(stored == number).mean(axis=0, keepdims=True))
        assert np.abs(before - after).max() < 1.5
        volume_mm3 = (stored == number).sum() * 27
        assert volume_mm3 == pytest.approx(np.prod([part.stop - part.start for part in box]) * 8, rel=0.1)


def test_prepare__a_file_per_structure(tmp_path: Path) -> None:
    volume = blob(1)
    case = tmp_path / "scans" / "s0001"
    (case / "segmentations").mkdir(parents=True)
    write_nifti(case / "ct.nii.gz", volume)
    for name, box in BOXES.items():
        write_nifti(case / "segmentations" / f"{name}.nii.gz", marks(volume, one=box))
    write_nifti(case / "segmentations" / "absent.nii.gz", marks(volume))
    _, store = made(tmp_path)
    (entry,) = store.entries
    assert entry.labels == {"absent": 1, "high": 2, "low": 3}
    assert set(np.unique(store.read_labels(entry.scan_id, (0, 0, 0), entry.shape))) == {0, 2, 3}


def test_prepare__tells_which_classes_it_found(tmp_path: Path, scan: Volume) -> None:
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    write_nifti(tmp_path / "scans" / "b.nii.gz", scan)
    write_nifti(tmp_path / "scans" / "b_labels.nii.gz", marks(scan, none=(slice(0),) * 3, high=BOXES["high"]))
    write_nifti(tmp_path / "scans" / "c.nii.gz", scan)
    for _ in ("at first", "again"):
        said = prepare_text(made(tmp_path)[0], tmp_path / "store").splitlines()
        assert "labels of 2 of 3 scans: 2 classes: label_1 = 1 (1 scan), label_2 = 2 (2 scans)" in said
        (advice,) = [line for line in said if "--label-names" in line]
        assert "2 label numbers have no name: 1, 2; " in advice
        assert '{"1": "liver"} into label_names.json beside the label files' in advice
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"1": "low", "2": "high", "3": "nowhere"}))
    named = prepare_text(made(tmp_path, replace(SETTINGS, label_names=names))[0], tmp_path / "store")
    assert "2 classes: low = 1 (1 scan), high = 2 (2 scans)\n1 class is in no scan: nowhere" in named
    assert "--label-names" not in named
    assert "class" not in prepare_text(made(tmp_path, replace(SETTINGS, labels=False))[0], tmp_path / "store")


def test_prepare__tells_what_a_class_without_a_voxel_means(tmp_path: Path, scan: Volume) -> None:
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    for name, boxes in (("b", {"low": BOXES["low"]}), ("c", {"low": BOXES["high"]})):
        write_nifti(tmp_path / "scans" / f"{name}.nii.gz", scan)
        write_nifti(tmp_path / "scans" / f"{name}_labels.nii.gz", marks(scan, **boxes))
    names = tmp_path / "scans" / "label_names.json"
    names.write_text(json.dumps({"1": "low", "2": "high", "3": "nowhere"}))
    report = made(tmp_path)[0]
    assert [(one.name, one.scans, one.background, one.unmarked) for one in report.classes] == [
        ("low", 3, 0, 0), ("high", 1, 2, 0), ("nowhere", 0, 3, 0),
    ]  # fmt: skip
    told = "no voxel in some of these scans: high (2 scans): background there, for training and scores"
    hint = "; if nobody marked it there, run this again with --missing-labels unmarked"
    assert told + hint in prepare_text(report, tmp_path / "store").splitlines()
    assert told in prepare_text(report, tmp_path / "store", chose_missing=True).splitlines()
    report = made(tmp_path, replace(SETTINGS, missing_labels="unmarked"))[0]
    assert [(one.name, one.background, one.unmarked) for one in report.classes] == [("low", 0, 0), ("high", 0, 2)]
    told = "not marked in some of these scans: high (2 scans): neither taught nor scored there"
    assert told in prepare_text(report, tmp_path / "store").splitlines()
    names.unlink()
    report = made(tmp_path)[0]
    assert "label_2 (2 scans): neither taught nor scored there" in prepare_text(report, tmp_path / "store")


def words_of(folder: Path, *more: str) -> list[str]:
    """The call of `maesil prepare` on the scans of a folder."""
    return ["prepare", str(folder / "scans"), "--out", str(folder / "store"), "--workers", "0", *more]


@pytest.mark.parametrize(
    "given",
    [("--missing-labels", "unmarked"), ("--label_names=names.json",), ("--labels-on-another-grid", "resample")],
)
def test_main__flags_of_labels_need_labels(
    given: tuple[str, ...], tmp_path: Path, scan: Volume, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words_of(tmp_path, *given)) == 2
    flag = given[0].partition("=")[0].replace("_", "-")
    assert f"{flag} needs --labels: without it, no label is read" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("chosen", [(), ("--missing-labels", "absent"), ("--missing_labels=absent",)])
def test_prepare__hints_at_missing_labels_unless_they_were_chosen(
    tmp_path: Path, scan: Volume, chosen: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    write_nifti(tmp_path / "scans" / "b.nii.gz", scan)
    write_nifti(tmp_path / "scans" / "b_labels.nii.gz", marks(scan, low=BOXES["low"]))
    (tmp_path / "scans" / "label_names.json").write_text(json.dumps({"1": "low", "2": "high"}))
    words = words_of(tmp_path, "--labels", *chosen)
    assert main(words) == 0
    said = capsys.readouterr().err
    assert "no voxel in some of these scans: high (1 scan)" in said
    assert ("--missing-labels unmarked" in said) == (not chosen)


def test_prepare__tells_that_no_scan_has_labels(tmp_path: Path, scan: Volume) -> None:
    said = prepare_text(made(tmp_path)[0], tmp_path / "store").splitlines()
    assert said[2:] == [
        "labels of 0 of 1 scan: no label file was found; that of NAME.nii.gz is NAME_labels.nii.gz (or _seg, _mask, "
        "_tumour) beside it"
    ]
    write_nifti(tmp_path / "scans" / "other_labels.nii.gz", marks(scan, **BOXES))
    said = prepare_text(made(tmp_path)[0], tmp_path / "store").splitlines()
    assert "labels of 0 of 1 scan: the label files found are of no scan, or hold no voxels" in said
    assert "labels of" not in prepare_text(made(tmp_path, replace(SETTINGS, labels=False))[0], tmp_path / "store")


def test_prepare__a_scan_that_is_given_as_a_file_has_labels(tmp_path: Path, scan: Volume) -> None:
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    report, store = made(tmp_path, source="scans/a.nii.gz")
    assert (report.labelled, report.labels, store.entries[0].labels) == (1, 0, {"label_1": 1, "label_2": 2})


def test_prepare__tells_which_of_the_given_files_are_labels(tmp_path: Path, scan: Volume) -> None:
    labels = tmp_path / "scans" / "a_labels.nii.gz"
    write_nifti(labels, marks(scan, **BOXES))
    for wanted in (False, True):
        sources = sorted((tmp_path / "scans").iterdir())
        report = prepare(sources, tmp_path / "store", replace(SETTINGS, labels=wanted), workers=0)
        assert report.given_labels == (str(labels),)
        said = prepare_text(report, tmp_path / "store").splitlines()
        assert f"1 of the given files was taken for labels, not for a scan: {labels}" in said
    assert report.labelled == 1


def test_numbers_in__copies_no_more_than_a_plane() -> None:
    labels = np.zeros((100, 200, 200), dtype=np.uint16)
    labels[7, 3, 5], labels[99] = 40000, 2
    tracemalloc.start()
    try:
        assert numbers_in(labels) == {2, 40000}
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < labels.nbytes / 2


def test_prepare__reads_no_labels_of_scans_that_are_there(
    tmp_path: Path, scan: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    first, store = made(tmp_path)
    monkeypatch.setattr("maesil.store.label_classes.open_array", None)
    again, _ = made(tmp_path)
    assert again.skipped == ("scans-a",)
    assert again.classes == first.classes
    metadata = json.loads((store.paths[0] / "scans" / "scans-a" / "labels" / "zarr.json").read_text())
    assert metadata["attributes"] == {"maesil": {"numbers": [1, 2]}}


def forget_numbers(store: ScanStore) -> None:
    """Leaves the labels of a store as an earlier version wrote them."""
    for path in (store.paths[0] / "scans").glob("*/labels/zarr.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "attributes": {}}, indent=2))


def test_prepare__records_the_numbers_of_labels_that_an_earlier_version_wrote(tmp_path: Path, scan: Volume) -> None:
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    first, store = made(tmp_path)
    path = store.paths[0] / "scans" / "scans-a" / "labels" / "zarr.json"
    now = path.read_text()
    forget_numbers(store)
    again, same = made(tmp_path)
    assert again.skipped == ("scans-a",)
    assert again.classes == first.classes
    assert path.read_text() == now
    assert same.fingerprint == store.fingerprint, "it is the same store"


def test_prepare__a_class_of_several_numbers_is_told(tmp_path: Path) -> None:
    for case, names in (("s0001", ("liver", "spleen")), ("s0002", ("aorta", "liver"))):
        folder = tmp_path / "scans" / case / "segmentations"
        folder.mkdir(parents=True)
        write_nifti(folder.parent / "ct.nii.gz", blob(int(case[1:])))
        for name in names:
            write_nifti(folder / f"{name}.nii.gz", marks(blob(1), one=BOXES["low" if name == "liver" else "high"]))
    said = prepare_text(made(tmp_path)[0], tmp_path / "store")
    assert "labels of 2 of 2 scans: 3 classes: aorta = 1 (1 scan), spleen = 2 (1 scan), liver of several" in said


@pytest.mark.parametrize("damaged", ["zarr.json", "c/0/0/0"])
def test_prepare__labels_that_cannot_be_read_again_are_written_again(
    tmp_path: Path, scan: Volume, damaged: str
) -> None:
    """Voxels are read only of an earlier version's labels; for others, `maesil store check` does."""
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    _, store = made(tmp_path)
    path = store.paths[0] / "scans" / "scans-a" / "labels" / damaged
    sound = path.read_bytes()
    if damaged != "zarr.json":
        forget_numbers(store)
    path.write_bytes(bytes(len(sound)))
    report, _ = made(tmp_path)
    assert path.read_bytes() == sound
    assert [one.scans for one in report.classes] == [1, 1]
    assert report.repaired == (("scans-a", "its labels cannot be read"),)
    assert (report.prepared, report.skipped, report.changed) == (("scans-a",), (), ())
    told = f"scans-a ({tmp_path / 'scans' / 'a.nii.gz'}) was damaged in the store, and is written again: its labels"
    assert told in prepare_text(report, tmp_path / "store")


def test_prepare__a_lone_mask_is_named_by_its_file(tmp_path: Path, scan: Volume) -> None:
    write_nifti(tmp_path / "scans" / "a_tumour.nii.gz", marks(scan, one=BOXES["low"]))
    _, store = made(tmp_path)
    assert store.entries[0].labels == {"tumour": 1}


def test_prepare__no_label_is_named_after_a_patient(tmp_path: Path) -> None:
    for number, patient in enumerate(("Mueller_Hans", "Schmidt_Eva")):
        volume = blob(number)
        (tmp_path / "scans").mkdir(exist_ok=True)
        write_nifti(tmp_path / "scans" / f"{patient}.nii.gz", volume)
        write_nifti(tmp_path / "scans" / f"{patient}_mask.nii.gz", marks(volume, one=BOXES["low"]))
        write_nifti(tmp_path / "scans" / f"{patient}_tumour.nii.gz", marks(volume, one=BOXES["high"]))
    assert {classes_of(scan) for scan in find_scans([tmp_path / "scans"], salt="test").scans} == {
        frozenset({"mask", "tumour"})
    }
    _, store = made(tmp_path)
    assert [entry.labels for entry in store.entries] == [{"mask": 1, "tumour": 2}] * 2


def test_prepare__a_lone_number_of_nnunet_is_not_named_after_the_patient(tmp_path: Path) -> None:
    volume, root = blob(0), tmp_path / "scans"
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    write_nifti(root / "imagesTr" / "Mueller_Hans_0000.nii.gz", volume)
    write_nifti(root / "labelsTr" / "Mueller_Hans.nii.gz", marks(volume, one=BOXES["low"]))
    write_nifti(root / "imagesTr" / "Mueller_Hans_0001.nii.gz", volume)
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}}))
    report, store = made(tmp_path)
    assert store.entries[0].labels == {"label_1": 1}
    assert report.notices == (f"{root}: 1 file of a further channel was skipped",), "without advice, no brackets"


def test_prepare__another_grid_is_told_and_the_rest_goes_on(tmp_path: Path, scan: Volume) -> None:
    shifted = marks(scan, **BOXES)
    moved = Geometry.from_parts(scan.shape, scan.geometry.spacing_mm, (30.0, 0.0, 0.0))
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", Volume(shifted.array, moved))
    write_nifti(tmp_path / "scans" / "b.nii.gz", blob(1))
    report, store = made(tmp_path)
    assert [entry.scan_id for entry in store.entries] == ["scans-b"]
    (row,) = report.quarantined
    assert "not on the scan's grid" in row.reason
    assert "without --labels" in (row.fix or "")


def test_prepare__a_damaged_label_file_is_named(tmp_path: Path, scan: Volume) -> None:
    labels = tmp_path / "scans" / "a_labels.nii.gz"
    labels.write_text("no labels")
    (row,) = made(tmp_path)[0].quarantined
    assert row.path == str(labels)


def test_prepare__another_grid_is_resampled_where_asked(tmp_path: Path, scan: Volume) -> None:
    shifted = marks(scan, **BOXES)
    moved = Geometry.from_parts(scan.shape, scan.geometry.spacing_mm, (4.0, 0.0, 0.0))  # two voxels to the left
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", Volume(shifted.array, moved))
    _, store = made(tmp_path, replace(SETTINGS, labels_on_another_grid="resample"))
    (entry,) = store.entries
    stored = store.read_labels(entry.scan_id, (0, 0, 0), entry.shape)
    np.testing.assert_array_equal(stored, np.roll(shifted.array, 2, axis=2))


def test_prepare__labels_later_and_kept_ever_after(tmp_path: Path, scan: Volume) -> None:
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    _, store = made(tmp_path, replace(SETTINGS, labels=False))
    assert store.entries[0].labels is None
    with pytest.raises(StoreError, match="no labels in this store"):
        store.read_labels(store.entries[0].scan_id, (0, 0, 0), (4, 4, 4))
    report, store = made(tmp_path)
    assert (report.prepared, report.changed, report.replaced) == (("scans-a",), ("scans-a",), ())
    assert store.entries[0].labels
    for config in (SETTINGS, replace(SETTINGS, labels=False)):
        report, store = made(tmp_path, config)
        assert report.skipped == ("scans-a",)
        assert store.entries[0].labels


def test_prepare__reading_options_leave_stored_scans_and_their_labels_alone(tmp_path: Path, scan: Volume) -> None:
    """An option admits scans that are refused otherwise, so one that is stored needs none."""
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    made(tmp_path)
    report, store = made(tmp_path, replace(SETTINGS, labels=False, options=ReadOptions(resample_tilt=True)))
    assert (report.prepared, report.skipped) == ((), ("scans-a",))
    assert store.entries[0].labels
    tolerant = ReadOptions(slice_tolerance_mm=3.0)
    report, store = made(tmp_path, replace(SETTINGS, labels=False, options=tolerant))
    assert (report.prepared, bool(store.entries[0].labels)) == (("scans-a",), True), "it may be read in another way"


def test_prepare__a_scan_that_is_written_again_keeps_its_labels(tmp_path: Path, scan: Volume) -> None:
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    made(tmp_path)
    damage(tmp_path / "store", split="train")
    report, store = made(tmp_path, replace(SETTINGS, labels=False))
    assert (report.prepared, bool(store.entries[0].labels)) == (("scans-a",), True)


def test_prepare__tells_that_the_store_keeps_labels_that_are_not_asked_for(tmp_path: Path, scan: Volume) -> None:
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    unwanted = replace(SETTINGS, labels=False)
    skipped = "1 label file skipped, as --labels was not given"
    assert skipped in prepare_text(made(tmp_path, unwanted)[0], tmp_path / "store").splitlines()
    assert "--labels" not in prepare_text(made(tmp_path)[0], tmp_path / "store").replace("--label-names", "")
    said = prepare_text(made(tmp_path, unwanted)[0], tmp_path / "store").splitlines()
    assert f"{skipped}; the store keeps the labels of 1 scan" in said


def test_prepare__labels_of_other_settings_are_not_lost(tmp_path: Path, scan: Volume) -> None:
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    made(tmp_path, replace(SETTINGS, missing_labels="unmarked"))
    damage(tmp_path / "store", split="train")
    report, store = made(tmp_path, replace(SETTINGS, labels=False))
    assert report.removed == ()
    assert "scans-a would lose its labels if it was written again" in prepare_text(report, tmp_path / "store")
    assert store.entries[0].labels
    (tmp_path / "scans" / "a_labels.nii.gz").unlink()
    write_nifti(tmp_path / "scans" / "a.nii.gz", blob(1))
    report, store = made(tmp_path, replace(SETTINGS, labels=False, replace=True))
    assert (report.removed, len(report.quarantined), bool(store.entries[0].labels)) == ((), 1, True)


def damage(store: Path, **changes: object) -> None:
    """Changes what the store recorded of its one scan, so that it is written again."""
    path = store / "scans" / "scans-a" / "zarr.json"
    group = json.loads(path.read_text())
    group["attributes"]["maesil"].update(changes)
    path.write_text(json.dumps(group))


def test_prepare__labels_on_another_grid_leave_the_stored_scan_alone(tmp_path: Path, scan: Volume) -> None:
    made(tmp_path, replace(SETTINGS, labels=False))
    moved = Geometry.from_parts(scan.shape, scan.geometry.spacing_mm, (4.0, 0.0, 0.0))
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", Volume(marks(scan, **BOXES).array, moved))
    report, store = made(tmp_path)
    assert (report.removed, report.kept, len(store.entries)) == ((), ("scans-a",), 1)


def test_prepare__names_that_cannot_be_read(tmp_path: Path, scan: Volume, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "names.json"
    bad.write_text("[1, 2]")
    assert main(words_of(tmp_path, "--labels", "--label-names", str(bad))) == 2
    assert "names no labels" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="cannot be read"):
        replace(SETTINGS, label_names=tmp_path / "none.csv").named_labels()


def test_prepare__names_beside_the_scans_are_used_unless_others_are_given(tmp_path: Path, scan: Volume) -> None:
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    beside, given = tmp_path / "scans" / "label_names.json", tmp_path / "names.json"
    beside.write_text(json.dumps({"1": "low", "2": "high"}))
    report, store = made(tmp_path)
    assert (store.entries[0].labels, report.named_by) == ({"low": 1, "high": 2}, (str(beside),))
    assert f"label numbers are named by {beside}; " in prepare_text(report, tmp_path / "store")
    report, _ = made(tmp_path, replace(SETTINGS, label_names=beside))
    assert report.skipped == ("scans-a",), "the same names make the same labels, however they are given"
    given.write_text(json.dumps({"1": "other"}))
    report, store = made(tmp_path, replace(SETTINGS, label_names=given))
    assert (store.entries[0].labels, report.named_by) == ({"other": 1, "label_2": 2}, ())


def test_prepare__names_that_are_gone_in_the_end_spoil_no_report(tmp_path: Path, scan: Volume) -> None:
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    beside = tmp_path / "scans" / "label_names.json"
    beside.write_text(json.dumps({"1": "A b", "2": "a-b"}))
    report = prepare(
        [tmp_path / "scans"],
        tmp_path / "store",
        SETTINGS,
        workers=0,
        progress=lambda *_: beside.unlink(missing_ok=True),
    )
    assert (report.prepared, report.merged_names) == (("scans-a",), ("A b, a-b (a_b)",))


def test_prepare__damaged_names_beside_the_scans_matter_if_labels_are_wanted(tmp_path: Path, scan: Volume) -> None:
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    beside = tmp_path / "scans" / "label_names.json"
    beside.write_text("no JSON")
    with pytest.raises(ConfigError, match="are not JSON") as raised:
        made(tmp_path)
    assert raised.value.where == str(beside)
    report, _ = made(tmp_path, replace(SETTINGS, labels=False))
    assert (report.prepared, report.named_by) == (("scans-a",), ())


def test_prepare__a_scan_that_is_written_again_keeps_the_names_beside_it(tmp_path: Path, scan: Volume) -> None:
    write_nifti(tmp_path / "scans" / "a_labels.nii.gz", marks(scan, **BOXES))
    (tmp_path / "scans" / "label_names.json").write_text(json.dumps({"1": "low"}))
    made(tmp_path)
    damage(tmp_path / "store", split="train")
    report, store = made(tmp_path, replace(SETTINGS, labels=False))
    assert (report.prepared, store.entries[0].labels) == (("scans-a",), {"low": 1, "label_2": 2})
    assert "label_names" not in prepare_text(report, tmp_path / "store")


@pytest.mark.parametrize(
    "text", ["id,name\n1,Liver\n2,left kidney\n", "group,structure,id\norgans,Liver,1\nx,left kidney,2\n"]
)
def test_read_names__csv(text: str, tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text(text)
    assert replace(SETTINGS, label_names=path).named_labels() == {1: "liver", 2: "left_kidney"}


def test_read_names__regions_of_several_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"labels": {"liver": 1, "both_kidneys": [9, 10]}}))
    with pytest.raises(ConfigError, match="labels of several numbers are not read: both_kidneys"):
        replace(SETTINGS, label_names=path).named_labels()


def test_read_names__names_without_ascii_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text(json.dumps({"1": "간", "2": "비장", "3": "liver"}))
    assert replace(SETTINGS, label_names=path).named_labels() == {3: "liver"}


@pytest.mark.parametrize("row", ["2", "2,", "2, "])
def test_read_names__a_number_without_a_name_is_refused(row: str, tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text(f"id,name\n0\n1,liver\n{row}\n")
    with pytest.raises(ConfigError, match="line 4 has the number 2, but no name"):
        replace(SETTINGS, label_names=path).named_labels()


def test_read_names__csv_rows_without_a_number_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text("name,id\nliver,1\nspleen\nbackground,0\n")
    assert replace(SETTINGS, label_names=path).named_labels() == {1: "liver"}


@pytest.mark.parametrize(
    ("name", "text"), [("names.json", '{"²": "x", "1": "liver"}'), ("names.csv", "id,name\n²,x\n1,liver\n")]
)
def test_read_names__digits_that_are_no_number_are_no_number(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_names(tmp_path / name) == {1: "liver"}
