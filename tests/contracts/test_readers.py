"""Every reader keeps the promises of `maesil.ct.readers.base.Reader`; a new one is found wherever files are read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from conftest import blob
from dicom_slices import write_slice
from maesil import pipeline
from maesil.cli import main
from maesil.config import RunConfig
from maesil.ct.geometry import Geometry
from maesil.ct.readers import READERS, read, readable, reader_of
from maesil.ct.readers.base import Facts, Reader
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.datasets import Scan, find_scans
from maesil.datasets.facts import facts_of
from maesil.datasets.unify import unify
from maesil.errors import ScanError
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanStore

NOISE = np.random.default_rng(0).integers(-1000, 1000, (20, 22, 24)).astype(np.int16)
VOLUME = Volume(NOISE, Geometry.from_parts(NOISE.shape, (2.5, 2.0, 2.0)))


def write_itk(path: Path) -> None:
    image = SimpleITK.GetImageFromArray(NOISE)
    image.SetSpacing((2.0, 2.0, 2.5))
    SimpleITK.WriteImage(image, str(path))


def write_slices(path: Path) -> None:
    for index, plane in enumerate(NOISE):
        tags = {"SeriesInstanceUID": "1.2.3", "PatientID": "p"}
        write_slice(path.with_name(f"{index:02d}{path.name}"), plane, index, tags)


WRITERS: dict[str, Callable[[Path], None]] = {
    "NIfTI": lambda path: write_nifti(path, VOLUME),
    "NRRD": write_itk,
    "MetaImage": write_itk,
    "DICOM": write_slices,
}
ENDINGS = [(name, ending) for name, reader in READERS.items() for ending in reader.endings]
every_ending = pytest.mark.parametrize(("name", "ending"), ENDINGS, ids=[ending for _, ending in ENDINGS])


def written(name: str, ending: str, folder: Path) -> Scan:
    """The scan that `find_scans` finds in a folder with one scan of this format."""
    folder.mkdir()
    WRITERS[name](folder / f"scan{ending}")
    (scan,) = find_scans([folder], salt="s").scans
    return scan


def agree(facts: Facts, volume: Volume) -> bool:
    """Whether the facts are those of a volume whose axis 0 runs along its slices."""
    slices, rows, columns = volume.shape
    slice_mm, *in_plane_mm = volume.spacing_mm
    sizes = (facts.in_plane_mm, facts.slice_mm)
    return facts.shape == (columns, rows, slices) and sizes == pytest.approx((np.mean(in_plane_mm), slice_mm))


@every_ending
def test_endings__are_of_one_reader(name: str, ending: str, tmp_path: Path) -> None:
    assert ending == ending.lower()
    assert ending.startswith(".")
    assert [known for known, reader in READERS.items() if reader.ending_of(f"a{ending}")] == [name]
    assert reader_of(tmp_path / f"A{ending.upper()}") is READERS[name]
    assert READERS[name].name == name
    assert ending in readable()


@every_ending
def test_read__has_the_voxels_that_were_written(name: str, ending: str, tmp_path: Path) -> None:
    scan = written(name, ending, tmp_path / "set")
    volume = read(scan.path, series=scan.series)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.reorient("SPL").array, NOISE)
    np.testing.assert_allclose(volume.reorient("SPL").geometry.affine, VOLUME.geometry.affine, atol=1e-6)


@every_ending
def test_facts__are_those_of_the_volume(name: str, ending: str, tmp_path: Path) -> None:
    scan = written(name, ending, tmp_path / "set")
    assert agree(facts_of(scan), read(scan.path, series=scan.series))


@every_ending
def test_files__are_all_that_a_scan_needs(name: str, ending: str, tmp_path: Path) -> None:
    scan = written(name, ending, tmp_path / "set")
    (tmp_path / "copy").mkdir()
    for file in scan.files:
        shutil.copy(file, tmp_path / "copy")
    assert len(list(scan.files[0].parent.iterdir())) == len(scan.files)
    copied = tmp_path / "copy" if READERS[name].has_series else tmp_path / "copy" / scan.path.name
    np.testing.assert_array_equal(read(copied).reorient("SPL").array, NOISE)


@every_ending
def test_facts__a_file_that_lacks_a_byte_is_cut_short(name: str, ending: str, tmp_path: Path) -> None:
    scan = written(name, ending, tmp_path / "set")
    scan.files[-1].write_bytes(scan.files[-1].read_bytes()[:-1])
    with pytest.raises(ScanError, match="cut short") as caught:
        facts_of(scan)
    assert caught.value.where == str(scan.path)
    assert caught.value.fix


@every_ending
def test_read__a_damaged_file_is_a_scan_error(name: str, ending: str, tmp_path: Path) -> None:
    scan = written(name, ending, tmp_path / "set")
    for file in scan.files:
        file.write_bytes(b"no scan at all")
    for attempt in (lambda: read(scan.path, files=scan.files), lambda: facts_of(scan)):
        with pytest.raises(ScanError) as caught:
            attempt()
        assert caught.value.where in map(str, (scan.path, *scan.files))
        assert caught.value.fix


@every_ending
def test_read__an_ending_in_upper_case(name: str, ending: str, tmp_path: Path) -> None:
    for file in written(name, ending, tmp_path / "set").files:
        if file.name.endswith(ending):
            file.rename(file.with_name(file.name.removesuffix(ending) + ending.upper()))
    (scan,) = find_scans([tmp_path / "set"], salt="s").scans
    volume = read(scan.path, series=scan.series)
    np.testing.assert_array_equal(volume.reorient("SPL").array, NOISE)
    assert agree(facts_of(scan), volume)


class Toy(Reader):
    """A line of JSON with shape and spacing, then int16 voxels."""

    name = "Toy"
    endings = (".toy",)

    def read(self, files: Sequence[Path], options: ReadOptions = STRICT) -> Volume:
        geometry, voxels = self._parse(files[0])
        return Volume(np.frombuffer(voxels, dtype=np.int16).reshape(geometry.shape).copy(), geometry)

    def facts(self, files: Sequence[Path], options: ReadOptions = STRICT) -> Facts:
        geometry, voxels = self._parse(files[0])
        if len(voxels) < 2 * int(np.prod(geometry.shape)):
            raise ScanError("the file is cut short", where=files[0])
        return Facts.of(geometry.shape, geometry.spacing_mm)

    def _parse(self, path: Path) -> tuple[Geometry, bytes]:
        header, _, voxels = path.read_bytes().partition(b"\n")
        return Geometry.from_parts(**json.loads(header)), voxels


def write_toy(path: Path, volume: Volume) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"shape": volume.shape, "spacing_mm": volume.spacing_mm}).encode()
    path.write_bytes(header + b"\n" + volume.array.astype(np.int16).tobytes())
    return path


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    """One more reader in the catalogue."""
    reader = Toy()
    monkeypatch.setitem(READERS._parts, reader.name, reader)
    return reader


def test_new_reader__is_unknown_without_its_line_in_the_catalogue(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="cannot be read as a scan"):
        read(write_toy(tmp_path / "a.toy", VOLUME))


def test_new_reader__read(toy: Toy, tmp_path: Path) -> None:
    volume = read(write_toy(tmp_path / "a.TOY", VOLUME))
    np.testing.assert_array_equal(volume.array, NOISE)
    assert "Toy (.toy)" in readable()


def test_new_reader__datasets(toy: Toy, tmp_path: Path) -> None:
    write_toy(tmp_path / "set" / "a.toy", VOLUME)
    write_toy(tmp_path / "set" / "a_labels.toy", VOLUME)
    cut = write_toy(tmp_path / "set" / "b.toy", VOLUME)
    cut.write_bytes(cut.read_bytes()[:-1])
    out = tmp_path / "scans.json"
    assert main(["datasets", str(tmp_path / "set"), "--out", str(out)]) == 1
    (row,) = json.loads(out.read_text())["scans"]
    assert (row["scan_id"], row["size"], row["in_plane_mm"], row["slice_mm"]) == ("set-a", "24x22x20", 2.0, 2.5)
    assert row["labels"] == [str(tmp_path / "set" / "a_labels.toy")]
    (problem,) = unify([tmp_path / "set"]).problems[:1]
    assert (problem.path, problem.reason) == (cut, "the file is cut short")


def test_new_reader__layouts(toy: Toy, tmp_path: Path) -> None:
    """A layout takes files of the new format, and a stranger of this format is reported."""
    write_toy(tmp_path / "set" / "imagesTr" / "case_0000.toy", VOLUME)
    label = write_toy(tmp_path / "set" / "labelsTr" / "case.toy", VOLUME)
    (tmp_path / "set" / "dataset.json").write_text('{"channel_names": {"0": "CT"}, "labels": {"liver": 1}}')
    write_toy(tmp_path / "set" / "loose.toy", VOLUME)
    found = find_scans([tmp_path / "set"], salt="s")
    assert [scan.labels for scan in found.scans] == [(label,)]
    assert "loose.toy" in found.problems[0].reason
    assert found.matched[0].layout == "nnunet"


@pytest.mark.parametrize("listed", [False, True])
def test_new_reader__prepare(toy: Toy, tmp_path: Path, listed: bool) -> None:
    write_toy(tmp_path / "set" / "a.toy", VOLUME)
    write_toy(tmp_path / "set" / "a_labels.toy", Volume((NOISE > 0).astype(np.int16), VOLUME.geometry))
    write_nifti(
        tmp_path / "set" / "b.nii.gz", Volume(NOISE.copy()[:9], Geometry.from_parts((9, 22, 24), (2.0, 2.0, 2.0)))
    )
    source = tmp_path / "set"
    if listed:
        source = tmp_path / "scans.json"
        unify([tmp_path / "set"], out=source)
    config = PrepareConfig(policy="native", salt="test", labels=True)
    report = prepare([source], tmp_path / "store", config, workers=0)
    assert (report.prepared, report.quarantined) == (("set-a", "set-b"), ())
    store = ScanStore(tmp_path / "store")
    np.testing.assert_array_equal(store.volume("set-a").array, NOISE)
    np.testing.assert_array_equal(store.read_labels("set-a", (0, 0, 0), VOLUME.shape) > 0, NOISE > 0)


def test_new_reader__reconstruct(toy: Toy, tiny_config: RunConfig, tmp_path: Path) -> None:
    scan = write_toy(tmp_path / "a.toy", blob(0))
    pipeline.pretrain(tiny_config, tmp_path / "run")
    out = tmp_path / "rebuilt.nii.gz"
    assert main(["reconstruct", str(tmp_path / "run"), str(scan), "--out", str(out)]) == 0
    assert nibabel.load(out).shape == blob(0).shape[::-1]
