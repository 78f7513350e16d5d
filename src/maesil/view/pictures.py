"""The volumes that the page shows of a scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from maesil.ct.geometry import Geometry
from maesil.ct.volume import Volume
from maesil.ct.window import Window
from maesil.evaluation.rebuild import RebuiltScan


@dataclass(frozen=True)
class Pictures:
    """Volumes of one scan, all on one voxel grid.

    Attributes:
        original: The scan in HU; with a reconstruction, clipped to the network's window.
        window: HU window of the network; None without one.
        reconstruction: What a user gets, in HU: masked voxels rebuilt, visible ones unchanged.
        error: Absolute difference of both, in HU.
        mask: Voxels that the network did not see: 1 where masked.
        labels: Number of the structure of each voxel; 0 is background.
        names: Map from structure to its number.
    """

    original: Volume
    window: Window | None = None
    reconstruction: Volume | None = None
    error: Volume | None = None
    mask: Volume | None = None
    labels: Volume | None = None
    names: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Shown:
    """A scan that the page lists.

    Attributes:
        name: Name in the list.
        group: Where it comes from, in words.
        load: Function that reads, or rebuilds, its volumes.
    """

    name: str
    group: str
    load: Callable[[], Pictures]


def rebuilt_pictures(rebuilt: RebuiltScan, geometry: Geometry, window: Window) -> Pictures:
    """The volumes of a reconstruction, without labels.

    Args:
        rebuilt: The scan and its reconstruction, in window units.
        geometry: Their voxel grid.
        window: HU window of the network.
    """
    truth, whole = (window.denormalize(each) for each in (rebuilt.truth, rebuilt.whole))
    return Pictures(
        original=_hu(truth, geometry),
        window=window,
        reconstruction=_hu(whole, geometry),
        error=_hu(np.abs(whole - truth), geometry),
        mask=Volume(rebuilt.mask.astype(np.uint8), geometry),
    )


def _hu(values: Float[np.ndarray, "d h w"], geometry: Geometry) -> Volume:
    whole: npt.NDArray[np.int16] = np.rint(values).astype(np.int16)
    return Volume(whole, geometry)
