"""A volume on the voxels that a store's policy asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from maesil.ct.geometry import Geometry
from maesil.ct.resample import resampled_slabs
from maesil.ct.respace import respace, respace_cube
from maesil.ct.volume import Volume
from maesil.errors import ScanError
from maesil.shapes import product
from maesil.store.settings import PrepareConfig

MOST_VOXELS = 2**31
"""Of a stored scan: a body of 2 m at 0.5 mm. More comes of a header that is wrong."""

_SLAB_PLANES = 32


def conform(volume: Volume, settings: Mapping[str, Any]) -> Volume:
    """A scan as a store with these settings would hold it: orientation SPL, HU clipped, resampled by the policy.

    Args:
        volume: Any orientation and spacing.
        settings: As a store's manifest records them.
    """
    known = {key: settings[key] for key in ("policy", "spacing_mm", "cube") if key in settings}
    low, high = settings["clip_hu"]
    volume = Volume(np.clip(volume.array, low, high), volume.geometry).reorient("SPL")
    geometry = target_geometry(volume.geometry, PrepareConfig(**known))
    return Volume(np.concatenate([part for _, part in slabs(volume, geometry)]), geometry)


def clip_in_place(volume: Volume, low: int, high: int) -> Volume:
    """The volume with its own voxels clipped, where they can be written.

    Before resampling: padding below air, and metal, would bleed into what lies beside them.
    """
    writeable = volume.array.flags.writeable
    return Volume(np.clip(volume.array, low, high, out=volume.array if writeable else None), volume.geometry)


def target_geometry(geometry: Geometry, config: PrepareConfig) -> Geometry:
    """The stored voxels of a scan in orientation SPL, by the policy.

    Raises:
        ScanError: They would be too many for a body.
    """
    target = geometry
    if config.policy == "spacing" and not np.allclose(geometry.spacing_mm, config.spacing_mm, rtol=1e-4, atol=0.0):
        target = respace(geometry, config.spacing_mm)
    if config.policy == "cube":
        target = respace_cube(geometry, config.cube)
    if product(target.shape) > MOST_VOXELS:
        extent = " x ".join(f"{edge:.0f}" for edge in geometry.extent_mm)
        what = f"the scan would have {target.shape} voxels: its header says that it covers {extent} mm"
        raise ScanError(what, fix="correct the spacing in its header, or choose a larger spacing_mm")
    return target


def slabs(volume: Volume, geometry: Geometry) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """The volume on the voxels of `geometry`, along axis 0, a part at a time; int16."""
    parts = _native(volume) if geometry == volume.geometry else resampled_slabs(volume, geometry)
    for start, part in parts:
        whole = np.rint(part) if part.dtype.kind == "f" else part
        yield start, whole.astype(np.int16, copy=False)


def _native(volume: Volume) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    for start in range(0, volume.shape[0], _SLAB_PLANES):
        yield start, volume.array[start : start + _SLAB_PLANES]
