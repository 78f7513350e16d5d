import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from maesil.ct import resample as module
from maesil.ct.geometry import Geometry
from maesil.ct.readers import read
from maesil.ct.resample import resample_to, resampled_slabs
from maesil.ct.respace import respace
from maesil.ct.volume import AIR_HU, Volume
from maesil.errors import UnknownNameError
from resampling import resample

OBLIQUE = Rotation.from_euler("xyz", (9.0, -14.0, 21.0), degrees=True).as_matrix() @ np.eye(3)[:, ::-1]
spacings = st.tuples(*[st.floats(0.3, 6.0)] * 3)


def noise(shape: tuple[int, int, int], seed: int = 0, dtype: str = "int16") -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(dtype)


def ramp(geometry: Geometry) -> Volume:
    """A volume whose value is linear in LPS mm."""
    mm = geometry.index_to_mm(np.array(list(np.ndindex(geometry.shape)), dtype=np.float64))
    return Volume(_plane(mm).reshape(geometry.shape).astype(np.float32), geometry)


def _plane(mm: np.ndarray) -> np.ndarray:
    return mm @ np.array([1.5, -0.7, 2.0]) + 11.0


def as_itk(volume: Volume) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.array))
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetOrigin(volume.geometry.origin_mm)
    image.SetDirection(volume.geometry.direction[:, ::-1].ravel().tolist())
    return image


@pytest.mark.parametrize("spacing_mm", [1.0, (1.7, 0.9, 0.6), (0.5, 3.1, 2.2), (4.0, 4.0, 4.0)])
def test_resample__keeps_a_linear_field_in_its_millimetres(spacing_mm: float | tuple[float, ...]) -> None:
    volume = ramp(Geometry.from_parts((30, 36, 40), (1.6, 1.0, 1.1), (-20.0, 9.0, 4.0), OBLIQUE))
    small = resample(volume, spacing_mm)
    mm = small.geometry.index_to_mm(np.array(list(np.ndindex(small.shape)), dtype=np.float64))
    index = volume.geometry.mm_to_index(mm)
    # The blur sees the border's repeated voxels within its radius; further in, a plane stays a plane.
    inner = ((index >= 9) & (index <= np.array(volume.shape) - 10)).all(axis=1)
    assert inner.sum() > 20
    np.testing.assert_allclose(small.array.ravel()[inner], _plane(mm)[inner], atol=2e-3)


@pytest.mark.parametrize("order", ["linear", "nearest"])
def test_resample_to__oblique_equals_simpleitk(order: str) -> None:
    volume = Volume(noise((14, 18, 16)), Geometry.from_parts((14, 18, 16), (2.0, 1.5, 1.5), (0, 0, 0), OBLIQUE))
    target = Geometry.from_parts((30, 22, 26), (1.1, 1.2, 1.3), (-6.0, 3.0, -9.0)).reorient("RIA")
    reference = SimpleITK.GetImageFromArray(np.zeros(target.shape, np.int16))
    reference.SetSpacing(target.spacing_mm[::-1])
    reference.SetOrigin(target.origin_mm)
    reference.SetDirection(target.direction[:, ::-1].ravel().tolist())
    mode = SimpleITK.sitkLinear if order == "linear" else SimpleITK.sitkNearestNeighbor
    theirs = SimpleITK.Resample(as_itk(volume), reference, SimpleITK.Transform(), mode, AIR_HU, SimpleITK.sitkFloat32)
    ours = resample_to(volume, target, order=order)
    assert ours.array.dtype == np.int16
    assert ours.geometry == target
    outside = ours.array == AIR_HU
    assert 0.05 < outside.mean() < 0.95
    np.testing.assert_allclose(ours.array, SimpleITK.GetArrayFromImage(theirs), atol=0.51)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), spacings, st.integers(1, 5000))
def test_resampled_slabs__do_not_depend_on_their_size(seed: int, new_mm: tuple[float, ...], size: int) -> None:
    volume = Volume(noise((20, 15, 17), seed), Geometry.from_parts((20, 15, 17), (1.0, 0.7, 0.8), (0, 0, 0), OBLIQUE))
    target = respace(volume.geometry, new_mm)
    whole, pieces = np.zeros(target.shape, np.int16), np.zeros(target.shape, np.int16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SLAB_SHARE", 1)
        for start, slab in resampled_slabs(volume, target):
            whole[start : start + len(slab)] = slab
        patch.setattr(module, "MAX_SLAB_VOXELS", size)
        for start, slab in resampled_slabs(volume, target):
            pieces[start : start + len(slab)] = slab
    # Rounding at .5 may fall either way, as positions are computed from another origin.
    assert np.abs(whole.astype(int) - pieces).max() <= 1
    assert (whole != pieces).mean() < 0.01


def test_resample__to_the_same_spacing_changes_nothing() -> None:
    volume = Volume(noise((9, 10, 11)), Geometry.from_parts((9, 10, 11), (2.5, 0.7, 0.7), (1, 2, 3), OBLIQUE))
    same = resample(volume, volume.spacing_mm)
    assert same.shape == volume.shape
    np.testing.assert_allclose(same.geometry.affine, volume.geometry.affine, atol=1e-9)
    np.testing.assert_array_equal(same.array, volume.array)


def test_resample__does_not_alias_when_shrinking() -> None:
    """Stripes finer than the new voxels become grey, and not other stripes."""
    stripes = np.where(np.arange(120) % 2, 1000, -1000).astype(np.int16)
    geometry = Geometry.from_parts((4, 4, 120), (1.0, 1.0, 1.0))
    volume = Volume(np.broadcast_to(stripes, (4, 4, 120)), geometry)
    small = resample(volume, (1.0, 1.0, 3.0))
    assert np.abs(small.array[..., 3:-3]).max() < 100
    picked = resample(volume, (1.0, 1.0, 3.0), order="nearest")
    assert np.abs(picked.array).min() == 1000


def test_resample__blurs_no_axis_that_grows() -> None:
    array = np.broadcast_to(noise((12, 1, 1)), (12, 20, 20))
    volume = Volume(array, Geometry.from_parts((12, 20, 20), (2.0, 1.0, 1.0)))
    result = resample(volume, (2.0, 3.0, 3.0))
    np.testing.assert_array_equal(result.array, np.broadcast_to(array[:, :1, :1], result.shape))


def test_resample__keeps_the_mean() -> None:
    volume = Volume(noise((40, 40, 40)), Geometry.from_parts((40, 40, 40), (1.0, 1.0, 1.0)))
    assert resample(volume, 2.0).array.mean() == pytest.approx(volume.array.mean(), abs=5)


def test_resample__is_the_same_bytes_on_any_number_of_threads() -> None:
    volume = Volume(noise((40, 50, 60)), Geometry.from_parts((40, 50, 60), (1.0, 0.7, 0.7), (0, 0, 0), OBLIQUE))
    before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        results = []
        for threads in (1, 2, 5):
            SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            results.append(resample(volume, 1.3).array.tobytes())
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    assert len(set(results)) == 1


def test_resample__labels_stay_labels() -> None:
    labels = np.random.default_rng(0).choice([0, 7, 200], (9, 10, 11)).astype(np.uint8)
    volume = Volume(labels, Geometry.from_parts(labels.shape, (2.5, 0.7, 0.7)))
    result = resample(volume, 1.5, order="nearest")
    assert result.array.dtype == np.uint8
    assert set(np.unique(result.array)) == {0, 7, 200}


def test_resample_to__far_away_is_all_fill() -> None:
    volume = Volume(noise((4, 4, 4)), Geometry.from_parts((4, 4, 4), (1.0, 1.0, 1.0)))
    away = resample_to(volume, Geometry.from_parts((3, 3, 3), (1.0, 1.0, 1.0), (500.0, 0.0, 0.0)), fill=-7)
    assert (away.array == -7).all()


def test_interpolator__names_the_nearest_order() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'linear'"):
        module._interpolator("linear_")


MEMORY = """
import sys
import nibabel
from maesil.ct.readers import read
from maesil.ct.resample import resample_to
from maesil.ct.respace import respace
from maesil.memory import GIB, peak_resident_gib, resident_gib
before = resident_gib()
volume = read(sys.argv[1])
small = resample_to(volume, respace(volume.geometry, 1.5))
print((peak_resident_gib() - before) * GIB / (2 * int(sys.argv[2])))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_resample__reading_and_resampling_stay_under_four_times_the_volume(tmp_path: Path) -> None:
    shape = (130, 400, 400)
    path = tmp_path / "v.nii"
    array = np.broadcast_to(np.arange(130.0).reshape(-1, 1, 1), shape)  # float64: itself 4 times int16
    nibabel.save(nibabel.Nifti1Image(array.T, np.diag([0.7, 0.7, 2.0, 1.0])), path)
    command = [sys.executable, "-c", MEMORY, str(path), str(array.size)]
    share = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert float(share) < 4.0


def test_resample__real_scan_agrees_with_its_2mm_version(data_dir: Path) -> None:
    """The corpus's 2 mm volume was made by other code, cropped and cleaned: compare where both have tissue."""
    small = read(data_dir / "corpus2mm" / "crlm_1006.nii.gz")
    ours = resample_to(read(data_dir / "native" / "crlm_1006.nii.gz"), small.geometry)
    tissue = (small.array > -200) & (small.array < 300)
    assert tissue.mean() > 0.2
    difference = np.abs(ours.array[tissue].astype(int) - small.array[tissue])
    assert np.median(difference) < 15
