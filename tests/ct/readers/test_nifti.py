import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from maesil.ct.geometry import GeometryWarning
from maesil.ct.readers import read, soundness
from maesil.ct.readers.soundness import MOST_CLIPPED
from maesil.errors import ScanError

RAS_MM = np.array([[0.0, -2.0, 0.0, 30.0], [0.5, 0.0, 0.0, -7.0], [0.0, 0.0, 3.0, 100.0], [0, 0, 0, 1]])


def hu(dtype: str = "int16", shape: tuple[int, ...] = (5, 4, 3)) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) - 20).astype(dtype)


def save(path: Path, array: np.ndarray, affine: np.ndarray = RAS_MM, **units: str) -> Path:
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units(units.get("xyz", "mm"))
    nibabel.save(image, path)
    return path


def same_places(path: Path) -> None:
    """Our LPS mm of every voxel are nibabel's RAS mm and SimpleITK's LPS mm of the same file."""
    ours, theirs = read(path), nibabel.load(path)
    kji = np.array(list(np.ndindex(ours.shape)), dtype=np.float64)
    mm = ours.geometry.index_to_mm(kji)
    ras = nibabel.affines.apply_affine(theirs.affine, kji[:, ::-1])
    np.testing.assert_allclose(mm, ras * [-1, -1, 1], atol=1e-4)
    np.testing.assert_allclose(ours.array.T, theirs.get_fdata(), rtol=1e-6)
    if isinstance(theirs, nibabel.Nifti2Image):
        return  # which SimpleITK does not read
    itk = SimpleITK.ReadImage(str(path))
    itk_mm = [itk.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]]) for index in kji]
    np.testing.assert_allclose(mm, itk_mm, atol=1e-3)
    np.testing.assert_allclose(ours.array, SimpleITK.GetArrayFromImage(itk), rtol=1e-6)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_read_nifti__places_equal_nibabel_and_simpleitk(tmp_path: Path, ending: str, kind: type) -> None:
    path = tmp_path / f"v{ending}"
    image = kind(hu(), RAS_MM)
    image.set_qform(RAS_MM, code=1)
    nibabel.save(image, path)
    same_places(path)
    assert read(path).geometry.orientation == "SLA"


@pytest.mark.parametrize("dtype", ["int16", "uint8", "uint16", "int32", "float32", "float64", ">i2"])
def test_read_nifti__whole_numbers_are_int16(tmp_path: Path, dtype: str) -> None:
    array = hu(dtype) if np.dtype(dtype).kind != "u" else np.abs(hu()).astype(dtype)
    volume = read(save(tmp_path / "v.nii", array))
    assert volume.array.dtype == np.int16
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array, array.T)


@pytest.mark.parametrize("slab_bytes", [1, 200, 2**20])
def test_read_nifti__slabs_make_one_volume(tmp_path: Path, slab_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundness, "SLAB_BYTES", slab_bytes)
    late = hu("float64")
    late[4, 3, 2] += 0.25  # only the last slab tells that int16 will not do
    volume = read(save(tmp_path / "v.nii.gz", late))
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, late.T)


def test_read_nifti__huge_values_are_clipped(tmp_path: Path) -> None:
    array = hu("float64")
    array[0, 0, 0], array[1, 0, 0] = 1e9, -1e9
    volume = read(save(tmp_path / "v.nii", array))
    assert volume.array.dtype == np.int16
    assert volume.array[0, 0, :3].tolist() == [32767, -32768, array[2, 0, 0]]


def test_read_nifti__applies_slope_and_intercept(tmp_path: Path) -> None:
    path = tmp_path / "v.nii"
    image = nibabel.Nifti1Image(np.abs(hu()), RAS_MM)
    image.header.set_slope_inter(1.0, -1024.0)
    nibabel.save(image, path)
    raw = bytearray(path.read_bytes())
    raw[352:] = np.abs(hu()).tobytes(order="F")  # nibabel would divide by the slope on saving
    path.write_bytes(raw)
    volume = read(path)
    np.testing.assert_array_equal(volume.array, np.abs(hu()).T - 1024)
    same_places(path)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8", "int32"])
@pytest.mark.parametrize(("slope", "inter"), [(1, -1024), (2, 0), (-3, 7), (20000, -1024), (0.5, -1024), (1, 1e6)])
def test_read_nifti__whole_slopes_give_what_float64_gives(
    tmp_path: Path, dtype: str, slope: float, inter: float
) -> None:
    kind = np.iinfo(dtype)
    raw = np.random.default_rng(0).integers(max(kind.min, -40000), min(kind.max, 70000), (5, 4, 3), endpoint=True)
    image = nibabel.Nifti1Image(raw.astype(dtype), RAS_MM)
    nibabel.save(image, tmp_path / "v.nii")
    stored = bytearray((tmp_path / "v.nii").read_bytes())
    stored[112:120] = np.array([slope, inter], dtype="<f4").tobytes()
    (tmp_path / "v.nii").write_bytes(stored)
    array = read(tmp_path / "v.nii").array
    true = raw.T * float(slope) + float(inter)
    whole = (true == np.rint(true)).all()
    few = ((true < -32768) | (true > 32767)).mean() <= MOST_CLIPPED
    np.testing.assert_array_equal(array, np.clip(true, -32768, 32767) if whole and few else true.astype(np.float32))
    assert array.dtype == (np.int16 if whole and few else np.float32)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1.0), ("meter", 1000.0), ("micron", 0.001), ("unknown", 1.0)])
def test_read_nifti__units_become_mm(tmp_path: Path, unit: str, factor: float) -> None:
    volume = read(save(tmp_path / "v.nii", hu(), xyz=unit))
    assert volume.spacing_mm == pytest.approx((3.0 * factor, 2.0 * factor, 0.5 * factor))
    assert volume.geometry.origin_mm == pytest.approx((-30.0 * factor, 7.0 * factor, 100.0 * factor))


def test_read_nifti__invalid_unit_is_warned_of(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii", hu())
    raw = bytearray(path.read_bytes())
    raw[123] = 7
    path.write_bytes(raw)
    with pytest.warns(GeometryWarning, match="unit of length is invalid"):
        assert read(path).spacing_mm == pytest.approx((3.0, 2.0, 0.5))


def test_read_nifti__disagreeing_forms_are_warned_of(tmp_path: Path) -> None:
    shifted = RAS_MM.copy()
    shifted[0, 3] += 12.5
    image = nibabel.Nifti1Image(hu(), RAS_MM)
    image.set_sform(RAS_MM, code=1)
    image.set_qform(shifted, code=1)
    nibabel.save(image, tmp_path / "v.nii")
    with pytest.warns(GeometryWarning, match=r"12\.5 mm apart; the sform was used"):
        volume = read(tmp_path / "v.nii")
    assert volume.geometry.origin_mm == pytest.approx((-30.0, 7.0, 100.0))


def test_read_nifti__agreeing_forms_are_silent(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(hu(), RAS_MM)
    image.set_sform(RAS_MM, code=1)
    image.set_qform(RAS_MM, code=1)
    nibabel.save(image, tmp_path / "v.nii")
    read(tmp_path / "v.nii")  # warnings are errors here


def test_read_nifti__qform_alone_is_enough(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(hu(), RAS_MM)
    image.set_sform(None, code=0)
    image.set_qform(RAS_MM, code=1)
    nibabel.save(image, tmp_path / "v.nii")
    assert read(tmp_path / "v.nii").geometry.origin_mm == pytest.approx((-30.0, 7.0, 100.0))


def test_read_nifti__no_form_is_warned_of(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(hu(), None)
    image.header.set_zooms((0.5, 2.0, 3.0))
    nibabel.save(image, tmp_path / "v.nii")
    with pytest.warns(GeometryWarning, match="neither sform nor qform"):
        assert read(tmp_path / "v.nii").spacing_mm == pytest.approx((3.0, 2.0, 0.5))


def test_read_nifti__trailing_single_axes_are_squeezed(tmp_path: Path) -> None:
    volume = read(save(tmp_path / "v.nii", hu(shape=(5, 4, 3, 1, 1))))
    np.testing.assert_array_equal(volume.array, hu().T)


def _sheared() -> np.ndarray:
    affine = RAS_MM.copy()
    affine[0, 2] = 1.0
    return affine


def _singular() -> np.ndarray:
    affine = RAS_MM.copy()
    affine[:3, 2] = affine[:3, 1]
    return affine


def _with(value: float) -> np.ndarray:
    array = hu("float32")
    array[2, 2, 2] = value
    return array


RGB = np.zeros((5, 4, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize(
    ("array", "affine", "reason"),
    [
        (hu(shape=(5, 4, 3, 2)), RAS_MM, "4 dimensions"),
        (hu(shape=(5, 4, 1, 1, 3)), RAS_MM, "5 dimensions"),
        (hu(shape=(5, 4)), RAS_MM, "at least 2 voxels"),
        (hu(shape=(5, 4, 1)), RAS_MM, "at least 2 voxels"),
        (hu(), _sheared(), r"sheared.*18\.43 degrees"),
        (hu(), _singular(), "cannot be inverted"),
        (_with(np.nan), RAS_MM, "NaN or infinite"),
        (_with(np.inf), RAS_MM, "NaN or infinite"),
        (RGB, RAS_MM, "RGB"),
        (hu("complex64"), RAS_MM, "complex64"),
    ],
)
def test_read_nifti__refuses(tmp_path: Path, array: np.ndarray, affine: np.ndarray, reason: str) -> None:
    path = tmp_path / "v.nii.gz"
    image = nibabel.Nifti1Image(array, None)
    image.set_sform(affine, code=1)
    image.header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    nibabel.save(image, path)
    with pytest.raises(ScanError, match=reason) as caught:
        read(path)
    assert caught.value.where == str(path)
    assert caught.value.fix


@pytest.mark.parametrize("keep", [0, 100, 348, 360, 400])
@pytest.mark.parametrize("packed", [False, True])
def test_read_nifti__refuses_files_cut_short(tmp_path: Path, keep: int, packed: bool) -> None:
    raw = save(tmp_path / "whole.nii", hu()).read_bytes()[:keep]
    path = tmp_path / ("v.nii.gz" if packed else "v.nii")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.raises(ScanError) as caught:
        read(path)
    assert caught.value.where == str(path)


def test_read_nifti__refuses_sizes_beyond_memory(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii", hu())
    raw = bytearray(path.read_bytes())
    raw[42:48] = np.array([32767] * 3, dtype="<i2").tobytes()
    path.write_bytes(raw)
    with pytest.raises(ScanError, match=r"damaged|cut short"):
        read(path)


@pytest.mark.parametrize("at", [2, 20, -20, -6])
def test_read_nifti__refuses_damaged_gzip(tmp_path: Path, at: int) -> None:
    noise = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20)).astype(np.int16)
    path = save(tmp_path / "v.nii.gz", noise)
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0xFF  # -6 lies in the checksum itself
    path.write_bytes(raw)
    with pytest.raises(ScanError, match="damaged"):
        read(path)


def test_read_nifti__refuses_gzip_without_its_end(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii.gz", hu())
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ScanError, match="cut short"):
        read(path)


@pytest.mark.parametrize(
    ("name", "shape", "spacing_mm", "orientation"),
    [
        ("native/crlm_1006.nii.gz", (51, 512, 512), (5.0, 0.805, 0.805), "SPL"),
        ("totalsegmentator/s0001/ct.nii.gz", (112, 101, 122), (3.0, 3.0, 3.0), "SAR"),
        ("corpus2mm/totalseg_example.nii.gz", None, (2.0, 2.0, 2.0), None),
    ],
)
def test_read_nifti__real_scans(
    data_dir: Path,
    name: str,
    shape: tuple[int, int, int] | None,
    spacing_mm: tuple[float, float, float],
    orientation: str | None,
) -> None:
    volume = read(data_dir / name)
    theirs = SimpleITK.ReadImage(str(data_dir / name))
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, SimpleITK.GetArrayViewFromImage(theirs))
    assert volume.spacing_mm == pytest.approx(spacing_mm, abs=1e-3)
    last = [n - 1 for n in theirs.GetSize()]
    ours = volume.geometry.index_to_mm(np.array([[0, 0, 0], last[::-1]], dtype=np.float64))
    points = [theirs.TransformIndexToPhysicalPoint(index) for index in ([0, 0, 0], last)]
    np.testing.assert_allclose(ours, points, atol=1e-2)
    assert shape in (None, volume.shape)
    assert orientation in (None, volume.geometry.orientation)
