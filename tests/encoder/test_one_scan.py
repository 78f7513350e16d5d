"""A scan in, its features out: the same from every form of the scan, and the same as from a store."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch

import maesil
from backbones import small_backbone, small_card
from conftest import blob
from dicom_slices import write_slice
from maesil.ct.geometry import Geometry, GeometryWarning
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.encoder.features import embed
from maesil.encoder.pretrained import PretrainedEncoder
from maesil.encoder.tokens import require_groups
from maesil.errors import ConfigError, ScanError
from maesil.export.targets import export
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanStore

SETTINGS = PrepareConfig(spacing_mm=2.5, salt="test")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> PretrainedEncoder:
    card = replace(small_card(), voxels=SETTINGS.recorded())
    return maesil.load(export(small_backbone(), card, "safetensors", tmp_path_factory.mktemp("encoder") / "out"))


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan with an oblique, flipped orientation and an anisotropic spacing."""
    body = blob(3, (40, 60, 72))
    turned = Geometry.from_parts(body.shape, (3.0, 1.5, 1.5), (10.0, -20.0, 30.0), np.eye(3)[:, ::-1] * [1, -1, 1])
    path = tmp_path_factory.mktemp("scan") / "one.nii.gz"
    write_nifti(path, Volume(body.array, turned))
    return path


@pytest.mark.parametrize("groups", [(1, 1), (2, 2)])
def test_embed__equals_the_store(
    encoder: PretrainedEncoder, scan: Path, tmp_path: Path, groups: tuple[int, int]
) -> None:
    prepare([scan], tmp_path / "store", SETTINGS, workers=0)
    table = embed(encoder.backbone, encoder.card, ScanStore(tmp_path / "store"), groups=groups)
    found = encoder.embed(scan, groups=groups)
    assert np.array_equal(found.vector, encoder.embed(scan).vector) is (groups == (1, 1))
    np.testing.assert_array_equal(found.vector, table.vectors[table.rows("scan")[0]])
    assert set(table.texts["groups"]) == {"1 1" if groups == (1, 1) else "2 2"}
    boxes = table.rows("superpatch")
    np.testing.assert_array_equal(found.superpatches, table.vectors[boxes])
    centres = np.stack([table.numbers[name][boxes] for name in ("x_mm", "y_mm", "z_mm")], axis=1)
    np.testing.assert_allclose(found.centres_mm, centres, atol=1e-9)
    assert found.vector.shape == (encoder.width,)
    assert len(found.superpatches) > 4


def test_embed__every_form_of_a_scan_is_the_same(encoder: PretrainedEncoder, scan: Path, tmp_path: Path) -> None:
    image = nibabel.load(scan)
    voxels = np.asarray(image.dataobj)
    itk = SimpleITK.ReadImage(str(scan))
    SimpleITK.WriteImage(itk, str(tmp_path / "scan.nrrd"))
    forms = {
        "path as text": (str(scan), None),
        "nrrd": (tmp_path / "scan.nrrd", None),
        "nibabel": (image, None),
        "nibabel in memory": (nibabel.Nifti1Image(voxels.astype(np.float64), image.affine), None),
        "SimpleITK": (itk, None),
        "numpy": (voxels, image.affine),
        "numpy, other order": (voxels.transpose(2, 0, 1), image.affine[:, [2, 0, 1, 3]]),
        "torch": (torch.from_numpy(voxels.copy())[None], torch.from_numpy(image.affine)),
        "torch, float": (torch.from_numpy(voxels.astype(np.float32)), image.affine),
    }
    expected = encoder.embed(scan, tokens=True)
    for name, (form, affine) in forms.items():
        found = encoder.embed(form, affine=affine, tokens=True)
        for key, value in asdict(expected).items():
            np.testing.assert_allclose(asdict(found)[key], value, atol=1e-4, err_msg=f"{name}: {key}")


def test_embed__a_dicom_folder(encoder: PretrainedEncoder, tmp_path: Path) -> None:
    body = blob(2, (30, 40, 48)).array
    uids = {"PatientID": "a", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.9"}
    for index, voxels in enumerate(body):
        write_slice(tmp_path / f"{index}.dcm", voxels, index, uids)
    affine = np.array([[0, 0, -2.0, 0], [0, -2.0, 0, 0], [2.5, 0, 0, 0], [0, 0, 0, 1]])  # (k, j, i) to RAS
    np.testing.assert_array_equal(encoder.embed(tmp_path).vector, encoder.embed(body, affine=affine).vector)
    assert encoder.embed(tmp_path, series="3.4").vector.shape == (encoder.width,)
    write_slice(tmp_path / "other.dcm", body[0], 0, {**uids, "SeriesInstanceUID": "1.2.3.5"})
    with pytest.raises(ScanError, match=r"2 CT series[\s\S]*in Python: series="):
        encoder.embed(tmp_path)


def test_embed__a_series_that_is_refused_otherwise(encoder: PretrainedEncoder, tmp_path: Path) -> None:
    for index, plane in enumerate(blob(3, (40, 60, 72)).array):
        position = [0.0, 0.0, 2.5 * index + (index > 9)]
        write_slice(tmp_path / f"{index}.dcm", plane, index, {"ImagePositionPatient": position})
    with pytest.raises(ScanError, match="unevenly spaced") as refused:
        encoder.embed(tmp_path)
    assert "in Python: options=maesil.ReadOptions(resample_uneven=True, slice_tolerance_mm=...)" in str(refused.value)
    with pytest.warns(GeometryWarning, match="they were resampled"):
        found = encoder.embed(tmp_path, options=maesil.ReadOptions(resample_uneven=True))
    assert found.vector.any()
    with pytest.raises(ConfigError, match="only files are read with options"):
        encoder.embed(
            np.zeros((8, 8, 8)), affine=np.eye(4), options=maesil.ReadOptions(missing_spacing_mm=(1.0, 1.0, 1.0))
        )


@pytest.mark.parametrize("groups", [(2,), (2, 2, 1), ("2", "2"), (2.0, 2.0)])
def test_require_groups__refuses_anything_but_two_whole_numbers(groups: Any) -> None:
    with pytest.raises(ConfigError, match="groups are two whole numbers"):
        require_groups(groups)


@pytest.mark.parametrize("batch", [0, -1])
def test_embed__a_batch_of_nothing(batch: int, encoder: PretrainedEncoder, scan: Path) -> None:
    with pytest.raises(ConfigError, match=f"batch is {batch}"):
        encoder.embed(scan, batch=batch)


def test_embed__tokens_pool_to_the_vector_and_lie_in_the_scan(encoder: PretrainedEncoder, scan: Path) -> None:
    found = encoder.embed(scan, tokens=True)
    assert found.tokens is not None
    assert found.positions_mm is not None
    assert found.tokens.shape == (len(found.positions_mm), encoder.width)
    np.testing.assert_allclose(found.tokens.mean(axis=0), found.vector, atol=1e-5)
    corners = nibabel.affines.apply_affine(nibabel.load(scan).affine, [(0, 0, 0), (71, 59, 39)]) * (-1, -1, 1)
    low, high = corners.min(axis=0), corners.max(axis=0)
    assert (found.positions_mm > low - 25).all()
    assert (found.positions_mm < high + 25).all()
    assert encoder.embed(scan).tokens is None


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        (lambda hu: hu + 1024, "subtract it"),
        (lambda hu: hu.astype(np.int32) + 32768, "subtract 32768"),
        (lambda hu: (hu.clip(-1000, 1000) + 1000) / 2000.0, "mapped from a window"),
        (lambda hu: np.rint((hu.clip(-160, 240) + 160) / 400 * 255).astype(np.uint8), "from 0 to 255"),
        (lambda hu: (hu - hu.mean()) / hu.std(), "z-score"),
    ],
)
def test_embed__values_that_are_not_hu(encoder: PretrainedEncoder, scan: Path, change: object, advice: str) -> None:
    image = nibabel.load(scan)
    voxels = change(np.asarray(image.dataobj))  # type: ignore[operator]
    with pytest.raises(ScanError, match="not Hounsfield units") as raised:
        encoder.embed(voxels, affine=image.affine)
    assert advice in str(raised.value)
    assert "accept_any_values=True" in str(raised.value)


def test_embed__exchanged_axes(encoder: PretrainedEncoder) -> None:
    voxels = blob(1, (20, 60, 60)).array
    affine = np.diag([1.5, 1.5, 5.0, 1.0])  # of (i, j, k), while the voxels are (k, j, i)
    with pytest.warns(GeometryWarning, match="axis 0 has the other size, axis 2 the other spacing"):
        encoder.embed(voxels, affine=affine)


def test_embed__what_is_no_scan(encoder: PretrainedEncoder, scan: Path) -> None:
    voxels = np.zeros((8, 8, 8), np.int16)
    with pytest.raises(ConfigError, match="no spacing and no orientation"):
        encoder.embed(voxels)
    with pytest.raises(ConfigError, match="a dict is not a scan"):
        encoder.embed({})
    with pytest.raises(ConfigError, match="has its own affine"):
        encoder.embed(scan, affine=np.eye(4))
    with pytest.raises(ConfigError, match="only a DICOM folder has series"):
        encoder.embed(voxels, affine=np.eye(4), series="1")
    with pytest.raises(ScanError, match="not one scan"):
        encoder.embed(np.zeros((2, 8, 8, 8)), affine=np.eye(4))
    with pytest.raises(ScanError, match=r"shape \(3, 3\)"):
        encoder.embed(voxels, affine=np.eye(3))
    air = np.full((16, 16, 16), -1000, np.int16)
    air[0, 0, 0] = -1024
    with pytest.raises(ScanError, match="no tissue to embed"):
        encoder.embed(air, affine=np.eye(4), accept_any_values=True)


def test_load__the_encoder_is_one_module(encoder: PretrainedEncoder) -> None:
    """Moves, copies and state dicts are those of a backbone, with one set of weights."""
    assert set(encoder.state_dict()) == set(small_backbone().state_dict())
    twin = copy.deepcopy(encoder).double()
    assert {p.dtype for p in twin.backbone.parameters()} == {torch.float64}
    assert {p.dtype for p in encoder.backbone.parameters()} == {torch.float32}
    assert twin.encoder is twin.backbone.encoder
