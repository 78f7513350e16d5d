"""Whether the values of a volume can be Hounsfield units, judging by their range."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from maesil.ct.volume import AIR_HU

LEAST_RANGE_HU = 100.0
"""Smallest range of a CT; from fat to muscle alone it is more."""
BEYOND_HU, MOST_BEYOND = 2**15, 0.05
"""Amount that not even metal exceeds in CT of 16 bits, and the share of voxels that may exceed it nevertheless."""


def unlike_hounsfield(array: npt.NDArray[Any]) -> str | None:
    """What shows that the values are not Hounsfield units; None if they can be.

    Every CT of a body has voxels below 0 HU: air, lung, fat, or noise around water. A volume without any is another
    modality, holds labels, was stored with an offset (often 1024), or was clipped at 0 HU.
    """
    low, high = float(array.min()), float(array.max())
    if low == high:
        return f"every voxel is {low:g}"
    if high > BEYOND_HU or low < -BEYOND_HU:
        share = float(((array > BEYOND_HU) | (array < -BEYOND_HU)).mean())
        if low < 0 and share > MOST_BEYOND:
            return f"{share:.1%} of the voxels are beyond {BEYOND_HU} HU; the values run from {low:g} to {high:g}"
    if high <= AIR_HU:
        return f"no voxel is above air; the values run from {low:g} to {high:g}"
    if low < 0 and high - low >= LEAST_RANGE_HU:
        return None
    reason = "no voxel is below 0 HU" if low >= 0 else f"all values lie within {LEAST_RANGE_HU:g} HU of each other"
    at_low, at_high = float((array == array.min()).mean()), float((array == array.max()).mean())
    return f"{reason}; the values run from {low:g} ({at_low:.1%} of voxels) to {high:g} ({at_high:.1%} of voxels)"
