"""DICOM series that are written here, against what they were written from and against SimpleITK; and real ones."""

from __future__ import annotations

import os
import random
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.decoders import RLELosslessDecoder
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)
from scipy.spatial.transform import Rotation

from maesil.ct.geometry import GeometryWarning
from maesil.ct.readers import read
from maesil.ct.readers.dicom_headers import find_series
from maesil.ct.readers.options import ReadOptions
from maesil.errors import MaesilError, MissingExtraError, ScanError
from maesil.extras import installing
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanStore

OBLIQUE = Rotation.from_euler("xyz", (8.0, -11.0, 5.0), degrees=True).as_matrix()
Change = Callable[[int, Dataset], None]


def voxels(shape: tuple[int, int, int] = (6, 9, 7)) -> np.ndarray:
    return np.random.default_rng(0).integers(-1024, 2000, shape).astype(np.int16)


def write_series(
    folder: Path,
    hu: np.ndarray,
    *,
    directions: np.ndarray | None = None,
    step_mm: float = 2.5,
    change: Change | None = None,
    syntax: str = ExplicitVRLittleEndian,
    slopes: tuple[float, ...] = (1.0,),
) -> str:
    """One file per slice, named at random, each with its own slope; returns the series' uid."""
    folder.mkdir(parents=True, exist_ok=True)
    axes = np.eye(3) if directions is None else directions
    uid = generate_uid()
    names = random.Random(3).sample(range(1000), len(hu))
    for index, plane in enumerate(hu):
        slope = slopes[index % len(slopes)]
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = syntax if syntax == ExplicitVRLittleEndian else ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = CTImageStorage
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid()
        image.SeriesInstanceUID, image.StudyInstanceUID = uid, generate_uid()
        image.PatientName, image.PatientID, image.Modality = "Doe^Jane", "MRN-0042", "CT"
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.Rows, image.Columns = plane.shape
        image.PixelSpacing = [0.75, 0.5]
        image.ImageOrientationPatient = [*axes[:, 0].round(8), *axes[:, 1].round(8)]
        image.ImagePositionPatient = (np.array([-3.0, 7.0, 11.0]) + axes[:, 2] * step_mm * index).round(6).tolist()
        image.InstanceNumber = names[index]
        image.RescaleSlope, image.RescaleIntercept = slope, -1024
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
        stored = np.rint((plane.astype(np.float64) + 1024) / slope).astype(np.uint16)
        image.PixelData = stored.tobytes()
        if change is not None:
            change(index, image)
        if syntax != ExplicitVRLittleEndian:
            image.compress(syntax, generate_instance_uid=False)
        image.save_as(folder / f"{names[index]:04d}.dcm", enforce_file_format=True)
    return uid


@pytest.mark.parametrize(
    "directions", [np.eye(3), OBLIQUE, np.eye(3)[:, [1, 2, 0]]], ids=["axial", "oblique", "sagittal"]
)
def test_read_dicom__voxels_and_millimetres_are_simpleitks(tmp_path: Path, directions: np.ndarray) -> None:
    hu = voxels()
    write_series(tmp_path, hu, directions=directions)
    volume = read(tmp_path)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, SimpleITK.GetArrayFromImage(image))
    np.testing.assert_array_equal(volume.array, hu)
    kji = np.array(list(np.ndindex(volume.shape)), dtype=np.float64)
    mm = [image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]]) for index in kji]
    np.testing.assert_allclose(volume.geometry.index_to_mm(kji), mm, atol=1e-4)


def test_read_dicom__rescales_each_slice_by_its_own_slope(tmp_path: Path) -> None:
    hu = (voxels() // 8) * 8
    write_series(tmp_path, hu, slopes=(1.0, 2.0, 4.0))
    np.testing.assert_array_equal(read(tmp_path).array, hu)


def test_read_dicom__fractional_slopes_become_float(tmp_path: Path) -> None:
    hu = voxels()
    write_series(tmp_path, hu, slopes=(0.37,))
    volume = read(tmp_path)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, hu, atol=0.19)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=["rle", "jpeg2000"])
def test_read_dicom__compressed_files(tmp_path: Path, syntax: str) -> None:
    if syntax == JPEG2000Lossless:
        pytest.importorskip("openjpeg", reason="the extra maesil[dicom] is not installed")
    hu = voxels((4, 64, 64))
    write_series(tmp_path, hu, syntax=syntax)
    np.testing.assert_array_equal(read(tmp_path).array, hu)


def write_enhanced(path: Path, hu: np.ndarray, slopes: tuple[float, ...] = (1.0,)) -> None:
    """All slices in one file, not in their order; several slopes are told frame by frame, a single one once for all."""
    write_series(path.parent / "slices", hu[:1])
    image = pydicom.dcmread(next((path.parent / "slices").iterdir()))
    shutil.rmtree(path.parent / "slices")
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(image, name)
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = EnhancedCTImageStorage
    image.NumberOfFrames = len(hu)
    order = random.Random(5).sample(range(len(hu)), len(hu))
    scales = [slopes[place % len(slopes)] for place in order]
    stored = [np.rint((hu[place] + 1024.0) / scale) for place, scale in zip(order, scales, strict=True)]
    image.PixelData = np.stack(stored).astype(np.uint16).tobytes()
    shared = dataset(
        PixelMeasuresSequence=[dataset(PixelSpacing=[0.75, 0.5])],
        PlaneOrientationSequence=[dataset(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
    )
    frames = [
        dataset(PlanePositionSequence=[dataset(ImagePositionPatient=[-3.0, 7.0, 11.0 + 2.5 * place])])
        for place in order
    ]
    for item, scale in zip([shared] if len(slopes) == 1 else frames, scales, strict=False):
        item.PixelValueTransformationSequence = [dataset(RescaleSlope=scale, RescaleIntercept=-1024)]
    image.SharedFunctionalGroupsSequence, image.PerFrameFunctionalGroupsSequence = [shared], frames
    image.save_as(path)


@pytest.mark.parametrize("slopes", [(1.0,), (1.0, 2.0, 4.0)], ids=["shared", "per-frame"])
def test_read_dicom__enhanced_multi_frame(tmp_path: Path, slopes: tuple[float, ...]) -> None:
    hu = (voxels() // 8) * 8
    write_series(tmp_path / "classic", hu)
    write_enhanced(tmp_path / "enhanced.dcm", hu, slopes)
    volume, classic = read(tmp_path / "enhanced.dcm"), read(tmp_path / "classic")
    np.testing.assert_array_equal(volume.array, hu)
    assert volume.geometry == classic.geometry


@pytest.mark.parametrize("source", ["set", "set/enhanced.dcm"], ids=["folder", "file"])
def test_prepare__enhanced_multi_frame(tmp_path: Path, source: str) -> None:
    hu = voxels((9, 20, 18))
    (tmp_path / "set").mkdir()
    write_enhanced(tmp_path / "set" / "enhanced.dcm", hu, (1.0, 2.0))
    config = PrepareConfig(policy="native", salt="test")
    report = prepare([tmp_path / source], tmp_path / "store", config, workers=0)
    assert (len(report.prepared), report.quarantined) == (1, ())
    stored = ScanStore(tmp_path / "store").volume(report.prepared[0])
    read_here = read(tmp_path / "set" / "enhanced.dcm").reorient("SPL")
    np.testing.assert_array_equal(stored.array, read_here.array)
    np.testing.assert_allclose(stored.geometry.affine, read_here.geometry.affine, atol=1e-9)


def test_read_dicom__a_missing_decoder_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path, voxels((4, 64, 64)), syntax=RLELossless)
    for decoder in ("pydicom", "gdcm", "pylibjpeg"):  # as where no plugin can be imported
        monkeypatch.setitem(RLELosslessDecoder._unavailable, decoder, (decoder,))
    monkeypatch.setattr(RLELosslessDecoder, "_available", {})
    with pytest.raises(MissingExtraError, match="no decoder for this compression is installed") as caught:
        read(tmp_path)
    assert caught.value.fix == installing("dicom")
    assert caught.value.exit_code == 2


def colour(index: int, image: Dataset) -> None:
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    image.PixelData = bytes(image.Rows * image.Columns * 3 + image.Rows * image.Columns * 3 % 2)


def dataset(**values: Any) -> Dataset:
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def test_read_dicom__several_series_must_be_named(tmp_path: Path) -> None:
    first, second = voxels(), voxels((5, 9, 7)) // 2
    one, two = write_series(tmp_path / "a", first), write_series(tmp_path / "b", second)
    (tmp_path / "notes.txt").write_text("no DICOM")
    with pytest.raises(ScanError, match="has 2 CT series") as caught:
        read(tmp_path)
    assert one[-8:] in str(caught.value)
    assert "such as --series " in str(caught.value)
    np.testing.assert_array_equal(read(tmp_path, series=two).array, second)
    np.testing.assert_array_equal(read(tmp_path, series=one[-8:]).array, first)
    with pytest.raises(ScanError, match="0 series match the UID"):
        read(tmp_path, series="9.9.9")


def test_read_dicom__leaves_localizers_out(tmp_path: Path) -> None:
    def scout(index: int, image: Dataset) -> None:
        if index == 0:
            image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    uid = write_series(tmp_path / "mixed", voxels(), change=scout)
    with pytest.warns(GeometryWarning, match="1 localizer was left out"):
        assert len(read(tmp_path / "mixed").array) == 5
    (series,) = find_series(tmp_path / "mixed").series
    assert (series.uid, series.localizers, len(series.paths)) == (uid, 1, 5)
    write_series(tmp_path / "scouts", voxels(), change=lambda _, image: scout(0, image))
    with pytest.raises(ScanError, match="only localizers"):
        read(tmp_path / "scouts")


def set_value(name: str, value: Any, at: int | None = None) -> Change:
    def change(index: int, image: Dataset) -> None:
        if at is None or index == at:
            setattr(image, name, value)

    return change


def shear(index: int, image: Dataset) -> None:
    x, y, z = image.ImagePositionPatient
    image.ImagePositionPatient = [x, float(y) + 0.8 * index, z]


def drop(name: str) -> Change:
    return lambda _, image: delattr(image, name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_value("Modality", "MR"), "of modality MR, not CT"),
        (set_value("ImagePositionPatient", [-3.0, 7.0, 13.5], at=3), "has the position of another slice"),
        (set_value("ImagePositionPatient", [-3.0, 7.0, 22.3], at=5), "unevenly spaced"),
        (set_value("PixelSpacing", [0.75, 0.6], at=2), "differ in pixel spacing"),
        (set_value("ImageOrientationPatient", [1, 0, 0, 0, 0, -1], at=2), "differ in direction"),
        (set_value("PixelData", b"\0" * 10, at=1), "pixels are damaged"),
        (shear, "gantry tilt"),
        (colour, "in colour"),
        (drop("ImagePositionPatient"), "ImagePositionPatient is missing"),
        (drop("PixelSpacing"), "PixelSpacing is missing"),
        (drop("PixelData"), "has no pixels"),
        (set_value("PixelSpacing", [0.0, 0.5]), "impossible values"),
    ],
)
def test_read_dicom__refuses_what_is_not_sound(tmp_path: Path, change: Change, message: str) -> None:
    write_series(tmp_path, voxels(), change=change)
    with pytest.raises(ScanError, match=message) as caught:
        read(tmp_path)
    assert caught.value.where
    assert caught.value.fix
    assert "Doe" not in str(caught.value)
    assert "MRN" not in str(caught.value)


def test_read_dicom__counts_missing_slices(tmp_path: Path) -> None:
    write_series(tmp_path, voxels((9, 9, 7)))
    files = sorted(tmp_path.iterdir(), key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))
    files[3].unlink()
    files[4].unlink()
    with pytest.raises(ScanError, match=r"2 slices are missing: gaps of up to 7\.50 mm where 2\.50 mm is usual"):
        read(tmp_path)


def test_read_dicom__one_slice_is_no_volume(tmp_path: Path) -> None:
    write_series(tmp_path, voxels((1, 9, 7)))
    with pytest.raises(ScanError, match="a volume needs 2 image planes"):
        read(tmp_path)
    with pytest.raises(ScanError, match="one slice of a series"):
        read(next(tmp_path.iterdir()))


def test_read_dicom__a_folder_without_dicom_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(MaesilError, match=r"the folder has no DICOM files\n"):
        read(tmp_path)
    (tmp_path / "cut.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00")
    with (
        pytest.warns(GeometryWarning, match=r"cut\.dcm: the file cannot be read as DICOM; it was left out"),
        pytest.raises(MaesilError, match="no DICOM files that can be read"),
    ):
        read(tmp_path)


def test_read_dicom__a_damaged_neighbour_is_named_and_left_out(tmp_path: Path) -> None:
    hu = voxels()
    write_series(tmp_path, hu)
    whole = next(tmp_path.iterdir()).read_bytes()
    for name, damaged in {
        "vr.dcm": whole.replace(b"\x20\x00\x0e\x00UI", b"\x20\x00\x0e\x00UK"),
        "deflated.dcm": whole[:300].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"[:20]) + whole[900:],
        "empty.dcm": b"",
    }.items():
        (tmp_path / name).write_bytes(damaged)
        with pytest.warns(GeometryWarning, match=rf"{re.escape(name)}: the file (is empty|cannot be read as DICOM)"):
            np.testing.assert_array_equal(read(tmp_path).array, hu)
        (tmp_path / name).unlink()


def test_read_dicom__the_whole_uid_is_found_before_one_that_ends_with_it(tmp_path: Path) -> None:
    first, second = voxels(), voxels((5, 9, 7)) // 2
    write_series(tmp_path / "a", first, change=set_value("SeriesInstanceUID", "1.2.5"))
    write_series(tmp_path / "b", second, change=set_value("SeriesInstanceUID", "3.1.2.5"))
    np.testing.assert_array_equal(read(tmp_path, series="1.2.5").array, first)
    np.testing.assert_array_equal(read(tmp_path, series="3.1.2.5").array, second)


def test_read_dicom__a_series_without_uid_beside_another(tmp_path: Path) -> None:
    first, second = voxels(), voxels((5, 9, 7)) // 2
    write_series(tmp_path / "a", first, change=drop("SeriesInstanceUID"))
    write_series(tmp_path / "b", second)
    with pytest.raises(ScanError, match=r"2 CT series: none \(6 files\)") as caught:
        read(tmp_path)
    assert "--series none" in str(caught.value.fix)
    np.testing.assert_array_equal(read(tmp_path, series="none").array, first)


def test_read_dicom__neither_file_nor_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")
    with pytest.raises(ScanError, match="neither a file nor a folder"):
        read(tmp_path / "pipe.dcm")


def test_read_dicom__real_tilted_head_is_straightened_on_request(data_dir: Path) -> None:
    folder = data_dir / "dicom" / "ge_head_uneven"
    options = ReadOptions(resample_tilt=True, resample_uneven=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        volume = read(folder, options=options)
    tilt, uneven = (str(one.message) for one in told)
    assert "tilt of 18.5 degrees was undone" in tilt
    assert "unevenly spaced (gaps of 1.08 to 7.00 mm)" in uneven
    assert volume.geometry.shear < 1e-9
    slices = sorted(
        (pydicom.dcmread(path) for path in folder.rglob("*.dcm")), key=lambda one: float(one.ImagePositionPatient[2])
    )
    for image in (slices[0], slices[9], slices[-1]):  # a voxel of each slice lies where its header says
        row, column = 250, 260
        directions = np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
        steps = (float(image.PixelSpacing[1]) * column, float(image.PixelSpacing[0]) * row)
        place = np.array(image.ImagePositionPatient, dtype=float) + steps @ directions
        index = volume.geometry.mm_to_index(place[None])[0]
        around = image.pixel_array[row - 2 : row + 3, column - 2 : column + 3] * float(image.RescaleSlope)
        nearest = volume.array[tuple(np.clip(np.rint(index).astype(int), 0, np.array(volume.shape) - 1))]
        assert -0.5 < index[0] < volume.shape[0] - 0.4
        if abs(index[0] - round(index[0])) < 1e-3:
            hu = around + float(image.RescaleIntercept)
            assert hu.min() - 1 <= nearest <= hu.max() + 1


@pytest.mark.parametrize("given", [ReadOptions(), ReadOptions(resample_tilt=True), ReadOptions(resample_uneven=True)])
def test_read_dicom__of_a_tilted_uneven_series_names_both_flags(given: ReadOptions, data_dir: Path) -> None:
    """Either flag alone is refused: who follows the advice should not be sent to the other one."""
    with pytest.raises(ScanError, match="unevenly spaced") as caught:
        read(data_dir / "dicom" / "ge_head_uneven", options=given)
    assert "--resample-tilt --resample-uneven" in str(caught.value.fix)


def test_read_dicom__real_series_is_simpleitks(data_dir: Path) -> None:
    folder = data_dir / "dicom" / "crlm_1004"
    volume = read(folder)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    np.testing.assert_array_equal(volume.array, SimpleITK.GetArrayFromImage(image))
    np.testing.assert_allclose(volume.geometry.origin_mm, image.GetOrigin(), atol=1e-6)
    np.testing.assert_allclose(volume.spacing_mm, image.GetSpacing()[::-1], atol=1e-6)


def test_read_dicom__real_tilted_head_is_refused(data_dir: Path) -> None:
    with pytest.raises(ScanError, match=r"leans by 18\.5 degrees and its slices are unevenly spaced"):
        read(data_dir / "dicom" / "ge_head_uneven")


def test_read_dicom__real_tcia_tree(data_dir: Path) -> None:
    volume = read(data_dir / "lidc" / "LIDC-IDRI-0314")
    assert volume.shape == (42, 512, 512)
    assert volume.spacing_mm == pytest.approx((1.0, 0.78125, 0.78125))
    assert volume.array.min() >= -3024
