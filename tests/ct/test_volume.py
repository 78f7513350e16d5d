from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesil.ct.geometry import Geometry
from maesil.ct.volume import AIR_HU, Volume
from maesil.errors import ConfigError, ScanError

ORIENTATIONS = ["".join(letters) for axes in permutations(("SI", "PA", "LR")) for letters in product(*axes)]


def volume_of(shape: tuple[int, int, int] = (2, 3, 4), dtype: str = "int16") -> Volume:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    return Volume(array, Geometry.from_parts(shape, (3.0, 2.0, 1.0), (-10.0, 20.0, 30.0)))


def places(volume: Volume) -> dict[int, tuple[float, ...]]:
    """Value -> millimetres; every voxel of `volume_of` has a value of its own."""
    mm = volume.geometry.index_to_mm(np.array(list(np.ndindex(volume.shape)), dtype=np.float64))
    return {int(v): tuple(np.round(p, 6)) for v, p in zip(volume.array.ravel(), mm, strict=True)}


@given(st.sampled_from(ORIENTATIONS), st.sampled_from(ORIENTATIONS))
def test_reorient__keeps_every_voxel_in_its_place(first: str, second: str) -> None:
    volume = volume_of().reorient(first)
    moved = volume.reorient(second)
    assert moved.geometry.orientation == second
    assert places(moved) == places(volume)


@given(st.sampled_from(ORIENTATIONS), st.data())
def test_crop_and_pad__keep_every_voxel_in_its_place(orientation: str, data: st.DataObject) -> None:
    volume = volume_of((4, 5, 3)).reorient(orientation)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in volume.shape)
    shape = tuple(data.draw(st.integers(1, n - a)) for n, a in zip(volume.shape, start, strict=True))
    cropped = volume.crop(start, shape)
    padded = cropped.pad((1, 2, 0), (0, 1, 3))
    assert cropped.shape == shape
    assert places(cropped).items() <= places(volume).items()
    inside = {value: mm for value, mm in places(padded).items() if value != AIR_HU}
    assert inside == places(cropped)


def test_pad__fills_with_air() -> None:
    padded = volume_of().pad((1, 0, 0), (0, 0, 2))
    assert padded.shape == (3, 3, 6)
    assert (padded.array[0] == AIR_HU).all()
    assert (padded.array[:, :, 4:] == AIR_HU).all()
    assert (volume_of().pad((1, 0, 0), (0, 0, 0), fill=40).array[0] == 40).all()


def test_pad__labels_have_no_negative_values() -> None:
    padded = volume_of(dtype="uint8").pad((1, 0, 0), (0, 0, 0))
    assert padded.array.dtype == np.uint8
    assert (padded.array[0] == 0).all()


def test_operations__leave_the_volume_as_it_is() -> None:
    volume = volume_of()
    before = volume.array.copy()
    volume.pad((1, 1, 1), (1, 1, 1)).array[:] = 7
    volume.astype("float32").array[:] = 7
    np.testing.assert_array_equal(volume.array, before)


def test_astype__rounds_and_clips_instead_of_wrapping() -> None:
    geometry = Geometry.from_parts((1, 1, 4), (1.0, 1.0, 1.0))
    values = Volume(np.array([[[-70000.0, -0.6, 1.5, 1e9]]], dtype=np.float32), geometry)
    assert values.astype("int16").array.tolist() == [[[-32768, -1, 2, 32767]]]
    assert values.astype("int16").astype("uint8").array.tolist() == [[[0, 0, 2, 255]]]
    assert values.astype("float32").array.dtype == np.float32


def test_volume__refuses_another_shape_than_its_geometry() -> None:
    with pytest.raises(ScanError, match="does not match a geometry of"):
        Volume(np.zeros((2, 3, 5), np.int16), Geometry((2, 3, 4), np.eye(4)))


@pytest.mark.parametrize("dtype", ["float64", "int32", "bool"])
def test_volume__refuses_other_types(dtype: str) -> None:
    with pytest.raises(ScanError, match=dtype):
        Volume(np.zeros((2, 3, 4), dtype), Geometry((2, 3, 4), np.eye(4)))


def test_crop__refuses_boxes_outside() -> None:
    with pytest.raises(ConfigError, match="does not lie in"):
        volume_of().crop((0, 0, 0), (2, 3, 5))
