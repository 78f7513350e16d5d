"""Whole volumes through `resampled_slabs`, as a store's scans are resampled."""

from __future__ import annotations

import numpy as np

from maesil.ct.resample import Order, resampled_slabs
from maesil.ct.respace import Spacing, respace
from maesil.ct.volume import Volume


def resample(volume: Volume, spacing_mm: Spacing, *, order: Order = "linear") -> Volume:
    """The volume with voxels of another size."""
    geometry = respace(volume.geometry, spacing_mm)
    slabs = [slab for _, slab in resampled_slabs(volume, geometry, order=order)]
    return Volume(np.concatenate(slabs), geometry)
