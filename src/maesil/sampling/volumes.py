"""Superpatches of a volume in memory, as a store would return them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Int16

from maesil.ct.volume import AIR_HU, Volume
from maesil.shapes import Shape3
from maesil.tiling import Tiling


def box_reader(volume: Volume) -> Callable[[Shape3, Shape3], Int16[np.ndarray, "d h w"]]:
    """A function of (start, shape) that returns boxes of an int16 volume, filled with air past its far ends."""

    def read(start: Shape3, shape: Shape3) -> Int16[np.ndarray, "d h w"]:
        tile = Tiling(volume.shape, shape).at(start)
        box = np.full(shape, AIR_HU, dtype=np.int16)
        box[tile.local] = volume.array[tile.inside]
        return box

    return read
