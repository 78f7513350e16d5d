import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from maesil.ct.geometry import Geometry
from maesil.ct.respace import Spacing, respace, respace_cube
from maesil.errors import ConfigError

OBLIQUE = Rotation.from_euler("xyz", (9.0, -14.0, 21.0), degrees=True).as_matrix() @ np.eye(3)[:, ::-1]
spacings = st.tuples(*[st.floats(0.3, 6.0)] * 3)
shapes = st.tuples(*[st.integers(2, 40)] * 3)


@given(shapes, spacings, spacings)
def test_respace__keeps_the_outer_corner_and_stays_within(
    shape: tuple[int, int, int], old_mm: tuple[float, ...], new_mm: tuple[float, ...]
) -> None:
    old = Geometry.from_parts(shape, old_mm, (3.0, -4.0, 5.0), OBLIQUE)
    new = respace(old, new_mm)
    corner = np.full((1, 3), -0.5)
    np.testing.assert_allclose(new.index_to_mm(corner), old.index_to_mm(corner), atol=1e-9)
    np.testing.assert_allclose(new.spacing_mm, new_mm, rtol=1e-9)
    last = old.mm_to_index(new.index_to_mm(np.array([new.shape], dtype=np.float64) - 1.0))[0]
    for axis in range(3):
        if new.shape[axis] > 1:  # one voxel is kept even where it is larger than the scan
            assert last[axis] < old.shape[axis] - 0.5
    missing = np.array(old.extent_mm) - np.array(new.extent_mm)
    assert (missing <= np.array(new.spacing_mm) / 2 + 1e-4).all()


@given(shapes, spacings, st.integers(1, 64))
def test_respace_cube__fills_the_same_box(
    shape: tuple[int, int, int], spacing_mm: tuple[float, ...], size: int
) -> None:
    old = Geometry.from_parts(shape, spacing_mm, (3.0, -4.0, 5.0), OBLIQUE)
    new = respace_cube(old, size)
    assert new.shape == (size,) * 3
    for corner in ((0, 0, 0), (1, 1, 1), (0, 1, 0)):
        ours, theirs = (np.array([corner]) * g.shape - 0.5 for g in (new, old))
        np.testing.assert_allclose(new.index_to_mm(ours), old.index_to_mm(theirs), atol=1e-6)


@pytest.mark.parametrize("spacing_mm", [0.0, -1, float("nan"), (1.0, 0.0, 1.0)])
def test_respace__refuses_what_is_no_size(spacing_mm: Spacing) -> None:
    with pytest.raises(ConfigError, match="spacing_mm"):
        respace(Geometry((4, 4, 4), np.eye(4)), spacing_mm)


def test_respace_cube__refuses_what_is_no_size() -> None:
    with pytest.raises(ConfigError, match="cube"):
        respace_cube(Geometry((4, 4, 4), np.eye(4)), 0)


def test_respace_cube__the_papers_512_hold_64_superpatches() -> None:
    scan = Geometry.from_parts((133, 512, 512), (2.5, 0.703, 0.703))
    cube = respace_cube(scan, 512)
    assert cube.extent_mm == pytest.approx(scan.extent_mm)
    assert np.prod([n // 128 for n in cube.shape]) == 64
