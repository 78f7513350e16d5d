"""Resampling of volumes, slab by slab, anti-aliased along the axes that shrink.

`respace.py` defines where the new voxels lie. Grids with parallel axes use `separable.py`; other grids, and labels, use
SimpleITK's resampler. Both give the same HU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import SimpleITK

from maesil.catalog import unknown_name
from maesil.ct.geometry import Geometry, Number
from maesil.ct.separable import gaussian, positions, resample_parallel
from maesil.ct.volume import AIR_HU, Volume, cast_voxels
from maesil.shapes import Shape3, product

Order = Literal["linear", "nearest"]

SLAB_SHARE = 16
"""A slab is at most 1/SLAB_SHARE of the volume, because its float32 copies have to fit in a worker's memory."""
MAX_SLAB_VOXELS = 2**23

_INTERPOLATORS = {"linear": SimpleITK.sitkLinear, "nearest": SimpleITK.sitkNearestNeighbor}
_FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))


def resample_to(volume: Volume, geometry: Geometry, *, fill: Number = AIR_HU, order: Order = "linear") -> Volume:
    """The volume resampled to the voxels of another volume, of any orientation.

    Args:
        volume: Volume to resample.
        geometry: Geometry of the result.
        fill: Value of voxels that lie outside `volume`.
        order: Interpolation: "linear" (integers are rounded), or "nearest" for labels.

    Raises:
        ConfigError: The order is unknown.
    """
    array = np.empty(geometry.shape, dtype=volume.array.dtype)
    for start, slab in resampled_slabs(volume, geometry, fill=fill, order=order):
        array[start : start + len(slab)] = slab
    return Volume(array, geometry)


def resampled_slabs(
    volume: Volume, geometry: Geometry, *, fill: Number | None = None, order: Order = "linear"
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """The resampled volume slab by slab, for results that should not be in memory as a whole.

    Args:
        volume: Volume to resample.
        geometry: Geometry of the result.
        fill: Value of voxels outside `volume`; None repeats its nearest voxel.
        order: Interpolation: "linear" or "nearest".

    Yields:
        The first index along axis 0 and the slab (n, h, w), of the volume's dtype, in order.

    Raises:
        ConfigError: The order is unknown.
    """
    interpolator = _interpolator(order)
    variances = _blur_variances(volume.geometry, geometry) if order == "linear" else np.zeros(3)
    planes = _planes_per_slab(volume.shape, geometry.shape)
    for start in range(0, geometry.shape[0], planes):
        count = min(planes, geometry.shape[0] - start)
        target = geometry.crop((start, 0, 0), (count, geometry.shape[1], geometry.shape[2]))
        yield start, _slab(volume, target, variances, fill, interpolator)


def _interpolator(order: str) -> int:
    if order not in _INTERPOLATORS:
        raise unknown_name("order", order, _INTERPOLATORS)
    return int(_INTERPOLATORS[order])


def _blur_variances(old: Geometry, new: Geometry) -> npt.NDArray[np.float64]:
    """Variance of the blur along each old axis, in old voxels squared, that makes an old voxel as wide as a new one.

    Both point spreads are taken as Gaussians whose full width at half maximum is the voxel's width along that axis.
    Variances of Gaussians add, so sigma = sqrt(ratio^2 - 1) / 2.355; it is 0 if the axis does not shrink.
    """
    across = (old.direction.T @ new.direction) * np.asarray(new.spacing_mm)
    ratio = np.linalg.norm(across, axis=1) / np.asarray(old.spacing_mm)
    return np.where(ratio > 1.001, (ratio**2 - 1.0) / _FWHM_PER_SIGMA**2, 0.0)


def _planes_per_slab(old: Shape3, new: Shape3) -> int:
    per_plane = max(new[1] * new[2], product(old) // new[0])
    return max(1, min(MAX_SLAB_VOXELS // per_plane, new[0] // SLAB_SHARE))


def _slab(
    volume: Volume, target: Geometry, variances: npt.NDArray[np.float64], fill: Number | None, interpolator: int
) -> npt.NDArray[Any]:
    part = _reach(volume, target, variances)
    dtype = volume.array.dtype
    if part is None:
        return np.full(target.shape, cast_voxels(np.array([AIR_HU if fill is None else fill]), dtype))
    places = positions(part.geometry, target) if interpolator == SimpleITK.sitkLinear else None
    if places is not None:
        radius = max(1, int(_blur_radius(variances).max()))
        kernels = tuple(gaussian(float(variance), radius) for variance in variances)
        return cast_voxels(resample_parallel(part.array, places, kernels), dtype)
    image = _to_itk(part)
    if interpolator == SimpleITK.sitkLinear:
        image = _blurred(SimpleITK.Cast(image, SimpleITK.sitkFloat32), variances)
    resampler = _onto(target)
    resampler.SetInterpolator(interpolator)
    resampler.SetUseNearestNeighborExtrapolator(fill is None)
    resampler.SetDefaultPixelValue(0.0 if fill is None else float(fill))
    # A copy, as a view would outlive the image that owns the voxels.
    return cast_voxels(SimpleITK.GetArrayFromImage(resampler.Execute(image)), dtype)


def _reach(volume: Volume, target: Geometry, variances: npt.NDArray[np.float64]) -> Volume | None:
    """The part of the volume that the target's voxels depend on, or None if they lie outside."""
    far = np.asarray(target.shape, dtype=np.float64) - 1.0
    corners = np.array(list(np.ndindex(2, 2, 2))) * far
    reached = volume.geometry.mm_to_index(target.index_to_mm(corners))
    margin = _blur_radius(variances) + 1
    last = np.asarray(volume.shape) - 1
    low = np.floor(reached.min(axis=0)).astype(int) - margin
    high = np.ceil(reached.max(axis=0)).astype(int) + margin
    if (low > last).any() or (high < 0).any():
        return None
    low, high = np.maximum(low, 0), np.minimum(high, last)
    size = high - low + 1
    return volume.crop((int(low[0]), int(low[1]), int(low[2])), (int(size[0]), int(size[1]), int(size[2])))


def _blur_radius(variances: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.where(variances > 0, np.ceil(4.0 * np.sqrt(variances)) + 2, 0).astype(np.int64)


def _blurred(image: Any, variances: npt.NDArray[np.float64]) -> Any:
    if not variances.any():
        return image
    gaussian = SimpleITK.DiscreteGaussianImageFilter()
    gaussian.SetUseImageSpacing(False)
    gaussian.SetVariance(variances[::-1].tolist())
    gaussian.SetMaximumError(0.001)
    gaussian.SetMaximumKernelWidth(2 * int(_blur_radius(variances).max()) + 1)
    return gaussian.Execute(image)


def _to_itk(volume: Volume) -> Any:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.array))
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetOrigin(volume.geometry.origin_mm)
    image.SetDirection(volume.geometry.direction[:, ::-1].ravel().tolist())
    return image


def _onto(geometry: Geometry) -> Any:
    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetSize([int(n) for n in geometry.shape[::-1]])
    resampler.SetOutputSpacing(geometry.spacing_mm[::-1])
    resampler.SetOutputOrigin(geometry.origin_mm)
    resampler.SetOutputDirection(geometry.direction[:, ::-1].ravel().tolist())
    return resampler
