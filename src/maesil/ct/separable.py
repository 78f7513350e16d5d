"""Blur and linear interpolation between grids whose axes are parallel: one sparse matrix per axis.

A resampler for any two grids looks up eight neighbours per voxel and first blurs every old voxel. If the new axes are
parallel to the old ones, both steps are sums along one axis at a time, computed for the new voxels only. The results
equal those of SimpleITK's filters, up to rounding.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK
from scipy.sparse import csr_array

from maesil.ct.geometry import Geometry

MOST_DRIFT = 1e-3
"""Largest drift of a new axis from its old one over its whole length, in old voxels, that counts as parallel."""

Voxels = npt.NDArray[Any]
Positions = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]


def positions(old: Geometry, new: Geometry) -> Positions | None:
    """Positions of the new voxels on each old axis, in voxels; None if axes are not parallel or voxels lie outside."""
    step = np.linalg.solve(old.affine, new.affine)
    size = np.asarray(new.shape, dtype=np.float64)
    drift = np.abs(step[:3, :3] - np.diag(np.diag(step[:3, :3]))) * size
    if drift.sum(axis=1).max() > MOST_DRIFT:
        return None
    found = [step[axis, axis] * np.arange(new.shape[axis]) + step[axis, 3] for axis in range(3)]
    inside = all(at.min() >= -0.5 and at.max() <= n - 0.5 for at, n in zip(found, old.shape, strict=True))
    return (found[0], found[1], found[2]) if inside else None


@lru_cache(maxsize=64)
def gaussian(variance: float, radius: int) -> tuple[float, ...]:
    """The weights of SimpleITK's discrete Gaussian, from its response to a single bright voxel."""
    if not variance:
        return (1.0,)
    impulse = np.zeros((1, 4 * radius + 1), dtype=np.float64)
    impulse[0, 2 * radius] = 1.0
    filtered = SimpleITK.DiscreteGaussian(
        SimpleITK.GetImageFromArray(impulse),
        variance=[variance, 0.0],
        maximumKernelWidth=2 * radius + 1,
        maximumError=0.001,
        useImageSpacing=False,
    )
    row = SimpleITK.GetArrayFromImage(filtered)[0]
    reach = int(np.abs(np.flatnonzero(row) - 2 * radius).max())
    return tuple(row[2 * radius - reach : 2 * radius + reach + 1].tolist())


def weights(size: int, at: npt.NDArray[np.float64], kernel: tuple[float, ...]) -> Any:
    """The sparse matrix (new, old) of a blur followed by linear interpolation along one axis; end voxels are repeated.

    Args:
        size: Number of old voxels.
        at: Positions of the new voxels.
        kernel: Kernel of the blur, of odd length.
    """
    below = np.floor(at).astype(np.int64)
    share = at - below
    reach = len(kernel) // 2
    rows, columns, values = [], [], []
    for neighbour, part in ((below, 1.0 - share), (below + 1, share)):
        for offset, weight in zip(range(-reach, reach + 1), kernel, strict=True):
            rows.append(np.arange(len(at)))
            columns.append(np.clip(np.clip(neighbour, 0, size - 1) + offset, 0, size - 1))
            values.append(part * weight)
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    made = csr_array(entries, shape=(len(at), size))
    made.sum_duplicates()
    return made.astype(np.float32)


def resample_parallel(array: Voxels, at: Positions, kernels: tuple[tuple[float, ...], ...]) -> npt.NDArray[np.float32]:
    """The voxels (d, h, w) at new positions: rows and columns plane by plane, within the CPU's cache, then planes.

    Args:
        array: Array of old voxels.
        at: Positions along each axis, from `positions`.
        kernels: Kernels of the blur along each axis.

    Returns:
        Array of (new d, new h, new w), not contiguous.
    """
    planes, rows, columns = (
        weights(size, where, kernel) for size, where, kernel in zip(array.shape, at, kernels, strict=True)
    )
    turned = np.empty((array.shape[0], columns.shape[0], rows.shape[0]), dtype=np.float32)
    for plane, found in zip(array, turned, strict=True):
        found[:] = columns @ np.ascontiguousarray((rows @ plane.astype(np.float32)).T)
    stacked: npt.NDArray[np.float32] = (planes @ turned.reshape(len(turned), -1)).reshape(-1, *turned.shape[1:])
    return stacked.transpose(0, 2, 1)
