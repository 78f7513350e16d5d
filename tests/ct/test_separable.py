"""Resampling axis by axis against SimpleITK's filters."""

from __future__ import annotations

import numpy as np
import pytest

from maesil.ct import resample as resampling
from maesil.ct.geometry import Geometry
from maesil.ct.separable import gaussian, positions
from maesil.ct.volume import Volume
from resampling import resample


def noisy(shape: tuple[int, int, int], spacing: tuple[float, float, float], turn: float = 0.0) -> Volume:
    hu = np.random.default_rng(4).integers(-1024, 1500, shape).astype(np.int16)
    cos, sin = np.cos(turn), np.sin(turn)
    direction = np.eye(3)[:, ::-1] @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return Volume(hu, Geometry.from_parts(shape, spacing, (3.0, -7.0, 11.0), direction))


def through_itk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "positions", lambda old, new: None)


@pytest.mark.parametrize("turn", [0.0, 0.2], ids=["straight", "oblique"])
@pytest.mark.parametrize("spacing", [0.6, 1.0, 1.5, 3.1, (2.0, 0.7, 4.0)])
def test_resample__the_same_as_simpleitk(monkeypatch: pytest.MonkeyPatch, spacing: float, turn: float) -> None:
    volume = noisy((21, 40, 33), (2.5, 0.7, 0.8), turn)
    ours = resample(volume, spacing)
    through_itk(monkeypatch)
    theirs = resample(volume, spacing)
    assert ours.geometry == theirs.geometry
    off = np.abs(ours.array.astype(int) - theirs.array)
    assert off.max() <= 1  # a half that is rounded otherwise
    assert (off > 0).mean() < 1e-3


def test_positions__only_of_parallel_axes_within_the_volume() -> None:
    old = noisy((10, 20, 20), (2.0, 1.0, 1.0)).geometry
    turned = noisy((10, 20, 20), (2.0, 1.0, 1.0), 0.05).geometry
    assert positions(old, turned) is None
    assert positions(old, old.pad((1, 0, 0), (0, 0, 0))) is None
    found = positions(old, old.crop((2, 3, 4), (5, 5, 5)))
    assert found is not None
    np.testing.assert_allclose(found[1], [3, 4, 5, 6, 7], atol=1e-9)


def test_gaussian__is_a_blur_of_that_variance() -> None:
    kernel = np.array(gaussian(1.3, 8))
    offsets = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1.0)
    assert (kernel * offsets**2).sum() == pytest.approx(1.3, abs=0.05)
    assert gaussian(0.0, 4) == (1.0,)
