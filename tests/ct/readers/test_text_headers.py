from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from maesil.ct.geometry import GeometryWarning
from maesil.ct.readers import read, soundness
from maesil.errors import ScanError

TILT = Rotation.from_euler("xyz", (9.0, -14.0, 12.0), degrees=True).as_matrix()
ENDINGS = [".nrrd", ".nhdr", ".mha", ".mhd"]


def hu(dtype: str = "int16", shape: tuple[int, ...] = (3, 4, 5)) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) - 20).astype(dtype)


def save(path: Path, array: np.ndarray, direction: np.ndarray = TILT, packed: bool = False) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(array, isVector=False)
    if image.GetDimension() == 3:
        image.SetSpacing((0.5, 2.0, 3.0))
        image.SetOrigin((30.0, -7.0, 100.0))
        image.SetDirection(direction.ravel().tolist())
    SimpleITK.WriteImage(image, str(path), useCompression=packed)
    return image


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
def test_read__places_and_values_are_simpleitks(tmp_path: Path, ending: str, packed: bool) -> None:
    image = save(tmp_path / f"v{ending}", hu(), packed=packed)
    volume = read(tmp_path / f"v{ending}")
    np.testing.assert_array_equal(volume.array, hu())
    assert volume.array.dtype == np.int16
    assert volume.geometry.orientation == "SPL"
    kji = np.array(list(np.ndindex(volume.shape)), dtype=np.float64)
    mm = [image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]]) for index in kji]
    np.testing.assert_allclose(volume.geometry.index_to_mm(kji), mm, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "becomes"), [("float64", "int16"), ("uint16", "int16"), ("int32", "int16"), ("float32", "int16")]
)
def test_read__whole_numbers_are_int16(tmp_path: Path, dtype: str, becomes: str) -> None:
    array = np.abs(hu()).astype(dtype)
    save(tmp_path / "v.nrrd", array)
    volume = read(tmp_path / "v.nrrd")
    assert volume.array.dtype == np.dtype(becomes)
    np.testing.assert_array_equal(volume.array, array)


def test_read__fractions_are_float32(tmp_path: Path) -> None:
    save(tmp_path / "v.mha", hu("float64") + 0.25)
    volume = read(tmp_path / "v.mha")
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, hu("float64") + 0.25)


def test_read__the_volume_owns_its_voxels(tmp_path: Path) -> None:
    save(tmp_path / "v.mha", hu(shape=(40, 50, 60)))
    volumes = [read(tmp_path / "v.mha") for _ in range(5)]
    assert all(v.array.base is None for v in volumes)
    for volume in volumes:
        np.testing.assert_array_equal(volume.array, hu(shape=(40, 50, 60)))


@pytest.mark.parametrize("slab_bytes", [1, 400, 2**20])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
def test_read__slabs_make_one_volume(
    tmp_path: Path, ending: str, packed: bool, slab_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soundness, "SLAB_BYTES", slab_bytes)
    late = hu("float64", (7, 4, 5))
    late[6, 3, 2] += 0.25  # only the last slab tells that int16 will not do
    image = save(tmp_path / f"v{ending}", late, packed=packed)
    volume = read(tmp_path / f"v{ending}")
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, late)
    np.testing.assert_allclose(volume.geometry.origin_mm, image.GetOrigin(), atol=1e-9)


def test_read__metaimage_of_a_file_per_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundness, "SLAB_BYTES", 1)
    names = [f"{index}.raw" for index in range(3)]
    for name, plane in zip(names, hu(), strict=True):
        (tmp_path / name).write_bytes(plane.astype("<i2").tobytes())
    header = (
        "ObjectType = Image\nNDims = 3\nDimSize = 5 4 3\nElementSpacing = 0.5 2 3\nElementByteOrderMSB = False\n"
        "ElementType = MET_SHORT\nElementDataFile = LIST\n"
    )
    (tmp_path / "v.mhd").write_text(header + "\n".join(names) + "\n")
    np.testing.assert_array_equal(read(tmp_path / "v.mhd").array, hu())


def test_read__nrrd_space_ras_becomes_lps(tmp_path: Path) -> None:
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: right-anterior-superior\nsizes: 5 4 3\n"
        "space directions: (0.5,0,0) (0,2,0) (0,0,3)\nendian: little\nencoding: raw\nspace origin: (30,-7,100)\n\n"
    )
    (tmp_path / "v.nrrd").write_bytes(header.encode() + hu("<i2").tobytes())
    volume = read(tmp_path / "v.nrrd")
    assert volume.geometry.orientation == "SAR"
    assert volume.geometry.origin_mm == pytest.approx((-30.0, 7.0, 100.0))
    np.testing.assert_array_equal(volume.array, hu())


def test_read__nrrd_without_space_is_warned_of(tmp_path: Path) -> None:
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 5 4 3\nspacings: 0.5 2 3\nendian: little\nencoding: raw\n\n"
    (tmp_path / "v.nrrd").write_bytes(header.encode() + hu("<i2").tobytes())
    with pytest.warns(GeometryWarning, match="not name a patient space"):
        volume = read(tmp_path / "v.nrrd")
    assert volume.spacing_mm == pytest.approx((3.0, 2.0, 0.5))


@pytest.mark.parametrize("slab_bytes", [1, 2**20])
def test_read__single_frame_is_squeezed(tmp_path: Path, slab_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundness, "SLAB_BYTES", slab_bytes)
    frame = SimpleITK.GetImageFromArray(hu())
    frame.SetSpacing((0.5, 2.0, 3.0))
    SimpleITK.WriteImage(SimpleITK.JoinSeries([frame]), str(tmp_path / "v.mha"))
    volume = read(tmp_path / "v.mha")
    assert volume.spacing_mm == pytest.approx((3.0, 2.0, 0.5))
    np.testing.assert_array_equal(volume.array, hu())


def _with(value: float) -> np.ndarray:
    array = hu("float32")
    array[2, 2, 2] = value
    return array


def _sheared() -> np.ndarray:
    direction = np.eye(3)
    direction[:, 2] = (0.0, np.sin(0.3), np.cos(0.3))
    return direction


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize(
    ("array", "direction", "reason"),
    [
        (hu(shape=(2, 3, 4, 5)), TILT, "4 dimensions"),
        (hu(shape=(4, 5)), TILT, "at least 2 voxels"),
        (hu(shape=(1, 4, 5)), TILT, "at least 2 voxels"),
        (_with(np.nan), TILT, "NaN or infinite"),
        (_with(-np.inf), TILT, "NaN or infinite"),
        (hu(), _sheared(), r"sheared"),
    ],
)
def test_read__refuses(tmp_path: Path, ending: str, array: np.ndarray, direction: np.ndarray, reason: str) -> None:
    save(tmp_path / f"v{ending}", array, direction)
    with pytest.raises(ScanError, match=reason) as caught:
        read(tmp_path / f"v{ending}")
    assert caught.value.where == str(tmp_path / f"v{ending}")
    assert caught.value.fix


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_read__refuses_colours(tmp_path: Path, ending: str) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(image, str(tmp_path / f"v{ending}"))
    with pytest.raises(ScanError, match="RGB"):
        read(tmp_path / f"v{ending}")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_read__refuses_files_cut_short(tmp_path: Path, ending: str, packed: bool, share: float) -> None:
    path = tmp_path / f"v{ending}"
    save(path, np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20)).astype(np.int16), packed=packed)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(ScanError) as caught:
        read(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(("header", "data"), [(".mhd", ".raw"), (".nhdr", ".raw")])
def test_read__refuses_a_header_without_its_data(tmp_path: Path, header: str, data: str) -> None:
    save(tmp_path / f"v{header}", hu())
    (tmp_path / f"v{data}").unlink()
    with pytest.raises(ScanError, match="a data file that its header names is missing"):
        read(tmp_path / f"v{header}")
