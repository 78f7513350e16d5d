from __future__ import annotations

import numpy as np
import pytest

from maesil.ct.geometry import Geometry
from maesil.ct.volume import Volume
from maesil.errors import ScanError
from maesil.store.conform import blocks, clip_in_place, conform, target_geometry
from maesil.store.settings import PrepareConfig
from resampling import resample


def scan(dtype: str = "int16", spacing: tuple[float, float, float] = (2.5, 0.8, 0.8)) -> Volume:
    voxels = np.random.default_rng(0).integers(-3024, 9000, (30, 40, 50)).astype(dtype)
    return Volume(voxels, Geometry.from_parts(voxels.shape, spacing))


def test_target_geometry__spacing_is_isotropic() -> None:
    target = target_geometry(scan().geometry, PrepareConfig(spacing_mm=1.5))
    np.testing.assert_allclose(target.spacing_mm, (1.5, 1.5, 1.5))
    assert target.shape == (50, 21, 27)


def test_target_geometry__native_and_equal_spacing_change_nothing() -> None:
    geometry = scan().geometry
    assert target_geometry(geometry, PrepareConfig(policy="native")) is geometry
    cubic = scan(spacing=(2.0, 2.0, 2.0)).geometry
    assert target_geometry(cubic, PrepareConfig(spacing_mm=2.0)) is cubic


def test_target_geometry__cube_has_as_many_voxels_along_every_axis() -> None:
    target = target_geometry(scan().geometry, PrepareConfig(policy="cube", cube=64))
    assert target.shape == (64, 64, 64)
    np.testing.assert_allclose(target.extent_mm, scan().geometry.extent_mm)


def test_target_geometry__refuses_what_no_body_fills() -> None:
    with pytest.raises(ScanError, match="larger than a body") as raised:
        target_geometry(scan(spacing=(800.0, 800.0, 800.0)).geometry, PrepareConfig())
    assert "spacing" in str(raised.value)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("edge", [16, 64])
def test_blocks__native_voxels_stay_as_they_are(dtype: str, edge: int) -> None:
    volume = scan(dtype)
    array = np.zeros(volume.shape, dtype=np.int16)
    for (start, row), block in blocks(volume, volume.geometry, edge):
        assert block.dtype == np.int16
        assert start % edge == row % edge == 0
        array[start : start + edge, row : row + edge] = block
    np.testing.assert_array_equal(array, volume.array)


def test_blocks__are_pieces_of_the_resampled_volume() -> None:
    volume = scan()
    whole = resample(volume, 1.3)
    for (start, row), block in blocks(volume, whole.geometry, 16):
        np.testing.assert_allclose(block, whole.array[start : start + 16, row : row + 16], atol=1)


def test_clip_in_place__also_clips_what_cannot_be_written() -> None:
    volume = scan()
    volume.array.flags.writeable = False
    assert clip_in_place(volume, -1024, 3071).array.max() == 3071
    assert volume.array.max() > 3071


def test_conform__clips_before_it_resamples() -> None:
    volume = scan()
    settings = PrepareConfig(spacing_mm=1.0).recorded()
    clipped = Volume(volume.array.clip(-1024, 3071), volume.geometry)
    np.testing.assert_allclose(conform(volume, settings).array, resample(clipped, 1.0).array, atol=1)


def test_conform__turns_any_orientation_to_spl() -> None:
    volume = scan()
    turned = conform(volume.reorient("LAI"), PrepareConfig(policy="native").recorded())
    assert turned.geometry.orientation == "SPL"
    np.testing.assert_array_equal(turned.array, volume.array.clip(-1024, 3071))


def test_conform__names_the_scan_that_it_refuses() -> None:
    with pytest.raises(ScanError, match="larger than a body") as raised:
        conform(scan(spacing=(800.0, 800.0, 800.0)), PrepareConfig().recorded(), where="a.nii")
    assert raised.value.where == "a.nii"
