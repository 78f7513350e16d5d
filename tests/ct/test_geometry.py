import json
import pickle
from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from maesil.ct.geometry import Geometry
from maesil.ct.volume import Volume
from maesil.errors import ConfigError, ScanError

ORIENTATIONS = ["".join(letters) for axes in permutations(("SI", "PA", "LR")) for letters in product(*axes)]
AXES = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}

shapes = st.tuples(*[st.integers(1, 6)] * 3)
spacings = st.tuples(*[st.floats(0.2, 6.0)] * 3)
origins = st.tuples(*[st.floats(-500, 500)] * 3)
orientations = st.sampled_from(ORIENTATIONS)
tilts = st.tuples(*[st.floats(-18, 18)] * 3)  # degrees; small enough to leave the nearest axes beyond doubt


# Plain numbers, as beartype draws random samples where hypothesis wants to be the only one who does.
cases = st.tuples(orientations, tilts, shapes, spacings, origins)
Case = tuple[str, tuple[float, ...], tuple[int, int, int], tuple[float, ...], tuple[float, ...]]


def geometry_of(case: Case) -> Geometry:
    letters, tilt, shape, spacing_mm, origin_mm = case
    rotation = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix()
    direction = rotation @ np.array([AXES[letter] for letter in letters], dtype=float).T
    return Geometry.from_parts(shape, spacing_mm, origin_mm, direction)


def all_indices(geometry: Geometry) -> np.ndarray:
    return np.array(list(np.ndindex(geometry.shape)), dtype=np.float64)


def as_itk(geometry: Geometry, array: np.ndarray) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(geometry.direction[:, ::-1].ravel().tolist())
    return image


def numbered(geometry: Geometry) -> np.ndarray:
    return np.arange(np.prod(geometry.shape), dtype=np.int16).reshape(geometry.shape)


def test_orientations__are_48() -> None:
    assert len(set(ORIENTATIONS)) == 48


@given(cases)
def test_orientation__has_the_nearest_letters(case: Case) -> None:
    geometry, letters = geometry_of(case), case[0]
    assert geometry.orientation == letters


@given(cases)
def test_index_to_mm__equals_simpleitk(case: Case) -> None:
    geometry = geometry_of(case)
    image = as_itk(geometry, numbered(geometry))
    indices = all_indices(geometry)
    theirs = [image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]]) for index in indices]
    np.testing.assert_allclose(geometry.index_to_mm(indices), theirs, atol=1e-9)


@given(cases, st.lists(st.tuples(*[st.floats(-50, 50)] * 3), min_size=1, max_size=5))
def test_mm_to_index__inverts_index_to_mm(case: Case, points: list[tuple[float, ...]]) -> None:
    geometry = geometry_of(case)
    indices = np.array(points)
    np.testing.assert_allclose(geometry.mm_to_index(geometry.index_to_mm(indices)), indices, atol=1e-7)


@given(cases, orientations)
def test_reorient__equals_dicomorient(case: Case, target: str) -> None:
    geometry = geometry_of(case)
    array = numbered(geometry)
    theirs = SimpleITK.DICOMOrient(as_itk(geometry, array), target[::-1])  # ITK names its fastest axis first
    ours = geometry.reorient(target)
    permutation, flips = geometry.axes_to(target)
    moved = array.transpose(permutation)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
    np.testing.assert_array_equal(moved, SimpleITK.GetArrayFromImage(theirs))
    np.testing.assert_allclose(ours.origin_mm, theirs.GetOrigin(), atol=1e-9)
    np.testing.assert_allclose(ours.spacing_mm[::-1], theirs.GetSpacing(), atol=1e-9)
    np.testing.assert_allclose(ours.direction[:, ::-1].ravel(), theirs.GetDirection(), atol=1e-9)


@pytest.mark.parametrize("letters", ORIENTATIONS)
def test_geometry__every_orientation_is_simpleitks(letters: str) -> None:
    """All 48, not a sample: each to each of the 48, cropped and padded; voxels and their millimetres."""
    geometry = geometry_of((letters, (9.0, -14.0, 12.0), (3, 4, 5), (3.0, 2.0, 0.5), (30.0, -7.0, 100.0)))
    volume = Volume(numbered(geometry), geometry)
    image = as_itk(geometry, volume.array)
    assert geometry.orientation == letters
    assert_same(volume, image)
    for target in ORIENTATIONS:
        assert_same(volume.reorient(target), SimpleITK.DICOMOrient(image, target[::-1]))
    box = SimpleITK.RegionOfInterest(image, (3, 2, 2), (1, 2, 0))  # ITK names the fastest axis first
    assert_same(volume.crop((0, 2, 1), (2, 2, 3)), box)
    assert_same(volume.pad((1, 0, 2), (0, 3, 1), fill=-7), SimpleITK.ConstantPad(image, (2, 0, 1), (1, 3, 0), -7))


def assert_same(volume: Volume, image: SimpleITK.Image) -> None:
    """ITK's array, and each voxel centre where ITK has it; ITK's padding begins at negative indices."""
    np.testing.assert_array_equal(volume.array, SimpleITK.GetArrayFromImage(image))
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(volume.shape) - 1)
    theirs = [image.TransformIndexToPhysicalPoint([int(i) for i in corner[::-1]]) for corner in corners]
    np.testing.assert_allclose(volume.geometry.index_to_mm(corners.astype(np.float64)), theirs, atol=1e-9)


@given(cases, orientations)
def test_reorient__and_back_is_the_same(case: Case, target: str) -> None:
    geometry, letters = geometry_of(case), case[0]
    there = geometry.reorient(target)
    assert there.orientation == target
    back = there.reorient(letters)
    assert back.shape == geometry.shape
    np.testing.assert_allclose(back.affine, geometry.affine, atol=1e-9)


@given(cases, st.data())
def test_crop__keeps_voxel_centres(case: Case, data: st.DataObject) -> None:
    geometry = geometry_of(case)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in geometry.shape)
    shape = tuple(data.draw(st.integers(1, n - a)) for n, a in zip(geometry.shape, start, strict=True))
    cropped = geometry.crop(start, shape)
    indices = all_indices(cropped)
    np.testing.assert_allclose(cropped.index_to_mm(indices), geometry.index_to_mm(indices + np.array(start)), atol=1e-9)


@given(cases, *[st.tuples(*[st.integers(0, 4)] * 3)] * 2)
def test_pad__is_undone_by_crop(case: Case, before: tuple[int, int, int], after: tuple[int, int, int]) -> None:
    geometry = geometry_of(case)
    back = geometry.pad(before, after).crop(before, geometry.shape)
    assert back.shape == geometry.shape
    np.testing.assert_allclose(back.affine, geometry.affine, atol=1e-9)


@given(cases)
def test_to_dict__survives_json(case: Case) -> None:
    geometry = geometry_of(case)
    back = Geometry.from_dict(json.loads(json.dumps(geometry.to_dict())))
    assert back == geometry
    assert hash(back) == hash(geometry)


def test_pickle__gives_an_equal_geometry() -> None:
    geometry = Geometry.from_parts((2, 3, 4), (3.0, 2.0, 1.0), (5.0, 6.0, 7.0))
    assert pickle.loads(pickle.dumps(geometry)) == geometry
    assert geometry != Geometry.from_parts((2, 3, 4), (3.0, 2.0, 1.5), (5.0, 6.0, 7.0))


def test_from_parts__defaults_to_spl() -> None:
    geometry = Geometry.from_parts((2, 3, 4), (3.0, 2.0, 1.0), (10.0, 20.0, 30.0))
    assert geometry.orientation == "SPL"
    last = geometry.index_to_mm(np.array([[1.0, 2.0, 3.0]]))
    np.testing.assert_allclose(last, [[10.0 + 3.0, 20.0 + 4.0, 30.0 + 3.0]])
    assert geometry.extent_mm == (6.0, 6.0, 4.0)


def test_affine__cannot_be_changed_from_outside() -> None:
    affine = np.eye(4)
    geometry = Geometry((2, 2, 2), affine)
    affine[0, 3] = 99.0
    assert geometry.origin_mm == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 3] = 1.0


def test_shear__is_the_cosine_of_a_tilt() -> None:
    tilted = np.eye(3)
    tilted[:, 0] = (np.cos(np.pi / 3), np.sin(np.pi / 3), 0.0)
    assert Geometry.from_parts((2, 2, 2), (1.0, 2.0, 3.0)).shear == 0.0
    assert Geometry.from_parts((2, 2, 2), (1.0, 2.0, 3.0), direction=tilted).shear == pytest.approx(np.sin(np.pi / 3))


SINGULAR = np.diag([1.0, 1.0, 0.0, 1.0])
COPLANAR = np.array([[1.0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
PROJECTIVE = np.eye(4) + np.eye(4, k=-3)
NAN = np.where(np.eye(4) > 0, np.nan, 0.0)


@pytest.mark.parametrize("affine", [SINGULAR, COPLANAR, PROJECTIVE, NAN])
def test_geometry__refuses_bad_affines(affine: np.ndarray) -> None:
    with pytest.raises(ScanError, match="affine"):
        Geometry((2, 2, 2), affine)


def test_geometry__tiny_voxels_are_no_reason_to_refuse() -> None:
    assert Geometry.from_parts((2, 2, 2), (1e-3, 1e-3, 1e-3)).spacing_mm == pytest.approx((1e-3,) * 3)


def test_geometry__refuses_empty_shapes() -> None:
    with pytest.raises(ScanError, match="empty"):
        Geometry((2, 0, 2), np.eye(4))


@pytest.mark.parametrize("data", [{}, {"shape": [1, 2], "affine": []}, {"shape": [2, 2, 2], "affine": "x"}])
def test_from_dict__refuses_what_is_no_geometry(data: dict[str, object]) -> None:
    with pytest.raises(ScanError, match="geometry"):
        Geometry.from_dict(data)


@pytest.mark.parametrize(("start", "shape"), [((-1, 0, 0), (1, 1, 1)), ((0, 0, 0), (1, 0, 1)), ((0, 1, 0), (2, 3, 4))])
def test_crop__refuses_boxes_outside(start: tuple[int, int, int], shape: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="does not lie in"):
        Geometry((2, 3, 4), np.eye(4)).crop(start, shape)


def test_pad__refuses_negative_numbers() -> None:
    with pytest.raises(ConfigError, match="negative"):
        Geometry((2, 3, 4), np.eye(4)).pad((0, -1, 0), (0, 0, 0))


@pytest.mark.parametrize("name", ["", "SP", "SPLR", "SIL", "XYZ", "SPP"])
def test_reorient__refuses_what_is_no_orientation(name: str) -> None:
    with pytest.raises(ConfigError, match="is not an orientation"):
        Geometry((2, 3, 4), np.eye(4)).reorient(name)
