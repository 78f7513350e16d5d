"""Decoded scans in memory, shared with forked processes: the workers of a loader together decode each scan once."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Mapping
from typing import final

import numpy as np
import numpy.typing as npt

from maesil.shapes import Shape3, product

Voxels = npt.NDArray[np.int16]


@final
class Resident:
    """Memory for the volumes of a store, filled on demand.

    The pages belong to no file and have no name, so that nothing is left behind however the process ends; they take
    memory only once they are written. A worker that is spawned rather than forked cannot share them.

    Args:
        shapes: Map from scan to its shape in voxels.
    """

    def __init__(self, shapes: Mapping[str, Shape3]) -> None:
        self._shapes = dict(shapes)
        sizes = [product(shape) for shape in self._shapes.values()]
        self._starts = dict(zip(self._shapes, np.cumsum([0, *sizes])[:-1].tolist(), strict=True))
        self._numbers = {scan_id: number for number, scan_id in enumerate(self._shapes)}
        self._voxels = np.frombuffer(mmap.mmap(-1, max(1, sum(sizes)) * 2), dtype=np.int16)
        self._is_filled = np.frombuffer(mmap.mmap(-1, max(1, len(sizes))), dtype=np.uint8)
        self._fence = threading.Lock()

    def get(self, scan_id: str, read: Callable[[], Voxels]) -> Voxels:
        """A scan's volume (d, h, w), shared and read-only; `read` provides it the first time."""
        shape, start, number = self._shapes[scan_id], self._starts[scan_id], self._numbers[scan_id]
        volume = self._voxels[start : start + product(shape)].reshape(shape)
        if not self._is_filled[number]:
            # Two processes may both get here: they write the same bytes.
            volume[:] = read()
            with self._fence:  # taking a lock orders the voxels before the mark, for other cores too
                self._is_filled[number] = 1
        volume.flags.writeable = False
        return volume
