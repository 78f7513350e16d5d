"""Every foreign input gets what is right, from the readers, from `prepare` and from `datasets`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from foreign import Foreign
from maesil.ct.geometry import Geometry, GeometryWarning
from maesil.ct.readers import read, volume_endings
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.volume import Volume
from maesil.datasets import find_scans
from maesil.datasets.unify import unify
from maesil.errors import ScanError
from maesil.store.prepare import PrepareConfig, PrepareReport, prepare
from maesil.store.scanstore import ScanStore

MODULES = [f"foreign.{name}" for name in ("nifti", "text_headers", "values", "dicom") if find_spec(f"foreign.{name}")]
INPUTS: tuple[Foreign, ...] = tuple(one for name in MODULES for one in import_module(name).INPUTS)
LEAST_INPUTS = 250
PLACE_MM = 1e-3
GRID_MM = 0.05
"""Slices may lie this far off an even grid, which each reader draws in its own way."""
CROSS_CHECKED = [one for one in INPUTS if one.right is not None and not one.alone and not one.name.startswith("dicom")]
DICOM = [one for one in INPUTS if one.right is not None and not one.alone and one.name.startswith("dicom")]
every_input = pytest.mark.parametrize("one", INPUTS, ids=[one.name for one in INPUTS])


@dataclass
class Outcomes:
    """What `prepare` and `datasets` made of all inputs; a folder of each input, by its name."""

    tree: Path
    stores: dict[ReadOptions, ScanStore] = field(default_factory=dict)
    scans: dict[str, str] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)
    warned: dict[str, list[str]] = field(default_factory=dict)
    unusable: dict[str, list[str]] = field(default_factory=dict)


def _options() -> list[ReadOptions]:
    return list(dict.fromkeys(one.options for one in INPUTS))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """One `prepare` and one `datasets` over all inputs, for each set of options that any of them needs."""
    root = tmp_path_factory.mktemp("foreign")
    done = Outcomes(root)
    for number, options in enumerate(_options()):
        tree = root / f"set{number}"
        for one in INPUTS:
            if one.options == options:
                (tree / one.name).mkdir(parents=True)
                one.write(tree / one.name)
        _prepared(tree, root / f"store{number}", options, done)
        for problem in unify([tree], options=options).problems:
            _note(done.unusable, tree, problem.path or tree, problem.reason)
    return done


def _prepared(tree: Path, out: Path, options: ReadOptions, done: Outcomes) -> PrepareReport:
    config = PrepareConfig(policy="native", salt="test", keep_names=True, options=options)
    found = find_scans([tree], salt="test", keep_names=True)
    report = prepare([tree], out, config, workers=0)
    names = {scan.scan_id: scan.path.relative_to(tree).parts[0] for scan in found.scans}
    done.stores[options] = ScanStore(out)
    for scan_id in report.prepared:
        assert names[scan_id] not in done.scans, f"{names[scan_id]} became two scans"
        done.scans[names[scan_id]] = scan_id
    for row in report.quarantined:
        _note(done.refused, tree, Path(row.path or tree), row.reason)
    for scan_id, text in report.warnings:
        done.warned.setdefault(names[scan_id], []).append(text)
    return report


def _note(kept: dict[str, list[str]], tree: Path, path: Path, reason: str) -> None:
    parts = path.relative_to(tree).parts
    kept.setdefault(parts[0] if parts else "", []).append(reason)


def test_inputs__are_many_and_have_names_of_their_own() -> None:
    names = [one.name for one in INPUTS]
    assert len(names) >= LEAST_INPUTS
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w.-]+", name) for name in names)
    assert all(one.right is not None or one.refused for one in INPUTS)


@every_input
def test_prepare__accepts_what_is_sound_and_refuses_the_rest(one: Foreign, outcomes: Outcomes) -> None:
    reasons = outcomes.refused.get(one.name, [])
    assert not any("please report" in reason or "Traceback" in reason for reason in reasons), reasons
    if one.refused or one.right is None:
        assert one.name not in outcomes.scans, "accepted"
        assert any(re.search(one.refused, reason) for reason in reasons), reasons
        return
    assert reasons == []
    stored = outcomes.stores[one.options].volume(outcomes.scans[one.name])
    whole = np.rint(one.right.array).clip(*outcomes.stores[one.options].manifest["settings"]["clip_hu"])
    np.testing.assert_array_equal(stored.array, whole)
    _same_place(stored, one.right, one.place_mm)
    # Voxels of tests have the values of no body.
    told = [text for text in outcomes.warned.get(one.name, []) if not re.search("clipped to a window|air alone", text)]
    assert (not one.warned and not told) or any(re.search(one.warned or "$^", text) for text in told), told


IN_PARTS = [one for one in INPUTS if one.name in {
    "nrrd_detached", "nrrd_detached_nrrd", "nrrd_pattern", "meta_detached", "meta_list", "meta_pattern", "dicom_signed",
}]  # fmt: skip


@pytest.mark.parametrize("one", IN_PARTS, ids=[one.name for one in IN_PARTS])
def test_prepare__a_change_in_any_file_of_a_scan_is_noticed(one: Foreign, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "store"
    source.mkdir()
    one.write(source)
    config = PrepareConfig(policy="native", salt="test")
    (name,) = prepare([source], out, config, workers=0).prepared
    before = ScanStore(out).volume(name).array
    part = sorted(path for path in source.iterdir() if path.suffix not in (".mhd", ".nhdr", ".nrrd"))[-1]
    content = bytearray(part.read_bytes())
    content[-400] ^= 8
    part.write_bytes(content)
    kept = prepare([source], out, config, workers=0)
    assert (kept.prepared, [row.scan_id for row in kept.quarantined]) == ((), [name])
    report = prepare([source], out, replace(config, replace=True), workers=0)
    assert (report.prepared, report.changed) == ((name,), (name,))
    assert (ScanStore(out).volume(name).array != before).sum() == 1


@every_input
def test_datasets__can_use_what_prepare_accepts(one: Foreign, outcomes: Outcomes) -> None:
    reasons = outcomes.unusable.get(one.name, [])
    assert not any("please report" in reason for reason in reasons)
    if one.right is not None:
        assert reasons == []


def _file_of(folder: Path) -> Path:
    return next(path for path in sorted(folder.iterdir()) if path.name.lower().endswith(volume_endings()))


def _same_place(ours: Volume, theirs: Volume, within_mm: float) -> None:
    assert ours.shape == theirs.shape
    corners = np.array([(0, 0, 0), *(np.eye(3) * (np.array(ours.shape) - 1))], dtype=np.float64)
    apart = ours.geometry.index_to_mm(corners) - theirs.geometry.index_to_mm(corners)
    assert np.abs(apart).max() < within_mm


@pytest.mark.parametrize("one", CROSS_CHECKED, ids=[one.name for one in CROSS_CHECKED])
def test_read__has_the_values_and_places_of_other_libraries(one: Foreign, tmp_path: Path) -> None:
    one.write(tmp_path)
    path = _file_of(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = read(path, options=one.options)
        theirs = [other for other in (_of_simpleitk(path), _of_nibabel(path)) if other is not None]
    assert theirs, "no other library reads it: say why in `alone`"
    for other in theirs:
        np.testing.assert_array_equal(ours.array, other.array)
        np.testing.assert_allclose(ours.geometry.affine, other.affine, atol=PLACE_MM)


@dataclass(frozen=True)
class Theirs:
    array: np.ndarray
    affine: np.ndarray


def _of_simpleitk(path: Path) -> Theirs | None:
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError:
        return None
    if image.GetDimension() == 4:
        image = image[:, :, :, 0]
    return Theirs(SimpleITK.GetArrayFromImage(image), _affine(image))


def _affine(image: SimpleITK.Image) -> np.ndarray:
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = (direction * np.array(image.GetSpacing()))[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return affine


def _of_nibabel(path: Path) -> Theirs | None:
    if ".nii" not in path.name.lower():
        return None
    try:
        image = nibabel.load(path)
        voxels = np.asanyarray(image.dataobj)
    except (nibabel.filebasedimages.ImageFileError, OSError, ValueError, nibabel.spatialimages.HeaderDataError):
        return None
    voxels = voxels.reshape(voxels.shape[:3]).transpose(2, 1, 0)
    scale = {1: 1000.0, 3: 0.001}.get(int(image.header["xyzt_units"]) & 7, 1.0)
    affine = np.diag([-scale, -scale, scale, 1.0]) @ image.affine
    return Theirs(voxels, affine[:, [2, 1, 0, 3]])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("one", DICOM, ids=[one.name for one in DICOM])
def test_read__has_the_values_and_places_of_gdcm(one: Foreign, tmp_path: Path) -> None:
    """In the orientation of the input, as GDCM may stack slices from the other end."""
    one.write(tmp_path)
    theirs = _of_gdcm(tmp_path)
    assert one.right is not None
    geometry = Geometry(theirs.array.shape, theirs.affine)
    stacked = Volume(theirs.array.astype(np.float32), geometry).reorient(one.right.geometry.orientation)
    np.testing.assert_array_equal(read(tmp_path, options=one.options).reorient("SPL").array, one.right.array)
    np.testing.assert_array_equal(stacked.array, one.right.array)
    np.testing.assert_allclose(stacked.geometry.affine, one.right.geometry.affine, atol=GRID_MM)


def _of_gdcm(folder: Path) -> Theirs:
    (uid,) = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
    image = SimpleITK.ReadImage(list(files) if len(files) > 1 else files[0])
    return Theirs(SimpleITK.GetArrayFromImage(image), _affine(image))


@pytest.fixture
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeometryWarning)
        yield


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", ["residual_shear"])
def test_read__a_residual_shear_is_taken_out(name: str, tmp_path: Path) -> None:
    one = next(one for one in INPUTS if one.name == name)
    one.write(tmp_path)
    volume = read(_file_of(tmp_path), options=STRICT)
    assert volume.geometry.shear < 1e-9
    affine = np.asarray(nibabel.load(_file_of(tmp_path)).affine)
    corners = np.array([(k, j, i) for k in (0, 7) for j in (0, 19) for i in (0, 15)], dtype=np.float64)
    ras = corners[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
    apart = volume.geometry.index_to_mm(corners) - ras * [-1, -1, 1]
    assert np.abs(apart / 0.9).max() < 0.1


def test_read__says_what_is_wrong_and_where(tmp_path: Path) -> None:
    one = next(one for one in INPUTS if one.name == "meta_bad_NDims_0")
    one.write(tmp_path)
    with pytest.raises(ScanError) as caught:
        read(_file_of(tmp_path))
    assert caught.value.where == str(_file_of(tmp_path))
    assert caught.value.fix
